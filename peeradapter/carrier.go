package peeradapter

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
)

// A carrier is the connection that a link runs over: a data channel, or any net.Conn.
type carrier interface {
	net.Conn
	// fail ends reads and writes, also those under way, with err. It does not free the connection.
	fail(err error)
	// reason tells why the connection ended without our doing.
	reason() error
	// linger follows fail and lets what was written arrive, if err is nil, until late fires.
	linger(err error, late <-chan time.Time)
	// release frees the connection and returns when that is done.
	release()
	// traffic counts the bytes that were sent and received.
	traffic() (sent, received uint64)
	// moved counts the bytes that the peer sent or took: while it grows, the peer lives.
	moved() uint64
	// route tells how the packets travel: see share.Conn.
	route() string
}

// A dcCarrier is a data channel with its peer connection, which has no other.
type dcCarrier struct {
	*dcConn
	pc   *webrtc.PeerConnection
	gone chan struct{} // closed when the association has ended
}

// linger lets the one who closes the link deliver what was written, and the
// other wait for the association's end: pion needs 400 ms to close an
// association that was aborted, which who closes should not wait for.
func (c *dcCarrier) linger(err error, late <-chan time.Time) {
	switch {
	case err == nil:
		c.drain(goAway, late, c.gone)
	case errors.Is(err, ErrPeerClosed):
		select {
		case <-c.gone:
		case <-late:
		}
	}
}

func (c *dcCarrier) release() { _ = c.pc.GracefulClose() }

func (c *dcCarrier) traffic() (sent, received uint64) { return c.written.Load(), c.read.Load() }

// A netCarrier is any net.Conn. Its reads and writes may be ended by deadlines or by
// closing it; with a CloseWrite method it delivers what was written when it is closed.
type netCarrier struct {
	net.Conn
	path    string     // see route
	addrs   []net.Addr // local, remote; nil: those of the connection
	pending func() int // bytes that the system holds and the peer has not taken; nil: unknown

	sent, received atomic.Uint64
	acked, taken   uint64 // by the peer's system, and of that what counts: see moved
	endOnce        sync.Once
	ended          chan struct{} // closed when err is set
	err            error
}

// writePiece is how much is written at a time, so that a slow path shows progress.
const writePiece = 32 << 10

func newNetCarrier(c net.Conn, path string, addrs ...net.Addr) *netCarrier {
	return &netCarrier{Conn: c, path: path, addrs: addrs, pending: pendingBytes(c), ended: make(chan struct{})}
}

// newNetLink multiplexes a net.Conn.
func newNetLink(peer string, incoming bool, c *netCarrier, log *slog.Logger) (*link, error) {
	config := muxConfig(log)
	if c.pending == nil { // then the peer's window updates are the only sign that it takes what we send: many
		config.MaxStreamWindowSize = 256 << 10
	}
	return newLink(peer, incoming, c, config)
}

// Read reads and counts.
func (c *netCarrier) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(uint64(n))
	return n, c.note(err)
}

// Write writes in pieces and counts them.
func (c *netCarrier) Write(p []byte) (int, error) {
	for written := 0; ; {
		n, err := c.Conn.Write(p[written:min(len(p), written+writePiece)])
		written += n
		c.sent.Add(uint64(n))
		if err != nil || written == len(p) {
			return written, c.note(err)
		}
	}
}

// note remembers the first error, which is why the connection ended.
func (c *netCarrier) note(err error) error {
	if err == nil {
		return nil
	}
	c.end(err)
	return c.err
}

func (c *netCarrier) end(err error) {
	c.endOnce.Do(func() {
		c.err = err
		close(c.ended)
	})
}

func (c *netCarrier) fail(err error) {
	c.end(err)
	if c.Conn.SetDeadline(time.Unix(1, 0)) != nil { // it has no deadlines
		_ = c.Conn.Close()
	}
}

// Close ends reads and writes; release frees the connection.
func (c *netCarrier) Close() error {
	c.fail(net.ErrClosed)
	return nil
}

// reason is ErrPeerClosed only after an orderly end: who cuts the path can make no other believe in one.
func (c *netCarrier) reason() error {
	select {
	case <-c.ended:
	default:
		return ErrPeerClosed // yamux ended the session
	}
	switch {
	case errors.Is(c.err, ErrFlood), errors.Is(c.err, errTampered):
		return c.err
	case errors.Is(c.err, io.EOF):
		return ErrPeerClosed
	}
	return ErrPeerLost
}

// linger says that no more comes, and waits until the peer has closed its end, too.
func (c *netCarrier) linger(err error, late <-chan time.Time) {
	if t, ok := c.Conn.(*tls.Conn); ok && err != nil {
		_ = t.NetConn().Close() // closing TLS itself would write, to a peer that may not read
	}
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if err != nil || !ok {
		return
	}
	_ = c.Conn.SetDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if half.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{c.Conn})
		}
	}()
	select {
	case <-done:
	case <-late:
		_ = c.Conn.SetDeadline(time.Unix(1, 0))
		_ = c.Conn.Close()
		<-done
	}
}

func (c *netCarrier) release() { _ = c.Conn.Close() }

func (c *netCarrier) traffic() (sent, received uint64) { return c.sent.Load(), c.received.Load() }

// moved is called by one goroutine. What was written says nothing of the peer, and what its
// system took says something only while more waits: a frozen process has a system that takes what comes.
func (c *netCarrier) moved() uint64 {
	if c.pending != nil {
		waiting := uint64(c.pending()) // before sent, which only grows
		acked := max(c.acked, c.sent.Load()-min(c.sent.Load(), waiting))
		if waiting > 0 {
			c.taken += acked - c.acked
		}
		c.acked = acked
	}
	return c.received.Load() + c.taken
}

func (c *netCarrier) route() string { return cmp.Or(c.path, "tcp") }

// LocalAddr returns the address of this end.
func (c *netCarrier) LocalAddr() net.Addr {
	if len(c.addrs) == 2 {
		return c.addrs[0]
	}
	return c.Conn.LocalAddr()
}

// RemoteAddr returns the address of the other end.
func (c *netCarrier) RemoteAddr() net.Addr {
	if len(c.addrs) == 2 {
		return c.addrs[1]
	}
	return c.Conn.RemoteAddr()
}

// errTampered ends a connection in which somebody on the way has changed something.
var errTampered = errors.New("peeradapter: what the peer sent was changed on its way")
