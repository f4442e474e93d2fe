package couchtest

import (
	"encoding/json"

	"github.com/loveseat-db/loveseat/internal/couch"
)

var localTests = []test{
	{"Missing", func(e *env) {
		_, err := e.db().GetLocal(e.Context(), "a")
		e.fails(err, 404, "not_found", "missing")
	}},
	{"WriteAndRead", func(e *env) {
		db := e.db()
		local := func(r couch.Rev, body string) *couch.Doc {
			return &couch.Doc{ID: "check.point-1_x", Rev: r, Body: json.RawMessage(body)}
		}
		r1, err := db.PutLocal(e.Context(), local(couch.Rev{}, `{"n":1}`))
		e.ok(err)
		r2, err := db.PutLocal(e.Context(), local(r1, `{"n":2.0}`))
		e.ok(err)
		e.equal("revisions", words(r1, r2), "0-1 0-2")
		got, err := db.GetLocal(e.Context(), "check.point-1_x")
		e.ok(err)
		e.equal("document", words(got.ID, got.Rev, string(got.Body)), `check.point-1_x 0-2 {"n":2.0}`)
		for _, r := range []couch.Rev{{}, r1, rev("0-9")} {
			_, err = db.PutLocal(e.Context(), local(r, `{}`))
			e.fails(err, 409, "conflict", updateConflict)
		}
		gone := local(r2, "")
		gone.Deleted = true
		_, err = db.PutLocal(e.Context(), gone)
		e.ok(err)
		_, err = db.GetLocal(e.Context(), "check.point-1_x")
		e.fails(err, 404, "not_found", "")
		_, err = db.PutLocal(e.Context(), local(couch.Rev{}, `{}`))
		e.ok(err)
	}},
	{"NeverReplicates", func(e *env) {
		db := e.db()
		before := e.info(db)
		_, err := db.PutLocal(e.Context(), &couch.Doc{ID: "a", Body: json.RawMessage(`{"n":1}`)})
		e.ok(err)
		after := e.info(db)
		e.equal("info", words(after.DocCount, after.UpdateSeq), words(before.DocCount, before.UpdateSeq))
		e.equal("changes", len(e.changes(db, couch.ChangesOptions{}).rows), 0)
		rows, _ := e.allDocs(db, couch.AllDocsOptions{})
		e.equal("all docs", len(rows), 0)
	}},
}
