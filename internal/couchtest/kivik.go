package couchtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	kivik "github.com/go-kivik/kivik/v4"
)

// RunKivik checks a kivik client of any driver with what programs do through
// kivik: "localdb" and "peer", and kivik's own "couch" against our server.
// (kivik's kiviktest does not compile with this Go release.)
func RunKivik(t *testing.T, client *kivik.Client) {
	for _, group := range [][]kivikTest{kivikDocTests, kivikRevisionTests, kivikAttachmentTests, kivikQueryTests, kivikFeedTests, kivikPurgeTests} {
		for _, tt := range group {
			t.Run(tt.name, func(t *testing.T) { tt.run(&kenv{T: t, client: client}) })
		}
	}
}

type kivikTest struct {
	name string
	run  func(k *kenv)
}

type kenv struct {
	*testing.T
	client *kivik.Client
}

type object = map[string]any

func (k *kenv) db() *kivik.DB {
	k.Helper()
	name := freshName()
	k.ok(k.client.CreateDB(k.Context(), name))
	k.Cleanup(func() { _ = k.client.DestroyDB(context.WithoutCancel(k.Context()), name) })
	return k.client.DB(name)
}

func (k *kenv) ok(err error) {
	k.Helper()
	if err != nil {
		k.Fatalf("unexpected error: %v", err)
	}
}

func (k *kenv) status(err error, want int) {
	k.Helper()
	if got := kivik.HTTPStatus(err); got != want {
		k.Fatalf("status %d (%v), want %d", got, err, want)
	}
}

func (k *kenv) equal(what string, got, want any) {
	k.Helper()
	if g, w := words(got), words(want); g != w {
		k.Fatalf("%s: got %s, want %s", what, g, w)
	}
}

func (k *kenv) put(db *kivik.DB, id string, doc any, o ...kivik.Option) string {
	k.Helper()
	rev, err := db.Put(k.Context(), id, doc, o...)
	k.ok(err)
	return rev
}

func (k *kenv) get(db *kivik.DB, id string, o ...kivik.Option) (doc object) {
	k.Helper()
	got := db.Get(k.Context(), id, o...)
	k.ok(got.ScanDoc(&doc))
	k.ok(got.Close())
	return doc
}

// ids reads a result set to its end.
func (k *kenv) ids(rows *kivik.ResultSet) (ids []string) {
	k.Helper()
	for rows.Next() {
		id, err := rows.ID()
		k.ok(err)
		ids = append(ids, id)
	}
	k.ok(rows.Err())
	return ids
}

var kivikDocTests = []kivikTest{
	{"Client", func(k *kenv) {
		name := freshName()
		k.ok(k.client.CreateDB(k.Context(), name))
		k.status(k.client.CreateDB(k.Context(), name), http.StatusPreconditionFailed)
		names, err := k.client.AllDBs(k.Context())
		k.ok(err)
		k.equal("listed", slices.Contains(names, name), true)
		exists, err := k.client.DBExists(k.Context(), name)
		k.ok(err)
		k.equal("exists", exists, true)
		all, err := k.client.DBsStats(k.Context(), []string{name, "missing"})
		k.ok(err)
		k.equal("stats", words(all[0].Name, all[1] == nil), words(name, true))
		version, err := k.client.Version(k.Context())
		k.ok(err)
		up, err := k.client.Ping(k.Context())
		k.equal("ping", words(up, err, version.Version != ""), "true <nil> true")
		k.ok(k.client.DestroyDB(k.Context(), name))
		k.status(k.client.DestroyDB(k.Context(), name), http.StatusNotFound)
		exists, err = k.client.DBExists(k.Context(), name)
		k.equal("exists", words(exists, err), "false <nil>")
		_, err = k.client.DB(name).Put(k.Context(), "a", object{})
		k.status(err, http.StatusNotFound)
	}},
	{"HandleOutlivesItsDatabase", func(k *kenv) {
		db := k.db()
		k.put(db, "a", object{})
		k.ok(k.client.DestroyDB(k.Context(), db.Name()))
		k.ok(k.client.CreateDB(k.Context(), db.Name()))
		k.put(db, "b", object{})
		k.equal("documents", k.ids(db.AllDocs(k.Context())), "[b]")
	}},
	{"Put", func(k *kenv) {
		db := k.db()
		type typed struct {
			ID  string `json:"_id"`
			Rev string `json:"_rev,omitempty"`
			N   int    `json:"n"`
		}
		for id, doc := range map[string]any{
			"map": object{"n": 1}, "struct": typed{ID: "struct", N: 1}, "pointer": &typed{ID: "pointer", N: 1},
			"raw": json.RawMessage(`{"n":1}`), "reader": bytes.NewBufferString(`{"n":1}`), "a/b c": object{"n": 1},
		} {
			rev := k.put(db, id, doc)
			got := k.get(db, id)
			k.equal(id, words(got["_id"], got["_rev"], got["n"]), words(id, rev, 1))
		}
		_, err := db.Put(k.Context(), "bad", 7)
		k.status(err, http.StatusBadRequest)
		_, err = db.Put(k.Context(), "_bad", object{})
		k.status(err, http.StatusBadRequest)
	}},
	{"UpdateDelete", func(k *kenv) {
		db := k.db()
		rev := k.put(db, "a", object{"n": 1})
		_, err := db.Put(k.Context(), "a", object{"n": 2})
		k.status(err, http.StatusConflict)
		rev2 := k.put(db, "a", object{"n": 2, "_rev": rev})
		rev3 := k.put(db, "a", object{"n": 3}, kivik.Rev(rev2))
		got, err := db.GetRev(k.Context(), "a")
		k.equal("rev", words(got, err), words(rev3, nil))
		_, err = db.Delete(k.Context(), "a", rev)
		k.status(err, http.StatusConflict)
		rev4, err := db.Delete(k.Context(), "a", rev3)
		k.ok(err)
		k.status(db.Get(k.Context(), "a").Err(), http.StatusNotFound)
		k.equal("tombstone", words(k.get(db, "a", kivik.Rev(rev4))["_deleted"]), "true")
		_, err = db.Delete(k.Context(), "never", rev)
		k.status(err, http.StatusNotFound)
	}},
	{"CreateDoc", func(k *kenv) {
		db := k.db()
		id, rev, err := db.CreateDoc(k.Context(), object{"n": 1})
		k.ok(err)
		k.equal("document", words(len(id), k.get(db, id)["_rev"]), words(32, rev))
		id, _, err = db.CreateDoc(k.Context(), object{"_id": "named"})
		k.equal("named", words(id, err), "named <nil>")
	}},
	{"Copy", func(k *kenv) {
		db := k.db()
		k.put(db, "a", object{"n": 1})
		rev, err := db.Copy(k.Context(), "b", "a")
		k.ok(err)
		k.equal("copy", words(k.get(db, "b")["n"], k.get(db, "b")["_rev"]), words(1, rev))
	}},
	{"BulkDocs", func(k *kenv) {
		db := k.db()
		k.put(db, "b", object{})
		results, err := db.BulkDocs(k.Context(), []any{object{"_id": "a"}, object{"_id": "b"}, json.RawMessage(`{"_id":"c"}`)})
		k.ok(err)
		k.equal("ids", words(results[0].ID, results[1].ID, results[2].ID), "a b c")
		k.equal("errors", words(results[0].Error, kivik.HTTPStatus(results[1].Error), results[2].Error), "<nil> 409 <nil>")
	}},
	{"Local", func(k *kenv) {
		db := k.db()
		rev := k.put(db, "_local/a", object{"n": 1})
		k.put(db, "_local/a", object{"n": 2, "_rev": rev})
		got := k.get(db, "_local/a")
		k.equal("document", words(got["_id"], got["_rev"], got["n"]), "_local/a 0-2 2")
		k.equal("all docs", len(k.ids(db.AllDocs(k.Context()))), 0)
	}},
	{"StatsAndSecurity", func(k *kenv) {
		db := k.db()
		k.put(db, "a", object{})
		stats, err := db.Stats(k.Context())
		k.ok(err)
		k.equal("stats", words(stats.Name, stats.DocCount, stats.DeletedCount, stats.UpdateSeq != ""), words(db.Name(), 1, 0, true))
		want := &kivik.Security{Members: kivik.Members{Names: []string{"ann"}}, Admins: kivik.Members{Roles: []string{"boss"}}}
		k.ok(db.SetSecurity(k.Context(), want))
		got, err := db.Security(k.Context())
		k.ok(err)
		k.equal("security", words(got.Members.Names, got.Admins.Roles), "[ann] [boss]")
		k.ok(db.Flush(k.Context()))
	}},
}

var kivikRevisionTests = []kivikTest{
	{"NewEditsFalse", func(k *kenv) {
		db := k.db()
		replicated := kivik.Param("new_edits", false)
		k.put(db, "a", json.RawMessage(history("a", "c b a", "")), replicated)
		_, err := db.BulkDocs(k.Context(), []any{json.RawMessage(history("a", "d b a", ""))}, replicated)
		k.ok(err)
		got := k.get(db, "a", kivik.Params(object{"conflicts": true, "revs": true}))
		k.equal("document", words(got["_rev"], got["_conflicts"], got["_revisions"].(object)["ids"]), "3-d [3-c] [d b a]")
	}},
	{"OpenRevs", func(k *kenv) {
		db := k.db()
		replicated := kivik.Param("new_edits", false)
		k.put(db, "a", json.RawMessage(history("a", "c b a", "")), replicated)
		k.put(db, "a", json.RawMessage(history("a", "d b a", "")), replicated)
		rows := db.OpenRevs(k.Context(), "a", []string{"3-c", "9-x"})
		var found []string
		for rows.Next() {
			var doc object
			if rows.ScanDoc(&doc) == nil {
				found = append(found, doc["_rev"].(string))
			}
		}
		k.ok(rows.Err())
		k.equal("found", found, "[3-c]")
	}},
	{"BulkGet", func(k *kenv) {
		db := k.db()
		rev := k.put(db, "a", object{"n": 1})
		rows := db.BulkGet(k.Context(), []kivik.BulkGetReference{{ID: "a", Rev: rev}, {ID: "b", Rev: "1-x"}}, kivik.Param("revs", true))
		k.equal("first", rows.Next(), true)
		var doc object
		k.ok(rows.ScanDoc(&doc))
		k.equal("document", words(doc["n"], doc["_revisions"] != nil), "1 true")
		k.equal("second", rows.Next(), true)
		k.equal("missing", rows.ScanDoc(&doc) != nil, true)
		k.equal("end", words(rows.Next(), rows.Err()), "false <nil>")
	}},
	{"RevsDiff", func(k *kenv) {
		db := k.db()
		rev := k.put(db, "a", object{})
		rows := db.RevsDiff(k.Context(), map[string][]string{"a": {rev, "2-x"}, "b": {"1-y"}})
		got := map[string]kivik.RevDiff{}
		for rows.Next() {
			id, err := rows.ID()
			k.ok(err)
			var diff kivik.RevDiff
			k.ok(rows.ScanValue(&diff))
			got[id] = diff
		}
		k.ok(rows.Err())
		k.equal("a", words(got["a"].Missing, got["a"].PossibleAncestors), words("[2-x]", []string{rev}))
		k.equal("b", got["b"].Missing, "[1-y]")
	}},
}

func kivikFile(name, content string) *kivik.Attachment {
	return &kivik.Attachment{Filename: name, ContentType: "text/plain", Content: io.NopCloser(bytes.NewBufferString(content))}
}

func (k *kenv) read(a *kivik.Attachment) string {
	k.Helper()
	b, err := io.ReadAll(a.Content)
	k.ok(err)
	k.ok(a.Content.Close())
	return string(b)
}

var kivikAttachmentTests = []kivikTest{
	{"PutGetDeleteAttachment", func(k *kenv) {
		db := k.db()
		rev, err := db.PutAttachment(k.Context(), "a", kivikFile("one.txt", "one"))
		k.ok(err)
		_, err = db.PutAttachment(k.Context(), "a", kivikFile("two.txt", "two"))
		k.status(err, http.StatusConflict)
		rev, err = db.PutAttachment(k.Context(), "a", kivikFile("two.txt", "two"), kivik.Rev(rev))
		k.ok(err)
		for name, want := range map[string]string{"one.txt": "one", "two.txt": "two"} {
			a, err := db.GetAttachment(k.Context(), "a", name)
			k.ok(err)
			k.equal(name, words(a.ContentType, a.Size, k.read(a)), words("text/plain", 3, want))
		}
		meta, err := db.GetAttachmentMeta(k.Context(), "a", "one.txt")
		k.ok(err)
		k.equal("meta", words(meta.Size, meta.Digest != ""), "3 true")
		rev, err = db.DeleteAttachment(k.Context(), "a", rev, "one.txt")
		k.ok(err)
		_, err = db.GetAttachment(k.Context(), "a", "one.txt")
		k.status(err, http.StatusNotFound)
		k.equal("document", words(k.get(db, "a")["_rev"], len(k.get(db, "a")["_attachments"].(object))), words(rev, 1))
		_, err = db.GetAttachment(k.Context(), "none", "one.txt")
		k.status(err, http.StatusNotFound)
	}},
	{"LargeAttachment", func(k *kenv) {
		db := k.db()
		data := randomBytes(3 << 20)
		a := &kivik.Attachment{Filename: "big", ContentType: "application/octet-stream", Content: io.NopCloser(bytes.NewReader(data))}
		_, err := db.PutAttachment(k.Context(), "a", a)
		k.ok(err)
		got, err := db.GetAttachment(k.Context(), "a", "big")
		k.ok(err)
		k.equal("content", k.read(got) == string(data), true)
	}},
	{"AttachmentsWithTheirDocument", func(k *kenv) {
		db := k.db()
		files := kivik.Attachments{"one.txt": kivikFile("one.txt", "one"), "two.txt": kivikFile("two.txt", "two")}
		k.put(db, "a", object{"n": 1, "_attachments": &files})
		doc := db.Get(k.Context(), "a", kivik.Param("attachments", true))
		var body object
		k.ok(doc.ScanDoc(&body))
		atts, err := doc.Attachments()
		k.ok(err)
		got := map[string]string{}
		for {
			a, err := atts.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			k.ok(err)
			got[a.Filename] = k.read(a)
		}
		k.ok(doc.Close())
		k.equal("attachments", got, "map[one.txt:one two.txt:two]")
	}},
}

var kivikQueryTests = []kivikTest{
	{"AllDocs", func(k *kenv) {
		db := k.db()
		for _, id := range []string{"c", "a", "b", "_design/d"} {
			k.put(db, id, object{"id": id})
		}
		for _, tt := range []struct {
			o    object
			want string
		}{
			{nil, "[_design/d a b c]"},
			{object{"startkey": "b"}, "[b c]"},
			{object{"start_key": "a", "end_key": "c", "inclusive_end": false}, "[a b]"},
			{object{"descending": true, "limit": 2}, "[c b]"},
			{object{"skip": 1, "limit": 1}, "[a]"},
			{object{"key": "b"}, "[b]"},
			{object{"keys": []string{"c", "a"}}, "[c a]"},
		} {
			rows := db.AllDocs(k.Context(), kivik.Params(tt.o))
			k.equal(words(tt.o), k.ids(rows), tt.want)
			meta, err := rows.Metadata()
			k.ok(err)
			k.equal("total", meta.TotalRows, 4)
		}
		rows := db.AllDocs(k.Context(), kivik.IncludeDocs(), kivik.Param("update_seq", true), kivik.Param("startkey", "a"))
		for rows.Next() {
			var doc, value object
			var key string
			k.ok(rows.ScanDoc(&doc))
			k.ok(rows.ScanValue(&value))
			k.ok(rows.ScanKey(&key))
			k.equal("row", words(key, value["rev"]), words(doc["id"], doc["_rev"]))
		}
		k.ok(rows.Err())
		meta, err := rows.Metadata()
		k.equal("update_seq", words(err, meta.UpdateSeq != ""), "<nil> true")
		k.status(k.client.DB("missing").AllDocs(k.Context()).Err(), http.StatusNotFound)
	}},
	{"Find", func(k *kenv) {
		db := k.db()
		k.put(db, "a", object{"n": 1})
		k.put(db, "b", object{"n": 2})
		rows := db.Find(k.Context(), object{"selector": object{"n": object{"$gt": 1}}})
		var found []any
		for rows.Next() {
			var doc object
			k.ok(rows.ScanDoc(&doc))
			found = append(found, doc["_id"])
		}
		meta, err := rows.Metadata()
		k.ok(err)
		k.equal("found", words(found, meta.Bookmark != "", meta.Warning != ""), "[b] true true")
		k.status(db.Find(k.Context(), `{"selector":{"a":{"$foo":1}}}`).Err(), http.StatusBadRequest)
	}},
}

var kivikFeedTests = []kivikTest{
	{"Changes", func(k *kenv) {
		db := k.db()
		rev := k.put(db, "a", object{"n": 1})
		k.put(db, "b", object{"n": 2})
		_, err := db.Delete(k.Context(), "a", rev)
		k.ok(err)
		feed := db.Changes(k.Context(), kivik.Params(object{"include_docs": true, "feed": "normal"}))
		var got []string
		for feed.Next() {
			var doc object
			k.ok(feed.ScanDoc(&doc))
			k.equal("revision", words(len(feed.Changes()), feed.Changes()[0]), words(1, doc["_rev"]))
			got = append(got, words(feed.ID(), feed.Deleted()))
		}
		k.ok(feed.Err())
		meta, err := feed.Metadata()
		k.ok(err)
		k.equal("changes", got, "[b false a true]")
		feed = db.Changes(k.Context(), kivik.Param("since", meta.LastSeq))
		k.equal("later", words(feed.Next(), feed.Err()), "false <nil>")
		feed = db.Changes(k.Context(), kivik.Params(object{"filter": "_doc_ids", "doc_ids": []string{"b"}, "limit": 5, "descending": true}))
		k.equal("filtered", words(feed.Next(), feed.ID(), feed.Next()), "true b false")
	}},
	{"Longpoll", func(k *kenv) {
		db := k.db()
		since := k.seq(db)
		woken := make(chan string, 1)
		go func() {
			feed := db.Changes(k.Context(), kivik.Params(object{"feed": "longpoll", "since": since}))
			if feed.Next() {
				woken <- feed.ID()
			}
			_ = feed.Close()
			close(woken)
		}()
		k.put(db, "a", object{})
		k.equal("woken by", <-woken, "a")
	}},
	{"Continuous", func(k *kenv) {
		if k.client.Driver() == "couch" {
			k.Skip("kivik's own driver panics at the end of a continuous feed")
		}
		db := k.db()
		feed := db.Changes(k.Context(), kivik.Param("feed", "continuous"))
		for _, id := range []string{"a", "b", "c"} {
			k.put(db, id, object{})
			k.equal("heard", words(feed.Next(), feed.ID()), words(true, id))
		}
		ended := make(chan bool)
		go func() { ended <- feed.Next() }()
		k.ok(feed.Close())
		select {
		case more := <-ended:
			k.equal("more", more, false)
		case <-time.After(patience):
			k.Fatal("a closed feed still waits")
		}
		k.ok(feed.Err())
	}},
	{"FeedEndsWithItsContext", func(k *kenv) {
		db := k.db()
		ctx, cancel := context.WithCancel(k.Context())
		feed := db.Changes(ctx, kivik.Params(object{"feed": "longpoll", "since": k.seq(db)}))
		time.AfterFunc(10*time.Millisecond, cancel)
		k.equal("more", feed.Next(), false)
		_ = feed.Close()
	}},
}

func (k *kenv) seq(db *kivik.DB) string {
	k.Helper()
	stats, err := db.Stats(k.Context())
	k.ok(err)
	return stats.UpdateSeq
}
