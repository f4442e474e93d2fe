package couch

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestParseBulkDocs(t *testing.T) {
	for _, tt := range []struct {
		in       string
		ids      string
		newEdits bool
		reason   string
	}{
		{`{"docs":[]}`, "", true, ""},
		{` { "docs" : [ {"_id":"a","x":[1]} , {"_id":"b"} ] , "new_edits" : false } `, "a b", false, ""},
		{`{"new_edits":true,"w":{"x":[1]},"docs":[{"_id":"a"}]}`, "a", true, ""},
		{`{}`, "", false, "POST body must include `docs` parameter."},
		{`{"docs":{}}`, "", false, "`docs` parameter must be an array."},
		{`{"docs":null}`, "", false, "`docs` parameter must be an array."},
		{`{"docs":[],"new_edits":1}`, "", false, "`new_edits` parameter must be a boolean."},
		{`{"docs":[],"new_edits":tru}`, "", false, "invalid UTF-8 JSON"},
		{`[]`, "", false, "Request body must be a JSON object"},
		{`{"docs":[1]}`, "", false, "Document must be a JSON object"},
		{`{"docs":[{"_bad":1}]}`, "", false, "Bad special document member: _bad"},
		{`{"docs":[{}]`, "", false, "invalid UTF-8 JSON"},
		{`{"docs":[{}]}x`, "", false, "invalid UTF-8 JSON"},
		{`{"docs":[{},]}`, "", false, "invalid UTF-8 JSON"},
		{``, "", false, "invalid UTF-8 JSON"},
		{`{"docs":[{},{},{}]}`, "", false, "2"},
	} {
		docs, newEdits, err := ParseBulkDocs([]byte(tt.in), 2)
		var e *Error
		if tt.reason != "" {
			if !errors.As(err, &e) || e.Reason != tt.reason || docs != nil {
				t.Errorf("%s: %v, want %s", tt.in, err, tt.reason)
			}
			continue
		}
		var ids []string
		for _, d := range docs {
			ids = append(ids, d.ID)
		}
		if err != nil || strings.Join(ids, " ") != tt.ids || newEdits != tt.newEdits {
			t.Errorf("%s: %v %v %v", tt.in, ids, newEdits, err)
		}
	}
}

// FuzzParseBulkDocs: what is accepted is JSON, and its documents are those that ParseDoc reads.
func FuzzParseBulkDocs(f *testing.F) {
	for _, s := range []string{`{"docs":[]}`, `{"docs":[{"_id":"a","b":{"c":[]}},{}],"new_edits":false}`, `{"docs":[{"_rev":"1-a"}],"x":"\u005f"}`, `{"docs":[`, `{"docs":[{}]]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, _, err := ParseBulkDocs(data, 100)
		if err != nil {
			if s := AsError(err).Status; s != 400 && s != 413 {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if !strings.Contains(string(data), `\u`) && !jsontext.Value(data).IsValid(jsontext.AllowDuplicateNames(true)) {
			t.Fatalf("accepted what is not JSON: %q", data)
		}
		for _, d := range docs {
			again, err := ParseDoc(d.AppendJSON(nil))
			if err != nil || string(again.AppendJSON(nil)) != string(d.AppendJSON(nil)) {
				t.Fatalf("%q: %s does not read back: %v", data, d.AppendJSON(nil), err)
			}
		}
	})
}
