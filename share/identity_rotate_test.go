package share

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

func rotated(t testing.TB, id *Identity) *Identity {
	t.Helper()
	next, err := id.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// After its keys have changed a peer's link leads to it still, and whoever it
// opens a share of learns who it was.
func TestRotatedPeer(t *testing.T) {
	w := newWorld(t)
	alice, bob := newTestIdentity(t), newTestIdentity(t)
	as := func(id *Identity) func(*Config) { return func(c *Config) { c.Identity = id } }
	before := w.join(as(alice))
	old := w.share(before, "notes", ShareOptions{})
	w.must(before.Close())

	alice2, bob2 := rotated(t, rotated(t, alice)), rotated(t, bob)
	var seen RemoteInfo
	s, err := w.join(as(alice2)).Share(w.ctx, kivikDB(w, "notes"), ShareOptions{OnRemote: func(i RemoteInfo) error { seen = i; return nil }})
	w.must(err)
	if s.ID() == old.ID() {
		t.Fatal("the same id with another key")
	}
	r := w.open(w.join(as(bob2)), old.Link())
	if i := r.Info(); i.ID != s.ID() || i.Peer != alice2.ID() || len(i.Predecessors) != 2 || i.Predecessors[0] != alice.ID() {
		t.Errorf("%+v", i)
	}
	if seen.Peer != bob2.ID() || !slices.Equal(seen.Predecessors, []string{bob.ID()}) {
		t.Errorf("%+v", seen)
	}
	if r := w.open(w.join(nil), s.ID()); r.Info().ID != s.ID() || seen.Predecessors != nil {
		t.Errorf("%+v", seen)
	}
}

// Nobody becomes another's successor without its key.
func TestForgedSuccession(t *testing.T) {
	alice, mallory := newTestIdentity(t), newTestIdentity(t)
	good := rotated(t, rotated(t, alice))
	if got := good.Predecessors(); len(got) != 2 || got[0] != alice.ID() {
		t.Fatal(got)
	}
	header := func(chain []hubdoc.Succession) http.Header {
		text, _ := json.Marshal(chain)
		return http.Header{hubdoc.SuccessionHeader: {base64.RawURLEncoding.EncodeToString(text)}}
	}
	if got := predecessors(header(good.succeeds), good.ID()); !slices.Equal(got, good.Predecessors()) {
		t.Fatal(got)
	}
	toMallory := slices.Clone(good.succeeds[:1])
	toMallory[0].To = mallory.ID()
	stolen := rotated(t, mallory)
	forgedFrom := slices.Clone(stolen.succeeds)
	forgedFrom[0].From = alice.Keys().Sign
	for name, tt := range map[string]struct {
		peer  string
		chain []hubdoc.Succession
	}{
		"another's chain":   {mallory.ID(), good.succeeds},
		"edited successor":  {mallory.ID(), toMallory},
		"edited key":        {stolen.ID(), forgedFrom},
		"a link left out":   {good.ID(), good.succeeds[:1]},
		"in another order":  {good.ID(), []hubdoc.Succession{good.succeeds[1], good.succeeds[0]}},
		"a foreign link":    {good.ID(), append(slices.Clone(stolen.succeeds), good.succeeds...)},
		"too many":          {good.ID(), slices.Repeat(good.succeeds, 9)},
		"without signature": {good.ID(), []hubdoc.Succession{{From: good.succeeds[1].From, To: good.ID()}}},
	} {
		if got := predecessors(header(tt.chain), tt.peer); got != nil {
			t.Errorf("%s: believed: %v", name, got)
		}
		d := someShare(t, mallory, func(s *shareDoc) {})
		var m map[string]any
		_ = json.Unmarshal(d.Body, &m)
		m["succeeds"] = tt.chain
		body, _ := json.Marshal(m)
		if tt.peer == mallory.ID() { // signed by him: only the chain is wrong
			signed, err := mallory.signBody(d.ID, body)
			if err != nil {
				t.Fatal(err)
			}
			d.Body = signed
			if s, err := parseShare(d); err == nil {
				t.Errorf("%s: believed: %+v", name, s)
			}
		}
	}
	for _, junk := range []string{"", "x", "!", base64.RawURLEncoding.EncodeToString([]byte(`{}`)), strings.Repeat("A", maxSuccessionHeader+1)} {
		if got := predecessors(http.Header{hubdoc.SuccessionHeader: {junk}}, good.ID()); got != nil {
			t.Errorf("%.20s: %v", junk, got)
		}
	}
}

func TestRotateIdentity(t *testing.T) {
	dir := t.TempDir()
	if _, _, _, err := RotateIdentity(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nobody: %v", err)
	}
	first, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range hubdoc.MaxSuccessions + 2 {
		before, after, backup, err := RotateIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("backup %s: %v", backup, err)
		}
		if kept, err := readIdentity(backup); err != nil || kept.ID() != before.ID() {
			t.Errorf("backup: %v", err)
		}
		if now, err := LoadIdentity(dir); err != nil || now.ID() != after.ID() || now.ID() == before.ID() {
			t.Errorf("%v", err)
		}
	}
	last, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := last.Predecessors(); len(got) != hubdoc.MaxSuccessions || slices.Contains(got, first.ID()) {
		t.Errorf("%d: %v", len(got), got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestSaveIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	one, two := newTestIdentity(t), newTestIdentity(t)
	for _, tt := range []struct {
		id      *Identity
		replace bool
		ok      bool
		backup  bool
		then    *Identity
	}{{one, false, true, false, one}, {one, false, true, false, one}, {two, false, false, false, one}, {two, true, true, true, two}} {
		backup, err := SaveIdentity(dir, tt.id, tt.replace)
		if (err == nil) != tt.ok || (backup != "") != tt.backup || err != nil && !errors.Is(err, fs.ErrExist) {
			t.Errorf("%+v: %q %v", tt, backup, err)
		}
		if now, err := LoadIdentity(dir); err != nil || now.ID() != tt.then.ID() {
			t.Errorf("%v", err)
		}
	}
}

func TestExportIdentity(t *testing.T) {
	id := rotated(t, newTestIdentity(t))
	text, err := id.Export([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	if !IsEncryptedIdentity(text) || !strings.Contains(string(text), id.ID()) {
		t.Errorf("%s", text)
	}
	got, err := ParseIdentity(text, []byte("correct horse"))
	if err != nil || got.ID() != id.ID() || string(got.Keys().Seal) != string(id.Keys().Seal) || len(got.Predecessors()) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := ParseIdentity(text, []byte("battery staple")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	lines := strings.Split(string(text), "\n")
	line := lines[len(lines)/2]
	lines[len(lines)/2] = strings.Map(func(r rune) rune { // every letter another one
		if r == 'z' || r < 'a' {
			return r
		}
		return r + 1
	}, line)
	if got, err := ParseIdentity([]byte(strings.Join(lines, "\n")), []byte("correct horse")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("changed: %+v %v", got, err)
	}
	plain, err := id.ExportPlain()
	if err != nil || IsEncryptedIdentity(plain) {
		t.Fatal(err)
	}
	if got, err := ParseIdentity(plain, nil); err != nil || got.ID() != id.ID() {
		t.Error(err)
	}
	if _, err := id.Export(nil); err == nil {
		t.Error("encrypted with nothing")
	}
}

func FuzzParseIdentity(f *testing.F) {
	plain, err := newTestIdentity(f).ExportPlain()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(plain))
	f.Add("-----BEGIN LOVESEAT ENCRYPTED IDENTITY-----\nAAAA\n-----END LOVESEAT ENCRYPTED IDENTITY-----\n")
	f.Add("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := ParseIdentity([]byte(text), nil); err == nil && PeerID(id.Keys().Sign) != id.ID() {
			t.Fatalf("%s", text)
		}
	})
}

func TestVerificationCode(t *testing.T) {
	a, b, c := newTestIdentity(t).ID(), newTestIdentity(t).ID(), newTestIdentity(t).ID()
	code := VerificationCode(a, b)
	if !regexp.MustCompile(`^\d{5}( \d{5}){5}$`).MatchString(code) {
		t.Errorf("%q", code)
	}
	if VerificationCode(b, a) != code {
		t.Error("the other end computes another one")
	}
	if VerificationCode(a, c) == code || VerificationCode(c, b) == code {
		t.Error("the same with a third peer")
	}
	if got, want := VerificationCode("a", "b"), "01844 36416 29127 26957 01574 24177"; got != want { // so that versions agree
		t.Errorf("%s, want %s", got, want)
	}
	w := newWorld(t)
	if p := w.join(nil); p.VerificationCode(a) != VerificationCode(p.ID(), a) {
		t.Error("of a peer")
	}
}

// An allowlist that names a peer's old id lets in its new one, and nobody who only shows its statement.
func TestAllowlistFollowsRotation(t *testing.T) {
	w := newWorld(t)
	bob := newTestIdentity(t)
	bob2 := rotated(t, bob)
	thief := newTestIdentity(t)
	thief.succeeds = bob2.succeeds
	s := w.share(w.join(nil), "notes", ShareOptions{Allow: []string{bob.ID()}})
	for _, tt := range []struct {
		who string
		id  *Identity
		ok  bool
	}{{"bob", bob, true}, {"bob, rotated", bob2, true}, {"a thief of the statement", thief, false}, {"a stranger", rotated(t, newTestIdentity(t)), false}} {
		_, err := w.join(func(c *Config) { c.Identity = tt.id }).Open(w.ctx, s.ID())
		if (err == nil) != tt.ok || err != nil && status(err) != 403 {
			t.Errorf("%s: %v", tt.who, err)
		}
	}
}

func FuzzPredecessors(f *testing.F) {
	first := newTestIdentity(f)
	next := rotated(f, first)
	req, err := http.NewRequest("GET", "http://x/", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(next.introduce(req).Header.Get(hubdoc.SuccessionHeader))
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`[{"from":"","to":"","time":"","signature":""}]`)))
	f.Fuzz(func(t *testing.T, value string) {
		got := predecessors(http.Header{hubdoc.SuccessionHeader: {value}}, next.ID())
		if len(got) > 0 && !slices.Equal(got, []string{first.ID()}) {
			t.Fatalf("%s: %v", value, got)
		}
	})
}
