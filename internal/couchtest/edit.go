package couchtest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

const updateConflict = "Document update conflict."

var editTests = []test{
	{"CreateUpdateDelete", func(e *env) {
		db := e.db()
		r1 := e.put(db, `{"_id":"a","n":1}`)
		r2 := e.put(db, fmt.Sprintf(`{"_id":"a","_rev":"%s","n":2}`, r1))
		e.equal("generations", []int64{r1.Gen, r2.Gen}, []int64{1, 2})
		d := e.get(db, "a", couch.GetOptions{})
		e.equal("winner", d.Rev.String()+string(d.Body), r2.String()+`{"n":2}`)
		r3 := e.put(db, fmt.Sprintf(`{"_id":"a","_rev":"%s","_deleted":true,"why":"x"}`, r2))
		_, err := db.Get(e.Context(), "a", couch.GetOptions{})
		e.fails(err, 404, "not_found", "deleted")
		d = e.get(db, "a", couch.GetOptions{Rev: r3})
		e.equal("tombstone", words(d.Deleted, string(d.Body)), `true {"why":"x"}`)
	}},
	{"Conflicts", func(e *env) {
		db := e.db()
		r1 := e.put(db, `{"_id":"a"}`)
		e.put(db, fmt.Sprintf(`{"_id":"a","_rev":"%s"}`, r1))
		for _, text := range []string{
			`{"_id":"a"}`, fmt.Sprintf(`{"_id":"a","_rev":"%s"}`, r1), `{"_id":"a","_rev":"2-0123456789abcdef0123456789abcdef"}`,
			`{"_id":"new","_rev":"1-0123456789abcdef0123456789abcdef"}`, `{"_id":"a","_deleted":true}`,
		} {
			e.fails(e.refused(db, couch.WriteOptions{}, parse(e, text)), 409, "conflict", updateConflict)
		}
		e.equal("documents", e.info(db).DocCount, 1)
	}},
	{"Recreate", func(e *env) {
		db := e.db()
		r1 := e.put(db, `{"_id":"a","n":1}`)
		r2 := e.put(db, fmt.Sprintf(`{"_id":"a","_rev":"%s","_deleted":true}`, r1))
		r3 := e.put(db, `{"_id":"a","n":3}`)
		e.equal("generation", r3.Gen, 3)
		e.equal("ancestry", e.get(db, "a", couch.GetOptions{Revs: true}).Revisions, []string{r3.Hash, r2.Hash, r1.Hash})
		r4 := e.put(db, fmt.Sprintf(`{"_id":"a","_rev":"%s","_deleted":true}`, r3))
		r5 := e.put(db, fmt.Sprintf(`{"_id":"a","_rev":"%s","n":5}`, r4))
		e.equal("generation", r5.Gen, 5)
		e.equal("counts", words(e.info(db).DocCount, e.info(db).DelCount), "1 0")
	}},
	{"SameEditSameRevision", func(e *env) {
		a, b := e.db(), e.db()
		for _, text := range []string{`{"_id":"x","n":1}`, `{"_id":"y","n":[{"a":"ü"}]}`} {
			e.equal("revision", e.put(a, text), e.put(b, text))
		}
		if e.put(a, `{"_id":"p","n":1}`) == e.put(a, `{"_id":"q","n":2}`) {
			e.Error("different bodies have the same revision")
		}
	}},
	{"BulkResultsInOrder", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"c"}`)
		results, err := db.BulkDocs(e.Context(), []*couch.Doc{{ID: "b"}, {ID: "c"}, {ID: "a"}, {ID: "b"}}, couch.WriteOptions{})
		e.ok(err)
		e.equal("results", len(results), 4)
		for i, id := range []string{"b", "c", "a", "b"} {
			e.equal("id", results[i].ID, id)
			if failed := results[i].Err != nil; failed != (i == 1 || i == 3) {
				e.Errorf("%d: %+v", i, results[i])
			}
		}
	}},
	{"NothingToWrite", func(e *env) {
		db := e.db()
		before := e.info(db).UpdateSeq
		results, err := db.BulkDocs(e.Context(), nil, couch.WriteOptions{})
		e.ok(err)
		e.equal("results", len(results), 0)
		e.equal("sequence", e.info(db).UpdateSeq, before)
	}},
	{"IllegalIDs", func(e *env) {
		db := e.db()
		for _, id := range []string{"_foo", "_design/", strings.Repeat("x", 8000)} {
			if err := e.refused(db, couch.WriteOptions{}, &couch.Doc{ID: id}); couch.AsError(err).Status/100 != 4 {
				e.Errorf("%.20q: %v", id, err)
			}
		}
		e.fails(e.refused(db, couch.WriteOptions{}, &couch.Doc{ID: "_foo"}), 400, "illegal_docid", "")
		e.equal("documents", e.info(db).DocCount, 0)
	}},
	{"StrangeIDs", func(e *env) {
		db := e.db()
		for _, id := range []string{"a b", "a/b/c", "ü😀", `q"uo\te`, "100%", "a+b", "a?b=c&d#e", "_design/d/e", "..", "a:b", "'", "\u2028", " "} {
			doc := &couch.Doc{ID: id, Body: json.RawMessage(`{"x":1}`), Attachments: []couch.Attachment{{Name: id + ".txt", ContentType: "text/plain", Data: []byte(id)}}}
			if id == "_design/d/e" {
				doc.Attachments[0].Name = "d.txt"
			}
			r := e.write(db, couch.WriteOptions{}, doc)
			e.equal("revision", e.get(db, id, couch.GetOptions{}).Rev, r)
			a, err := db.Attachment(e.Context(), id, doc.Attachments[0].Name, couch.Rev{}, 0)
			e.ok(err)
			e.equal("attachment", string(e.content(a)), id)
			e.equal("bulk", e.bulkGet(db, couch.GetOptions{}, couch.DocRef{ID: id, Rev: r})[0].Doc.ID, id)
		}
	}},
	{"BodiesAreKept", func(e *env) {
		db := e.db()
		for i, body := range []string{
			`{}`, `{"n":1.0}`, `{"n":9007199254740993}`, `{"n":123456789012345678901234567890}`, `{"n":-0.0,"m":1e3,"k":1E-7}`,
			`{"s":"ü😀\u0000\ud83d\ude00<>&\u2028"}`, `{"b":1,"a":2,"":3}`, `{"deep":[[[[{"x":[]}]]]]}`, `{"u":"\\u005f","long":"` + strings.Repeat("lorem ", 20000) + `"}`,
		} {
			id := words(i)
			e.write(db, couch.WriteOptions{}, &couch.Doc{ID: id, Body: json.RawMessage(body)})
			if got := string(e.get(db, id, couch.GetOptions{}).Body); got != body {
				e.Errorf("got %.200s\nwant %.200s", got, body)
			}
		}
	}},
	{"Design", func(e *env) {
		db := e.db()
		text := `{"views":{"v":{"map":"function(doc){}"}},"language":"javascript"}`
		r := e.write(db, couch.WriteOptions{}, &couch.Doc{ID: "_design/d", Body: json.RawMessage(text)})
		d := e.get(db, "_design/d", couch.GetOptions{})
		e.equal("design", d.Rev.String()+string(d.Body), r.String()+text)
	}},
}
