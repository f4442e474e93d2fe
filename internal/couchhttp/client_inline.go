package couchhttp

import (
	"context"
	"io"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// inlineBatch bounds the attachment bytes that one request of BulkGet asks for.
const inlineBatch = 4 << 20

// What of a document read with stubs is to be inline.
type inlining int

const (
	inlineNone inlining = iota
	inlineSome          // the small ones of its new attachments
	inlineAll           // its new attachments are all small
)

// wantsInline tells what of doc is to be inline, for an asker that has the
// revisions since and wants attachments up to limit.
func wantsInline(doc *couch.Doc, since []couch.Rev, limit int64) inlining {
	if doc == nil || len(doc.Attachments) == 0 {
		return inlineNone
	}
	known := doc.SinceGen(since)
	small, large := false, false
	for i := range doc.Attachments {
		switch a := &doc.Attachments[i]; {
		case !a.Stub() || a.RevPos <= known:
		case a.Length >= 0 && a.Length <= limit:
			small = true
		default:
			large = true
		}
	}
	switch {
	case small && large:
		return inlineSome
	case small:
		return inlineAll
	}
	return inlineNone
}

// fillSmall reads the small new attachments of a document that also has large ones, each by itself.
func (d *remote) fillSmall(ctx context.Context, doc *couch.Doc, since []couch.Rev, limit int64) error {
	known := doc.SinceGen(since)
	for i := range doc.Attachments {
		a := &doc.Attachments[i]
		if !a.Stub() || a.RevPos <= known || a.Length < 0 || a.Length > limit {
			continue
		}
		got, err := d.Attachment(ctx, doc.ID, a.Name, doc.Rev, 0)
		if err != nil {
			return err
		}
		r, err := got.Open(ctx)
		if err != nil {
			return err
		}
		a.Data, err = io.ReadAll(io.LimitReader(r, limit))
		r.Close()
		if err != nil {
			return err
		}
		a.Length = int64(len(a.Data))
	}
	return nil
}

// bulkGetInline is BulkGet with attachments up to o.MaxInlineSize.
func (d *remote) bulkGetInline(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	since := map[string][]couch.Rev{}
	for _, ref := range refs {
		if ref.AttsSince != nil {
			since[ref.ID] = ref.AttsSince
		}
	}
	in := inliner{d: d, o: o, since: since}
	bare := o
	bare.Attachments = false
	err := d.bulkGet(ctx, refs, bare, func(r couch.BulkGetResult) error {
		// Most documents have no attachments and need not wait for others.
		if len(in.held) == 0 && in.wants(r) == inlineNone {
			return fn(r)
		}
		if in.held = append(in.held, r); len(in.held) > len(refs)+maxRevs {
			return errTooMuch
		}
		return nil
	})
	for err == nil && len(in.held) > 0 {
		n := in.run()
		err = in.fill(ctx, in.held[:n])
		for i := 0; err == nil && i < n; i++ {
			err = fn(in.held[i])
		}
		in.held = in.held[n:]
	}
	return err
}

// An inliner holds results until their attachments are there.
type inliner struct {
	d     *remote
	o     couch.GetOptions
	since map[string][]couch.Rev
	held  []couch.BulkGetResult
}

func (in *inliner) wants(r couch.BulkGetResult) inlining {
	return wantsInline(r.Doc, in.since[r.ID], in.o.MaxInlineSize)
}

// run returns how many of the first results to complete by one request.
func (in *inliner) run() int {
	var bytes int64
	for i, r := range in.held {
		if in.wants(r) != inlineAll {
			continue
		}
		for _, a := range r.Doc.Attachments {
			bytes += a.Length
		}
		if bytes > inlineBatch && i > 0 {
			return i
		}
	}
	return len(in.held)
}

// fill reads the documents of got that bring only small attachments once more,
// with the data; small ones beside large ones it reads by themselves.
func (in *inliner) fill(ctx context.Context, got []couch.BulkGetResult) error {
	var refs []couch.DocRef
	var at []int
	for i, r := range got {
		switch in.wants(r) {
		case inlineAll:
			refs = append(refs, couch.DocRef{ID: r.ID, Rev: r.Doc.Rev, AttsSince: in.since[r.ID]})
			at = append(at, i)
		case inlineSome:
			if err := in.d.fillSmall(ctx, r.Doc, in.since[r.ID], in.o.MaxInlineSize); err != nil {
				return err
			}
		}
	}
	if len(refs) == 0 {
		return nil
	}
	o := in.o
	o.Latest, o.MaxInlineSize = false, 0
	i := 0
	return in.d.bulkGet(ctx, refs, o, func(r couch.BulkGetResult) error {
		// A revision that went away in between stays as it was read, with stubs.
		if i < len(at) && r.Doc != nil && r.ID == got[at[i]].ID && r.Doc.Rev == got[at[i]].Doc.Rev {
			got[at[i]].Doc = r.Doc
		}
		i++
		return nil
	})
}
