package couch

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestParseDocTakesUnderscoreMembers(t *testing.T) {
	for _, tt := range []struct{ in, body string }{
		{`{}`, `{}`},
		{` { } `, `{}`},
		{"{\n \"a\" : [ 1,\t{\"b c\": \" x \\\" y \"} ]\r\n}", `{"a":[1,{"b c":" x \" y "}]}`},
		{`{"_id":"x"}`, `{}`},
		{`{"_id":"x","a":1}`, `{"a":1}`},
		{`{"a":1,"_id":"x"}`, `{"a":1}`},
		{`{"a":1, "_id":"x" ,"b":[1.0, {"c":null}]}`, `{"a":1,"b":[1.0,{"c":null}]}`},
		{`{"a":1, "b":2,"_rev":"1-abc","_id":"x", "c":3 ,"d":4 }`, `{"a":1,"b":2,"c":3,"d":4}`},
		{`{"\u005fid":"x","a":"\u00e9"}`, `{"a":"\u00e9"}`},
		{`{"a":{"_id":"kept"}}`, `{"a":{"_id":"kept"}}`},
	} {
		d, err := ParseDoc([]byte(tt.in))
		if err != nil {
			t.Fatalf("%s: %v", tt.in, err)
		}
		if string(d.Body) != tt.body {
			t.Errorf("%s: body %s, want %s", tt.in, d.Body, tt.body)
		}
		if strings.Contains(tt.in, `"x"`) && d.ID != "x" {
			t.Errorf("%s: id %q", tt.in, d.ID)
		}
	}
}

func TestParseDocRefuses(t *testing.T) {
	for in, code := range map[string]string{
		``:                       "bad_request",
		`{`:                      "bad_request",
		`{}x`:                    "bad_request",
		`[]`:                     "bad_request",
		`{"a":01}`:               "bad_request",
		`{"a":1,}`:               "bad_request",
		`{"a":"` + "\x01" + `"}`: "bad_request",
		"{\"a\":\"\xff\"}":       "bad_request",
		`{"a":tru}`:              "bad_request",
		`{"a":1e400}`:            "bad_request",
		`{"a":[-1.5E309]}`:       "bad_request",
		`{"a":"\ud83d"}`:         "bad_request",
		`{"a":"\ud83dx\udf75"}`:  "bad_request",
		`{"\uDF75\ud83d":1}`:     "bad_request",
		`{"a":"\x"}`:             "bad_request",
		`{"_foo":1}`:             "doc_validation",
		`{"_id":1}`:              "illegal_docid",
		`{"_rev":"x"}`:           "bad_request",
		`{"_rev":"1-"}`:          "bad_request",
		`{"_deleted":1}`:         "doc_validation",
		`{"_revisions":{}}`:      "doc_validation",
		`{"_revisions":{"start":99999999999999999999,"ids":["a"]}}`: "doc_validation",
		`{"_attachments":[]}`:                                                 "doc_validation",
		`{"_attachments":{"a":null}}`:                                         "doc_validation",
		`{"_attachments":{"a":{"data":"*"}}}`:                                 "bad_request",
		`{"_attachments":{"_a":{"data":""}}}`:                                 "bad_request",
		`{"a":` + strings.Repeat("[", 3100) + strings.Repeat("]", 3100) + `}`: "bad_request",
	} {
		d, err := ParseDoc([]byte(in))
		var e *Error
		if !errors.As(err, &e) || e.Code != code || e.Status != 400 {
			t.Errorf("%.60s: %v, %v; want %s", in, d, err, code)
		}
	}
}

// TestParseDocRevisions: _revisions beats _rev, in whichever order they come, and an ancestry longer than its start is
// cut, as in CouchDB; its replicator's checkpoints begin at 0.
func TestParseDocRevisions(t *testing.T) {
	for in, want := range map[string]string{
		`{"_revisions":{"start":1,"ids":["a","b"]}}`:              "1-a [a]",
		`{"_rev":"2-x","_revisions":{"start":2,"ids":["a","b"]}}`: "2-a [a b]",
		`{"_revisions":{"start":2,"ids":["a","b"]},"_rev":"3-x"}`: "2-a [a b]",
		`{"_rev":"0-1","_revisions":{"start":0,"ids":["1"]}}`:     "0-1 []",
		`{"_revisions":{"start":0,"ids":["1"]},"_rev":"0-1"}`:     "0-1 []",
	} {
		d, err := ParseDoc([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if got := fmt.Sprint(d.Rev, d.Revisions); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestParseDocWording: what CouchDB says of underscore members that are not as they must be.
func TestParseDocWording(t *testing.T) {
	for in, want := range map[string]string{
		`{"_id":""}`:                                 "illegal_docid: Document id must not be empty",
		`{"_id":null}`:                               "illegal_docid: Document id must be a string",
		`{"_rev":""}`:                                "bad_request: Invalid rev format",
		`{"_deleted":"yes"}`:                         "doc_validation: Bad special document member: _deleted",
		`{"_revisions":[]}`:                          "doc_validation: Bad special document member: _revisions",
		`{"_revisions":{"ids":["a"]}}`:               "doc_validation: _revisions.start isn't an integer.",
		`{"_revisions":{"start":"1","ids":["a"]}}`:   "doc_validation: _revisions.start isn't an integer.",
		`{"_revisions":{"start":1}}`:                 "doc_validation: _revisions.ids isn't a array.",
		`{"_revisions":{"start":1,"ids":"a"}}`:       "doc_validation: _revisions.ids isn't a array.",
		`{"_revisions":{"start":1,"ids":[1]}}`:       "doc_validation: RevId isn't a string",
		`{"_attachments":[]}`:                        "doc_validation: Bad special document member: _attachments",
		`{"_attachments":{"a":{}}}`:                  "bad_request: Invalid attachment data for a",
		`{"_attachments":{"a":{"data":5}}}`:          "bad_request: Invalid attachment data for a",
		`{"_attachments":{"a":{"data":null}}}`:       "bad_request: Invalid attachment data for a",
		`{"_attachments":{"a":{"data":"?"}}}`:        "bad_request: Invalid attachment data for a",
		`{"_access":[]}`:                             "doc_validation: Bad special document member: _access",
		`{"_conflicts":5,"_revs_info":"x"}`:          "", // ignored, whatever they are
		`{"_deleted_conflicts":{},"_local_seq":{}}`:  "",
		`{"_replication_state":"completed","a":"1"}`: "",
	} {
		d, err := ParseDoc([]byte(in))
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%s: %s", in, got)
		}
		if err == nil && (d.Conflicts != nil || d.DeletedConflicts != nil || d.RevsInfo != nil) {
			t.Errorf("%s: %+v", in, d)
		}
	}
	if d, _ := ParseDoc([]byte(`{"_id":"r","_replication_state":"completed","a":"1"}`)); string(d.Body) != `{"_replication_state":"completed","a":"1"}` {
		t.Errorf("%s", d.Body)
	}
	if b := (&Doc{Rev: Rev{1, "a"}, Body: json.RawMessage(`{"b":1}`)}).AppendJSON([]byte("x")); string(b) != `x{"_rev":"1-a","b":1}` {
		t.Errorf("%s", b)
	}
}

// TestInlineGzip: content may come packed, and is checked while it is unpacked.
func TestInlineGzip(t *testing.T) {
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{packText(t, "hello"), "hello"},
		{packText(t, ""), ""},
		{packText(t, "hello")[:20], "bad_request: Invalid attachment data for a"},
		{[]byte("hello"), "bad_request: Invalid attachment data for a"},
		{packText(t, strings.Repeat("a", 4<<20)), "attachment_too_large: a"},
	} {
		d, err := ParseDoc(fmt.Appendf(nil, `{"_attachments":{"a":{"encoding":"gzip","digest":"md5-x","length":9,"data":"%s"}}}`, base64.StdEncoding.EncodeToString(tt.data)))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // it may be read again
			a := &d.Attachments[0]
			got, err := readAll(a)
			if err != nil {
				got = err.Error()
			}
			if got != tt.want || a.Digest != "" || a.Length != -1 {
				t.Errorf("%.20q: %.100s, %+v", tt.data, got, a)
			}
		}
	}
	if _, err := ParseDoc([]byte(`{"_attachments":{"a":{"encoding":"br","data":""}}}`)); !errors.Is(err, &Error{Status: 415}) {
		t.Error(err)
	}
}

func packText(t *testing.T, text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(a *Attachment) (string, error) {
	r, err := a.Reader(context.Background())
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestDocRoundTrip(t *testing.T) {
	in := &Doc{
		ID: "a\"ü\n", Rev: Rev{3, "ccc"}, Deleted: true, Revisions: []string{"ccc", "bbb"},
		Body: json.RawMessage(`{"n":1.50,"s":"x"}`), LocalSeq: "7-x",
		Conflicts: []Rev{{2, "x"}, {1, "y"}}, RevsInfo: []RevInfo{{Rev{3, "ccc"}, "available"}},
		Attachments: []Attachment{
			{Name: "big", ContentType: "a/b", Digest: "md5-x", Length: 12, RevPos: 1},
			{Name: "small", ContentType: "text/plain", Digest: "md5-y", Length: 2, RevPos: 2, Data: []byte("hi")},
		},
	}
	out, err := ParseDoc(in.AppendJSON(nil))
	if err != nil {
		t.Fatalf("%s: %v", in.AppendJSON(nil), err)
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got %+v\nwant %+v", out, in)
	}
}

func TestAppendJSONBodies(t *testing.T) {
	for body, want := range map[string]string{
		"": `{"_id":"x"}`, `{}`: `{"_id":"x"}`, ` { } `: `{"_id":"x"}`, `{ "a":1}`: `{"_id":"x","a":1}`,
	} {
		if got := (&Doc{ID: "x", Body: json.RawMessage(body)}).AppendJSON(nil); string(got) != want {
			t.Errorf("%q: %s, want %s", body, got, want)
		}
	}
}

func TestRev(t *testing.T) {
	for _, s := range []string{"1-a", "12-967a00dff5e02add41819138abb3284d"} {
		if r, err := ParseRev(s); err != nil || r.String() != s {
			t.Errorf("%s: %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "1", "-a", "x-a", "1-", "-1-a", "99999999999999999999-a", "1-a\"b"} {
		if r, err := ParseRev(s); err == nil {
			t.Errorf("%q was read as %v", s, r)
		}
	}
	if (Rev{10, "a"}).Compare(Rev{9, "b"}) <= 0 || (Rev{1, "a"}).Compare(Rev{1, "b"}) >= 0 {
		t.Error("revisions are ordered by generation, then hash")
	}
}

// FuzzParseDoc holds the scanner against an independent JSON reader.
func FuzzParseDoc(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,2.5e-3,{"b":"\ud83d\ude00"}],"_id":"x"}`, `[1`, `{"a":-0}`, "\"\xff\"", `{"_revisions":{"start":1,"ids":["a"]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDoc(bytes.Clone(data))
		v := jsontext.Value(data)
		valid := v.IsValid(jsontext.AllowDuplicateNames(true))
		if err == nil && !valid {
			// Lone surrogates in escapes are CouchDB's to accept; everything else must agree.
			if !bytes.Contains(data, []byte(`\u`)) {
				t.Fatalf("accepted what is not JSON: %q", data)
			}
			return
		}
		if err != nil {
			if e := AsError(err); e.Status != 400 {
				t.Fatalf("%q: %v", data, err)
			}
			if s := (scanner{data: data}); valid && len(data) < maxDepth && !(s.skip()) {
				t.Fatalf("refused valid JSON %q: %v", data, err)
			}
			return
		}
		again, err := ParseDoc(d.AppendJSON(nil))
		if err != nil {
			t.Fatalf("%q: does not read back: %v", data, err)
		}
		if again.ID != d.ID || again.Rev != d.Rev || string(again.AppendJSON(nil)) != string(d.AppendJSON(nil)) {
			t.Fatalf("%q: %s then %s", data, d.AppendJSON(nil), again.AppendJSON(nil))
		}
	})
}

func (s scanner) skip() bool {
	s.space()
	return s.skipValue(0) && s.end()
}

func BenchmarkParseDoc(b *testing.B) {
	doc := []byte(`{"_id":"doc-000001","_rev":"1-967a00dff5e02add41819138abb3284d","_revisions":{"start":1,"ids":["967a00dff5e02add41819138abb3284d"]},"text":"` + strings.Repeat("lorem ipsum dolor ", 50) + `","n":[1,2,3],"o":{"a":"b","c":null}}`)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseDoc(doc); err != nil {
			b.Fatal(err)
		}
	}
}
