package couchhttp

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"github.com/loveseat-db/loveseat/internal/couch"
)

// A payload is a request body in a pooled buffer. net/http may still read a
// body after the response is there, so uses are counted: the last one returns it.
type payload struct {
	buf   []byte
	plain []byte // what buf was before it was packed
	zstd  bool
	uses  atomic.Int32
}

const (
	compressFrom = 1 << 10
	poolUpTo     = 8 << 20 // larger buffers go to the garbage collector
)

var payloads = sync.Pool{New: func() any { return new(payload) }}

// newPayload returns an empty one, which [Client.send] releases.
func newPayload() *payload {
	p := payloads.Get().(*payload)
	p.buf, p.plain, p.zstd = p.buf[:0], p.plain[:0], false
	p.uses.Store(1)
	return p
}

func (p *payload) release() {
	if p.uses.Add(-1) == 0 && cap(p.buf)+cap(p.plain) <= poolUpTo {
		payloads.Put(p)
	}
}

// attach makes the payload the body of req, compressed if the server takes that.
func (p *payload) attach(req *http.Request, compress bool) {
	if compress && !p.zstd && len(p.buf) > compressFrom {
		p.compress()
	}
	if p.zstd {
		req.Header.Set("Content-Encoding", "zstd")
	}
	if req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.ContentLength = int64(len(p.buf))
	moving := couch.Moving(req.Context())
	req.GetBody = func() (io.ReadCloser, error) {
		p.uses.Add(1)
		return &payloadReader{r: bytes.NewReader(p.buf), p: p, moving: moving}, nil
	}
	req.Body, _ = req.GetBody()
}

func (p *payload) compress() {
	p.buf, p.plain = zstdEncoder().EncodeAll(p.buf, p.plain[:0]), p.buf
	p.zstd = true
}

// unpack undoes compress.
func (p *payload) unpack() {
	p.buf, p.plain = p.plain, p.buf
	p.zstd = false
}

// A payloadReader gives a payload in pieces (it hides WriteTo), so that a watchdog sees it go.
type payloadReader struct {
	r      *bytes.Reader
	p      *payload
	moving func()
	once   sync.Once
}

func (r *payloadReader) Read(b []byte) (int, error) {
	r.moving()
	return r.r.Read(b)
}

func (r *payloadReader) Close() error {
	r.once.Do(r.p.release)
	return nil
}

// A movingBody tells a watchdog of what is read.
type movingBody struct {
	io.ReadCloser
	moving func()
}

func (b *movingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.moving()
	}
	return n, err
}

// zstdEncoder is safe for concurrent EncodeAll. The window is small because a
// batch repeats itself within it, and the receiver must hold one per body.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic(err) // constant options
	}
	return e
})

// decompress replaces the body of resp by its decoded form, which may be [couch.MaxRatio]
// times as long: a server is a stranger too. An answer that was to be packed has the length of a row free.
func decompress(resp *http.Response) error {
	coding := strings.ToLower(resp.Header.Get("Content-Encoding"))
	u := &couch.Unpacking{Free: couch.FreeBody}
	if strings.Contains(resp.Request.Header.Get("Accept-Encoding"), coding) {
		u.Free = couch.FreeAnswer
	}
	packed := u.Packed(resp.Body)
	switch coding {
	case "", "identity":
		return nil
	case "zstd":
		d := zstdDecoders.Get().(*zstd.Decoder)
		if err := d.Reset(packed); err != nil {
			return err
		}
		resp.Body = &decodedBody{Reader: u.Unpacked(d), under: resp.Body, done: func() {
			_ = d.Reset(nil)
			zstdDecoders.Put(d)
		}}
	case "gzip", "x-gzip":
		d, err := gzip.NewReader(packed)
		if err != nil {
			return err
		}
		resp.Body = &decodedBody{Reader: u.Unpacked(d), under: resp.Body, done: func() {}}
	default:
		return &couch.Error{Status: 415, Code: "bad_content_type", Reason: "The answer has an unknown Content-Encoding."}
	}
	resp.ContentLength = -1
	return nil
}

// Decoders run in the goroutine that reads (concurrency 1), so that a pooled one holds nothing but memory.
var zstdDecoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) // constant options
	}
	return d
}}

type decodedBody struct {
	io.Reader
	under io.ReadCloser
	done  func()
	once  sync.Once
	err   error
}

func (b *decodedBody) Read(p []byte) (int, error) {
	if b.done == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.Reader.Read(p)
}

// Close must not run beside Read: the decoder goes back to its pool.
func (b *decodedBody) Close() error {
	b.once.Do(func() {
		b.err = b.under.Close()
		b.done()
		b.done = nil
	})
	return b.err
}
