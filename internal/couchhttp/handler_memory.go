package couchhttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// What a request holds in memory is counted where it is taken, by what the matched
// route does with it: neither the path nor a header decides.

// memoryWait is how long a request waits for memory that others hold.
const memoryWait = 10 * time.Second

var errMemory error = &couch.RetryLater{After: memoryWait, Err: &couch.Error{Status: http.StatusTooManyRequests, Code: "too_many_requests", Reason: "The server holds as much for requests as it may."}}

// free is how much of a body is not counted, so that small requests cost nothing.
const free = 32 << 10

// hold takes memory before it is allocated; it is given back when the request has been answered.
func (c *call) hold(bytes int64) error {
	if bytes <= free {
		return nil
	}
	return c.holder().Hold(c.r.Context(), bytes)
}

func (c *call) holder() *work.Account {
	if c.account == nil {
		client := ""
		if c.s.o.Client != nil {
			client = c.s.o.Client(c.r)
		}
		c.account = c.s.memory.Account(client)
	}
	return c.account
}

func (c *call) release() { c.account.Close() }

// context is the request's; for a query, which holds memory itself, with the account.
func (c *call) context(query bool) context.Context {
	if !query {
		return c.r.Context()
	}
	return work.WithAccount(c.r.Context(), c.holder())
}

// inDocs is how many times its length a text of documents takes: itself, the parts of it
// that they keep, and attachments in base64 that are decoded.
const inDocs = 3

// What is a few bytes of a document's text and takes much more once it is read. It is counted too
// high rather than too low: every object of a text with attachments as one.
const (
	attachmentSize = 512
	revisionSize   = 40 // in a slice that has grown
)

// holdMembers holds what the attachments and revisions in a text of documents take, before it is parsed.
func (c *call) holdMembers(text []byte) error {
	var size int64
	if mentions(text, "_attachments") {
		size += attachmentSize * int64(bytes.Count(text, []byte{'{'}))
	}
	if mentions(text, "_revisions") {
		size += revisionSize * int64(bytes.Count(text, []byte{','}))
	}
	return c.hold(size)
}

// mentions reports whether a member of this name may be in a JSON text, however it is spelled.
func mentions(text []byte, member string) bool {
	return bytes.Contains(text, []byte(member)) || bytes.Contains(text, []byte(`\u00`))
}

// docOverhead is what a document takes besides, until it is written.
const docOverhead = 1 << 10

// believed is how much of an announced length is allocated before any of it has come, and
// believedMore how many times what has come: announcing costs nothing, and must not keep memory from others.
const (
	believed     = 64 << 10
	believedMore = 4
)

// readAll reads r, of which length is announced (-1: none), and holds times as much. It takes
// large steps, because requests that have much and wait for more would wait for each other.
func (c *call) readAll(r io.Reader, length, times int64) ([]byte, error) {
	b := make([]byte, 0, max(512, min(length+1, believed)))
	if err := c.hold(times * int64(cap(b))); err != nil {
		return nil, err
	}
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, readError(err)
		}
		if len(b) == cap(b) {
			if b, err = c.grow(b, length, times); err != nil {
				return nil, err
			}
		}
	}
}

// grow makes room for more of what is announced, or for as much again.
func (c *call) grow(b []byte, length, times int64) ([]byte, error) {
	old := int64(cap(b))
	size := 2 * old
	if length >= old {
		size = min(length+1, believedMore*old)
	}
	if err := c.hold(times * size); err != nil {
		return nil, err
	}
	b = append(make([]byte, 0, size), b...)
	if times*old > free {
		c.account.Release(times * old)
	}
	return b, nil
}

// holdInline makes packed attachments of a document's JSON count what they become. They
// are refused within a body that is packed itself: what is packed twice may grow by the square.
func (c *call) holdInline(doc *couch.Doc) error {
	for i := range doc.Attachments {
		a := &doc.Attachments[i]
		if a.Open == nil {
			continue
		}
		if c.packed() {
			return errPackedTwice
		}
		open := a.Open
		a.Open = func(ctx context.Context) (io.ReadCloser, error) {
			r, err := open(ctx)
			if err != nil {
				return nil, err
			}
			return &heldReader{Reader: c.unpacked.Unpacked(r), Closer: r, c: c, name: a.Name}, nil
		}
	}
	return nil
}

var errPackedTwice = &couch.Error{Status: 415, Code: "bad_content_type", Reason: "An attachment of a compressed request must not be compressed itself."}

// A heldReader counts what it reads, as far as that may be kept in memory.
type heldReader struct {
	io.Reader
	io.Closer
	c    *call
	name string
	held int64
}

func (r *heldReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, couch.ErrInflated) {
		return 0, couch.TooLarge("attachment_too_large", r.name)
	}
	if more := min(int64(n), spoolAbove-r.held); more > 0 {
		r.held += more
		if full := r.c.holder().Hold(r.c.r.Context(), more); full != nil {
			return 0, full
		}
	}
	return n, err
}
