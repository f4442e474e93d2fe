package couchhttp

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// postForm is POST /{db}/{docid}: a page's form with files for a document. "_doc" is the
// document's JSON, or "_rev" the revision that is edited, and each "_attachments" a file.
// https://docs.couchdb.org/en/stable/api/document/common.html#attachments
func postForm(c *call) error {
	if strings.HasPrefix(c.doc, "_local/") {
		return noLocalAttachment(c)
	}
	if err := c.needReferer(); err != nil {
		return err
	}
	if err := couch.ValidID(c.doc); err != nil {
		return err
	}
	t, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if t != "multipart/form-data" || params["boundary"] == "" {
		return &couch.Error{Status: 415, Code: "bad_content_type", Reason: "Content-Type must be multipart/form-data"}
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	body, err := c.bodyReader(c.s.o.Limits.Attachment + c.s.o.Limits.Body)
	if err != nil {
		return err
	}
	defer body.Close()
	f := &form{limits: c.s.o.Limits, spool: spool{call: c}}
	defer f.spool.remove()
	if err := f.read(multipart.NewReader(body, params["boundary"])); err != nil {
		return err
	}
	doc, err := c.formDoc(db, f)
	if err != nil {
		return err
	}
	rev, err := writeOne(c, db, doc, couch.WriteOptions{})
	if err != nil {
		return err
	}
	c.w.Header().Set("ETag", `"`+rev.String()+`"`)
	return c.written(http.StatusCreated, c.doc, rev)
}

// needReferer refuses forms of pages of other hosts, which a browser sends without asking first.
func (c *call) needReferer() error {
	from := c.r.Header.Get("Referer")
	if from == "" {
		return couch.BadRequest("Referer header required.")
	}
	if u, err := url.Parse(from); err != nil || u.Host != c.r.Host {
		return couch.BadRequest("Referer header must match host.")
	}
	return nil
}

// A form is what postForm reads.
type form struct {
	limits Limits
	spool  spool
	doc    []byte // nil: none
	rev    string
	files  map[string]couch.Attachment // by name
}

func (f *form) read(mr *multipart.Reader) error {
	for parts := 0; ; parts++ {
		part, err := mr.NextRawPart()
		switch {
		case errors.Is(err, io.EOF) && parts > 0:
			return nil
		case err != nil:
			return multipartError(err)
		case parts > f.limits.Bulk:
			return errTooLarge
		}
		if err := f.take(part); err != nil {
			return err
		}
	}
}

func (f *form) take(part *multipart.Part) error {
	_, params, _ := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	switch params["name"] {
	case "_doc", "_rev":
		text, err := f.spool.call.readPart(part)
		if params["name"] == "_doc" {
			f.doc = text
		} else {
			f.rev = string(text)
		}
		return err
	case "_attachments":
		a := couch.Attachment{Name: params["filename"], ContentType: cmp.Or(part.Header.Get("Content-Type"), "application/octet-stream"), Length: -1}
		if err := validAttachmentName(a.Name); err != nil {
			return err
		}
		if err := f.spool.take(part, &a); err != nil {
			return err
		}
		if f.files == nil {
			f.files = map[string]couch.Attachment{}
		}
		f.files[a.Name] = a
	}
	return nil
}

// formDoc is the document that a form makes.
func (c *call) formDoc(db couch.DB, f *form) (doc *couch.Doc, err error) {
	if f.doc != nil {
		if doc, err = c.parseDoc(f.doc); err != nil {
			return nil, err
		}
		if doc.Rev, err = c.editRev(doc.Rev); err != nil {
			return nil, err
		}
		doc.ID = c.doc
	} else {
		rev, err := couch.ParseRev(f.rev)
		if err != nil {
			return nil, err
		}
		if doc, err = c.docToEdit(db, rev); err != nil {
			return nil, err
		}
	}
	doc.Attachments = slices.DeleteFunc(slices.Clone(doc.Attachments), func(a couch.Attachment) bool {
		_, replaced := f.files[a.Name]
		return replaced
	})
	doc.Attachments = slices.AppendSeq(doc.Attachments, maps.Values(f.files))
	slices.SortFunc(doc.Attachments, func(a, b couch.Attachment) int { return cmp.Compare(a.Name, b.Name) })
	return doc, nil
}
