package couchkivik

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	kivik "github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
)

type set = map[string]any

func TestAllDocsOptions(t *testing.T) {
	key := func(p *string) string {
		if p == nil {
			return "-"
		}
		return *p
	}
	for _, tt := range []struct {
		in   set
		want string
	}{
		{nil, "- - -1"},
		{set{"startkey": "a", "end_key": json.RawMessage(`"b"`)}, "a b -1"},
		{set{"key": "k", "limit": "7"}, "k k 7"},
		{set{"startkey": nil}, "- - -1"},
		{set{"startkey": set{}}, "- - 0"},
		{set{"endkey": set{}}, "- - -1"},
		{set{"endkey": 7}, "- - 0"},
		{set{"endkey": 7, "descending": true}, "- - -1"},
		{set{"startkey": []string{}, "descending": "true"}, "- - -1"},
		{set{"key": 7}, "- - 0"},
	} {
		p := parseOptions(kivik.Params(tt.in))
		o := p.allDocs()
		limit := -1
		if o.Limit != nil {
			limit = *o.Limit
		}
		if got := fmt.Sprintln(key(o.StartKey), key(o.EndKey), limit); got != tt.want+"\n" || p.err != nil {
			t.Errorf("%v: %s %v, want %s", tt.in, got, p.err, tt.want)
		}
	}
}

func TestChangesOptions(t *testing.T) {
	p := parseOptions(kivik.Params(set{
		"since": 7, "limit": 0, "feed": "longpoll", "timeout": 1500, "style": "all_docs", "include_docs": "true",
		"filter": "_selector", "selector": set{"a": 1}, "heartbeat": true,
	}))
	o := p.changes()
	if p.err != nil || o.Since != "7" || o.Limit != 1 || o.Feed != couch.FeedLongpoll || o.Timeout != 1500*time.Millisecond ||
		!o.AllLeaves || !o.IncludeDocs || string(o.Selector) != `{"a":1}` || o.Heartbeat != time.Minute {
		t.Errorf("%+v, %v", o, p.err)
	}
	p = parseOptions(kivik.Params(set{"filter": "_doc_ids", "doc_ids": []any{"a", "b"}}))
	if o := p.changes(); p.err != nil || fmt.Sprint(o.DocIDs) != "[a b]" {
		t.Errorf("%+v, %v", o, p.err)
	}
	p = parseOptions(kivik.Duration("timeout", time.Second))
	if o := p.changes(); o.Timeout != time.Second {
		t.Errorf("%+v, %v", o, p.err)
	}
}

func TestBadOptions(t *testing.T) {
	for _, in := range []set{
		{"limit": -1}, {"limit": "x"}, {"skip": 1.5}, {"descending": "maybe"}, {"descending": 1}, {"keys": "x"}, {"feed": "eventsource"},
		{"filter": "app/mine"}, {"filter": "_selector"}, {"rev": "x"}, {"timeout": "soon"}, {"doc_ids": 7}, {"startkey": func() {}}, {"atts_since": []string{"x"}},
	} {
		p := parseOptions(kivik.Params(in))
		p.allDocs()
		p.changes()
		p.get()
		if e := couch.AsError(p.err); e == nil || e.Status != 400 {
			t.Errorf("%v: %v", in, p.err)
		}
	}
}

func TestWindow(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	for _, tt := range []struct {
		in   set
		want string
	}{
		{nil, "[a b c d]"}, {set{"limit": 2, "skip": 1}, "[b c]"}, {set{"descending": true, "startkey": "c"}, "[c b a]"},
		{set{"start_key": "b", "end_key": "c"}, "[b c]"}, {set{"skip": 9}, "[]"},
	} {
		if got := fmt.Sprint(parseOptions(kivik.Params(tt.in)).window().slice(names)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestToDoc(t *testing.T) {
	for _, v := range []any{
		set{"_id": "a", "n": 1}, json.RawMessage(`{"_id":"a","n":1}`), []byte(`{"_id":"a","n":1}`), `{"_id":"a","n":1}`,
		struct {
			ID string `json:"_id"`
			N  int    `json:"n"`
		}{"a", 1}, &couch.Doc{ID: "a", Body: json.RawMessage(`{"n":1}`)},
	} {
		if d, err := toDoc(v); err != nil || d.ID != "a" || string(d.Body) != `{"n":1}` {
			t.Errorf("%T: %+v, %v", v, d, err)
		}
	}
	for _, v := range []any{7, nil, "x", []byte("["), make(chan int)} {
		if _, err := toDoc(v); couch.AsError(err) == nil || couch.AsError(err).Status != 400 {
			t.Errorf("%v: %v", v, err)
		}
	}
	if d, err := toDoc(set{"s": "<&>"}); err != nil || string(d.Body) != "{\"s\":\"<&>\"}" {
		t.Errorf("%s, %v", d.Body, err)
	}
}
