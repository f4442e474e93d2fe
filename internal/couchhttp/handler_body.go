package couchhttp

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

var errTooLarge = couch.TooLarge("too_large", "the request entity is too large")

// needJSON refuses bodies that do not say they are JSON, as CouchDB does of POST:
// a page of another origin cannot send that without being asked first (CORS).
func (c *call) needJSON() error {
	if t, _ := mediaType(c.r.Header.Get("Content-Type")); t != "application/json" {
		return &couch.Error{Status: 415, Code: "bad_content_type", Reason: "Content-Type must be application/json"}
	}
	return nil
}

// mediaType parses a Content-Type. Most are the first that is asked for here.
func mediaType(header string) (mediaType string, params map[string]string) {
	if header == "application/json" {
		return header, nil
	}
	mediaType, params, _ = mime.ParseMediaType(header)
	return mediaType, params
}

// docsBody reads a request body of documents.
func (c *call) docsBody() ([]byte, error) {
	text, err := c.body(c.s.o.Limits.Body, inDocs)
	if err != nil {
		return nil, err
	}
	return text, c.holdMembers(text)
}

// listBody reads a request body of which every element becomes a Go value.
func (c *call) listBody() ([]byte, error) {
	text, err := c.body(c.s.o.Limits.Body, 1)
	if err != nil {
		return nil, err
	}
	return text, c.hold(work.JSONSize(text))
}

// body reads the whole request body, decompressed, up to limit, and holds times as much.
func (c *call) body(limit, times int64) ([]byte, error) {
	begun := time.Now()
	defer func() {
		if ms := time.Since(begun).Milliseconds(); ms > 0 {
			c.w.Header().Set(bodyTime, strconv.FormatInt(ms, 10))
		}
	}()
	r, err := c.bodyReader(limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	length := c.r.ContentLength
	if c.packed() {
		length = -1
	}
	text, err := c.readAll(r, length, times)
	c.unpacked.Add(len(text))
	return text, err
}

// coding is the request's Content-Encoding, "" if its body is as it is.
func (c *call) coding() string {
	coding := strings.ToLower(strings.TrimSpace(c.r.Header.Get("Content-Encoding")))
	if coding == "identity" {
		return ""
	}
	return coding
}

func (c *call) packed() bool { return c.coding() != "" }

// zstdWindow is what a decoder of zstd may hold.
const zstdWindow = 8 << 20

// bodyReader gives the request body, decompressed, and fails with errTooLarge after limit
// bytes, or when it grows more than [couch.MaxRatio] allows.
func (c *call) bodyReader(limit int64) (io.ReadCloser, error) {
	raw := c.r.Body
	if c.r.ContentLength < 0 || c.r.ContentLength > limit { // net/http ends the others where they said
		raw = http.MaxBytesReader(c.w, raw, limit)
	}
	u := &couch.Unpacking{Free: couch.FreeBody}
	switch coding := c.coding(); coding {
	case "":
		if c.r.ContentLength > limit {
			return nil, errTooLarge
		}
		return raw, nil
	case "gzip", "x-gzip":
		g := &gzipBody{raw: u.Packed(raw)}
		var err error
		if g.z, err = gzip.NewReader(g); err != nil {
			return nil, g.fault()
		}
		return &limitedBody{r: u.Unpacked(gunzip{g}), left: limit, done: func() {}}, nil
	case "zstd":
		if err := c.hold(zstdWindow); err != nil {
			return nil, err
		}
		z := zstdDecoders.Get().(*zstd.Decoder)
		if err := z.Reset(u.Packed(raw)); err != nil {
			return nil, readError(err)
		}
		return &limitedBody{r: u.Unpacked(z), left: limit, done: func() {
			_ = z.Reset(nil)
			zstdDecoders.Put(z)
		}}, nil
	default:
		return nil, &couch.Error{Status: 415, Code: "bad_content_type", Reason: coding + " is not a supported content encoding."}
	}
}

// readError says whose fault a failed read of the body is.
func readError(err error) error {
	var tooLong *http.MaxBytesError
	var known *couch.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.As(err, &tooLong):
		return errTooLarge
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, couch.ErrInflated):
		return errTooLarge
	}
	return couch.BadRequest("The request body could not be read: " + err.Error())
}

// A gzipBody is a packed body being read; it remembers whether it was the
// connection that failed.
type gzipBody struct {
	raw io.Reader
	z   *gzip.Reader
	err error // of raw
}

func (g *gzipBody) Read(p []byte) (int, error) {
	n, err := g.raw.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		g.err = err
	}
	return n, err
}

// fault is why unpacking has failed: if not the connection, then what came over it.
func (g *gzipBody) fault() error {
	if g.err != nil {
		return readError(g.err)
	}
	return couch.BadRequest("Request body is not properly gzipped.")
}

// gunzip is what comes out of a gzipBody.
type gunzip struct{ *gzipBody }

func (g gunzip) Read(p []byte) (int, error) {
	n, err := g.z.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = g.fault()
	}
	return n, err
}

// A limitedBody is a decompressed body: a small one that grows without end is cut.
type limitedBody struct {
	r    io.Reader
	left int64
	done func()
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.r == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, errTooLarge
	}
	return n, err
}

func (b *limitedBody) Close() error {
	if b.r != nil {
		b.r = nil
		b.done()
	}
	return nil
}
