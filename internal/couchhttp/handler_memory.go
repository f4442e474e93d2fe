package couchhttp

import (
	"context"
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

// asDocs is what documents take besides the text that they are read from: they keep parts
// of it, and attachments in base64 are decoded.
func asDocs(text []byte) int64 { return 2 * int64(len(text)) }

// asLists is what a text takes of which every element becomes a Go value.
func asLists(text []byte) int64 { return work.JSONSize(text) }

// asText is what a text takes that is only passed on.
func asText([]byte) int64 { return 0 }

// believed is how much of an announced length is allocated before it has come.
const believed = 1 << 20

// readAll reads r, of which length is announced (-1: none), and holds what it takes.
func (c *call) readAll(r io.Reader, length int64) ([]byte, error) {
	b := make([]byte, 0, max(512, min(length+1, believed)))
	if err := c.hold(int64(cap(b))); err != nil {
		return nil, err
	}
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, readError(err)
		}
		if len(b) == cap(b) {
			if b, err = c.grow(b, length); err != nil {
				return nil, err
			}
		}
	}
}

// grow makes room for the rest of what is announced, or for as much again.
func (c *call) grow(b []byte, length int64) ([]byte, error) {
	size := int64(2 * cap(b))
	if length >= int64(cap(b)) {
		size = length + 1
	}
	if err := c.hold(size); err != nil {
		return nil, err
	}
	old := int64(cap(b))
	b = append(make([]byte, 0, size), b...)
	if old > free {
		c.account.Release(old)
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
			return &heldReader{ReadCloser: r, c: c}, nil
		}
	}
	return nil
}

var errPackedTwice = &couch.Error{Status: 415, Code: "bad_content_type", Reason: "An attachment of a compressed request must not be compressed itself."}

// A heldReader counts what it reads, as far as that may be kept in memory.
type heldReader struct {
	io.ReadCloser
	c    *call
	held int64
}

func (r *heldReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if more := min(int64(n), spoolAbove-r.held); more > 0 {
		r.held += more
		if full := r.c.holder().Hold(r.c.r.Context(), more); full != nil {
			return 0, full
		}
	}
	return n, err
}
