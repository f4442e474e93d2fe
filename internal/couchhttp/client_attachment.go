package couchhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Attachment reads GET /{db}/{docid}/{attname} from offset on by a Range (RFC
// 9110 section 14.2); of a server that ignores that the bytes before offset are
// read and dropped. The request is under way when Attachment returns, under its ctx;
// opening the attachment a second time makes a second one.
func (d *remote) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	path, err := d.docPath(id, name)
	if err != nil {
		return d.attachmentByBody(ctx, id, name, rev, offset)
	}
	get := func(ctx context.Context) (*http.Response, error) {
		r := request{method: "GET", path: path, plain: true, header: http.Header{"Accept": {"*/*"}}}
		if !rev.IsZero() {
			r.query = url.Values{"rev": {rev.String()}}
		}
		if offset > 0 {
			r.header["Range"] = []string{"bytes=" + strconv.FormatInt(offset, 10) + "-"}
		}
		return d.c.send(ctx, r)
	}
	resp, err := get(ctx) //nolint:bodyclose // whoever opens the attachment closes it
	if err != nil {
		return nil, err
	}
	a := &couch.Attachment{
		Name: name, ContentType: resp.Header.Get("Content-Type"), Length: attachmentLength(resp),
		Digest: attachmentDigest(resp.Header),
	}
	var mu sync.Mutex
	first := resp
	a.Open = func(ctx context.Context) (io.ReadCloser, error) {
		mu.Lock()
		resp := first
		first = nil
		mu.Unlock()
		if resp == nil {
			again, err := get(ctx) //nolint:bodyclose // as above
			if err != nil {
				return nil, err
			}
			resp = again
		}
		return bodyFrom(ctx, resp, offset)
	}
	return a, nil
}

// bodyFrom returns the body from offset on; it ends with ctx too.
func bodyFrom(ctx context.Context, resp *http.Response, offset int64) (io.ReadCloser, error) {
	b := &attachmentBody{ReadCloser: resp.Body, left: resp.ContentLength}
	b.stop = context.AfterFunc(ctx, func() { resp.Body.Close() })
	if offset > 0 && resp.StatusCode != http.StatusPartialContent {
		n, err := io.CopyN(io.Discard, b, offset)
		if errors.Is(err, io.EOF) {
			err = &couch.Error{Status: http.StatusRequestedRangeNotSatisfiable, Code: "requested_range_not_satisfiable",
				Reason: fmt.Sprintf("The attachment is %d bytes long.", n)}
		}
		if err != nil {
			_ = b.Close() // err says more
			return nil, err
		}
	}
	return b, nil
}

// attachmentBody tells a cut off body from a whole one, whatever the transport below did.
type attachmentBody struct {
	io.ReadCloser
	left int64 // -1: unknown
	stop func() bool
}

func (b *attachmentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left >= 0 {
		if b.left -= int64(n); err == io.EOF && b.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (b *attachmentBody) Close() error {
	b.stop()
	return b.ReadCloser.Close()
}

// attachmentLength is of the whole attachment: the N of "Content-Range: bytes a-b/N".
func attachmentLength(resp *http.Response) int64 {
	if resp.StatusCode != http.StatusPartialContent {
		return resp.ContentLength
	}
	_, total, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
	if n, err := strconv.ParseInt(total, 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

// attachmentDigest reads the digest off the ETag, where CouchDB puts the MD5 in base64.
func attachmentDigest(h http.Header) string {
	tag := strings.Trim(h.Get("ETag"), `"`)
	if strings.HasPrefix(tag, "md5-") {
		return tag
	}
	if len(tag) == 24 && strings.HasSuffix(tag, "==") {
		return "md5-" + tag
	}
	return ""
}
