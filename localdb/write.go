package localdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
)

// A call with more than this is written in several transactions.
const (
	chunkDocs  = 2000
	chunkBytes = 16 << 20
)

// An edit is a document that is ready to be written.
type edit struct {
	id         string
	replicated bool
	parent     couch.Rev      // the leaf it edits, unless replicated
	gen        int64          // of the new revision
	hashes     []revtree.Hash // of the new revision and, if replicated, its ancestors
	deleted    bool
	body       []byte
	atts       []newAtt
	stubs      bool // atts has some
	result     *couch.WriteResult
}

// BulkDocs implements [couch.Target].
func (d *database) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	results := make([]couch.WriteResult, len(docs))
	edits := make([]*edit, 0, min(len(docs), chunkDocs))
	defer func() { discard(edits) }() // those an error has left
	size := 0
	for i, doc := range docs {
		e, err := d.prepare(ctx, doc, o, &results[i])
		if err != nil {
			if results[i].Err = asDocError(err); results[i].Err == nil {
				return nil, err
			}
		} else {
			edits = append(edits, e)
			size += docSize(doc)
		}
		if len(edits) == chunkDocs || size >= chunkBytes || i == len(docs)-1 && len(edits) > 0 {
			if err := d.write(ctx, edits); err != nil {
				return nil, err
			}
			discard(edits)
			edits, size = edits[:0], 0
		}
	}
	return results, nil
}

// discard removes what edits have beside the database.
func discard(edits []*edit) {
	for _, e := range edits {
		for i := range e.atts {
			e.atts[i].file.discard()
		}
	}
}

// asDocError is err if it concerns one document only, nil if it ends the call.
func asDocError(err error) *couch.Error {
	var e *couch.Error
	_ = errors.As(err, &e)
	return e
}

func (d *database) write(ctx context.Context, edits []*edit) error {
	return d.submit(ctx, len(edits), func(t *tx) error {
		for _, e := range edits {
			e.result.Rev, e.result.Err = couch.Rev{}, nil
			rev, err := t.apply(e, d.o.RevsLimit)
			if err == nil {
				e.result.Rev = rev
			} else if e.result.Err = asDocError(err); e.result.Err == nil {
				return err
			}
		}
		return nil
	})
}

// prepare checks a document and does what needs no lock: reading attachments and hashing.
func (d *database) prepare(ctx context.Context, doc *couch.Doc, o couch.WriteOptions, result *couch.WriteResult) (*edit, error) {
	result.ID = doc.ID
	if err := couch.ValidID(doc.ID); err != nil {
		return nil, err
	}
	if len(doc.ID) > 7 && doc.ID[:7] == "_local/" {
		return nil, couch.BadRequest("Local documents are not written in bulk")
	}
	body, err := d.checkBody(doc)
	if err != nil {
		return nil, err
	}
	e := &edit{id: doc.ID, replicated: o.Replicated, deleted: doc.Deleted, body: body, result: result}
	if o.Replicated {
		err = e.takeHistory(doc, d.o.RevsLimit)
	} else {
		err = checkRev(doc.Rev, true)
		e.parent = doc.Rev
	}
	if err != nil {
		return nil, err
	}
	if len(doc.Attachments) > 0 {
		if err := d.takeAttachments(ctx, e, doc.Attachments); err != nil {
			discard([]*edit{e})
			return nil, err
		}
	}
	if !o.Replicated && !e.stubs {
		e.follow(e.parent)
	}
	return e, nil
}

func trimmed(b []byte) []byte { return bytes.TrimSpace(b) }

// checkBody returns the body to store.
func (d *database) checkBody(doc *couch.Doc) (json.RawMessage, error) {
	if int64(len(doc.Body)) > d.o.MaxDocumentSize {
		return nil, couch.TooLarge("document_too_large", doc.ID)
	}
	body := trimmed(doc.Body)
	if len(body) == 0 {
		return json.RawMessage("{}"), nil
	}
	if body[0] != '{' || body[len(body)-1] != '}' {
		return nil, couch.BadRequest("Document must be a JSON object")
	}
	return body, nil
}

// checkRev refuses what no reader of revision ids would take.
func checkRev(rev couch.Rev, zero bool) error {
	if rev.IsZero() && zero {
		return nil
	}
	if rev.Gen < 1 || rev.Gen > couch.MaxGeneration || rev.Hash == "" || len(rev.Hash) > 256 {
		return couch.BadRequest("Invalid rev format")
	}
	return nil
}

func (e *edit) takeHistory(doc *couch.Doc, limit int) error {
	ids := doc.Ancestry()
	if doc.Rev.IsZero() {
		return couch.BadRequest("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")
	}
	if len(ids) == 0 || ids[0] != doc.Rev.Hash || int64(len(ids)) > doc.Rev.Gen {
		return couch.BadRequest("Invalid _revisions")
	}
	ids = ids[:min(len(ids), limit)]
	e.gen, e.hashes = doc.Rev.Gen, make([]revtree.Hash, len(ids))
	for i, id := range ids {
		if err := checkRev(couch.Rev{Gen: doc.Rev.Gen, Hash: id}, false); err != nil {
			return err
		}
		e.hashes[i] = revtree.HashOf(id)
	}
	return nil
}

func (d *database) takeAttachments(ctx context.Context, e *edit, atts []couch.Attachment) error {
	for i := range atts {
		a, err := d.takeAttachment(ctx, &atts[i])
		if err != nil {
			return err
		}
		e.atts = append(e.atts, a)
		e.stubs = e.stubs || a.stub
	}
	slices.SortStableFunc(e.atts, func(a, b newAtt) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(e.atts); i++ {
		if e.atts[i].Name == e.atts[i-1].Name {
			return couch.BadRequest("Duplicate attachment name " + e.atts[i].Name)
		}
	}
	return nil
}

// follow makes the edit the child of a revision. The new hash depends on
// nothing but what is written, so that the same edit on two peers is one revision;
// and on all of it, so that nobody can make two edits with one hash: replicas would
// keep either, and nothing would show it.
func (e *edit) follow(parent couch.Rev) {
	h := sha256.New()
	var head [16]byte
	if e.deleted {
		head[0] = 1
	}
	binary.BigEndian.PutUint64(head[8:], uint64(parent.Gen))
	_, _ = h.Write(head[:])
	writeField := func(field string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(field)))
		_, _ = h.Write(n[:])
		_, _ = h.Write([]byte(field))
	}
	writeField(parent.Hash)
	for i := range e.atts {
		writeField(e.atts[i].Name)
		writeField(e.atts[i].Type)
		writeField(string(e.atts[i].SHA256))
	}
	_, _ = h.Write(canonical(e.body))
	e.gen = parent.Gen + 1
	e.hashes = append(e.hashes[:0], revtree.RawHash([16]byte(h.Sum(nil)[:16])))
}
