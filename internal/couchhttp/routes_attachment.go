package couchhttp

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/document/attachments.html

func getAttachment(c *call) error {
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
	from, to, partial, err := parseRange(c.r.Header, etag, a.Length)
	if err != nil {
		return err
	}
	if partial && from > 0 && c.r.Method != "HEAD" {
		if a, err = db.Attachment(ctx, c.doc, c.att, q.Rev, from); err != nil {
			return err
		}
	}
	return c.sendAttachment(a, etag, from, to, partial)
}

// sendAttachment sends bytes from up to to (exclusive), or all if the length is
// not known; a's reader starts at from.
func (c *call) sendAttachment(a *couch.Attachment, etag string, from, to int64, partial bool) error {
	h := c.w.Header()
	h.Set("Cache-Control", "must-revalidate")
	h.Set("Content-Type", safeHeader(a.ContentType))
	// What a stranger attached must not run with the rights of the page that shows it.
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	if etag != "" {
		h.Set("ETag", etag)
	}
	status := http.StatusOK
	switch {
	case partial:
		status = http.StatusPartialContent
		h.Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to-1, 10)+"/"+strconv.FormatInt(a.Length, 10))
	case etag != "":
		h.Set("Content-Md5", strings.Trim(etag, `"`))
	}
	if a.Length >= 0 {
		h.Set("Accept-Ranges", "bytes")
		h.Set("Content-Length", strconv.FormatInt(to-from, 10))
	}
	if c.r.Method == "HEAD" {
		c.w.WriteHeader(status)
		return nil
	}
	r, err := a.Reader(c.r.Context())
	if err != nil {
		return err
	}
	defer r.Close()
	c.w.WriteHeader(status)
	if a.Length < 0 {
		_, err = io.Copy(c.w, r)
		return err
	}
	_, err = io.CopyN(c.w, r, to-from)
	return err
}

// safeHeader keeps a stored content type from being a header that cannot be sent.
func safeHeader(v string) string {
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) {
		return "application/octet-stream"
	}
	return v
}

var errRange = &couch.Error{Status: 416, Code: "requested_range_not_satisfiable", Reason: "Requested range not satisfiable"}

// parseRange reads a Range of one part (RFC 9110 section 14.2). Several parts,
// other units and what cannot be read are ignored: the whole is a right answer.
func parseRange(h http.Header, etag string, length int64) (from, to int64, partial bool, err error) {
	spec, ok := strings.CutPrefix(h.Get("Range"), "bytes=")
	if cond := h.Get("If-Range"); !ok || length < 0 || strings.Contains(spec, ",") || cond != "" && cond != etag {
		return 0, length, false, nil
	}
	first, last, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return 0, length, false, nil
	}
	a, isA := byteNumber(first)
	b, isB := byteNumber(last)
	switch {
	case first == "" && isB: // the last b bytes
		from, to = max(0, length-b), length
	case isA && last == "":
		from, to = a, length
	case isA && isB:
		from, to = a, min(b+1, length)
	default:
		return 0, length, false, nil
	}
	if from >= to {
		return 0, 0, false, errRange
	}
	return from, to, true, nil
}

func byteNumber(s string) (n int64, ok bool) {
	u, err := strconv.ParseUint(s, 10, 62)
	return int64(u), err == nil
}
