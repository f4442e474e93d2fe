package mango

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

const defaultLimit = 25

// maxWindow bounds skip+limit, so that their sum cannot overflow.
const maxWindow = math.MaxInt32

// A query is a checked _find request.
type query struct {
	tally
	selector      *Selector
	fields        []path // nil: whole documents
	sort          []path // nil: by id, which the scan gives
	descending    bool
	descendingIDs bool // sort is [{"_id":"desc"}]
	limit, skip   int
	conflicts     bool
	bookmark      *hit // the last one of the page before
	bookmarkText  string
}

// ignored are members that only matter where there are indexes or shards.
var ignored = []string{"r", "use_index", "update", "stable", "stale", "execution_stats", "allow_fallback", "partition"}

// parseQuery checks a request. https://docs.couchdb.org/en/stable/api/database/find.html#db-find
func parseQuery(ctx context.Context, data []byte) (*query, error) {
	if err := hold(ctx, data); err != nil {
		return nil, err
	}
	v, err := parseValue(data)
	if err != nil {
		return nil, err
	}
	members, ok := v.(map[string]any)
	if !ok {
		return nil, couch.BadRequest("Request body must be a JSON object")
	}
	if _, ok := members["selector"]; !ok {
		return nil, bad("missing_required_key", "Missing required key: selector")
	}
	q := &query{tally: tally{ctx: ctx}, limit: defaultLimit, bookmarkText: "nil"}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if err := q.set(name, members[name]); err != nil {
			return nil, err
		}
	}
	return q, q.settle()
}

func (q *query) set(name string, v any) (err error) {
	switch name {
	case "selector":
		q.selector, err = compile(&q.tally, v)
	case "limit":
		q.limit, err = window(v)
	case "skip":
		q.skip, err = window(v)
	case "conflicts":
		var ok bool
		if q.conflicts, ok = v.(bool); !ok {
			err = bad("invalid_boolean", "Invalid boolean value: "+show(v))
		}
	case "bookmark":
		q.bookmarkText, err = bookmarkArg(v)
	case "fields":
		q.fields, err = q.fieldsArg(v)
	case "sort":
		q.sort, q.descending, err = q.sortArg(v)
	default:
		if !slices.Contains(ignored, name) {
			err = bad("invalid_key", fmt.Sprintf("Invalid key %s for this request.", name))
		}
	}
	return err
}

// settle is what depends on several members.
func (q *query) settle() error {
	if len(q.sort) == 1 && slices.Equal(q.sort[0], path{"_id"}) {
		q.sort, q.descendingIDs = nil, q.descending
	}
	if q.bookmarkText == "nil" {
		return nil
	}
	if err := work.Hold(q.ctx, bookmarkMemory*int64(len(q.bookmarkText))); err != nil {
		return err
	}
	b, ok := parseBookmark(q.bookmarkText)
	if !ok || len(b.Key) != len(q.sort) {
		return bad("invalid_bookmark", "Invalid bookmark value: "+q.bookmarkText)
	}
	q.bookmark = &hit{doc: &couch.Doc{ID: b.ID}, key: b.Key}
	return nil
}

func window(v any) (int, error) {
	if n, ok := integer(v); ok && n >= 0 {
		return int(min(n, maxWindow)), nil
	}
	return 0, bad("invalid_non_neg_integer", show(v)+" is not an integer greater than or equal to zero")
}

func bookmarkArg(v any) (string, error) {
	s, ok := v.(string)
	switch {
	case v == nil || ok && s == "":
		return "nil", nil
	case !ok:
		return "", bad("invalid_string", "Invalid string: "+show(v))
	}
	return s, nil
}

func (t *tally) fieldsArg(v any) ([]path, error) {
	if v == "all_fields" {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, bad("invalid_fields_json", "Fields must be an array of strings, not: "+show(v))
	}
	var fields []path
	for _, f := range list {
		s, ok := f.(string)
		if !ok {
			return nil, bad("invalid_field_json", "Invalid JSON for field spec: "+show(f))
		}
		p, err := t.field(s)
		if err != nil {
			return nil, err
		}
		fields = append(fields, p)
	}
	return fields, nil
}

// field counts a field and reads its path.
func (t *tally) field(name string) (path, error) {
	if err := t.operator(); err != nil {
		return nil, err
	}
	return splitPath(name)
}

// sortArg reads ["a", {"b":"asc"}]. As in CouchDB all directions must be the same.
func (t *tally) sortArg(v any) (fields []path, descending bool, err error) {
	list, ok := v.([]any)
	if !ok {
		return nil, false, bad("invalid_sort_json", "Sort must be an array of sort specs, not: "+show(v))
	}
	for i, spec := range list {
		field, dir, err := t.sortSpec(spec)
		if err != nil {
			return nil, false, err
		}
		if i > 0 && dir != descending {
			return nil, false, bad("unsupported_mixed_sort", "Sorts currently only support a single direction for all fields.")
		}
		descending = dir
		if !slices.ContainsFunc(fields, func(p path) bool { return slices.Equal(p, field) }) { // again it decides nothing
			fields = append(fields, field)
		}
	}
	return fields, descending, nil
}

func (t *tally) sortSpec(spec any) (field path, descending bool, err error) {
	switch s := spec.(type) {
	case string:
		field, err = t.field(s)
		return field, false, err
	case map[string]any:
		for name, dir := range s {
			if dir != "asc" && dir != "desc" {
				return nil, false, bad("invalid_sort_dir", "Invalid sort direction: "+show(dir))
			}
			if len(s) == 1 {
				field, err = t.field(name)
				return field, dir == "desc", err
			}
		}
	}
	return nil, false, bad("invalid_sort_field", "Invalid sort field: "+show(spec))
}

// A bookmark is the place of the last document told: its id and sort values.
type bookmark struct {
	ID  string `json:"id"`
	Key []any  `json:"key,omitempty"`
}

func (b bookmark) String() string {
	text, _ := json.Marshal(b) // values read from JSON: cannot fail
	return base64.RawURLEncoding.EncodeToString(text)
}

// bookmarkOf makes the bookmark of a hit, whose values may be much larger than what the query gives of it.
func (q *query) bookmarkOf(ctx context.Context, h *hit) (string, error) {
	size := 4 * textSize(h.key)
	if err := work.Hold(ctx, size); err != nil {
		return "", err
	}
	defer work.Release(ctx, size)
	return bookmark{ID: h.doc.ID, Key: h.key}.String(), nil
}

// textSize is about how long a value is as JSON.
func textSize(v any) (n int64) {
	switch v := v.(type) {
	case json.Number:
		n = int64(len(v))
	case string:
		n = int64(len(v))
	case []any:
		for _, e := range v {
			n += textSize(e)
		}
	case map[string]any:
		for name, e := range v {
			n += int64(len(name)) + 4 + textSize(e)
		}
	}
	return n + 4
}

// bookmarkMemory is the most that the values of a byte of a bookmark take: see [work.JSONSize].
const bookmarkMemory = 61

func parseBookmark(s string) (b bookmark, ok bool) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return b, false
	}
	v, err := parseValue(text)
	m, ok := v.(map[string]any)
	if err != nil || !ok {
		return b, false
	}
	b.Key, _ = m["key"].([]any)
	b.ID, ok = m["id"].(string)
	return b, ok
}

func bad(code, reason string) *couch.Error {
	return &couch.Error{Status: 400, Code: code, Reason: reason}
}

// show writes a value into an error's reason, shortened.
func show(v any) string {
	text, _ := json.Marshal(v)
	if len(text) > 200 {
		text = append(text[:200], "..."...)
	}
	return strings.ToValidUTF8(string(text), "")
}
