package mango

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is documents sorted by id.
type memory []*couch.Doc

func (m memory) AllDocs(_ context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	docs := slices.Clone(m)
	low, high := o.StartKey, o.EndKey
	if o.Descending {
		slices.Reverse(docs)
		low, high = high, low
	}
	for _, d := range docs {
		if low != nil && d.ID < *low || high != nil && d.ID > *high {
			continue
		}
		if err := fn(&couch.Row{ID: d.ID, Rev: d.Rev, Doc: d}); err != nil {
			return couch.AllDocsResult{}, err
		}
	}
	return couch.AllDocsResult{}, nil
}

func docs(t testing.TB, texts ...string) memory {
	t.Helper()
	var m memory
	for _, s := range texts {
		d, err := couch.ParseDoc([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		m = append(m, d)
	}
	slices.SortFunc(m, func(a, b *couch.Doc) int { return strings.Compare(a.ID, b.ID) })
	return m
}

func find(t testing.TB, m memory, query string) (out []string, res couch.FindResult) {
	t.Helper()
	res, err := Find(t.Context(), m, json.RawMessage(query), func(d json.RawMessage) error {
		out = append(out, string(d))
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out, res
}

func TestSelectors(t *testing.T) {
	const doc = `{"_id":"d1","_rev":"2-x","n":1.5,"i":9007199254740993,"s":"héllo","z":null,"t":true,
		"o":{"a":1,"b":{"c":"x"}},"e":{},"l":[1,2,{"k":3}],"empty":[],"ll":[[1,2]],"a.b":7,"":0,
		"items":[{"sku":"a","qty":2},{"sku":"b","qty":5}]}`
	d := docs(t, doc)[0]
	for selector, want := range map[string]bool{
		`{}`:                                    true,
		`{"_id":"d1"}`:                          true,
		`{"_id":{"$gt":"d"}}`:                   true,
		`{"_rev":"2-x"}`:                        true,
		`{"_deleted":true}`:                     false,
		`{"n":1.5}`:                             true,
		`{"n":1.9}`:                             false,
		`{"n":{"$gt":1,"$lt":2}}`:               true,
		`{"n":{"$gt":1,"$lt":1.2}}`:             false,
		`{"i":9007199254740993}`:                true,
		`{"i":9007199254740992}`:                false,
		`{"n":15e-1}`:                           true,
		`{"s":"héllo"}`:                         true,
		`{"s":{"$lt":"z"}}`:                     true,
		`{"z":null}`:                            true,
		`{"z":{"$exists":true}}`:                true,
		`{"missing":null}`:                      false,
		`{"missing":{"$exists":false}}`:         true,
		`{"missing":{"$exists":true}}`:          false,
		`{"missing":{"$ne":1}}`:                 false,
		`{"missing":{"$lt":1}}`:                 false,
		`{"missing":{"$nin":[1]}}`:              false,
		`{"missing.x":{"$exists":false}}`:       true,
		`{"$not":{"missing":1}}`:                false,
		`{"$not":{"n":1}}`:                      true,
		`{"$not":{"n":1.5}}`:                    false,
		`{"n":{"$not":{"$gt":1}}}`:              false,
		`{"$not":{"n":1.5,"t":false}}`:          true,
		`{"$nor":[{"n":1},{"t":false}]}`:        true,
		`{"$nor":[{"n":1},{"t":true}]}`:         false,
		`{"$not":{"$nor":[{"t":true}]}}`:        true,
		`{"$or":[{"n":1},{"t":true}]}`:          true,
		`{"$or":[{"n":1},{"t":false}]}`:         false,
		`{"$or":[]}`:                            true,
		`{"$and":[]}`:                           true,
		`{"$and":[{"n":1.5},{"t":true}]}`:       true,
		`{"$and":[{"n":1.5},{"t":false}]}`:      false,
		`{"n":{"$or":[{"$eq":1},{"$eq":1.5}]}}`: true,
		`{"o":{"a":1}}`:                         true,
		`{"o":{"a":1,"b":{"c":"x"}}}`:           true,
		`{"o.b.c":"x"}`:                         true,
		`{"o.b":{"c":{"$gt":"y"}}}`:             false,
		`{"o":{"$eq":{"a":1}}}`:                 false,
		`{"o":{"$eq":{"b":{"c":"x"},"a":1}}}`:   true,
		`{"e":{}}`:                              true,
		`{"o":{}}`:                              false,
		`{"a\\.b":7}`:                           true,
		`{"a.b":7}`:                             false,
		`{"":0}`:                                true,
		`{"l.0":1}`:                             true,
		`{"l.2.k":3}`:                           true,
		`{"l.9":1}`:                             false,
		`{"l":[1,2,{"k":3}]}`:                   true,
		`{"l":{"$size":3}}`:                     true,
		`{"l":{"$size":2}}`:                     false,
		`{"l":{"$in":[7,2]}}`:                   true,
		`{"l":{"$nin":[7,2]}}`:                  false,
		`{"n":{"$in":[1.5]}}`:                   true,
		`{"n":{"$in":[]}}`:                      false,
		`{"n":{"$nin":[]}}`:                     true,
		`{"l":{"$all":[1,2]}}`:                  true,
		`{"l":{"$all":[1,3]}}`:                  false,
		`{"l":{"$all":[]}}`:                     false,
		`{"ll":{"$all":[[1,2]]}}`:               true,
		`{"items":{"$elemMatch":{"sku":"b","qty":{"$gt":4}}}}`:        true,
		`{"items":{"$elemMatch":{"sku":"a","qty":{"$gt":4}}}}`:        false,
		`{"l":{"$elemMatch":{"$eq":2}}}`:                              true,
		`{"l":{"$not":{"$elemMatch":{"$eq":2}}}}`:                     false,
		`{"items":{"$allMatch":{"qty":{"$gt":1}}}}`:                   true,
		`{"items":{"$allMatch":{"qty":{"$gt":2}}}}`:                   false,
		`{"empty":{"$allMatch":{"qty":1}}}`:                           false,
		`{"o":{"$keyMapMatch":{"$eq":"b"}}}`:                          true,
		`{"o":{"$keyMapMatch":{"$eq":"z"}}}`:                          false,
		`{"s":{"$regex":"^h.l+o$"}}`:                                  true,
		`{"n":{"$regex":"1"}}`:                                        false,
		`{"s":{"$beginsWith":"hé"}}`:                                  true,
		`{"i":{"$mod":[10,3]}}`:                                       true,
		`{"n":{"$mod":[1,0]}}`:                                        false,
		`{"z":{"$type":"null"}}`:                                      true,
		`{"t":{"$type":"boolean"}}`:                                   true,
		`{"n":{"$type":"number"}}`:                                    true,
		`{"s":{"$type":"string"}}`:                                    true,
		`{"l":{"$type":"array"}}`:                                     true,
		`{"o":{"$type":"object"}}`:                                    true,
		`{"o":{"$type":"whatever"}}`:                                  false,
		`{"n":{"$lt":"a"}}`:                                           true,
		`{"_id":{"$in":["d1","d2"]},"n":{"$gte":1.5}}`:                true,
		`{"$and":[{"_id":{"$gte":"d1"}},{"_id":{"$lt":"d1\ufff0"}}]}`: true,
	} {
		s, err := Compile(t.Context(), json.RawMessage(selector))
		if err != nil {
			t.Errorf("%s: %v", selector, err)
			continue
		}
		if got, err := s.Match(t.Context(), d); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", selector, got, err, want)
		}
		if out, _ := find(t, memory{d}, `{"selector":`+selector+`}`); (len(out) == 1) != want {
			t.Errorf("find %s: %d documents; want a match: %v", selector, len(out), want)
		}
	}
}

func TestErrors(t *testing.T) {
	for query, want := range map[string]string{
		`{`:                                         `bad_request: invalid UTF-8 JSON`,
		`[]`:                                        `bad_request: Request body must be a JSON object`,
		`{}`:                                        `missing_required_key: Missing required key: selector`,
		`{"selector":[]}`:                           `invalid_selector_json: Selector must be a JSON object`,
		`{"selector":{},"foo":1}`:                   `invalid_key: Invalid key foo for this request.`,
		`{"selector":{"a":{"$foo":1}}}`:             `invalid_operator: Invalid operator: $foo`,
		`{"selector":{"$foo":1}}`:                   `invalid_operator: Invalid operator: $foo`,
		`{"selector":{"$gt":1}}`:                    `invalid_selector: One or more conditions is missing a field name.`,
		`{"selector":{"$or":1}}`:                    `bad_arg: Bad argument for operator $or: 1`,
		`{"selector":{"$or":[1]}}`:                  `bad_arg: Bad argument for operator $or: [1]`,
		`{"selector":{"$not":[]}}`:                  `bad_arg: Bad argument for operator $not: []`,
		`{"selector":{"a":{"$in":1}}}`:              `bad_arg: Bad argument for operator $in: 1`,
		`{"selector":{"a":{"$exists":1}}}`:          `bad_arg: Bad argument for operator $exists: 1`,
		`{"selector":{"a":{"$type":1}}}`:            `bad_arg: Bad argument for operator $type: 1`,
		`{"selector":{"a":{"$mod":[0,1]}}}`:         `bad_arg: Bad argument for operator $mod: [0,1]`,
		`{"selector":{"a":{"$mod":[1.5,1]}}}`:       `bad_arg: Bad argument for operator $mod: [1.5,1]`,
		`{"selector":{"a":{"$size":-1}}}`:           `bad_arg: Bad argument for operator $size: -1`,
		`{"selector":{"a":{"$regex":"("}}}`:         `bad_arg: Bad argument for operator $regex: "("`,
		`{"selector":{"a":{"$all":1}}}`:             `bad_arg: Bad argument for operator $all: 1`,
		`{"selector":{"a":{"$elemMatch":1}}}`:       `bad_arg: Bad argument for operator $elemMatch: 1`,
		`{"selector":{"a":{"$text":"x"}}}`:          `not_supported: Unsupported operator: $text`,
		`{"selector":{},"limit":-1}`:                `invalid_non_neg_integer: -1 is not an integer greater than or equal to zero`,
		`{"selector":{},"skip":"1"}`:                `invalid_non_neg_integer: "1" is not an integer greater than or equal to zero`,
		`{"selector":{},"conflicts":1}`:             `invalid_boolean: Invalid boolean value: 1`,
		`{"selector":{},"fields":"a"}`:              `invalid_fields_json: Fields must be an array of strings, not: "a"`,
		`{"selector":{},"fields":[1]}`:              `invalid_field_json: Invalid JSON for field spec: 1`,
		`{"selector":{},"sort":1}`:                  `invalid_sort_json: Sort must be an array of sort specs, not: 1`,
		`{"selector":{},"sort":[1]}`:                `invalid_sort_field: Invalid sort field: 1`,
		`{"selector":{},"sort":[{"a":"up"}]}`:       `invalid_sort_dir: Invalid sort direction: "up"`,
		`{"selector":{},"sort":["a",{"b":"desc"}]}`: `unsupported_mixed_sort: Sorts currently only support a single direction for all fields.`,
		`{"selector":{},"bookmark":"?"}`:            `invalid_bookmark: Invalid bookmark value: ?`,
		`{"selector":{},"bookmark":1}`:              `invalid_string: Invalid string: 1`,
	} {
		_, err := Find(t.Context(), memory{}, json.RawMessage(query), nil)
		var e *couch.Error
		if !errors.As(err, &e) || e.Status != 400 || e.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", query, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	m := docs(t, `{"_id":"_design/x","n":1}`, `{"_id":"a","_rev":"1-x","n":3,"o":{"x":1.50,"y":2},"l":[7,8]}`,
		`{"_id":"b","n":1}`, `{"_id":"c","n":2}`, `{"_id":"d"}`)
	for _, tt := range []struct{ query, want string }{
		{`{"selector":{}}`, `{"_id":"a","_rev":"1-x","n":3,"o":{"x":1.50,"y":2},"l":[7,8]} {"_id":"b","n":1} {"_id":"c","n":2} {"_id":"d"}`},
		{`{"selector":{"n":{"$gt":1}},"fields":["_id","o.x","none","n"]}`, `{"_id":"a","o":{"x":1.50},"n":3} {"_id":"c","n":2}`},
		{`{"selector":{"_id":"a"},"fields":["o.y","o.x","l.1","_rev"]}`, `{"o":{"y":2,"x":1.50},"l":{"1":8},"_rev":"1-x"}`},
		{`{"selector":{"_id":"a"},"fields":["o","o.x"]}`, `{"o":{"x":1.50,"y":2}}`},
		{`{"selector":{"_id":"a"},"fields":["o.x","o"]}`, `{"o":{"x":1.50,"y":2}}`},
		{`{"selector":{},"sort":["n"],"fields":["_id"]}`, `{"_id":"b"} {"_id":"c"} {"_id":"a"}`},
		{`{"selector":{},"sort":[{"n":"desc"}],"fields":["_id"],"limit":2}`, `{"_id":"a"} {"_id":"c"}`},
		{`{"selector":{},"sort":[{"n":"desc"}],"fields":["_id"],"skip":2}`, `{"_id":"b"}`},
		{`{"selector":{},"sort":[{"_id":"desc"}],"fields":["_id"],"skip":1,"limit":2}`, `{"_id":"c"} {"_id":"b"}`},
		{`{"selector":{"_id":{"$gt":"a","$lte":"c"}},"fields":["_id"]}`, `{"_id":"b"} {"_id":"c"}`},
		{`{"selector":{"_id":{"$gt":"a"}},"sort":[{"_id":"desc"}],"fields":["_id"]}`, `{"_id":"d"} {"_id":"c"} {"_id":"b"}`},
		{`{"selector":{},"limit":0}`, ``},
		{`{"selector":{},"skip":9}`, ``},
		{`{"selector":{},"r":1,"use_index":"x","execution_stats":true,"bookmark":"nil","fields":["_id"],"limit":1}`, `{"_id":"a"}`},
	} {
		out, res := find(t, m, tt.query)
		if got := strings.Join(out, " "); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.query, got, tt.want)
		}
		if res.Warning != NoIndexWarning || (len(out) == 0) != (res.Bookmark == "nil") {
			t.Errorf("%s: %+v", tt.query, res)
		}
	}
}

// Paging by bookmark gives every match once, in the order of the whole answer.
func TestBookmarks(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var m memory
		for i := range rapid.IntRange(0, 30).Draw(r, "docs") {
			n := rapid.SampledFrom([]string{"1", "2", "2.5", `"é"`, "null", "[1]"}).Draw(r, "n")
			m = append(m, docs(t, fmt.Sprintf(`{"_id":"%03d","n":%s}`, i, n))...)
		}
		sort := rapid.SampledFrom([]string{`[]`, `["n"]`, `[{"n":"desc"}]`, `["_id"]`, `[{"_id":"desc"}]`, `["n","_id"]`}).Draw(r, "sort")
		whole, _ := find(t, m, `{"selector":{},"limit":1000,"sort":`+sort+`}`)
		limit := rapid.IntRange(1, 7).Draw(r, "limit")
		var paged []string
		for mark := "nil"; ; {
			page, res := find(t, m, fmt.Sprintf(`{"selector":{},"limit":%d,"sort":%s,"bookmark":%q}`, limit, sort, mark))
			paged = append(paged, page...)
			if len(page) == 0 {
				break
			}
			mark = res.Bookmark
		}
		if !slices.Equal(whole, paged) {
			r.Fatalf("paged %v\nwhole %v", paged, whole)
		}
	})
}

func TestCollation(t *testing.T) {
	order := []string{`null`, `false`, `true`, `-1`, `0`, `0.1`, `0.2`, `1`, `9007199254740992`, `9007199254740993`, `1e300`, `""`, `"a"`, `"A"`, `"aa"`, `"b"`, `"é"`, `"f"`,
		`[]`, `["a"]`, `["b"]`, `["b","c"]`, `{}`, `{"a":1}`, `{"a":2}`, `{"b":1}`, `{"b":2,"c":2}`}
	for i, a := range order {
		for j, b := range order {
			x, _ := parseValue([]byte(a))
			y, _ := parseValue([]byte(b))
			if c := Compare(x, y); (c < 0) != (i < j) || (c == 0) != (i == j) {
				t.Errorf("%s against %s: %d", a, b, c)
			}
		}
	}
}

// FuzzFind: whatever comes, the answer is documents or a 400.
func FuzzFind(f *testing.F) {
	for _, s := range []string{`{"selector":{"a":{"$elemMatch":{"b":{"$type":"x"}}},"":{"$mod":[1,1]}}}`, `{"selector":{"$not":{"a":{}}},"sort":["a"],"fields":["a.b"]}`,
		`{"selector":{"_id":{"$gt":"a"}},"bookmark":"eyJpZCI6ImEifQ","skip":1}`, `{"selector":{"a.0":{"$keyMapMatch":{"$regex":"a"}}}}`} {
		f.Add(s)
	}
	m := docs(f, `{"_id":"a","a":[{"b":1},{}],"b":{"":null}}`, `{"_id":"b","a":"x","b":-0.0}`)
	f.Fuzz(func(t *testing.T, query string) {
		_, err := Find(t.Context(), m, json.RawMessage(query), func(d json.RawMessage) error {
			if !json.Valid(d) {
				t.Fatalf("%s: %s", query, d)
			}
			return nil
		})
		if err != nil && couch.AsError(err).Status != 400 {
			t.Fatalf("%s: %v", query, err)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	d := docs(b, `{"_id":"x","text":"`+strings.Repeat("lorem ipsum ", 75)+`","o":{"a":[1,2,3]},"n":7}`)[0]
	s, err := Compile(b.Context(), json.RawMessage(`{"n":{"$gt":3}}`))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := s.Match(b.Context(), d); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
