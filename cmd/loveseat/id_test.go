package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The device key is shown, moved to another machine and changed, and both sides
// see the same verification code.
func TestID(t *testing.T) {
	dir := t.TempDir()
	home, other, file := filepath.Join(dir, "home"), filepath.Join(dir, "other"), filepath.Join(dir, "key.pem")
	secret := map[string]string{"LOVESEAT_PASSPHRASE": "correct horse"}
	type identity struct {
		Peer, Short, File, Sign, Seal string
		Predecessors                  []string
	}
	show := func(dir string) (id identity) {
		t.Helper()
		status, out, errs := run(t, nil, "", "--identity", dir, "id", "--json")
		if err := json.Unmarshal([]byte(out), &id); err != nil || status != 0 {
			t.Fatalf("%d %v\n%s%s", status, err, out, errs)
		}
		return id
	}
	expect := func(env map[string]string, want int, pattern string, args ...string) string {
		t.Helper()
		status, out, errs := run(t, env, "", args...)
		if status != want || !strings.Contains(out+errs, pattern) {
			t.Errorf("%q: %d, want %d\n%s%s\nwant %s", args, status, want, out, errs, pattern)
		}
		return out
	}
	expect(nil, 1, "there is no device key in", "--identity", home, "id", "rotate")
	expect(nil, 1, "there is no device key in", "--identity", home, "id", "export", "-")
	first := show(home)
	if first.Short != first.Peer[:9] || first.File != filepath.Join(home, "identity.json") || !strings.HasPrefix(first.Sign, "SHA256:") {
		t.Errorf("%+v", first)
	}
	expect(nil, 1, "LOVESEAT_PASSPHRASE", "--identity", home, "id", "export", file)
	expect(secret, 0, "The device key of "+first.Short, "--identity", home, "id", "export", file)
	expect(nil, 1, "exists", "--identity", home, "id", "export", file, "--plain")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	expect(map[string]string{"LOVESEAT_PASSPHRASE": "wrong"}, 1, "the passphrase is wrong", "--identity", other, "id", "import", file)
	expect(secret, 0, first.Peer, "--identity", other, "id", "import", file)
	if again := show(other); again.Peer != first.Peer || again.Seal != first.Seal {
		t.Errorf("%+v", again)
	}
	expect(nil, 0, "it was "+first.Peer, "--identity", home, "id", "rotate")
	second := show(home)
	if second.Peer == first.Peer || len(second.Predecessors) != 1 || second.Predecessors[0] != first.Peer {
		t.Errorf("%+v", second)
	}
	expect(nil, 0, "before   "+first.Peer, "--identity", home, "id")
	plain := expect(nil, 0, "BEGIN LOVESEAT IDENTITY", "--identity", home, "id", "export", "-", "--plain")
	if status, _, errs := run(t, nil, plain, "--identity", other, "id", "import", "-"); status != 1 || !strings.Contains(errs, "--replace") {
		t.Errorf("%d %s", status, errs)
	}
	if status, out, errs := run(t, nil, plain, "--identity", other, "id", "import", "-", "--replace"); status != 0 || !strings.Contains(out, "identity-"+first.Short) {
		t.Errorf("%d %s%s", status, out, errs)
	}
	here := expect(nil, 0, "loveseat id "+second.Peer, "--identity", home, "id", first.Peer)
	third := filepath.Join(dir, "third")
	if err := errors.Join(os.Mkdir(third, 0o700), os.Rename(filepath.Join(home, "identity-"+first.Short+".json"), filepath.Join(third, "identity.json"))); err != nil {
		t.Fatal(err)
	}
	there := expect(nil, 0, "loveseat id "+first.Peer, "--identity", third, "id", second.Peer)
	if code, _, _ := strings.Cut(here, "\n"); !strings.HasPrefix(there, code+"\n") || len(code) != 35 {
		t.Errorf("%q here, %q there", here, there)
	}
	expect(nil, 2, "usage", "id", "nobody")
}
