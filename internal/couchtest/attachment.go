package couchtest

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"io"
	"math/rand/v2"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func md5Digest(data []byte) string {
	sum := md5.Sum(data)
	return "md5-" + base64.StdEncoding.EncodeToString(sum[:])
}

func randomBytes(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	return data
}

// withAttachment is a new document with one attachment.
func withAttachment(id, name string, data []byte) *couch.Doc {
	return &couch.Doc{ID: id, Attachments: []couch.Attachment{{Name: name, ContentType: "text/plain", Data: data, Length: int64(len(data))}}}
}

func (e *env) attachment(db couch.DB, id, name string, r couch.Rev, offset int64) *couch.Attachment {
	e.Helper()
	a, err := db.Attachment(e.Context(), id, name, r, offset)
	e.ok(err)
	return a
}

var attachmentTests = []test{
	{"Stub", func(e *env) {
		db := e.db()
		e.write(db, couch.WriteOptions{}, withAttachment("a", "ü b.txt", []byte("hello")))
		a := e.get(db, "a", couch.GetOptions{}).Attachments[0]
		e.equal("stub", words(a.Stub(), a.Name, a.ContentType, a.Length, a.RevPos), "true ü b.txt text/plain 5 1")
		e.equal("digest", a.Digest, md5Digest([]byte("hello")))
		got := e.attachment(db, "a", "ü b.txt", couch.Rev{}, 0)
		e.equal("meta", words(got.ContentType, got.Length, got.Digest), words("text/plain", 5, a.Digest))
		e.equal("content", string(e.content(got)), "hello")
	}},
	{"WithData", func(e *env) {
		db := e.db()
		doc := withAttachment("a", "b", []byte("bbb"))
		doc.Attachments = append(doc.Attachments, couch.Attachment{Name: "c", ContentType: "image/png", Data: []byte{0, 1, 255}, Length: 3})
		r := e.write(db, couch.WriteOptions{}, doc)
		for _, d := range []*couch.Doc{
			e.get(db, "a", couch.GetOptions{Attachments: true}),
			e.bulkGet(db, couch.GetOptions{Attachments: true}, couch.DocRef{ID: "a", Rev: r})[0].Doc,
		} {
			e.equal("attachments", len(d.Attachments), 2)
			e.equal("b", string(e.content(&d.Attachments[0])), "bbb")
			e.equal("c", e.content(&d.Attachments[1]), []byte{0, 1, 255})
			e.equal("type", d.Attachments[1].ContentType, "image/png")
		}
	}},
	{"Empty", func(e *env) {
		db := e.db()
		e.write(db, couch.WriteOptions{}, withAttachment("a", "b", []byte{}))
		d := e.get(db, "a", couch.GetOptions{Attachments: true})
		e.equal("empty", words(d.Attachments[0].Length, len(e.content(&d.Attachments[0]))), "0 0")
		e.equal("content", len(e.content(e.attachment(db, "a", "b", couch.Rev{}, 0))), 0)
	}},
	{"Streamed", func(e *env) {
		db := e.db()
		for _, size := range []int{1 << 10, 1<<20 + 7} {
			data := randomBytes(size)
			id := words(size)
			e.write(db, couch.WriteOptions{}, &couch.Doc{ID: id, Attachments: []couch.Attachment{
				{Name: "big", ContentType: "application/octet-stream", Length: int64(size), Open: opener(data)},
				{Name: "unmeasured", ContentType: "application/octet-stream", Length: -1, Open: opener(data[:size/2])},
			}})
			d := e.get(db, id, couch.GetOptions{})
			e.equal("lengths", words(d.Attachments[0].Length, d.Attachments[1].Length), words(size, size/2))
			e.equal("digest", d.Attachments[0].Digest, md5Digest(data))
			if !bytes.Equal(e.content(e.attachment(db, id, "big", couch.Rev{}, 0)), data) {
				e.Errorf("%d bytes came back changed", size)
			}
			if tail := e.content(e.attachment(db, id, "big", couch.Rev{}, int64(size-100))); !bytes.Equal(tail, data[size-100:]) {
				e.Errorf("%d bytes: the tail is %d bytes, changed", size, len(tail))
			}
			d = e.get(db, id, couch.GetOptions{Attachments: true})
			if !bytes.Equal(e.content(&d.Attachments[0]), data) || !bytes.Equal(e.content(&d.Attachments[1]), data[:size/2]) {
				e.Errorf("%d bytes came back changed with their document", size)
			}
		}
	}},
	{"OffsetPastTheEnd", func(e *env) {
		db := e.db()
		e.write(db, couch.WriteOptions{}, withAttachment("a", "b", []byte("hello")))
		_, err := db.Attachment(e.Context(), "a", "b", couch.Rev{}, 6)
		if couch.AsError(err) == nil || couch.AsError(err).Status != 416 {
			e.Errorf("%v", err)
		}
	}},
	{"KeptAndReplaced", func(e *env) {
		db := e.db()
		r1 := e.write(db, couch.WriteOptions{}, withAttachment("a", "old", []byte("old")))
		d := e.get(db, "a", couch.GetOptions{})
		d.Attachments = append(d.Attachments, couch.Attachment{Name: "new", ContentType: "text/plain", Data: []byte("new"), Length: 3})
		r2 := e.write(db, couch.WriteOptions{}, d)
		d = e.get(db, "a", couch.GetOptions{})
		e.equal("names", words(d.Attachments[0].Name, d.Attachments[0].RevPos, d.Attachments[1].Name, d.Attachments[1].RevPos), "new 2 old 1")
		e.equal("old digest", d.Attachments[1].Digest, md5Digest([]byte("old")))
		d.Attachments[1] = couch.Attachment{Name: "old", ContentType: "text/html", Data: []byte("newer"), Length: 5}
		e.write(db, couch.WriteOptions{}, d)
		d = e.get(db, "a", couch.GetOptions{})
		e.equal("replaced", words(d.Attachments[1].RevPos, d.Attachments[1].ContentType, d.Attachments[1].Length), "3 text/html 5")
		e.equal("older revision", string(e.content(e.attachment(db, "a", "old", r2, 0))), "old")
		_, err := db.Attachment(e.Context(), "a", "new", r1, 0)
		e.fails(err, 404, "not_found", "")
		d.Attachments = nil
		e.write(db, couch.WriteOptions{}, d)
		e.equal("removed", len(e.get(db, "a", couch.GetOptions{}).Attachments), 0)
	}},
	{"Missing", func(e *env) {
		db := e.db()
		_, err := db.Attachment(e.Context(), "a", "b", couch.Rev{}, 0)
		e.fails(err, 404, "not_found", "")
		e.put(db, `{"_id":"a"}`)
		_, err = db.Attachment(e.Context(), "a", "b", couch.Rev{}, 0)
		e.fails(err, 404, "not_found", "Document is missing attachment")
	}},
	{"MissingStub", func(e *env) {
		db := e.db()
		stub := func(id string) *couch.Doc {
			return &couch.Doc{ID: id, Attachments: []couch.Attachment{{Name: "b", ContentType: "text/plain", Digest: md5Digest([]byte("nobody has this")), Length: 15, RevPos: 1}}}
		}
		e.fails(e.refused(db, couch.WriteOptions{}, stub("a")), 412, "missing_stub", "")
		replicated := stub("a")
		replicated.Rev, replicated.Revisions = rev("2-y"), []string{"y", "x"}
		replicated.Attachments[0].RevPos = 1
		e.fails(e.refused(db, couch.WriteOptions{Replicated: true}, replicated), 412, "missing_stub", "")
		r := e.put(db, `{"_id":"b"}`)
		d := stub("b")
		d.Rev = r
		e.fails(e.refused(db, couch.WriteOptions{}, d), 412, "missing_stub", "")
		e.equal("documents", e.info(db).DocCount, 1)
	}},
	{"ReplicatedStub", func(e *env) {
		db := e.db()
		first := withAttachment("a", "b", []byte("hello"))
		first.Rev, first.Revisions = rev("1-x"), []string{"x"}
		e.write(db, couch.WriteOptions{Replicated: true}, first)
		second := e.get(db, "a", couch.GetOptions{})
		second.Rev, second.Revisions = rev("2-y"), []string{"y", "x"}
		e.write(db, couch.WriteOptions{Replicated: true}, second)
		e.equal("content", string(e.content(e.attachment(db, "a", "b", rev("2-y"), 0))), "hello")
		e.equal("revpos", e.get(db, "a", couch.GetOptions{}).Attachments[0].RevPos, 1)
	}},
	{"RevPosIsKept", func(e *env) {
		db := e.db()
		d := withAttachment("a", "b", []byte("hello"))
		d.Rev, d.Revisions, d.Attachments[0].RevPos = rev("3-z"), []string{"z", "y", "x"}, 2
		e.write(db, couch.WriteOptions{Replicated: true}, d)
		e.equal("revpos", e.get(db, "a", couch.GetOptions{}).Attachments[0].RevPos, 2)
	}},
	{"AttsSince", func(e *env) {
		db := e.db()
		r1 := e.write(db, couch.WriteOptions{}, withAttachment("a", "old", []byte("old")))
		d := e.get(db, "a", couch.GetOptions{})
		d.Attachments = append(d.Attachments, couch.Attachment{Name: "new", ContentType: "text/plain", Data: []byte("new"), Length: 3})
		r2 := e.write(db, couch.WriteOptions{}, d)
		got := e.bulkGet(db, couch.GetOptions{Attachments: true, Revs: true}, couch.DocRef{ID: "a", Rev: r2, AttsSince: []couch.Rev{r1, rev("1-other")}})[0].Doc
		e.equal("new", string(e.content(&got.Attachments[0])), "new")
		e.equal("old is a stub", got.Attachments[1].Stub(), true)
		got = e.bulkGet(db, couch.GetOptions{Attachments: true, Revs: true}, couch.DocRef{ID: "a", Rev: r2, AttsSince: revs("1-other")})[0].Doc
		e.equal("unknown ancestor", string(e.content(&got.Attachments[1])), "old")
	}},
	// Of a document that has a long one, a remote store may give the short ones as stubs, too.
	{"MaxInlineSize", func(e *env) {
		db := e.db()
		d := withAttachment("a", "big", randomBytes(5000))
		d.Attachments = append(d.Attachments, couch.Attachment{Name: "small", ContentType: "text/plain", Data: []byte("s"), Length: 1})
		r1 := e.write(db, couch.WriteOptions{}, d)
		r2 := e.write(db, couch.WriteOptions{}, withAttachment("b", "small", []byte("s")))
		o := couch.GetOptions{Attachments: true, Revs: true, MaxInlineSize: 1000}
		got := e.bulkGet(db, o, couch.DocRef{ID: "a", Rev: r1}, couch.DocRef{ID: "b", Rev: r2})
		if big := &got[0].Doc.Attachments[0]; big.Data != nil {
			e.Errorf("an attachment of %d bytes came inline", len(big.Data))
		}
		e.equal("small", string(e.content(&got[1].Doc.Attachments[0])), "s")
	}},
	{"FailingContent", func(e *env) {
		db := e.db()
		d := &couch.Doc{ID: "a", Attachments: []couch.Attachment{{Name: "b", ContentType: "text/plain", Length: 100, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 50)), failingReader{})), nil
		}}}}
		results, err := db.BulkDocs(e.Context(), []*couch.Doc{d}, couch.WriteOptions{})
		if err == nil && results[0].Err == nil {
			e.Error("half an attachment was written")
		}
		e.equal("documents", e.info(db).DocCount, 0)
		e.put(db, `{"_id":"b"}`)
	}},
	{"OfConflictsAndTombstones", func(e *env) {
		db := e.db()
		for _, hash := range []string{"x", "y"} {
			d := withAttachment("a", "b", []byte(hash))
			d.Rev, d.Revisions = rev("1-"+hash), []string{hash}
			e.write(db, couch.WriteOptions{Replicated: true}, d)
		}
		e.equal("winner", string(e.content(e.attachment(db, "a", "b", couch.Rev{}, 0))), "y")
		e.equal("loser", string(e.content(e.attachment(db, "a", "b", rev("1-x"), 0))), "x")
		e.put(db, `{"_id":"a","_rev":"1-y","_deleted":true}`)
		e.equal("new winner", string(e.content(e.attachment(db, "a", "b", couch.Rev{}, 0))), "x")
	}},
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
