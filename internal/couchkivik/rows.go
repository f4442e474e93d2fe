package couchkivik

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// rows implements driver.Rows, RowsWarner and Bookmarker. What surrounds the
// rows is set by the call that makes them, before it ends.
type rows struct {
	*stream[driver.Row]
	all  couch.AllDocsResult
	find couch.FindResult
}

// newRows runs a call as rows, and waits for the first of them.
func newRows(ctx context.Context, run func(ctx context.Context, r *rows, emit func(driver.Row) error) error) (driver.Rows, error) {
	r := &rows{}
	r.stream = newStream(ctx, func(ctx context.Context, emit func(driver.Row) error) error {
		return run(ctx, r, emit)
	})
	if err := r.settle(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *rows) Next(row *driver.Row) error {
	next, err := r.next()
	if err == nil {
		*row = next
	}
	return err
}

func (r *rows) Close() error {
	r.close()
	return nil
}

func (r *rows) Offset() int64     { return max(r.all.Offset, 0) }
func (r *rows) TotalRows() int64  { return r.all.Total }
func (r *rows) UpdateSeq() string { return string(r.all.UpdateSeq) }
func (r *rows) Warning() string   { return r.find.Warning }
func (r *rows) Bookmark() string  { return r.find.Bookmark }

// AllDocs implements driver.DB.
func (d *database) AllDocs(ctx context.Context, options driver.Options) (driver.Rows, error) {
	p := parseOptions(options)
	return d.allDocs(ctx, p, p.allDocs())
}

// DesignDocs implements driver.DesignDocer.
func (d *database) DesignDocs(ctx context.Context, options driver.Options) (driver.Rows, error) {
	p := parseOptions(options)
	o := p.allDocs()
	first, last := "_design/", "_design0" // "0" follows "/"
	if o.Descending {
		first, last = last, first
	}
	if o.StartKey == nil {
		o.StartKey = &first
	}
	if o.EndKey == nil {
		o.EndKey = &last
	}
	return d.allDocs(ctx, p, o)
}

func (d *database) allDocs(ctx context.Context, p *params, o couch.AllDocsOptions) (driver.Rows, error) {
	if p.err != nil {
		return nil, p.err
	}
	return newRows(ctx, func(ctx context.Context, r *rows, emit func(driver.Row) error) (err error) {
		r.all, err = d.db.AllDocs(ctx, o, func(row *couch.Row) error {
			return emit(allDocsRow(row, o.IncludeDocs))
		})
		return err
	})
}

func allDocsRow(row *couch.Row, withDoc bool) driver.Row {
	out := driver.Row{ID: row.ID, Key: couch.AppendString(nil, row.ID)}
	if row.Err != "" {
		out.Error = couch.NotFound("missing")
		return out
	}
	value := append([]byte(`{"rev":"`), row.Rev.String()...)
	value = append(value, '"')
	if row.Deleted {
		value = append(value, `,"deleted":true`...)
	}
	out.Value = bytes.NewReader(append(value, '}'))
	switch {
	case row.Doc != nil:
		out.Doc = bytes.NewReader(row.Doc.AppendJSON(nil))
	case withDoc:
		out.Doc = bytes.NewReader([]byte("null"))
	}
	return out
}

// RevsDiff implements driver.RevsDiffer.
func (d *database) RevsDiff(ctx context.Context, revMap any) (driver.Rows, error) {
	docs, err := docRevs(revMap)
	if err != nil {
		return nil, err
	}
	return newRows(ctx, func(ctx context.Context, _ *rows, emit func(driver.Row) error) error {
		diffs, err := d.db.RevsDiff(ctx, docs)
		for _, diff := range diffs {
			value, _ := json.Marshal(struct { // strings only: cannot fail
				Missing           []couch.Rev `json:"missing"`
				PossibleAncestors []couch.Rev `json:"possible_ancestors,omitempty"`
			}{diff.Missing, diff.PossibleAncestors})
			if err := emit(driver.Row{ID: diff.ID, Value: bytes.NewReader(value)}); err != nil {
				return err
			}
		}
		return err
	})
}

// docRevs reads {"id":["rev",…]}, given as anything that marshals to it.
func docRevs(revMap any) ([]couch.DocRevs, error) {
	var byID map[string][]couch.Rev
	if err := json.Unmarshal(asJSON(revMap), &byID); err != nil {
		return nil, couch.BadRequest("revisions must be an object of lists: " + err.Error())
	}
	docs := make([]couch.DocRevs, 0, len(byID))
	for id, revs := range byID {
		docs = append(docs, couch.DocRevs{ID: id, Revs: revs})
	}
	return docs, nil
}

// OpenRevs implements driver.OpenRever: revs is a list of revisions, or "all" leaves.
func (d *database) OpenRevs(ctx context.Context, id string, revs []string, options driver.Options) (driver.Rows, error) {
	refs := make([]driver.BulkGetReference, len(revs))
	for i, rev := range revs {
		refs[i] = driver.BulkGetReference{ID: id, Rev: rev}
	}
	if len(revs) == 1 && revs[0] == "all" {
		refs[0].Rev = ""
	}
	return d.BulkGet(ctx, refs, options)
}

// BulkGet implements driver.BulkGetter. A row has Error if its revision cannot be had.
func (d *database) BulkGet(ctx context.Context, docs []driver.BulkGetReference, options driver.Options) (driver.Rows, error) {
	p := parseOptions(options)
	o := p.get()
	refs, err := docRefs(docs)
	if p.err != nil {
		err = p.err
	}
	if err != nil {
		return nil, err
	}
	return newRows(ctx, func(ctx context.Context, _ *rows, emit func(driver.Row) error) error {
		return d.db.BulkGet(ctx, refs, o, func(r couch.BulkGetResult) error {
			if r.Err != nil {
				return emit(driver.Row{ID: r.ID, Rev: r.Rev.String(), Error: r.Err})
			}
			body, atts := document(ctx, r.Doc, o)
			return emit(driver.Row{ID: r.Doc.ID, Rev: r.Doc.Rev.String(), Doc: bytes.NewReader(body), Attachments: atts})
		})
	})
}

func docRefs(docs []driver.BulkGetReference) ([]couch.DocRef, error) {
	refs := make([]couch.DocRef, len(docs))
	for i, d := range docs {
		refs[i].ID = d.ID
		if d.Rev != "" {
			rev, err := couch.ParseRev(d.Rev)
			if err != nil {
				return nil, err
			}
			refs[i].Rev = rev
		}
		if d.AttsSince != "" {
			since, err := couch.ParseRev(d.AttsSince)
			if err != nil {
				return nil, err
			}
			refs[i].AttsSince = []couch.Rev{since}
		}
	}
	return refs, nil
}

// attachments implements driver.Attachments.
type attachments struct {
	ctx  context.Context // of the call that gave the document: kivik's Next has none
	list []couch.Attachment
}

func (a *attachments) Next(att *driver.Attachment) error {
	for len(a.list) > 0 {
		next := a.list[0]
		a.list = a.list[1:]
		if next.Stub() {
			continue
		}
		content, err := next.Reader(a.ctx)
		if err != nil {
			return err
		}
		*att = kivikAttachment(&next, content)
		return nil
	}
	return io.EOF
}

func (a *attachments) Close() error {
	a.list = nil
	return nil
}
