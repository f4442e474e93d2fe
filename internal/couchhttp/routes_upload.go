package couchhttp

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func putAttachment(c *call) error {
	if strings.HasPrefix(c.doc, "_local/") { // with %2F
		return noLocalAttachment(c)
	}
	if err := validAttachmentName(c.att); err != nil {
		return err
	}
	rev, err := c.editRev(couch.Rev{})
	if err != nil {
		return err
	}
	if err := couch.ValidID(c.doc); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	doc, err := c.docToEdit(db, rev)
	if err != nil {
		return err
	}
	body, err := c.attachmentBody()
	if err != nil {
		return err
	}
	defer body.r.Close()
	a := couch.Attachment{Name: c.att, ContentType: cmp.Or(c.r.Header.Get("Content-Type"), "application/octet-stream"), Length: body.length, Open: body.open}
	doc.Attachments = append(without(doc.Attachments, c.att), a)
	slices.SortFunc(doc.Attachments, func(a, b couch.Attachment) int { return cmp.Compare(a.Name, b.Name) })
	newRev, err := writeOne(c, db, doc, couch.WriteOptions{})
	if err != nil {
		return body.cause(err)
	}
	c.w.Header().Set("Location", c.location(c.db, c.doc, c.att))
	return c.written(http.StatusCreated, c.doc, newRev)
}

func deleteAttachment(c *call) error {
	rev, err := c.editRev(couch.Rev{})
	if err != nil {
		return err
	}
	if err := c.existingID(); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	doc, err := c.docToEdit(db, rev)
	if err != nil {
		return err
	}
	if _, err := db.Attachment(c.r.Context(), c.doc, c.att, rev, 0); err != nil {
		return err
	}
	if rev.IsZero() {
		return couch.Conflict()
	}
	doc.Attachments = without(doc.Attachments, c.att)
	newRev, err := writeOne(c, db, doc, couch.WriteOptions{})
	if err != nil {
		return err
	}
	return c.written(http.StatusOK, c.doc, newRev)
}

// docToEdit is the revision whose attachments are edited, or a new document.
func (c *call) docToEdit(db couch.DB, rev couch.Rev) (*couch.Doc, error) {
	if rev.IsZero() {
		return &couch.Doc{ID: c.doc}, nil
	}
	doc, err := db.Get(c.context(true), c.doc, couch.GetOptions{Rev: rev})
	if err != nil {
		if couch.AsError(err).Status == http.StatusNotFound {
			err = &couch.Error{Status: http.StatusConflict, Code: "not_found", Reason: "missing_rev"} // CouchDB's words
		}
		return nil, err
	}
	return &couch.Doc{ID: doc.ID, Rev: doc.Rev, Body: doc.Body, Attachments: doc.Attachments}, nil
}

func without(atts []couch.Attachment, name string) []couch.Attachment {
	return slices.DeleteFunc(slices.Clone(atts), func(a couch.Attachment) bool { return a.Name == name })
}

func validAttachmentName(name string) error {
	switch {
	case name == "":
		return couch.BadRequest("Attachment name must not be empty")
	case name[0] == '_':
		return couch.BadRequest("Attachment name '" + name + "' starts with prohibited character '_'")
	case !utf8.ValidString(name):
		return couch.BadRequest("Attachment name is not UTF-8 encoded")
	case len(name) > 4096:
		return couch.BadRequest("Attachment name is too long")
	}
	return nil
}

// An uploadBody is a request body that becomes an attachment while it arrives.
type uploadBody struct {
	r      io.ReadCloser
	length int64 // -1: not told
	want   []byte
	sum    hash.Hash
	opened bool
	err    error // how reading failed
}

func (c *call) attachmentBody() (*uploadBody, error) {
	limit := c.s.o.Limits.Attachment
	b := &uploadBody{length: -1, sum: md5.New()}
	if c.r.Header.Get("Content-Encoding") == "" {
		b.length = c.r.ContentLength
	}
	if h := c.r.Header.Get("Content-Md5"); h != "" {
		want, err := base64.StdEncoding.DecodeString(h)
		if err != nil || len(want) != md5.Size {
			return nil, couch.BadRequest("Invalid Content-MD5")
		}
		b.want = want
	}
	r, err := c.bodyReader(limit)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, couch.TooLarge("attachment_too_large", c.att)
	case errors.Is(err, couch.ErrEncoding):
		return nil, couch.ErrEncoding
	}
	if err != nil {
		return nil, err
	}
	b.r = r
	if b.length < 0 || b.length > free {
		err = c.hold(headRoom)
	}
	return b, err
}

func (b *uploadBody) open(context.Context) (io.ReadCloser, error) {
	if b.opened {
		return nil, couch.BadRequest("The request body can be read only once.")
	}
	b.opened = true
	return b, nil
}

func (b *uploadBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && b.want != nil && !slices.Equal(b.want, b.sum.Sum(nil)) {
		err = errMD5
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = readError(err)
		b.err = err
	}
	return n, err
}

func (b *uploadBody) Close() error { return b.r.Close() }

// cause prefers what was wrong with the body to what the database made of it.
func (b *uploadBody) cause(err error) error {
	if b.err != nil {
		return b.err
	}
	return err
}
