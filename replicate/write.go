package replicate

import (
	"context"

	"github.com/loveseat-db/loveseat/internal/couch"
)

var toTarget = where{"write", targetEnd}

// write writes docs to the target. Those with streamed attachments go one by
// one, so that a stream that breaks off does not hold up the others.
func (r *run) write(ctx context.Context, docs []*couch.Doc) error {
	stubless, err := r.writeEach(ctx, docs)
	if err != nil || len(stubless) == 0 {
		return err
	}
	// The target lacks attachments of revisions it was thought to have: once more, whole.
	refs := make([]couch.DocRef, len(stubless))
	for i, doc := range stubless {
		refs[i] = couch.DocRef{ID: doc.ID, Rev: doc.Rev}
	}
	for len(refs) > 0 {
		var whole []*couch.Doc
		if whole, refs, err = r.fetch(ctx, refs, true); err != nil {
			return err
		}
		r.report.count(func(c *Result) { c.DocsRead -= int64(len(whole)) }) // they are counted
		still, err := r.writeEach(ctx, whole)
		if err != nil {
			return err
		}
		for _, doc := range still {
			r.report.refused(doc.ID, doc.Rev, missingStub)
		}
	}
	return nil
}

var missingStub = &couch.Error{Status: 412, Code: "missing_stub", Reason: "The target lacks an attachment that the source does not give."}

// writeEach writes docs and returns those refused for stubs of which the target has no data.
func (r *run) writeEach(ctx context.Context, docs []*couch.Doc) (stubless []*couch.Doc, err error) {
	var plain, streamed []*couch.Doc
	for _, doc := range docs {
		if streams(doc) {
			streamed = append(streamed, doc)
		} else {
			plain = append(plain, doc)
		}
	}
	if stubless, err = r.writeBulk(ctx, plain); err != nil {
		return nil, err
	}
	for _, doc := range streamed {
		more, err := r.writeBulk(ctx, []*couch.Doc{doc})
		if err != nil {
			return nil, err
		}
		stubless = append(stubless, more...)
	}
	return stubless, nil
}

// writeBulk writes docs in one call. If the target refuses the call as a whole
// for what is in it (too large, one bad document), the halves are written by themselves.
func (r *run) writeBulk(ctx context.Context, docs []*couch.Doc) (stubless []*couch.Doc, err error) {
	if len(docs) == 0 {
		return nil, nil
	}
	var whole *couch.Error // the refusal
	err = r.try(ctx, toTarget, func(ctx context.Context, a *attempt) error {
		results, err := r.target.BulkDocs(ctx, watched(docs, a), couch.WriteOptions{Replicated: true})
		if whole = aboutContent(err); whole != nil {
			return nil //nolint:nilerr // not to be tried again as it is
		}
		if err != nil {
			return err
		}
		left, noStub, err := r.account(docs, results)
		if len(left) < len(docs) {
			a.gained()
		}
		docs, stubless = left, append(stubless, noStub...)
		return err
	})
	switch {
	case err != nil || whole == nil:
		return stubless, err
	case len(docs) == 1 && whole.Status == 412:
		return append(stubless, docs[0]), nil
	case len(docs) == 1:
		r.report.refused(docs[0].ID, docs[0].Rev, whole)
		return stubless, nil
	}
	for _, half := range [][]*couch.Doc{docs[:len(docs)/2], docs[len(docs)/2:]} {
		more, err := r.writeBulk(ctx, half)
		if err != nil {
			return nil, err
		}
		stubless = append(stubless, more...)
	}
	return stubless, nil
}

// aboutContent returns err if it refuses a call for the documents in it.
func aboutContent(err error) *couch.Error {
	switch status := statusOf(err); status {
	case 0, 401, 403, 404, 405, 408, 429:
		return nil
	default:
		if status >= 500 {
			return nil
		}
	}
	return couch.AsError(err)
}

// account counts what became of docs. It returns those to write again after a
// transient failure, with one such failure, and those refused for a stub.
func (r *run) account(docs []*couch.Doc, results []couch.WriteResult) (again, stubless []*couch.Doc, err error) {
	var written, bytes int64
	for i, doc := range docs {
		var e *couch.Error
		if i < len(results) {
			e = results[i].Err
		}
		switch {
		case e == nil:
			written++
			bytes += int64(len(doc.ID)+len(doc.Body)) + inlineSize(doc) + streamedSize(doc)
			r.o.discovered.add(doc.ID, doc.Rev)
		case e.Status == 412:
			stubless = append(stubless, doc)
		case transient(e):
			again, err = append(again, doc), e
		default:
			r.report.refused(doc.ID, doc.Rev, e)
		}
	}
	r.report.count(func(c *Result) { c.DocsWritten += written; c.Bytes += bytes })
	return again, stubless, err
}
