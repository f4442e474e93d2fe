package couchhttp

import (
	"context"
	"io"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// hasContent reports whether a document comes with the data of attachments.
func hasContent(d *couch.Doc) bool {
	return slices.ContainsFunc(d.Attachments, func(a couch.Attachment) bool { return !a.Stub() })
}

// sendRelated answers with the document and its attachments as multipart/related.
func (c *call) sendRelated(doc *couch.Doc) error {
	mw := multipart.NewWriter(c.w)
	c.w.Header().Set("Content-Type", `multipart/related; boundary="`+mw.Boundary()+`"`)
	if err := writeRelated(c.r.Context(), mw, doc); err != nil {
		return err
	}
	return closeParts(c.w, mw)
}

// closeParts ends a multipart body as CouchDB does, with nothing behind the delimiter: CouchDB's
// replicator crashes on the line end with which mime/multipart closes.
func closeParts(w io.Writer, mw *multipart.Writer) error {
	_, err := io.WriteString(w, "\r\n--"+mw.Boundary()+"--")
	return err
}

// writeRelated writes the parts of one document.
func writeRelated(ctx context.Context, mw *multipart.Writer, doc *couch.Doc) error {
	with := *doc
	with.Attachments = slices.Clone(doc.Attachments)
	for i := range with.Attachments {
		a := &with.Attachments[i]
		if a.Data != nil {
			from := doc.Attachments[i]
			a.Data, a.Length, a.Open = nil, int64(len(from.Data)), from.Reader
		}
	}
	part, err := mw.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	if _, err := part.Write(with.AppendJSON(nil)); err != nil {
		return err
	}
	for i := range with.Attachments {
		if a := &with.Attachments[i]; a.Open != nil {
			if err := writePart(ctx, mw, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func writePart(ctx context.Context, mw *multipart.Writer, a *couch.Attachment) error {
	h := textproto.MIMEHeader{
		"Content-Disposition": {`attachment; filename="` + quoteFilename(a.Name) + `"`},
		"Content-Type":        {safeHeader(a.ContentType)},
	}
	if a.Length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(a.Length, 10))
	}
	r, err := a.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	part, err := mw.CreatePart(h)
	if err != nil {
		return err
	}
	_, err = io.Copy(part, r)
	return err
}

// headerText makes an id fit into a header: a stranger chose it, and it may have line ends.
func headerText(id string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, id)
}

// quoteFilename makes a name fit between quotes in a header.
func quoteFilename(name string) string {
	b := make([]byte, 0, len(name))
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '_')
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
