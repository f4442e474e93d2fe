package couchtest

import (
	"fmt"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// purge removes leaves and tells what was removed, "id:[revs]" for each document.
func (e *env) purge(db couch.DB, docs ...couch.DocRevs) (text string) {
	e.Helper()
	purged, err := db.Purge(e.Context(), docs)
	e.ok(err)
	e.equal("answers", len(purged), len(docs))
	for i, d := range purged {
		e.equal("answer", d.ID, docs[i].ID)
		text += fmt.Sprintf("%s:%v ", d.ID, d.Revs)
	}
	return text
}

func leaf(id string, list ...string) couch.DocRevs { return couch.DocRevs{ID: id, Revs: revs(list...)} }

var purgeTests = []test{
	{"AsIfItHadNeverBeen", func(e *env) {
		db := e.db()
		empty := e.info(db)
		e.put(db, `{"_id":"kept"}`)
		e.replicate(db, history("a", "c b a", `,"n":3`))
		full := e.info(db)
		e.equal("purged", e.purge(db, leaf("a", "3-c")), "a:[3-c] ")
		_, err := db.Get(e.Context(), "a", couch.GetOptions{})
		e.fails(err, 404, "not_found", "missing")
		_, err = db.Get(e.Context(), "a", couch.GetOptions{Rev: rev("2-b")})
		e.fails(err, 404, "not_found", "missing")
		after := e.info(db)
		e.equal("counts", []int64{after.DocCount, after.DelCount}, []int64{empty.DocCount + 1, empty.DelCount})
		if after.PurgeSeq == full.PurgeSeq && full.PurgeSeq != "" {
			e.Errorf("the purge sequence is still %s", after.PurgeSeq)
		}
		e.equal("changes", e.changes(db, couch.ChangesOptions{}).ids(), "kept")
		diff, err := db.RevsDiff(e.Context(), []couch.DocRevs{leaf("a", "1-a", "3-c")})
		e.ok(err)
		e.equal("missing", words(len(diff), sortedRevs(diff[0].Missing), diff[0].PossibleAncestors), "1 [1-a 3-c] []")
		e.replicate(db, history("a", "c b a", `,"n":3`))
		e.equal("body", string(e.get(db, "a", couch.GetOptions{}).Body), `{"n":3}`)
	}},
	{"ConflictBecomesWinner", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "b a", `,"n":"b"`), history("a", "c a", `,"n":"c"`), history("a", "y x", `,"n":"y"`))
		since := e.info(db).UpdateSeq
		e.equal("purged", e.purge(db, leaf("a", "2-y", "2-c")), "a:[2-y 2-c] ")
		d := e.get(db, "a", couch.GetOptions{Revs: true, Conflicts: true})
		e.equal("winner", words(d.Rev, d.Revisions, d.Conflicts, string(d.Body)), `2-b [b a] [] {"n":"b"}`)
		f := e.changes(db, couch.ChangesOptions{Since: since, AllLeaves: true})
		e.equal("changes", words(f.ids(), f.rows[0].Revs), "a [2-b]")
		_, err := db.Get(e.Context(), "a", couch.GetOptions{Rev: rev("1-x")})
		e.fails(err, 404, "not_found", "missing")
		e.equal("purged", e.purge(db, leaf("a", "2-b")), "a:[2-b] ")
		e.equal("documents", e.info(db).DocCount, 0)
	}},
	{"TombstoneBehindConflict", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "b a", ""), history("a", "d c a", `,"_deleted":true`))
		e.equal("purged", e.purge(db, leaf("a", "2-b")), "a:[2-b] ")
		_, err := db.Get(e.Context(), "a", couch.GetOptions{})
		e.fails(err, 404, "not_found", "deleted")
		i := e.info(db)
		e.equal("counts", []int64{i.DocCount, i.DelCount}, []int64{0, 1})
		e.equal("purged", e.purge(db, leaf("a", "3-d")), "a:[3-d] ")
		i = e.info(db)
		e.equal("counts", []int64{i.DocCount, i.DelCount}, []int64{0, 0})
		_, err = db.Get(e.Context(), "a", couch.GetOptions{})
		e.fails(err, 404, "not_found", "missing")
	}},
	{"OnlyLeaves", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", ""), history("b", "x", ""))
		before := e.info(db)
		got := e.purge(db, leaf("none", "1-a"), leaf("a", "2-b", "3-x"), leaf("b"))
		e.equal("purged", got, "none:[] a:[] b:[] ")
		after := e.info(db)
		e.equal("info", words(after.UpdateSeq, after.DocCount, after.PurgeSeq), words(before.UpdateSeq, before.DocCount, before.PurgeSeq))
	}},
	{"Attachments", func(e *env) {
		db := e.db()
		content := randomBytes(400_000)
		r := e.write(db, couch.WriteOptions{}, withAttachment("a", "x", content))
		e.write(db, couch.WriteOptions{}, withAttachment("b", "x", content))
		e.purge(db, couch.DocRevs{ID: "a", Revs: []couch.Rev{r}})
		_, err := db.Attachment(e.Context(), "a", "x", couch.Rev{}, 0)
		e.fails(err, 404, "not_found", "")
		e.equal("same content elsewhere", len(e.content(e.attachment(db, "b", "x", couch.Rev{}, 0))), len(content))
		e.write(db, couch.WriteOptions{}, withAttachment("a", "x", content))
		e.equal("content", len(e.content(e.attachment(db, "a", "x", couch.Rev{}, 0))), len(content))
	}},
	{"Many", func(e *env) {
		db := e.db()
		var docs []*couch.Doc
		var refs []couch.DocRevs
		for i := range 250 {
			docs = append(docs, &couch.Doc{ID: fmt.Sprint("doc", i)})
		}
		results, err := db.BulkDocs(e.Context(), docs, couch.WriteOptions{})
		e.ok(err)
		for _, r := range results {
			refs = append(refs, couch.DocRevs{ID: r.ID, Revs: []couch.Rev{r.Rev}})
		}
		purged, err := db.Purge(e.Context(), refs[10:])
		e.ok(err)
		e.equal("purged", fmt.Sprint(purged), fmt.Sprint(refs[10:]))
		e.equal("documents", e.info(db).DocCount, 10)
	}},
	{"MissingDatabase", func(e *env) {
		name := freshName()
		e.ok(e.Create(e.Context(), name))
		db, err := e.Open(e.Context(), name)
		e.ok(err)
		e.ok(e.Destroy(e.Context(), name))
		_, err = db.Purge(e.Context(), []couch.DocRevs{leaf("a", "1-a")})
		e.fails(err, 404, "not_found", noDatabase)
		e.fails(db.Compact(e.Context()), 404, "not_found", noDatabase)
	}},
}

var compactTests = []test{
	{"DropsOldBodies", func(e *env) {
		db := e.db()
		first := e.put(db, `{"_id":"a","n":1}`)
		second := e.put(db, `{"_id":"a","_rev":"`+first.String()+`","n":2}`)
		e.replicate(db, history("c", "b a", `,"n":"b"`), history("c", "y x", `,"n":"y"`))
		before := e.info(db)
		for range 2 {
			e.ok(db.Compact(e.Context()))
		}
		after := e.info(db)
		e.equal("info", words(after.UpdateSeq, after.DocCount, after.Compacting), words(before.UpdateSeq, before.DocCount, false))
		d := e.get(db, "a", couch.GetOptions{Revs: true, RevsInfo: true})
		e.equal("document", words(string(d.Body), len(d.Revisions)), `{"n":2} 2`)
		e.equal("info", d.RevsInfo, []couch.RevInfo{{Rev: second, Status: "available"}, {Rev: first, Status: "missing"}})
		_, err := db.Get(e.Context(), "a", couch.GetOptions{Rev: first})
		e.fails(err, 404, "not_found", "missing")
		for r, body := range map[string]string{"2-b": `{"n":"b"}`, "2-y": `{"n":"y"}`} {
			e.equal(r, string(e.get(db, "c", couch.GetOptions{Rev: rev(r)}).Body), body)
		}
		e.put(db, `{"_id":"a","_rev":"`+second.String()+`","n":3}`)
		e.replicate(db, history("c", "z y x", `,"n":"z"`))
		e.equal("winner", e.get(db, "c", couch.GetOptions{}).Rev, "3-z")
	}},
	{"Attachments", func(e *env) {
		db := e.db()
		small, large := randomBytes(100), randomBytes(400_000)
		doc := withAttachment("a", "small", small)
		doc.Attachments = append(doc.Attachments, withAttachment("", "large", large).Attachments...)
		doc.Rev = e.write(db, couch.WriteOptions{}, doc)
		doc.Attachments = []couch.Attachment{{Name: "large"}} // as a stub
		doc.Rev = e.write(db, couch.WriteOptions{}, doc)
		e.ok(db.Compact(e.Context()))
		e.equal("content", len(e.content(e.attachment(db, "a", "large", couch.Rev{}, 0))), len(large))
		doc.Rev = e.write(db, couch.WriteOptions{}, doc)
		e.equal("content", len(e.content(e.attachment(db, "a", "large", couch.Rev{}, 0))), len(large))
		doc.Attachments[0].Name = "small" // it was the first revision's
		_ = e.refused(db, couch.WriteOptions{}, doc)
	}},
}
