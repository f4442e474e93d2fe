package couchkivik

import (
	"context"
	"encoding/json"
	"io"
	"slices"

	kivik "github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// attachmentBatch bounds the bytes of attachments that are held for one request.
const attachmentBatch = 4 << 20

// BulkDocs implements couch.Target. Attachments travel as base64 within the
// documents, the only way by which kivik keeps their revpos.
func (f *foreign) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	results := make([]couch.WriteResult, 0, len(docs))
	for len(docs) > 0 {
		n, values, err := loadBatch(ctx, docs)
		if err != nil {
			return results, err
		}
		written, err := f.db.BulkDocs(ctx, values, kivik.Param("new_edits", !o.Replicated))
		if err != nil {
			return results, Error(err)
		}
		if o.Replicated {
			results = append(results, replicatedResults(docs[:n], written)...)
		} else {
			results = append(results, editResults(docs[:n], written)...)
		}
		docs = docs[n:]
		couch.Moving(ctx)() // of the bytes on their way kivik tells nothing
	}
	return results, nil
}

// loadBatch gives the JSON of the first n documents.
func loadBatch(ctx context.Context, docs []*couch.Doc) (n int, values []any, err error) {
	var held int64
	for _, d := range docs {
		loaded, size, err := load(ctx, d)
		if err != nil {
			return 0, nil, err
		}
		values = append(values, json.RawMessage(loaded.AppendJSON(nil)))
		if held += size; held > attachmentBatch {
			break
		}
	}
	return len(values), values, nil
}

// load reads attachments that a document only says how to open.
func load(ctx context.Context, d *couch.Doc) (*couch.Doc, int64, error) {
	var size int64
	out := *d
	out.Attachments = slices.Clone(d.Attachments)
	for i := range out.Attachments {
		a := &out.Attachments[i]
		if a.Open == nil {
			continue
		}
		r, err := a.Open(ctx)
		if err != nil {
			return nil, 0, err
		}
		data, err := io.ReadAll(r)
		if err := closed(r, err); err != nil {
			return nil, 0, err
		}
		if data == nil {
			data = []byte{}
		}
		a.Data, a.Open = data, nil
		size += int64(len(data))
	}
	return &out, size, nil
}

// editResults are in the order of the documents.
func editResults(docs []*couch.Doc, written []kivik.BulkResult) []couch.WriteResult {
	out := make([]couch.WriteResult, len(docs))
	for i, d := range docs {
		out[i] = couch.WriteResult{ID: d.ID, Err: &couch.Error{Status: 500, Code: "unknown_error", Reason: "no result"}}
		if i < len(written) {
			out[i] = writeResult(written[i])
		}
	}
	return out
}

func writeResult(w kivik.BulkResult) couch.WriteResult {
	if w.Error != nil {
		return couch.WriteResult{ID: w.ID, Err: couch.AsError(Error(w.Error))}
	}
	rev, err := couch.ParseRev(w.Rev)
	if err != nil {
		return couch.WriteResult{ID: w.ID, Err: couch.AsError(err)}
	}
	return couch.WriteResult{ID: w.ID, Rev: rev}
}

// replicatedResults: CouchDB names only the documents that it refused.
func replicatedResults(docs []*couch.Doc, written []kivik.BulkResult) []couch.WriteResult {
	out := make([]couch.WriteResult, len(docs))
	for i, d := range docs {
		out[i] = couch.WriteResult{ID: d.ID, Rev: d.Rev}
		for _, w := range written {
			if w.Error != nil && w.ID == d.ID && (w.Rev == "" || w.Rev == d.Rev.String()) {
				out[i] = couch.WriteResult{ID: d.ID, Err: couch.AsError(Error(w.Error))}
			}
		}
	}
	return out
}

// GetLocal implements couch.Locals.
func (f *foreign) GetLocal(ctx context.Context, id string) (*couch.Doc, error) {
	doc, err := f.get(ctx, localPrefix+id, couch.GetOptions{})
	if err != nil {
		return nil, err
	}
	doc.ID = id
	return doc, nil
}

// PutLocal implements couch.Locals. A removal is written, too: of the answer to
// a DELETE kivik cannot read the revision.
func (f *foreign) PutLocal(ctx context.Context, doc *couch.Doc) (couch.Rev, error) {
	local := *doc
	local.ID = localPrefix + doc.ID
	if err := f.checkPath(local.ID); err != nil {
		return couch.Rev{}, err
	}
	rev, err := f.db.Put(ctx, local.ID, json.RawMessage(local.AppendJSON(nil)))
	if err != nil {
		return couch.Rev{}, Error(err)
	}
	return couch.ParseRev(rev)
}
