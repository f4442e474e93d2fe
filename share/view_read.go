package share

import (
	"context"
	"encoding/json"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// What a view lets its openers read. Their ids are judged here, whatever the endpoint
// they came by and whatever the database makes of them: the owner's _local documents
// hold invites and lists, and a database that is a URL makes a path of an id. What comes
// back is held against what was asked.

// Info tells of what is seen.
func (v *view) Info(ctx context.Context) (*couch.Info, error) { return v.db.Info(ctx) }

// Get reads a document.
func (v *view) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	if !couch.PlainID(id) {
		return nil, errMissing
	}
	d, err := v.db.Get(ctx, id, o)
	if err == nil && d.ID != id {
		return nil, errMissing
	}
	return d, err
}

// BulkGet reads documents.
func (v *view) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for _, ref := range refs {
		if !couch.PlainID(ref.ID) {
			return v.bulkGetSome(ctx, refs, o, fn)
		}
	}
	return v.db.BulkGet(ctx, refs, o, func(r couch.BulkGetResult) error {
		if !couch.PlainID(r.ID) || r.Doc != nil && r.Doc.ID != r.ID {
			r = couch.BulkGetResult{ID: r.ID, Rev: r.Rev, Err: errMissing}
		}
		return fn(r)
	})
}

// bulkGetSome reads the documents that can be, in their order.
func (v *view) bulkGetSome(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for len(refs) > 0 {
		n := 0
		for n < len(refs) && couch.PlainID(refs[n].ID) {
			n++
		}
		if n > 0 {
			if err := v.BulkGet(ctx, refs[:n], o, fn); err != nil {
				return err
			}
		}
		if n < len(refs) {
			if err := fn(couch.BulkGetResult{ID: refs[n].ID, Rev: refs[n].Rev, Err: errMissing}); err != nil {
				return err
			}
			n++
		}
		refs = refs[n:]
	}
	return nil
}

// RevsDiff tells what is lacking: of what no document can be, everything.
func (v *view) RevsDiff(ctx context.Context, docs []couch.DocRevs) ([]couch.RevsDiff, error) {
	plain, none := make([]couch.DocRevs, 0, len(docs)), []couch.RevsDiff(nil)
	for _, d := range docs {
		if couch.PlainID(d.ID) {
			plain = append(plain, d)
		} else if len(d.Revs) > 0 {
			none = append(none, couch.RevsDiff{ID: d.ID, Missing: d.Revs})
		}
	}
	diffs, err := v.db.RevsDiff(ctx, plain)
	return append(diffs, none...), err
}

// Attachment opens an attachment of a document.
func (v *view) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	if !couch.PlainID(id) {
		return nil, errMissing
	}
	return v.db.Attachment(ctx, id, name, rev, offset)
}

// AllDocs lists documents.
func (v *view) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	return v.db.AllDocs(ctx, o, func(r *couch.Row) error {
		if !couch.PlainID(r.ID) || r.Doc != nil && r.Doc.ID != r.ID {
			if o.Keys == nil {
				return nil
			}
			r = &couch.Row{ID: r.ID, Err: "not_found"}
		}
		return fn(r)
	})
}

// Changes follows documents.
func (v *view) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	return v.db.Changes(ctx, o, func(c *couch.Change) error {
		if !couch.PlainID(c.ID) {
			return nil
		}
		return fn(c)
	})
}

// Find looks for documents.
func (v *view) Find(ctx context.Context, query json.RawMessage, fn func(json.RawMessage) error) (couch.FindResult, error) {
	return v.db.Find(ctx, query, fn)
}
