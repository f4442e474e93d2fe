package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// nasty is what others may write to do something to a terminal or to its reader.
var nasty = []string{
	"\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "\u009b31m", "\u009d0;t\u009c", "\r\nspoof", "a\rb", "\x00", "\x7f", "\b\b\b", "\u202egnp.exe", "\u2066x\u2069", "a\u200bb", "a\u200db", "\ufeffx",
	"\u2028x", "\u2029x", "\u00adx", "\u034fx", "\u115f", "\u3164", "\uffa0", "\u2800", "\u180e", "\U000e0041\U000e0042", "\U000e0100", "\ufe0f", "\ue000", "\xc3", "\xff\xfe", "\u061c", "\u17b4", "\U0001d173",
	"z" + strings.Repeat("\u0301", 500),
}

func harmless(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r == '\t' || r == '\n' || unsafe(r) || unicode.IsControl(r) })
}

func TestText(t *testing.T) {
	for _, s := range nasty {
		for _, shown := range []string{Text(s), Name(s), Sprintf("%s", s), Sprintf("%v", errors.New(s)), Sprintf("%s", &url.URL{Opaque: "x", Scheme: s}), strings.ReplaceAll(Lines(s), "\n    ", "")} {
			if !harmless(shown) || len([]rune(shown)) > 60 {
				t.Errorf("%q is shown as %q", s, shown)
			}
		}
	}
	for s, want := range map[string]string{"Größe ½ 文書 \U0001f4c1": "Größe ½ 文書 \U0001f4c1", "e\u0301": "e\u0301", "a\nb\tc": "a?b?c", "\u2764\ufe0f": "\u2764"} {
		if got := Text(s); got != want {
			t.Errorf("%q is shown as %q, want %q", s, got, want)
		}
	}
	long := strings.Repeat("x", 5000)
	if len(Name(long)) != maxName+3 || len(Text(long)) != maxText+3 || len(Lines(strings.Repeat("x\n", 5000))) > 200 {
		t.Error("there is no end")
	}
	if got := Lines("failed: no\nloveseat: all is well"); got != "failed: no\n    loveseat: all is well" {
		t.Errorf("%q", got)
	}
	if got := Sprintf("%q %d %s", "a\x1b", 5, "b"); got != `"a?" 5 b` {
		t.Errorf("%q", got)
	}
}

// TestWriter: what comes out is harmless however it is cut, JSON stays what it was, and text stays as it is.
func TestWriter(t *testing.T) {
	for _, s := range append(nasty, "plain\n\ttext", "Größe 文書 \U0001f4c1 \ufffd") {
		var whole, cut bytes.Buffer
		_, _ = NewWriter(&whole).Write([]byte(s))
		w := NewWriter(&cut)
		for i := range len(s) {
			if n, err := w.Write([]byte{s[i]}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		out := strings.NewReplacer("\n", "", "\t", "").Replace(whole.String())
		if !harmless(out) || s != "\xc3" && whole.String() != cut.String() {
			t.Errorf("%q becomes %q, in pieces %q", s, whole.String(), cut.String())
		}
		if harmless(s) && whole.String() != s {
			t.Errorf("%q becomes %q", s, whole.String())
		}
		if !utf8.ValidString(s) {
			continue
		}
		var doc bytes.Buffer
		enc := json.NewEncoder(NewWriter(&doc))
		enc.SetEscapeHTML(false)
		var back string
		if err := errors.Join(enc.Encode(s), json.Unmarshal(doc.Bytes(), &back)); err != nil || back != s || !harmless(strings.TrimSpace(doc.String())) {
			t.Errorf("%q as JSON: %q, %v", s, doc.String(), err)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range nasty {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b bytes.Buffer
		_, _ = NewWriter(&b).Write([]byte(s))
		if !harmless(Text(s)) || !harmless(strings.NewReplacer("\n", "", "\t", "").Replace(b.String())) {
			t.Errorf("%q: %q, %q", s, Text(s), b.String())
		}
	})
}

// TestParseURL: names and passwords are read as they are meant, or not at all.
func TestParseURL(t *testing.T) {
	for _, tt := range []struct{ in, name, password, host, rest string }{
		{"http://h:5984/hub", "", "", "h:5984", "/hub"},
		{"https://ann:secret@h/hub", "ann", "secret", "h", "/hub"},
		{"http://ann:p@ss@h/hub", "ann", "p@ss", "h", "/hub"},
		{"http://ann:a:b@h/hub", "ann", "a:b", "h", "/hub"},
		{"http://ann:100%@h/hub", "ann", "100%", "h", "/hub"},
		{"http://ann:%zz%41@h/hub", "ann", "%zz%41", "h", "/hub"},
		{"http://ann:%2F%3f%23%40@h/hub", "ann", "/?#@", "h", "/hub"},
		{"http://ann:a b\"<>\\^`{|}@h/hub", "ann", "a b\"<>\\^`{|}", "h", "/hub"},
		{"http://ann:pässwörd文@[::1]:1/hub", "ann", "pässwörd文", "[::1]:1", "/hub"},
		{"http://ann@h/hub", "ann", "", "h", "/hub"},
		{"http://ann:pw@h/hub/share:x#secret", "ann", "pw", "h", "/hub/share:x"},
	} {
		u, err := ParseURL(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		password, _ := u.User.Password()
		if u.User.Username() != tt.name || password != tt.password || u.Host != tt.host || u.Path != tt.rest {
			t.Errorf("%s: %q %q %q %q", tt.in, u.User.Username(), password, u.Host, u.Path)
		}
		again, err := url.Parse(u.String()) // for those who read it as other programs do
		if err != nil || again.Host != tt.host || fmt.Sprint(again.User) != fmt.Sprint(u.User) {
			t.Errorf("%s is written as %s: %v", tt.in, u, err)
		}
	}
	for _, in := range []string{
		"http://ann:SEC#RET@h/hub", "http://ann:SEC/RET@h/hub", "http://ann:SEC?RET@h/hub", "http://ann:12#RET@h/hub", "http://ann:12/RET@h/hub", "http://ann:12?RET@h/hub",
		"http://ann/x:SECRET@h/hub", "http://ann:SECRET/hub", "http://ann:SECRET@h:port/hub", "http://ann:SECRET@%zz/hub", "http://ann:SECRET@/hub", "http://ann:SECRET@h\x1b/hub", "ann:SECRET@h/hub", "http:///SECRET", "",
	} {
		u, err := ParseURL(in)
		if err == nil || strings.Contains(err.Error(), "SEC") || strings.Contains(err.Error(), "RET") {
			t.Errorf("%s: %v, %v", in, u, err)
		}
		if in != "" && strings.Contains(in+Public(in), "SEC") && (strings.Contains(Public(in), "SEC") || strings.Contains(Public(in), "RET")) && !strings.HasPrefix(in, "http:///") {
			t.Errorf("%s is shown as %s", in, Public(in))
		}
	}
	for in, want := range map[string]string{"./data/me@home:x@y": "./data/me@home:x@y", "notes": "notes", "me@home": "me@home", "ann:pw@host": "the URL", "http://ann:pw@h/hub?x=pw#pw": "http://h/hub", "ws://peer@h:1/db#pw": "ws://h:1/db"} {
		if got := Public(in); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
}
