package peeradapter

import (
	"cmp"
	"context"
	"net"
	"sync"
)

// A peerAddr is the address of a peer as a net.Addr.
type peerAddr string

// Network returns "webrtc".
func (peerAddr) Network() string  { return "webrtc" }
func (a peerAddr) String() string { return string(a) }

// A listener hands out the streams that peers open.
type listener struct {
	addr    peerAddr
	streams chan net.Conn
	once    sync.Once
	closed  chan struct{}
	onClose func()
}

func newListener(self string, onClose func()) *listener {
	return &listener{addr: peerAddr(self), streams: make(chan net.Conn), closed: make(chan struct{}), onClose: onClose}
}

// Accept waits for the next stream. Errors: net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
	default:
		select {
		case c := <-l.streams:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "webrtc", Addr: l.addr, Err: net.ErrClosed}
}

// Close ends Accept and the connections which peers have opened to this one.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.onClose()
	})
	return nil
}

// Addr returns this peer's address.
func (l *listener) Addr() net.Addr { return l.addr }

// deliver waits until c is accepted, or stop or the listener is closed.
func (l *listener) deliver(c net.Conn, stop <-chan struct{}) bool {
	select {
	case l.streams <- c:
		return true
	case <-stop:
	case <-l.closed:
	}
	_ = c.Close()
	return false
}

// A pipeConn is one end of a connection of this peer to itself.
type pipeConn struct {
	net.Conn
	self peerAddr
}

// dialOwn connects to our own listener.
func dialOwn(ctx context.Context, l *listener) (net.Conn, error) {
	near, far := net.Pipe()
	if !l.deliver(pipeConn{far, l.addr}, ctx.Done()) {
		_ = near.Close()
		return nil, cmp.Or(ctx.Err(), net.ErrClosed)
	}
	return pipeConn{near, l.addr}, nil
}

// Peer returns this peer's own address.
func (c pipeConn) Peer() string { return string(c.self) }

// Route returns "memory".
func (c pipeConn) Route() string { return "memory" }

// LocalAddr returns this peer's address.
func (c pipeConn) LocalAddr() net.Addr { return c.self }

// RemoteAddr returns this peer's address.
func (c pipeConn) RemoteAddr() net.Addr { return c.self }
