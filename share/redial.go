package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

const (
	dialTime  = 20 * time.Second // for one attempt
	redialMin = 100 * time.Millisecond
	redialMax = 5 * time.Second
)

var errGone = couch.NotFound("The share is gone from the hub.")

// A dialError is a connection that could not be made, which may be tried again.
type dialError struct{ err error }

func (e *dialError) Error() string { return fmt.Sprintf("connect to the sharer: %v", e.err) }

func (e *dialError) Unwrap() error { return e.err }

// dial opens a stream to the process that serves the share now. The attempt
// ends when another process takes over or the share ends.
func (r *Remote) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if !r.begin() {
		return nil, ErrClosed
	}
	defer r.calls.Done()
	s, _ := r.peer.dir.get(r.id)
	if s == nil {
		return nil, errGone
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	stop := context.AfterFunc(r.ctx, cancel)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() { r.whileAt(ctx, s.address()); cancel() })
	defer watch.Wait()
	defer cancel()
	c, err := r.peer.transport.DialContext(ctx, network, s.address())
	if err != nil {
		failed := &dialError{err}
		if r.ctx.Err() == nil {
			r.failed.Store(failed)
		}
		return nil, failed
	}
	r.failed.Store(nil)
	return r.track(c, s.address())
}

// whileAt returns when the share is not at an address any more, or ctx ends.
func (r *Remote) whileAt(ctx context.Context, address string) {
	for {
		s, changed := r.peer.dir.get(r.id)
		if s == nil || s.address() != address {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// A remoteConn is a stream that Remote.Close closes.
type remoteConn struct {
	net.Conn
	r       *Remote
	address string
	once    sync.Once
	closed  chan struct{}
}

func (r *Remote) track(c net.Conn, address string) (net.Conn, error) {
	if pc, ok := c.(Conn); ok {
		route := pc.Route
		r.route.Store(&route)
	}
	tracked := &remoteConn{Conn: c, r: r, address: address, closed: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close()
		return nil, ErrClosed
	}
	r.conns[tracked] = struct{}{}
	r.followBetter(tracked)
	return tracked, nil
}

func (c *remoteConn) Close() error {
	c.r.mu.Lock()
	delete(c.r.conns, c)
	c.r.mu.Unlock()
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// handOver is how long requests to a process that another one has taken over
// from may go on.
const handOver = 5 * time.Second

// follow lets go of the connections to a process that another one has taken over
// from: it may be dead without that showing yet, and requests would wait for it.
func (r *Remote) follow(at string) {
	defer r.calls.Done()
	over := time.NewTimer(handOver)
	defer over.Stop()
	for {
		s, changed := r.peer.dir.get(r.id)
		if s != nil && s.address() != at {
			at = s.address()
			r.http.CloseIdleConnections()
			over.Reset(handOver)
		}
		select {
		case <-over.C:
			r.closeConns(func(c *remoteConn) bool { return c.address != at })
		case <-changed:
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *Remote) closeConns(which func(*remoteConn) bool) {
	r.mu.Lock()
	var conns []*remoteConn
	for c := range r.conns {
		if which(c) {
			conns = append(conns, c)
		}
	}
	r.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// A roundTripper sends requests over a Remote's connections, and again as long
// as no connection can be made: until the request's context ends or the share is gone.
// (net/http itself repeats those that meet a connection that has just broken.)
type roundTripper struct{ r *Remote }

// RoundTrip implements [http.RoundTripper].
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	r := t.r
	if !r.begin() {
		closeBody(req.Body)
		return nil, ErrClosed
	}
	defer r.calls.Done()
	req = r.peer.id.introduce(req)
	var body *heldBody
	if req.Body != nil && req.Body != http.NoBody {
		body = &heldBody{ReadCloser: req.Body}
		req = req.WithContext(req.Context()) // a copy
		req.Body = body
	}
	for wait := redialMin; ; wait = min(2*wait, redialMax) {
		resp, err := r.http.RoundTrip(req)
		var failed *dialError
		if !errors.As(err, &failed) || !body.untouched() || !r.wait(req.Context(), jitter(wait)) {
			body.release()
			return resp, r.explain(err)
		}
	}
}

// explain prefers the reason that lies behind a failure to connect.
func (r *Remote) explain(err error) error {
	var failed *dialError
	if s, _ := r.peer.dir.get(r.id); s == nil && errors.As(err, &failed) {
		return errGone
	}
	if err != nil && r.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

// wait waits for d or until the hub tells something new. false: the wait is in vain.
func (r *Remote) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	s, changed := r.peer.dir.get(r.id)
	if s == nil {
		return false
	}
	select {
	case <-t.C:
		return true
	case <-changed:
		return pause(ctx, redialMin)
	case <-ctx.Done():
	case <-r.ctx.Done():
	}
	return false
}

// A heldBody is a request's body that stays open until something has been read
// from it, so that the request can be sent again after no connection could be made for it.
type heldBody struct {
	io.ReadCloser
	mu       sync.Mutex
	released bool
	closed   bool
	touched  atomic.Bool
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.touched.Store(true)
	return b.ReadCloser.Read(p)
}

func (b *heldBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.touched.Load() && !b.released {
		b.closed = true
		return nil
	}
	return b.ReadCloser.Close()
}

func (b *heldBody) untouched() bool { return b == nil || !b.touched.Load() }

// release closes the body if it should have been, and lets later calls of Close through.
func (b *heldBody) release() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.released = true
	if b.closed {
		_ = b.ReadCloser.Close()
	}
}

func closeBody(b io.ReadCloser) {
	if b != nil {
		_ = b.Close()
	}
}
