package couchkivik

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// params is kivik's options, read by name; the first bad one stays in err. Query
// parameters may have been given as Go values or as the text of a URL.
type params struct {
	values map[string]any
	err    error
}

func parseOptions(o driver.Options) *params {
	p := &params{values: map[string]any{}}
	if o != nil {
		o.Apply(p.values)
	}
	return p
}

func (p *params) fail(name string, v any) {
	if p.err == nil {
		p.err = &couch.Error{Status: 400, Code: "query_parse_error", Reason: fmt.Sprintf("Invalid value for %s: %v", name, v)}
	}
}

func (p *params) bool(name string, otherwise bool) bool {
	switch v := p.values[name].(type) {
	case nil:
		return otherwise
	case bool:
		return v
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			return b
		}
	}
	p.fail(name, p.values[name])
	return otherwise
}

// number reads a count; ok is false if there is none.
func (p *params) number(name string) (n int, ok bool) {
	v := p.values[name]
	if v == nil {
		return 0, false
	}
	n, err := strconv.Atoi(fmt.Sprint(v))
	if err != nil || n < 0 {
		p.fail(name, v)
		return 0, false
	}
	return n, true
}

func (p *params) string(name string) string {
	switch v := p.values[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case fmt.Stringer:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}

func (p *params) millis(name string) time.Duration {
	n, _ := p.number(name)
	return time.Duration(n) * time.Millisecond
}

func (p *params) rev(name string) couch.Rev {
	s := p.string(name)
	if s == "" {
		return couch.Rev{}
	}
	rev, err := couch.ParseRev(s)
	if err != nil && p.err == nil {
		p.err = err
	}
	return rev
}

// strings reads a list: a slice, or its JSON.
func (p *params) strings(name string) []string {
	v, ok := p.values[name]
	if !ok || v == nil {
		return nil
	}
	if list, ok := v.([]string); ok {
		return slices.Clone(list)
	}
	list := []string{}
	if err := json.Unmarshal(asJSON(v), &list); err != nil {
		p.fail(name, v)
	}
	return list
}

// raw reads a JSON value given as Go value or as JSON text.
func (p *params) raw(name string) json.RawMessage {
	v, ok := p.values[name]
	if !ok || v == nil {
		return nil
	}
	text := asJSON(v)
	if !json.Valid(text) {
		p.fail(name, v)
	}
	return text
}

func asJSON(v any) json.RawMessage {
	switch v := v.(type) {
	case string:
		return json.RawMessage(v)
	case []byte:
		return v
	case json.RawMessage:
		return v
	}
	text, _ := json.Marshal(v) // what cannot be marshaled fails as JSON
	return text
}

// key reads a key of _all_docs. Ids are strings: a key of another kind collates
// before all ids (-1: null, booleans, numbers) or after them (1: arrays, objects).
func (p *params) key(names ...string) (key *string, side int) {
	for _, name := range names {
		v, ok := p.values[name]
		if !ok {
			continue
		}
		if s, ok := v.(string); ok { // as kivik's couchdb driver takes it
			return &s, 0
		}
		text, err := json.Marshal(v)
		if err != nil {
			p.fail(name, v)
			return nil, 0
		}
		switch text[0] {
		case '"':
			var s string
			_ = json.Unmarshal(text, &s) // json.Marshal made it
			return &s, 0
		case '[', '{':
			return nil, 1
		}
		return nil, -1
	}
	return nil, 0
}

func (p *params) has(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { _, ok := p.values[n]; return ok })
}

// get reads the options of Get, OpenRevs and BulkGet.
func (p *params) get() couch.GetOptions {
	o := couch.GetOptions{
		Rev:         p.rev("rev"),
		Latest:      p.bool("latest", false),
		Revs:        p.bool("revs", false),
		RevsInfo:    p.bool("revs_info", false),
		Conflicts:   p.bool("conflicts", false) || p.bool("deleted_conflicts", false),
		LocalSeq:    p.bool("local_seq", false),
		Attachments: p.bool("attachments", false),
	}
	if p.bool("meta", false) {
		o.Conflicts, o.RevsInfo = true, true
	}
	for _, s := range p.strings("atts_since") {
		rev, err := couch.ParseRev(s)
		if err != nil {
			p.fail("atts_since", s)
		}
		o.AttsSince = append(o.AttsSince, rev)
	}
	return o
}

// allDocs reads the options of _all_docs.
func (p *params) allDocs() couch.AllDocsOptions {
	o := couch.AllDocsOptions{
		Descending:   p.bool("descending", false),
		ExclusiveEnd: !p.bool("inclusive_end", true),
		IncludeDocs:  p.bool("include_docs", false),
		Conflicts:    p.bool("conflicts", false),
		Attachments:  p.bool("attachments", false),
		UpdateSeq:    p.bool("update_seq", false),
		Keys:         p.strings("keys"),
		Offset:       true,
	}
	o.Skip, _ = p.number("skip")
	if n, ok := p.number("limit"); ok {
		o.Limit = &n
	}
	var first, last, exact int
	o.StartKey, first = p.key("startkey", "start_key")
	o.EndKey, last = p.key("endkey", "end_key")
	if p.has("key") {
		o.StartKey, exact = p.key("key")
		o.EndKey, o.ExclusiveEnd = o.StartKey, false
	}
	if o.Descending {
		first, last = -first, -last
	}
	if first > 0 || last < 0 || exact != 0 {
		none := 0
		o.Limit = &none
	}
	return o
}

// changes reads the options of _changes.
func (p *params) changes() couch.ChangesOptions {
	o := couch.ChangesOptions{
		Since:       couch.Seq(p.string("since")),
		Timeout:     p.millis("timeout"),
		Heartbeat:   p.heartbeat(),
		Descending:  p.bool("descending", false),
		IncludeDocs: p.bool("include_docs", false),
		Conflicts:   p.bool("conflicts", false),
		Attachments: p.bool("attachments", false),
		AllLeaves:   p.string("style") == "all_docs",
	}
	if n, ok := p.number("limit"); ok {
		o.Limit = max(n, 1) // CouchDB takes 0 as 1
	}
	switch f := couch.Feed(p.string("feed")); f {
	case "", couch.FeedNormal:
		o.Feed = couch.FeedNormal
	case couch.FeedLongpoll, couch.FeedContinuous:
		o.Feed = f
	default:
		p.fail("feed", f)
	}
	p.filter(&o)
	return o
}

func (p *params) heartbeat() time.Duration {
	if s := p.string("heartbeat"); s == "" || s == "false" {
		return 0
	} else if s == "true" {
		return time.Minute
	}
	return p.millis("heartbeat")
}

func (p *params) filter(o *couch.ChangesOptions) {
	o.DocIDs = p.strings("doc_ids")
	o.Selector = p.raw("selector")
	switch f := p.string("filter"); f {
	case "":
	case "_doc_ids":
		if o.DocIDs == nil {
			o.DocIDs = []string{}
		}
	case "_selector":
		if o.Selector == nil {
			p.fail("filter", "_selector without a selector")
		}
	default:
		p.fail("filter", f+" (only _doc_ids and _selector are known)")
	}
}

// window is the part of a list of names that is asked for.
type window struct {
	start, end  *string
	descending  bool
	skip, limit int
}

func (p *params) window() window {
	w := window{limit: -1, descending: p.bool("descending", false)}
	w.skip, _ = p.number("skip")
	if n, ok := p.number("limit"); ok {
		w.limit = n
	}
	w.start, _ = p.key("startkey", "start_key")
	w.end, _ = p.key("endkey", "end_key")
	return w
}

func (w window) slice(names []string) []string {
	names = slices.Clone(names)
	low, high := w.start, w.end
	if w.descending {
		slices.Reverse(names)
		low, high = high, low
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		return low != nil && n < *low || high != nil && n > *high
	})
	names = names[min(w.skip, len(names)):]
	if w.limit >= 0 {
		names = names[:min(w.limit, len(names))]
	}
	return names
}
