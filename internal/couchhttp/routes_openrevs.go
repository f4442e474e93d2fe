package couchhttp

import (
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// openRevs is GET /{db}/{docid}?open_revs=…: leaves or named revisions, as
// multipart/mixed or as a JSON array of {"ok":…} and {"missing":…}.
func openRevs(c *call, db couch.DB, q *docParams) error {
	refs := []couch.DocRef{{ID: c.doc, AttsSince: q.AttsSince}}
	if !q.openAll {
		refs = refs[:0]
		for _, r := range q.openRevs {
			refs = append(refs, couch.DocRef{ID: c.doc, Rev: r, AttsSince: q.AttsSince})
		}
	}
	o := q.get()
	var out revsOutput
	if accepts(c.r.Header.Get("Accept"), "multipart/mixed") {
		o.Attachments = true
		out = &mixedOutput{c: c, q: q, kind: "multipart/mixed"}
	} else {
		out = &arrayOutput{output: newOutput(c.w), c: c, q: q}
	}
	err := db.BulkGet(c.context(true), refs, o, func(r couch.BulkGetResult) error {
		if r.Err != nil && r.Rev.IsZero() {
			return r.Err // open_revs=all of a document that is not there
		}
		return out.revision(r)
	})
	if err != nil {
		return err
	}
	return out.end()
}

type revsOutput interface {
	revision(couch.BulkGetResult) error
	end() error
}

type arrayOutput struct {
	*output
	c    *call
	q    *docParams
	rows int
}

func (o *arrayOutput) revision(r couch.BulkGetResult) error {
	o.text([]string{"[", ","}[min(o.rows, 1)])
	o.rows++
	if r.Doc == nil {
		o.text(`{"missing":"` + r.Rev.String() + `"}`)
		return nil
	}
	o.text(`{"ok":`)
	if err := o.doc(o.c.r.Context(), o.q.strip(r.Doc)); err != nil {
		return err
	}
	o.text("}")
	return nil
}

func (o *arrayOutput) end() error {
	if o.rows == 0 {
		o.text("[")
	}
	o.text("]")
	return o.output.end()
}

// A mixedOutput writes a part for each revision: JSON, or multipart/related if it comes with attachments.
type mixedOutput struct {
	c    *call
	q    *docParams
	kind string // its media type
	bulk bool   // of _bulk_get: parts tell of which document they are
	mw   *multipart.Writer
}

func (o *mixedOutput) start() {
	if o.mw != nil {
		return
	}
	o.mw = multipart.NewWriter(o.c.w)
	h := o.c.w.Header()
	h.Set("Content-Type", o.kind+`; boundary="`+o.mw.Boundary()+`"`)
	o.c.w.WriteHeader(http.StatusOK)
	if o.bulk { // CouchDB begins with the line end that belongs to the first delimiter
		_, _ = io.WriteString(o.c.w, "\r\n")
	}
}

func (o *mixedOutput) revision(r couch.BulkGetResult) error {
	o.start()
	switch {
	case r.Doc == nil && o.bulk:
		return o.json(`application/json; error="true"`, appendMissing(nil, r))
	case r.Doc == nil:
		return o.json(`application/json; error="true"`, []byte(`{"missing":"`+r.Rev.String()+`"}`))
	case !hasContent(r.Doc):
		return o.json("application/json", o.q.strip(r.Doc).AppendJSON(nil))
	}
	boundary := multipart.NewWriter(io.Discard).Boundary()
	head := textproto.MIMEHeader{"Content-Type": {`multipart/related; boundary="` + boundary + `"`}}
	if o.bulk {
		head.Set("X-Doc-Id", headerText(r.Doc.ID))
		head.Set("X-Rev-Id", r.Doc.Rev.String())
	}
	part, err := o.mw.CreatePart(head)
	if err != nil {
		return err
	}
	inner := multipart.NewWriter(part)
	if err := inner.SetBoundary(boundary); err != nil {
		return err
	}
	if err := writeRelated(o.c.r.Context(), inner, o.q.strip(r.Doc)); err != nil {
		return err
	}
	return closeParts(part, inner)
}

func (o *mixedOutput) json(contentType string, b []byte) error {
	part, err := o.mw.CreatePart(textproto.MIMEHeader{"Content-Type": {contentType}})
	if err != nil {
		return err
	}
	_, err = part.Write(b)
	return err
}

func (o *mixedOutput) end() error {
	o.start()
	return closeParts(o.c.w, o.mw)
}
