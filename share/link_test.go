package share

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const someID = "k7qmx2vdabcdefghijklmnopq3"

func TestParseLink(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Link
	}{
		{"http://127.0.0.1:5984/hub/share:" + someID, Link{"http://127.0.0.1:5984/hub", someID, ""}},
		{"https://example.org/couchdb/hub/share:" + someID + "#s3cret", Link{"https://example.org/couchdb/hub", someID, "s3cret"}},
		{"https://example.org/hub/share%3A" + someID, Link{"https://example.org/hub", someID, ""}},
		{"https://example.org/a%2Fb/share:" + someID, Link{"https://example.org/a%2Fb", someID, ""}},
		{"http://[::1]:5984/hub/share:" + someID, Link{"http://[::1]:5984/hub", someID, ""}},
	} {
		got, err := ParseLink(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
	}
}

func TestNotALink(t *testing.T) {
	for _, in := range []string{
		"", "notes", someID, "./data/notes", "share:" + someID, "/hub/share:" + someID,
		"ftp://h/hub/share:" + someID, "http:///hub/share:" + someID,
		"http://h/share:" + someID,          // no hub database
		"http://h/hub/share:" + someID[:25], // not an id
		"http://h/hub/share:" + strings.ToUpper(someID),
		"http://h/hub/" + someID, "http://h/hub", "http://h/hub/share:" + someID + "/",
		"http://h/hub/share:" + someID + "?rev=1",
		"http://user:password@h/hub/share:" + someID,
		"http://h/hub/share:" + someID + "#" + strings.Repeat("x", maxLink),
	} {
		if l, err := ParseLink(in); err == nil {
			t.Errorf("%s: %+v", in, l)
		}
		if IsLink(in) {
			t.Errorf("IsLink(%q)", in)
		}
	}
}

func TestLinkRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Link{
			Hub:    databaseURL(rapid.SampledFrom([]string{"http://h:1/", "https://u:p@h", "http://h/couch/"}).Draw(t, "dsn"), rapid.StringMatching(`[a-z][a-z0-9_$()+/-]{0,20}`).Draw(t, "db")),
			Share:  shareID(rapid.String().Draw(t, "peer"), "n"),
			Secret: rapid.String().Draw(t, "secret"),
		}
		got, err := ParseLink(l.String())
		if err != nil || got.Share != l.Share || got.Hub != l.Hub || got.Secret != strings.ToValidUTF8(l.Secret, "\uFFFD") {
			t.Fatalf("%+v became %s, %+v, %v", l, l, got, err)
		}
		if strings.Contains(l.String(), "@") && !strings.Contains(l.Secret, "@") {
			t.Fatalf("credentials in %s", l)
		}
	})
}

func TestDatabaseURL(t *testing.T) {
	for _, tt := range [][3]string{
		{"http://admin:secret@127.0.0.1:5984/", "hub", "http://127.0.0.1:5984/hub"},
		{"https://example.org/couch", "a/b", "https://example.org/couch/a%2Fb"},
		{"/var/data", "hub", ""}, {"", "hub", ""}, {"file:///x", "hub", ""},
	} {
		if got := databaseURL(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s %s: %q", tt[0], tt[1], got)
		}
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add("http://127.0.0.1:5984/hub/share:" + someID + "#secret")
	f.Add("https://h/a%2Fb/share%3A" + someID)
	f.Add("http://u:p@h/hub/share:" + someID)
	f.Fuzz(func(t *testing.T, in string) {
		l, err := ParseLink(in)
		if err != nil {
			return
		}
		again, err := ParseLink(l.String())
		if err != nil || again != l {
			t.Fatalf("%q: %+v, then %q: %+v, %v", in, l, l.String(), again, err)
		}
	})
}
