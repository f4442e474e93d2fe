package share

import (
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
)

func TestIdentityIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^([a-z2-7]{4}-){7}[a-z2-7]{4}$`).MatchString(first.ID()) {
		t.Errorf("peer id %q", first.ID())
	}
	if short := ShortID(first.ID()); len(short) != 9 || short != first.ID()[:9] {
		t.Errorf("short id %q", short)
	}
	again, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != first.ID() || string(again.Keys().Seal) != string(first.Keys().Seal) {
		t.Error("another identity the second time")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, identityFile): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

func TestIdentityMadeAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			if id, err := LoadIdentity(dir); err == nil {
				ids[i] = id.ID()
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("identities differ: %q", ids)
		}
	}
}

func TestBrokenIdentity(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "not JSON": "hello", "version": `{"v":2}`, "short seed": `{"v":1,"sign":"AAAA","seal":"AAAA"}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, identityFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := LoadIdentity(dir); err == nil {
			t.Errorf("%s: got %s", name, id.ID())
		}
	}
}
