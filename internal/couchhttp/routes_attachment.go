package couchhttp

import (
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/document/attachments.html

func getAttachment(c *call) error {
	if to := c.designPath(); to != "" {
		return c.redirect(to)
	}
	q, err := parseDocParams(c.query)
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
	ctx := c.r.Context()
	a, err := db.Attachment(ctx, c.doc, c.att, q.Rev, 0)
	if err != nil {
		return err
	}
	etag := ""
	if a.Digest != "" {
		etag = `"` + strings.TrimPrefix(a.Digest, "md5-") + `"`
		if c.notModified(etag) {
			return nil
		}
	}
	ranges, err := parseRanges(c.r.Header, etag, a.Length)
	if err != nil {
		return err
	}
	send := &attachmentAnswer{call: c, db: db, rev: q.Rev, a: a, etag: etag}
	switch len(ranges) {
	case 0:
		return send.whole()
	case 1:
		return send.part(ranges[0])
	}
	return send.parts(ranges)
}

// An attachmentAnswer sends an attachment, or ranges of it.
type attachmentAnswer struct {
	*call
	db   couch.DB
	rev  couch.Rev // as asked
	a    *couch.Attachment
	etag string
}

// head sets the headers that all answers have.
func (s *attachmentAnswer) head(contentType string) http.Header {
	h := s.w.Header()
	h.Set("Cache-Control", "must-revalidate")
	h.Set("Content-Type", contentType)
	// What a stranger attached must not run with the rights of the page that shows it.
	Inert(h)
	if Navigates(s.r) && !Passive(contentType) {
		h["Content-Disposition"] = download // programs get what CouchDB sends
	}
	if s.etag != "" {
		h.Set("ETag", s.etag)
	}
	if s.a.Length >= 0 {
		h.Set("Accept-Ranges", "bytes")
	}
	return h
}

func (s *attachmentAnswer) whole() error {
	h := s.head(safeHeader(s.a.ContentType))
	if s.a.Length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(s.a.Length, 10))
	}
	if s.r.Method == "HEAD" {
		s.w.WriteHeader(http.StatusOK)
		return nil
	}
	r, err := s.a.Reader(s.r.Context())
	if err != nil {
		return err
	}
	defer r.Close()
	s.w.WriteHeader(http.StatusOK)
	if s.a.Length < 0 {
		_, err = io.Copy(s.w, r)
		return err
	}
	_, err = io.CopyN(s.w, r, s.a.Length)
	return err
}

func (s *attachmentAnswer) part(b byteRange) error {
	r, err := s.open(b)
	if err != nil {
		return err
	}
	defer r.Close()
	h := s.head(safeHeader(s.a.ContentType))
	h.Set("Content-Range", b.of(s.a.Length))
	h.Set("Content-Length", strconv.FormatInt(b.to-b.from, 10))
	s.w.WriteHeader(http.StatusPartialContent)
	if s.r.Method == "HEAD" {
		return nil
	}
	_, err = io.CopyN(s.w, r, b.to-b.from)
	return err
}

// parts sends several ranges as multipart/byteranges (RFC 9110 section 14.6).
func (s *attachmentAnswer) parts(ranges []byteRange) error {
	mw := multipart.NewWriter(s.w)
	h := s.head(`multipart/byteranges; boundary="` + mw.Boundary() + `"`)
	for _, name := range []string{"Accept-Ranges", "Cache-Control", "Etag"} { // as CouchDB
		h.Del(name)
	}
	s.w.WriteHeader(http.StatusPartialContent)
	if s.r.Method == "HEAD" {
		return nil
	}
	for _, b := range ranges {
		if err := s.addPart(mw, b); err != nil {
			return err
		}
	}
	return closeParts(s.w, mw)
}

func (s *attachmentAnswer) addPart(mw *multipart.Writer, b byteRange) error {
	r, err := s.open(b)
	if err != nil {
		return err
	}
	defer r.Close()
	part, err := mw.CreatePart(textproto.MIMEHeader{"Content-Type": {safeHeader(s.a.ContentType)}, "Content-Range": {b.of(s.a.Length)}})
	if err != nil {
		return err
	}
	_, err = io.CopyN(part, r, b.to-b.from)
	return err
}

// open reads the attachment from where a range begins, if it is still the one
// whose length the range was checked against.
func (s *attachmentAnswer) open(b byteRange) (io.ReadCloser, error) {
	a := s.a
	if b.from > 0 {
		var err error
		if a, err = s.db.Attachment(s.r.Context(), s.doc, s.att, s.rev, b.from); err != nil {
			return nil, err
		}
		if !couch.SameContent(a, s.a) {
			return nil, couch.Conflict() // written in between
		}
	}
	return a.Reader(s.r.Context())
}

// safeHeader keeps a stored content type from being a header that cannot be sent.
func safeHeader(v string) string {
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) {
		return "application/octet-stream"
	}
	return v
}

var errRange = &couch.Error{Status: 416, Code: "requested_range_not_satisfiable", Reason: "Requested range not satisfiable"}

// A byteRange is the bytes from up to to (exclusive).
type byteRange struct{ from, to int64 }

// of is the Content-Range of a range.
func (b byteRange) of(length int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", b.from, b.to-1, length)
}

// maxRanges is from how many ranges on the whole is sent instead, as in CouchDB.
const maxRanges = 10

// parseRanges reads a Range header (RFC 9110 section 14.2). nil is the whole, which
// is a right answer to units and texts that are not understood, and which
// CouchDB gives to "bytes=0-" too. A single range that lies outside, or one of
// several that does, is 416.
func parseRanges(h http.Header, etag string, length int64) ([]byteRange, error) {
	spec, ok := strings.CutPrefix(h.Get("Range"), "bytes=")
	if cond := h.Get("If-Range"); !ok || length < 0 || cond != "" && cond != etag {
		return nil, nil
	}
	specs := strings.Split(spec, ",")
	if len(specs) >= maxRanges {
		return nil, nil
	}
	var ranges []byteRange
	for _, one := range specs {
		b, ok := parseRange(strings.TrimSpace(one), length)
		if !ok {
			return nil, nil
		}
		ranges = append(ranges, b)
	}
	for _, b := range ranges {
		if b.from >= b.to {
			return nil, errRange
		}
	}
	return ranges, nil
}

// parseRange reads "2-5", "2-" or "-5"; ok is false for what stands for the whole.
func parseRange(spec string, length int64) (b byteRange, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return b, false
	}
	from, isFrom := byteNumber(first)
	to, isTo := byteNumber(last)
	switch {
	case first == "" && isTo: // the last bytes
		return byteRange{max(0, length-to), length}, true
	case isFrom && last == "":
		return byteRange{from, length}, from > 0
	case isFrom && isTo:
		return byteRange{from, min(to+1, length)}, true
	}
	return b, false
}

func byteNumber(s string) (n int64, ok bool) {
	u, err := strconv.ParseUint(s, 10, 62)
	return int64(u), err == nil
}
