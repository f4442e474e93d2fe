package couchtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func (e *env) allDocs(db couch.DB, o couch.AllDocsOptions) (rows []couch.Row, res couch.AllDocsResult) {
	e.Helper()
	res, err := db.AllDocs(e.Context(), o, func(r *couch.Row) error { rows = append(rows, *r); return nil })
	e.ok(err)
	return rows, res
}

func rowIDs(rows []couch.Row) string {
	var ids []string
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, " ")
}

func (e *env) find(db couch.DB, query string) (docs []string, res couch.FindResult) {
	e.Helper()
	res, err := db.Find(e.Context(), json.RawMessage(query), func(d json.RawMessage) error { docs = append(docs, string(d)); return nil })
	e.ok(err)
	return docs, res
}

func text(s string) *string { return &s }
func count(n int) *int      { return &n }

var queryTests = []test{
	{"AllDocs", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"b"}`, `{"_id":"B"}`, `{"_id":"a"}`, `{"_id":"é"}`, `{"_id":"_design/x"}`, `{"_id":"aa"}`)
		r := e.put(db, `{"_id":"gone"}`)
		e.put(db, fmt.Sprintf(`{"_id":"gone","_rev":"%s","_deleted":true}`, r))
		rows, res := e.allDocs(db, couch.AllDocsOptions{})
		e.equal("order", rowIDs(rows), "B _design/x a aa b é")
		e.equal("result", words(res.Total, res.Offset), "6 0")
		if rows[0].Rev.IsZero() || rows[0].Doc != nil {
			e.Errorf("%+v", rows[0])
		}
	}},
	{"AllDocsRanges", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`, `{"_id":"b"}`, `{"_id":"c"}`, `{"_id":"d"}`, `{"_id":"e"}`)
		for _, tt := range []struct {
			o      couch.AllDocsOptions
			want   string
			offset int
		}{
			{couch.AllDocsOptions{StartKey: text("b")}, "b c d e", 1},
			{couch.AllDocsOptions{StartKey: text("b"), Skip: 1}, "c d e", 2},
			{couch.AllDocsOptions{StartKey: text("bb"), EndKey: text("d")}, "c d", 2},
			{couch.AllDocsOptions{EndKey: text("c"), ExclusiveEnd: true}, "a b", 0},
			{couch.AllDocsOptions{Descending: true}, "e d c b a", 0},
			{couch.AllDocsOptions{Descending: true, StartKey: text("d"), EndKey: text("b")}, "d c b", 1},
			{couch.AllDocsOptions{Descending: true, StartKey: text("d"), EndKey: text("b"), ExclusiveEnd: true}, "d c", 1},
			{couch.AllDocsOptions{Skip: 1, Limit: count(2)}, "b c", 1},
			{couch.AllDocsOptions{Limit: count(0)}, "", 0},
			{couch.AllDocsOptions{Skip: 9}, "", 5},
			{couch.AllDocsOptions{StartKey: text("c"), EndKey: text("c")}, "c", 2},
			{couch.AllDocsOptions{StartKey: text("d"), EndKey: text("b")}, "", 3},
		} {
			tt.o.Offset = true
			rows, res := e.allDocs(db, tt.o)
			e.equal(fmt.Sprintf("%+v", tt.o), rowIDs(rows), tt.want)
			e.equal("total and offset", words(res.Total, res.Offset), words(5, tt.offset))
		}
	}},
	{"AllDocsKeys", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a","n":1}`)
		r := e.put(db, `{"_id":"gone"}`)
		e.put(db, fmt.Sprintf(`{"_id":"gone","_rev":"%s","_deleted":true}`, r))
		rows, _ := e.allDocs(db, couch.AllDocsOptions{Keys: []string{"none", "a", "gone", "a"}, IncludeDocs: true})
		e.equal("rows", len(rows), 4)
		e.equal("missing", words(rows[0].ID, rows[0].Err), "none not_found")
		e.equal("found", words(rows[1].ID, string(rows[1].Doc.Body), rows[3].ID), `a {"n":1} a`)
		e.equal("deleted", words(rows[2].ID, rows[2].Deleted, rows[2].Rev.Gen, rows[2].Doc == nil), "gone true 2 true")
		rows, _ = e.allDocs(db, couch.AllDocsOptions{Keys: []string{}})
		e.equal("no keys", len(rows), 0)
	}},
	{"AllDocsIncludeDocs", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", `,"n":1.0`), history("a", "b b a", ""))
		e.write(db, couch.WriteOptions{}, withAttachment("t", "t.txt", []byte("hello")))
		rows, res := e.allDocs(db, couch.AllDocsOptions{IncludeDocs: true, Conflicts: true, UpdateSeq: true})
		e.equal("document", words(rows[0].Doc.Rev, string(rows[0].Doc.Body), rows[0].Doc.Conflicts), `3-c {"n":1.0} [3-b]`)
		e.equal("stub", rows[1].Doc.Attachments[0].Stub(), true)
		if res.UpdateSeq == "" {
			e.Error("no update_seq")
		}
		rows, _ = e.allDocs(db, couch.AllDocsOptions{IncludeDocs: true, Attachments: true})
		e.equal("data", string(e.content(&rows[1].Doc.Attachments[0])), "hello")
	}},
	{"AllDocsStops", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`, `{"_id":"b"}`)
		stop := errors.New("stop")
		_, err := db.AllDocs(e.Context(), couch.AllDocsOptions{}, func(*couch.Row) error { return stop })
		if !errors.Is(err, stop) {
			e.Error(err)
		}
	}},
	{"Find", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a","n":3,"o":{"x":1.50}}`, `{"_id":"b","n":1}`, `{"_id":"c","n":2}`, `{"_id":"_design/d","n":9}`)
		docs, res := e.find(db, `{"selector":{"n":{"$gt":1,"$lt":9}},"fields":["_id","o.x"],"sort":[{"n":"desc"}]}`)
		e.equal("documents", strings.Join(docs, " "), `{"_id":"a","o":{"x":1.50}} {"_id":"c"}`)
		if res.Bookmark == "" || res.Warning == "" {
			e.Errorf("%+v", res)
		}
		docs, res = e.find(db, `{"selector":{},"limit":2,"fields":["_id"]}`)
		e.equal("first page", strings.Join(docs, " "), `{"_id":"a"} {"_id":"b"}`)
		docs, _ = e.find(db, fmt.Sprintf(`{"selector":{},"limit":2,"fields":["_id"],"bookmark":%q}`, res.Bookmark))
		e.equal("second page", strings.Join(docs, " "), `{"_id":"c"}`)
	}},
	{"FindConflicts", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b", `,"n":1`), history("a", "d b", `,"n":2`))
		docs, _ := e.find(db, `{"selector":{"n":2},"fields":["_rev","_conflicts"],"conflicts":true}`)
		e.equal("documents", docs, `[{"_rev":"2-d","_conflicts":["2-c"]}]`)
		docs, _ = e.find(db, `{"selector":{"n":1}}`)
		e.equal("the loser is not found", len(docs), 0)
	}},
	{"FindErrors", func(e *env) {
		db := e.db()
		for query, code := range map[string]string{`{`: "bad_request", `{}`: "missing_required_key", `{"selector":{"a":{"$foo":1}}}`: "invalid_operator"} {
			_, err := db.Find(e.Context(), json.RawMessage(query), func(json.RawMessage) error { return nil })
			e.fails(err, 400, code, "")
		}
	}},
}
