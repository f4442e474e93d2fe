package couchhttp

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A document with attachments travels as multipart/related (RFC 2387): first its
// JSON, in which attachments say "follows", then their bytes in the same order.
// https://docs.couchdb.org/en/stable/api/document/common.html#creating-multiple-attachments

// spoolAbove is the size from which an attachment of a multipart body waits in a
// file rather than in memory.
const spoolAbove = 256 << 10

// headRoom is what reading that much takes at most.
const headRoom = 2 * spoolAbove

// readRelated reads a document from a multipart/related body. done removes what
// was spooled, after the document has been written.
func (c *call) readRelated(boundary string) (doc *couch.Doc, done func(), err error) {
	if boundary == "" {
		return nil, nil, couch.BadRequest("multipart/related needs a boundary")
	}
	body, err := c.bodyReader(c.s.o.Limits.Attachment + c.s.o.Limits.Body)
	if err != nil {
		return nil, nil, err
	}
	defer body.Close()
	sp := &spool{call: c}
	doc, err = sp.readRelated(multipart.NewReader(body, boundary))
	if err == nil {
		err = c.checkSize(doc)
	}
	if err != nil {
		sp.remove()
		return nil, nil, err
	}
	return doc, sp.remove, nil
}

func (s *spool) readRelated(mr *multipart.Reader) (*couch.Doc, error) {
	part, err := mr.NextRawPart()
	if err != nil {
		return nil, multipartError(err)
	}
	text, err := s.call.readPart(part)
	if err != nil {
		return nil, err
	}
	doc, err := couch.ParseDoc(text)
	if err != nil {
		return nil, err
	}
	if err := s.call.holdInline(doc); err != nil {
		return nil, err
	}
	follow := followers{all: following(text)}
	for range follow.all {
		part, err := mr.NextRawPart()
		if err != nil {
			return nil, multipartError(err)
		}
		f := follow.take(part)
		if err := s.takeEncoded(part, attachmentNamed(doc, f.name), f.encoding); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// followers are the attachments whose content follows, of which there may be very many.
type followers struct {
	all    []follower
	taken  []bool
	first  int              // of those that are not taken
	byName map[string][]int // made when a part names its attachment
}

// take returns the attachment that a part carries: the one its Content-Disposition
// names, otherwise the next.
func (f *followers) take(part *multipart.Part) follower {
	if f.taken == nil {
		f.taken = make([]bool, len(f.all))
	}
	for f.taken[f.first] {
		f.first++
	}
	i := f.first
	if _, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition")); err == nil {
		if named := f.named(params["filename"]); named >= 0 {
			i = named
		}
	}
	f.taken[i] = true
	return f.all[i]
}

// named is the index of the first attachment of a name that is not taken, -1 if there is none.
func (f *followers) named(name string) int {
	if f.byName == nil {
		f.byName = map[string][]int{}
		for i, a := range f.all {
			f.byName[a.name] = append(f.byName[a.name], i)
		}
	}
	left := f.byName[name]
	for len(left) > 0 && f.taken[left[0]] {
		left = left[1:]
	}
	f.byName[name] = left
	if len(left) == 0 {
		return -1
	}
	return left[0]
}

func attachmentNamed(doc *couch.Doc, name string) *couch.Attachment {
	i, ok := slices.BinarySearchFunc(doc.Attachments, name, func(a couch.Attachment, name string) int { return cmp.Compare(a.Name, name) })
	if !ok {
		return &couch.Attachment{Length: -1} // the same name twice in the JSON: the part is read and dropped
	}
	return &doc.Attachments[i]
}

// A follower is an attachment whose content follows. CouchDB sends it as it keeps
// it: of text that is packed (encoding "gzip"), and the digest is of what is packed.
type follower struct{ name, encoding string }

// following returns the attachments whose content follows, in the order of the
// document's JSON, which has been checked.
func following(doc []byte) (all []follower) {
	var top struct {
		Attachments rawJSON `json:"_attachments"`
	}
	if decodeObject(doc, &top) != nil || top.Attachments == nil {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(top.Attachments))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return all
		}
		key := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return all
		}
		var a struct {
			Follows  bool   `json:"follows"`
			Encoding string `json:"encoding"`
		}
		if decodeObject(value, &a) == nil && a.Follows {
			all = append(all, follower{key, a.Encoding})
		}
	}
	return all
}

func multipartError(err error) error {
	if errors.Is(err, io.EOF) {
		return couch.BadRequest("expected more data") // a part is missing
	}
	return readError(err)
}

// readPart reads a part that is JSON.
func (c *call) readPart(part io.Reader) ([]byte, error) {
	limit := c.s.o.Limits.Body
	text, err := c.readAll(io.LimitReader(part, limit+1), -1, inDocs)
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, errTooLarge
	}
	c.unpacked.Add(len(text))
	return text, c.holdMembers(text)
}

// holdInAll is how much of one request's attachments is held in memory, however
// many and small they are.
const holdInAll = 16 << 20

// A spool holds the large attachments of one request in files.
type spool struct {
	call  *call
	files []string
	held  int // bytes in memory
}

// takeEncoded reads a part into a and unpacks it.
func (s *spool) takeEncoded(part io.Reader, a *couch.Attachment, encoding string) error {
	switch encoding {
	case "", "identity":
		return s.take(part, a)
	case "gzip":
	default:
		return couch.ErrEncoding
	}
	if s.call.packed() {
		return errPackedTwice
	}
	sum := md5.New()
	u := &s.call.unpacked
	packed := u.Packed(io.TeeReader(part, sum))
	z, err := gzip.NewReader(packed)
	if err != nil {
		return multipartError(err)
	}
	want := a.Digest
	a.Digest = ""
	if err := s.take(u.Unpacked(z), a); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, packed); err != nil {
		return multipartError(err)
	}
	if strings.HasPrefix(want, "md5-") && want != "md5-"+base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
		return errMD5
	}
	return nil
}

var errMD5 = &couch.Error{Status: 400, Code: "content_md5_mismatch", Reason: "Possible message corruption."}

// took checks how long an attachment turned out to be.
func took(a *couch.Attachment, n int64) error {
	if a.Length >= 0 && a.Length != n {
		return couch.BadRequest(fmt.Sprintf("Attachment %q is announced with %d bytes and has %d.", a.Name, a.Length, n))
	}
	a.Length = n
	return nil
}

// take reads a part into a.
func (s *spool) take(part io.Reader, a *couch.Attachment) error {
	limit, account := s.call.s.o.Limits.Attachment, s.call.holder()
	if err := account.Hold(s.call.r.Context(), headRoom); err != nil {
		return err
	}
	head, err := io.ReadAll(io.LimitReader(part, spoolAbove+1))
	if err != nil {
		return multipartError(err)
	}
	if len(head) <= spoolAbove && s.held+len(head) <= holdInAll {
		s.held += len(head)
		account.Release(headRoom - int64(cap(head)))
		if err := took(a, int64(len(head))); err != nil {
			return err
		}
		a.Data = head
		return checkDigest(a)
	}
	defer account.Release(headRoom)
	f, err := os.CreateTemp(s.call.s.o.TempDir, "loveseat-upload-*")
	if err != nil {
		return err
	}
	defer f.Close()
	name := f.Name()
	s.files = append(s.files, name)
	n, err := io.Copy(f, io.LimitReader(io.MultiReader(bytes.NewReader(head), part), limit+1))
	if err != nil {
		return multipartError(err)
	}
	if n > limit {
		return couch.TooLarge("attachment_too_large", a.Name)
	}
	if err := took(a, n); err != nil {
		return err
	}
	a.Open = func(context.Context) (io.ReadCloser, error) { return os.Open(name) }
	return checkDigest(a)
}

// checkDigest compares what came with what the document says came. The database
// makes its own digest.
func checkDigest(a *couch.Attachment) error {
	want := a.Digest
	if len(want) < 4 || want[:4] != "md5-" {
		a.Digest = ""
		return nil
	}
	a.Digest = ""
	got, err := couch.AttachmentDigest(context.Background(), a)
	if err != nil {
		return err
	}
	if got != want {
		return errMD5
	}
	a.Digest = got
	return nil
}

func (s *spool) remove() {
	for _, f := range s.files {
		_ = os.Remove(f) // the system cleans its temporary folder anyway
	}
}
