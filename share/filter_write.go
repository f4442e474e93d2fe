package share

import (
	"context"
	"io"
	"slices"
	"strconv"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// RevsDiff tells what is lacking of what is seen: a revision that is not seen is
// lacking, whether it is there or not.
func (f *filtered) RevsDiff(ctx context.Context, docs []couch.DocRevs) ([]couch.RevsDiff, error) {
	diffs, err := f.db.RevsDiff(ctx, docs)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]couch.RevsDiff, len(diffs))
	for _, d := range diffs {
		byID[d.ID] = d
	}
	known, err := f.known(ctx, docs, byID)
	if err != nil {
		return nil, err
	}
	var out []couch.RevsDiff
	for _, d := range docs {
		diff := couch.RevsDiff{ID: d.ID}
		for _, r := range d.Revs {
			if !known[revKey{d.ID, r}] {
				diff.Missing = append(diff.Missing, r)
			}
		}
		for _, r := range byID[d.ID].PossibleAncestors {
			if known[revKey{d.ID, r}] {
				diff.PossibleAncestors = append(diff.PossibleAncestors, r)
			}
		}
		if len(diff.Missing) > 0 {
			out = append(out, diff)
		}
	}
	return out, nil
}

type revKey struct {
	id  string
	rev couch.Rev
}

// known finds which of the revisions that are there are seen: by themselves, or
// as ancestors of a leaf that is.
func (f *filtered) known(ctx context.Context, docs []couch.DocRevs, diffs map[string]couch.RevsDiff) (map[revKey]bool, error) {
	known := map[revKey]bool{}
	var refs []couch.DocRef
	for _, d := range docs {
		if !f.has(d.ID) {
			continue
		}
		for _, r := range d.Revs {
			if !slices.Contains(diffs[d.ID].Missing, r) {
				refs = append(refs, couch.DocRef{ID: d.ID, Rev: r})
			}
		}
		for _, r := range diffs[d.ID].PossibleAncestors {
			refs = append(refs, couch.DocRef{ID: d.ID, Rev: r})
		}
	}
	if f.selector == nil || len(refs) == 0 {
		for _, r := range refs {
			known[revKey{r.ID, r.Rev}] = true
		}
		return known, nil
	}
	var compacted []couch.DocRef
	err := f.db.BulkGet(ctx, refs, couch.GetOptions{}, func(r couch.BulkGetResult) error {
		if r.Doc == nil {
			compacted = append(compacted, couch.DocRef{ID: r.ID, Rev: r.Rev})
			return nil
		}
		d, err := f.show(ctx, r.Doc)
		if d != nil {
			known[revKey{r.ID, r.Rev}] = true
		}
		return err
	})
	for _, r := range compacted {
		if err != nil {
			break
		}
		known[revKey{r.ID, r.Rev}], err = f.inPast(ctx, r)
	}
	return known, err
}

// inPast reports whether a revision is an ancestor of a leaf that is seen.
func (f *filtered) inPast(ctx context.Context, ref couch.DocRef) (found bool, err error) {
	err = f.db.BulkGet(ctx, []couch.DocRef{{ID: ref.ID}}, couch.GetOptions{Revs: true}, func(r couch.BulkGetResult) error {
		if r.Doc == nil || !descends(r.Doc, ref.Rev) {
			return nil
		}
		d, err := f.show(ctx, r.Doc)
		found = found || d != nil
		return err
	})
	return found, err
}

// descends reports whether a revision is another one or comes from it, by its Revisions.
func descends(d *couch.Doc, from couch.Rev) bool {
	ids := d.Ancestry()
	i := d.Rev.Gen - from.Gen
	return i >= 0 && i < int64(len(ids)) && ids[i] == from.Hash
}

// BulkDocs writes what stays within the limits. The answer to a write of a
// document that is not seen is that to one beyond the limits.
func (f *filtered) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	have, err := f.present(ctx, docs)
	if err != nil {
		return nil, err
	}
	return writeSome(ctx, f.db, docs, o, func(d *couch.Doc) (*couch.Doc, *couch.Error) {
		return f.writable(ctx, d, have[d.ID], o)
	})
}

// writeSome writes the documents, or what pass makes of them, that pass lets through.
func writeSome(ctx context.Context, db couch.DB, docs []*couch.Doc, o couch.WriteOptions, pass func(*couch.Doc) (*couch.Doc, *couch.Error)) ([]couch.WriteResult, error) {
	results := make([]couch.WriteResult, len(docs))
	allowed := make([]*couch.Doc, 0, len(docs))
	at := make([]int, 0, len(docs)) // where the results of allowed belong
	for i, d := range docs {
		to, err := pass(d)
		if err != nil {
			results[i] = couch.WriteResult{ID: d.ID, Err: err}
			continue
		}
		allowed, at = append(allowed, to), append(at, i)
	}
	if len(allowed) == 0 {
		return results, nil
	}
	written, err := db.BulkDocs(ctx, allowed, o)
	if err != nil {
		return nil, err
	}
	for i, r := range written {
		results[at[i]] = r
	}
	return results, nil
}

// present is what there is of a document that is written.
type present struct {
	seen   []*couch.Doc // leaves that are seen
	hidden []couch.Rev  // those that are not
	alive  bool         // one of the hidden is not deleted
}

// present reads the leaves of the documents that are written; only a selector needs them.
func (f *filtered) present(ctx context.Context, docs []*couch.Doc) (map[string]*present, error) {
	if f.selector == nil {
		return nil, nil
	}
	refs := make([]couch.DocRef, 0, len(docs))
	for _, d := range docs {
		if f.has(d.ID) {
			refs = append(refs, couch.DocRef{ID: d.ID})
		}
	}
	have := make(map[string]*present, len(refs))
	err := f.db.BulkGet(ctx, refs, couch.GetOptions{}, func(r couch.BulkGetResult) error {
		if r.Doc == nil {
			return nil
		}
		p := have[r.ID]
		if p == nil {
			p = &present{}
			have[r.ID] = p
		}
		d, err := f.show(ctx, r.Doc)
		if d != nil {
			p.seen = append(p.seen, d)
		} else {
			p.hidden = append(p.hidden, r.Doc.Rev)
			p.alive = p.alive || !r.Doc.Deleted
		}
		return err
	})
	return have, err
}

// writable decides on one document and returns what is written.
func (f *filtered) writable(ctx context.Context, d *couch.Doc, have *present, o couch.WriteOptions) (*couch.Doc, *couch.Error) {
	if !f.has(d.ID) {
		return nil, errOutside
	}
	if f.selector == nil {
		return d, nil
	}
	if have == nil {
		have = &present{}
	}
	fits, err := f.fits(ctx, d)
	switch {
	case err != nil:
		return nil, couch.AsError(err)
	case !fits && (!d.Deleted || says(d) || len(have.seen) == 0): // a tombstone without content ends what is seen
		return nil, errOutside
	case len(have.seen) == 0 && have.alive && (o.Replicated || d.Rev.IsZero()):
		return nil, errOutside
	case o.Replicated && slices.ContainsFunc(have.hidden, func(r couch.Rev) bool { return descends(d, r) }):
		return nil, errOutside
	case !o.Replicated && !d.Rev.IsZero() && !slices.ContainsFunc(have.seen, func(l *couch.Doc) bool { return l.Rev == d.Rev }):
		return nil, couch.Conflict()
	}
	return f.filled(d, have)
}

// filled gives stubs the content of the attachment that is seen under their name.
// A database may find it in any revision of the document, also one that is not.
func (f *filtered) filled(d *couch.Doc, have *present) (*couch.Doc, *couch.Error) {
	if !slices.ContainsFunc(d.Attachments, func(a couch.Attachment) bool { return a.Stub() }) {
		return d, nil
	}
	out := *d
	out.Attachments = slices.Clone(d.Attachments)
	// What it comes from goes before other branches: two contents may have one digest.
	from := slices.Clone(have.seen)
	slices.SortStableFunc(from, func(a, b *couch.Doc) int { return btoi(descends(d, b.Rev)) - btoi(descends(d, a.Rev)) })
	for i := range out.Attachments {
		a := &out.Attachments[i]
		if !a.Stub() {
			continue
		}
		leaf, known := seenAttachment(from, a)
		if known == nil {
			return nil, &couch.Error{Status: 412, Code: "missing_stub", Reason: "Invalid attachment stub in " + d.ID + " for " + strconv.Quote(a.Name)}
		}
		rev := leaf.Rev
		*a = couch.Attachment{Name: a.Name, ContentType: known.ContentType, Digest: known.Digest, Length: known.Length, RevPos: known.RevPos, Open: func(ctx context.Context) (io.ReadCloser, error) {
			from, err := f.db.Attachment(ctx, d.ID, known.Name, rev, 0)
			if err != nil {
				return nil, err
			}
			return from.Reader(ctx)
		}}
	}
	return &out, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// seenAttachment finds what a stub stands for among the leaves that are seen.
func seenAttachment(seen []*couch.Doc, stub *couch.Attachment) (*couch.Doc, *couch.Attachment) {
	for _, leaf := range seen {
		for i := range leaf.Attachments {
			if a := &leaf.Attachments[i]; a.Name == stub.Name && (stub.Digest == "" || stub.Digest == a.Digest) {
				return leaf, a
			}
		}
	}
	return nil, nil
}
