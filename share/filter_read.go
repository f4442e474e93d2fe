package share

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/mango"
)

// Get returns a revision that is seen.
func (f *filtered) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	if !f.has(id) {
		return nil, errMissing
	}
	if !o.Rev.IsZero() {
		return f.getRev(ctx, id, o)
	}
	with := o
	with.Conflicts = true
	d, err := f.db.Get(ctx, id, with)
	if errors.Is(err, couch.ErrNotFound) {
		return nil, f.gone(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	if d, err = f.winner(ctx, d, with); err != nil {
		return nil, err
	}
	switch {
	case d == nil:
		return nil, errMissing
	case d.Deleted:
		return nil, couch.NotFound("deleted")
	case !o.Conflicts:
		d.Conflicts, d.DeletedConflicts = nil, nil
	}
	return d, nil
}

// gone is the error for a document without a winner: whether it is known to have been there.
func (f *filtered) gone(ctx context.Context, id string) error {
	seen, err := f.leaves(ctx, id)
	if err == nil && len(seen) > 0 {
		return couch.NotFound("deleted")
	}
	if err == nil {
		err = errMissing
	}
	return err
}

func (f *filtered) getRev(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	d, err := f.db.Get(ctx, id, o)
	if errors.Is(err, couch.ErrNotFound) {
		return nil, errMissing
	}
	if err != nil {
		return nil, err
	}
	if d, err = f.show(ctx, d); err != nil {
		return nil, err
	}
	if d == nil {
		return nil, errMissing
	}
	return f.trim(ctx, d)
}

// trim takes the conflicts that are not seen from a revision.
func (f *filtered) trim(ctx context.Context, d *couch.Doc) (*couch.Doc, error) {
	if len(d.Conflicts)+len(d.DeletedConflicts) == 0 {
		return d, nil
	}
	seen, err := f.leaves(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	return withConflicts(d, seen), nil
}

// BulkGet gives the revisions that are seen; the others are missing.
func (f *filtered) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	g := &filteredGet{f: f, fn: fn}
	if err := f.db.BulkGet(ctx, refs, o, func(r couch.BulkGetResult) error { return g.result(ctx, r) }); err != nil {
		return err
	}
	return g.settle()
}

// A filteredGet passes on what is seen of a BulkGet.
type filteredGet struct {
	f    *filtered
	fn   func(couch.BulkGetResult) error
	open string // the document all of whose leaves are being told and none has been; "": none
	told string // the document some of whose leaves have been told
}

func (g *filteredGet) result(ctx context.Context, r couch.BulkGetResult) error {
	all := r.Rev.IsZero() // the leaves that are not seen are left out
	if !all || r.ID != g.open {
		if err := g.settle(); err != nil {
			return err
		}
	}
	d := r.Doc
	var err error
	if d != nil && g.f.has(r.ID) {
		if d, err = g.f.show(ctx, d); d != nil {
			d, err = g.f.trim(ctx, d)
		}
	} else {
		d = nil
	}
	switch {
	case err != nil:
		return err
	case d != nil:
		g.open, g.told = "", ""
		if all {
			g.told = r.ID
		}
		return g.fn(couch.BulkGetResult{ID: r.ID, Rev: r.Rev, Doc: d})
	case !all:
		g.told = ""
		return g.fn(couch.BulkGetResult{ID: r.ID, Rev: r.Rev, Err: errMissing})
	case g.told != r.ID:
		g.open = r.ID
	}
	return nil
}

// settle tells that a document without a leaf that is seen is missing.
func (g *filteredGet) settle() error {
	id := g.open
	if g.open = ""; id == "" {
		return nil
	}
	return g.fn(couch.BulkGetResult{ID: id, Err: errMissing})
}

// Attachment opens an attachment of a revision that is seen.
func (f *filtered) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	d, err := f.Get(ctx, id, couch.GetOptions{Rev: rev})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(d.Attachments, func(a couch.Attachment) bool { return a.Name == name }) {
		return nil, couch.NotFound("Document is missing attachment")
	}
	return f.db.Attachment(ctx, id, name, d.Rev, offset)
}

// AllDocs gives the documents that are seen, and counts no others.
func (f *filtered) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	info, err := f.Info(ctx)
	if err != nil {
		return couch.AllDocsResult{}, err
	}
	r := &filteredRows{f: f, o: o, fn: fn, skip: o.Skip, left: -1}
	if o.Limit != nil {
		r.left = max(*o.Limit, 0)
	}
	res, err := f.db.AllDocs(ctx, r.inner(), func(row *couch.Row) error { return r.row(ctx, row) })
	if errors.Is(err, errEnough) {
		err = nil
	}
	out := couch.AllDocsResult{Total: info.DocCount, Offset: -1, UpdateSeq: res.UpdateSeq}
	if o.Keys == nil && o.StartKey == nil {
		out.Offset = min(int64(o.Skip), out.Total)
	}
	return out, err
}

// filteredRows passes on the rows that are seen.
type filteredRows struct {
	f          *filtered
	o          couch.AllDocsOptions // as asked
	fn         func(*couch.Row) error
	skip, left int // left < 0: no limit
}

// inner is what the database is asked: the ids of the limits by key, otherwise the range.
func (r *filteredRows) inner() couch.AllDocsOptions {
	in := r.o
	in.Skip, in.Limit, in.Offset = 0, nil, false
	if r.f.selector != nil {
		in.IncludeDocs, in.Conflicts = true, true
	}
	if r.f.ids == nil || in.Keys != nil {
		return in
	}
	from, to := in.StartKey, in.EndKey
	if in.Descending {
		from, to = to, from
	}
	in.Keys = r.f.sorted(from, to, false)
	if in.ExclusiveEnd && in.EndKey != nil {
		in.Keys = slices.DeleteFunc(in.Keys, func(id string) bool { return id == *in.EndKey })
	}
	in.StartKey, in.EndKey, in.ExclusiveEnd = nil, nil, false
	return in
}

func (r *filteredRows) row(ctx context.Context, row *couch.Row) error {
	seen, err := r.see(ctx, row)
	if err != nil {
		return err
	}
	switch byKey := r.o.Keys != nil; {
	case seen == nil && byKey:
		seen = &couch.Row{ID: row.ID, Err: "not_found"}
	case seen == nil, seen.Deleted && !byKey:
		return nil
	}
	switch {
	case r.skip > 0:
		r.skip--
		return nil
	case r.left == 0:
		return errEnough
	}
	r.left--
	if !r.o.IncludeDocs {
		seen.Doc = nil
	}
	return r.fn(seen)
}

// see returns a row as it is seen, nil if it is not.
func (r *filteredRows) see(ctx context.Context, row *couch.Row) (*couch.Row, error) {
	switch {
	case row.Err != "" || !r.f.has(row.ID):
		return nil, nil
	case r.f.selector == nil:
		return row, nil
	case row.Deleted:
		seen, err := r.f.leaves(ctx, row.ID)
		if err != nil || len(seen) == 0 {
			return nil, err
		}
		return &couch.Row{ID: row.ID, Rev: seen[0].Rev, Deleted: true}, nil
	case row.Doc == nil:
		return nil, nil
	}
	d, err := r.f.winner(ctx, row.Doc, couch.GetOptions{Conflicts: true, Attachments: r.o.Attachments})
	if d == nil || err != nil {
		return nil, err
	}
	out := &couch.Row{ID: row.ID, Rev: d.Rev, Deleted: d.Deleted}
	if !d.Deleted {
		if out.Doc = d; !r.o.Conflicts {
			d.Conflicts, d.DeletedConflicts = nil, nil
		}
	}
	return out, nil
}

// Find looks among the documents that are seen.
func (f *filtered) Find(ctx context.Context, query json.RawMessage, fn func(json.RawMessage) error) (couch.FindResult, error) {
	return mango.Find(ctx, f, query, fn)
}

// Security and what follows is the owner's.
func (f *filtered) Security(context.Context) (json.RawMessage, error) { return nil, errOwner }

func (f *filtered) SetSecurity(context.Context, json.RawMessage) error { return errOwner }

func (f *filtered) Purge(context.Context, []couch.DocRevs) ([]couch.DocRevs, error) {
	return nil, errOwner
}

func (f *filtered) Compact(context.Context) error { return errOwner }

// GetLocal and PutLocal: _local documents are each peer's own, see [view].
func (f *filtered) GetLocal(ctx context.Context, id string) (*couch.Doc, error) {
	return f.db.GetLocal(ctx, id)
}

func (f *filtered) PutLocal(ctx context.Context, doc *couch.Doc) (couch.Rev, error) {
	return f.db.PutLocal(ctx, doc)
}
