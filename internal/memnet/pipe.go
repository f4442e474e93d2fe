// Package memnet is a network in memory for tests: buffered duplex connections,
// listeners that are dialled by name, and faults that a test switches on and
// off (latency, stalls, cuts). It keeps time with package time alone, so that it
// works inside testing/synctest.
package memnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// BufferSize is how many bytes one direction of a connection holds before its
// writer blocks, as a socket's buffer would.
const BufferSize = 64 << 10

// ErrCut is what both ends of a connection see after [Conn.Cut].
var ErrCut = errors.New("memnet: connection cut")

// Pipe returns the two ends of a connection. Unlike those of [net.Pipe] they
// buffer: a Write of less than BufferSize does not wait for the reader.
func Pipe() (*Conn, *Conn) { return pipe("a", "b") }

func pipe(a, b string) (*Conn, *Conn) {
	ab, ba := newHalf(), newHalf()
	return newConn(ba, ab, a, b), newConn(ab, ba, b, a)
}

// A Conn is one end of a connection in memory, a [net.Conn]. It differs from TCP
// in that Close never loses what was written before it.
type Conn struct {
	in, out           *half
	local, remote     Addr
	readEnd, writeEnd deadline
	closeOnce         sync.Once
	closed            chan struct{}
	onClose           func()
}

func newConn(in, out *half, local, remote string) *Conn {
	return &Conn{
		in: in, out: out, local: Addr(local), remote: Addr(remote),
		readEnd: newDeadline(), writeEnd: newDeadline(), closed: make(chan struct{}),
	}
}

// Read waits for bytes, the other end's Close (io.EOF), a cut or the deadline.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p, c.closed, c.readEnd.passed())
	return n, c.opError("read", err)
}

// Write returns when all of p is buffered for the other end.
func (c *Conn) Write(p []byte) (int, error) {
	total := 0
	for {
		n, err := c.out.write(p[total:], c.closed, c.writeEnd.passed())
		if total += n; err != nil || total == len(p) {
			return total, c.opError("write", err)
		}
	}
}

// Close ends the connection; the other end reads what was written, then io.EOF.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.closed)
		c.out.end(io.EOF, io.ErrClosedPipe, false)
		c.in.end(net.ErrClosed, io.ErrClosedPipe, true)
		if c.onClose != nil {
			c.onClose()
		}
	})
	return nil
}

// Cut breaks the connection at once and loses what is buffered: both ends see ErrCut.
func (c *Conn) Cut() {
	c.in.end(ErrCut, ErrCut, true)
	c.out.end(ErrCut, ErrCut, true)
}

// Stall stops (or lets go on) all delivery in both directions, as a dead link
// does: writers fill their buffers, readers wait, nobody is told.
func (c *Conn) Stall(stalled bool) {
	c.in.stall(stalled)
	c.out.stall(stalled)
}

// SetLatency delays what is written from now on by d in each direction.
func (c *Conn) SetLatency(d time.Duration) {
	c.in.setLatency(d)
	c.out.setLatency(d)
}

// LocalAddr returns this end's name.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the other end's name.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets the deadlines of reads and writes, also of waiting ones.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets when Read fails with [os.ErrDeadlineExceeded]; zero: never.
func (c *Conn) SetReadDeadline(t time.Time) error { c.readEnd.set(t); return nil }

// SetWriteDeadline sets when Write fails with [os.ErrDeadlineExceeded]; zero: never.
func (c *Conn) SetWriteDeadline(t time.Time) error { c.writeEnd.set(t); return nil }

func (c *Conn) opError(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}

// Addr is a name on a [Network].
type Addr string

// Network returns "memory".
func (Addr) Network() string { return "memory" }

func (a Addr) String() string { return string(a) }

// A deadline closes its channel when it passes; setting it anew gives a new channel.
type deadline struct {
	mu    *sync.Mutex
	state *deadlineState
}

type deadlineState struct {
	timer *time.Timer
	done  chan struct{}
}

func newDeadline() deadline {
	return deadline{new(sync.Mutex), &deadlineState{done: make(chan struct{})}}
}

func (d deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state.done
}

func (d deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.state
	fired := s.timer != nil && !s.timer.Stop()
	s.timer = nil
	if fired {
		<-s.done // the timer's function is running: let it finish with the old channel
	}
	closed := isClosed(s.done)
	switch {
	case t.IsZero() && closed:
		s.done = make(chan struct{})
	case t.IsZero():
	case time.Until(t) <= 0 && !closed:
		close(s.done)
	case time.Until(t) > 0:
		if closed {
			s.done = make(chan struct{})
		}
		done := s.done
		s.timer = time.AfterFunc(time.Until(t), func() { close(done) })
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
