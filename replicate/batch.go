package replicate

import (
	"context"
	"errors"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// copyBatch copies what the target lacks of the changes of b.
func (r *run) copyBatch(ctx context.Context, b *batch) error {
	refs, err := r.diff(ctx, b.rows)
	for err == nil && len(refs) > 0 {
		var docs []*couch.Doc
		docs, refs, err = r.fetch(ctx, refs, false)
		if err == nil {
			err = r.write(ctx, docs)
		}
	}
	if err == nil && r.o.resolve {
		err = r.resolveRows(ctx, b.rows)
	}
	if err == nil {
		r.finished(b)
	}
	return err
}

// diff returns the revisions of rows that the target lacks.
func (r *run) diff(ctx context.Context, rows []couch.Change) ([]couch.DocRef, error) {
	ask, at := r.toAsk(rows)
	if len(ask) == 0 {
		return nil, nil
	}
	if r.blank {
		return r.all(ask), nil
	}
	var diffs []couch.RevsDiff
	err := r.try(ctx, where{"diff", targetEnd}, func(ctx context.Context, _ *attempt) (err error) {
		diffs, err = r.target.RevsDiff(ctx, ask)
		return err
	})
	if err != nil {
		return nil, err
	}
	var refs []couch.DocRef
	var checked int64
	for _, diff := range diffs {
		i, ok := at[diff.ID]
		if !ok {
			continue // a target must not get what it was not offered
		}
		for _, rev := range diff.Missing {
			if j := slices.Index(ask[i].Revs, rev); j >= 0 {
				refs = append(refs, couch.DocRef{ID: diff.ID, Rev: rev, AttsSince: diff.PossibleAncestors})
				ask[i].Revs = slices.Concat(ask[i].Revs[:j], ask[i].Revs[j+1:]) // a new slice: diff.Missing may be the old one
				checked++
			}
		}
	}
	for _, doc := range ask { // what is left, the target has
		checked += int64(len(doc.Revs))
		r.o.discovered.add(doc.ID, doc.Revs...)
	}
	r.report.count(func(c *Result) { c.MissingChecked += checked; c.MissingFound += int64(len(refs)) })
	return refs, nil
}

// all returns all revisions of ask: what a target lacks that has nothing.
func (r *run) all(ask []couch.DocRevs) (refs []couch.DocRef) {
	for _, doc := range ask {
		for _, rev := range doc.Revs {
			refs = append(refs, couch.DocRef{ID: doc.ID, Rev: rev})
		}
	}
	r.report.count(func(c *Result) { c.MissingChecked += int64(len(refs)); c.MissingFound += int64(len(refs)) })
	return refs
}

// toAsk returns the revisions of rows that the target is not known to have, and where each document is.
func (r *run) toAsk(rows []couch.Change) (ask []couch.DocRevs, at map[string]int) {
	ask, at = make([]couch.DocRevs, 0, len(rows)), make(map[string]int, len(rows))
	for _, row := range rows {
		if r.o.known.has(row.ID, row.Revs) {
			continue
		}
		i, ok := at[row.ID]
		if !ok {
			at[row.ID] = len(ask)
			ask = append(ask, couch.DocRevs{ID: row.ID, Revs: slices.Clone(row.Revs)})
			continue
		}
		for _, rev := range row.Revs {
			if !slices.Contains(ask[i].Revs, rev) {
				ask[i].Revs = append(ask[i].Revs, rev)
			}
		}
	}
	return ask, at
}

var errFull = errors.New("enough for one batch")

// fetch reads the first of refs, as many as fit into a batch, and returns what
// is left to read. whole reads every attachment, also those the target may have.
func (r *run) fetch(ctx context.Context, refs []couch.DocRef, whole bool) (docs []*couch.Doc, rest []couch.DocRef, err error) {
	n := r.sizes.count(len(refs))
	ask, rest := refs[:n:n], refs[n:]
	o := couch.GetOptions{Revs: true, Latest: true, Attachments: true, MaxInlineSize: r.o.InlineAttachments}
	var size int64
	err = r.try(ctx, where{"fetch", sourceEnd}, func(ctx context.Context, a *attempt) error {
		err := r.source.BulkGet(ctx, ask, o, func(got couch.BulkGetResult) error {
			i := slices.IndexFunc(ask, func(ref couch.DocRef) bool { return ref.ID == got.ID && ref.Rev == got.Rev })
			switch {
			case i < 0:
				return nil // not asked for
			case got.Err != nil && got.Err.Status != 404 && transient(got.Err):
				return got.Err
			}
			a.gained()
			ref := ask[i]
			if i == 0 {
				ask = ask[1:]
			} else { // a new slice, since the source may still be reading the old one
				ask = slices.Concat(ask[:i], ask[i+1:])
			}
			if doc := r.readable(got); doc != nil {
				r.openAttachments(doc, ref.AttsSince, whole)
				docs = append(docs, doc)
				size += docSize(doc)
			}
			if size > 2*r.o.BatchBytes && len(ask) > 0 {
				return errFull
			}
			return nil
		})
		if errors.Is(err, errFull) {
			return nil
		}
		if err == nil {
			for _, ref := range ask {
				r.report.refused(ref.ID, ref.Rev, couch.NotFound("The source did not answer for this revision."))
			}
			ask = nil
		}
		return err
	})
	r.sizes.add(len(docs), size)
	r.report.count(func(c *Result) { c.DocsRead += int64(len(docs)) })
	r.report.read(size)
	if len(ask) > 0 {
		rest = slices.Concat(ask, rest)
	}
	if err == nil {
		docs, err = r.pass(docs)
	}
	return docs, rest, err
}

// readable returns the document of got, nil if it cannot be copied.
func (r *run) readable(got couch.BulkGetResult) *couch.Doc {
	switch {
	case got.Err != nil && got.Err.Status == 404:
		// Compacted or purged since the changes feed named it: a later change tells what came instead.
		r.report.log.Debug("replication: revision is gone", "id", got.ID, "rev", got.Rev.String())
	case got.Err != nil:
		r.report.refused(got.ID, got.Rev, got.Err)
	case got.Doc == nil || got.Doc.ID != got.ID || got.Doc.Rev.IsZero():
		r.report.refused(got.ID, got.Rev, couch.BadRequest("The source answered with another document."))
	default:
		return got.Doc
	}
	return nil
}

// docSize is about what a document takes in memory.
func docSize(doc *couch.Doc) int64 {
	return int64(len(doc.ID)+len(doc.Body)+64*len(doc.Revisions)+200*len(doc.Attachments)+200) + inlineSize(doc)
}

func inlineSize(doc *couch.Doc) (n int64) {
	for i := range doc.Attachments {
		n += int64(len(doc.Attachments[i].Data))
	}
	return n
}
