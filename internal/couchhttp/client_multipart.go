package couchhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// putMultipart writes PUT /{db}/{docid} as multipart/related: the document, then
// the attachments that follow, in the order of the document's members.
// https://docs.couchdb.org/en/stable/api/document/common.html#creating-multiple-attachments
func (d *remote) putMultipart(ctx context.Context, doc *couch.Doc, o couch.WriteOptions) (couch.Rev, error) {
	path, err := d.docPath(doc.ID)
	if err != nil {
		return couch.Rev{}, err
	}
	q := url.Values{}
	if o.Replicated {
		q.Set("new_edits", "false")
	}
	parts := newRelatedParts(doc)
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(parts.write(ctx, pw))
	}()
	defer func() { // the server may answer before it has read all
		_ = pr.Close() // returns nil
		<-done
	}()
	target := d.c.base + path + "?" + q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target, pr)
	if err != nil {
		return couch.Rev{}, err
	}
	req.ContentLength = parts.length
	req.Header.Set("Content-Type", `multipart/related; boundary="`+parts.boundary+`"`)
	resp, err := d.c.roundTrip(req)
	if err != nil {
		return couch.Rev{}, err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	var answer json.RawMessage
	if err := d.c.readJSON(resp, &answer); err != nil {
		return couch.Rev{}, err
	}
	return writtenRev(answer, doc.Rev)
}

// writtenRev reads {"rev":…}. PouchDB Server answers a PUT with new_edits=false
// as it does _bulk_docs: an array of what failed.
func writtenRev(answer json.RawMessage, asked couch.Rev) (couch.Rev, error) {
	type written struct {
		Rev           couch.Rev
		Error, Reason string
	}
	var out written
	var err error
	if answer[0] == '[' {
		var rows []written
		if err = json.Unmarshal(answer, &rows); len(rows) > 0 {
			out = rows[0]
		}
	} else {
		err = json.Unmarshal(answer, &out)
	}
	if err != nil {
		return couch.Rev{}, err
	}
	switch {
	case out.Error != "":
		return couch.Rev{}, rowError(out.Error, out.Reason)
	case out.Rev.IsZero():
		return asked, nil
	}
	return out.Rev, nil
}

// relatedParts is a multipart/related body of known length, if all lengths are known.
type relatedParts struct {
	boundary string
	json     []byte
	follow   []*couch.Attachment
	length   int64 // -1: unknown
}

func newRelatedParts(doc *couch.Doc) *relatedParts {
	w := multipart.NewWriter(io.Discard)
	p := &relatedParts{boundary: w.Boundary(), json: doc.AppendJSON(nil)}
	for i := range doc.Attachments {
		if a := &doc.Attachments[i]; a.Open != nil && a.Data == nil {
			p.follow = append(p.follow, a)
		}
	}
	var frame bytes.Buffer // the body without the attachments' bytes
	var bytes int64
	known := true
	_ = p.writeTo(&frame, func(_ io.Writer, a *couch.Attachment) error {
		known = known && a.Length >= 0
		bytes += a.Length
		return nil
	})
	if p.length = -1; known {
		p.length = int64(frame.Len()) + bytes
	}
	return p
}

func (p *relatedParts) write(ctx context.Context, w io.Writer) error {
	return p.writeTo(w, func(w io.Writer, a *couch.Attachment) error {
		r, err := a.Open(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.CopyBuffer(onlyWriter{w}, r, make([]byte, 64<<10))
		return err
	})
}

// onlyWriter keeps io.Copy from choosing its own buffer size.
type onlyWriter struct{ io.Writer }

func (p *relatedParts) writeTo(w io.Writer, content func(io.Writer, *couch.Attachment) error) error {
	m := multipart.NewWriter(w)
	if err := m.SetBoundary(p.boundary); err != nil {
		return err
	}
	part, err := m.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	if _, err := part.Write(p.json); err != nil {
		return err
	}
	for _, a := range p.follow {
		part, err := m.CreatePart(textproto.MIMEHeader{
			"Content-Type":        {oneLine(a.ContentType)},
			"Content-Disposition": {`attachment; filename="` + quoter.Replace(oneLine(a.Name)) + `"`},
		})
		if err != nil {
			return err
		}
		if err := content(part, a); err != nil {
			return err
		}
	}
	return m.Close()
}

var quoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// oneLine keeps a stranger's content type from becoming more headers.
func oneLine(s string) string {
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, []byte(s)))
}
