package memnet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Network connects listeners and dialers by name. The zero value is ready to use.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	conns     map[*Conn]string // the dialler's ends and the names they dialled
	latency   time.Duration
	stalled   map[string]bool
}

// Listen accepts the connections that are dialled to addr, until it is closed.
// Errors: [syscall.EADDRINUSE].
func (n *Network) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "memory", Addr: Addr(addr), Err: syscall.EADDRINUSE}
	}
	if n.listeners == nil {
		n.listeners = make(map[string]*listener)
	}
	l := &listener{net: n, addr: addr, accept: make(chan *Conn), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// DialContext connects to the listener of addr and returns when it has accepted.
// network is ignored. Errors: [syscall.ECONNREFUSED], the context's.
func (n *Network) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, dialError(addr, syscall.ECONNREFUSED)
	}
	near, far := pipe(fmt.Sprintf("to-%s", addr), addr)
	n.add(near, addr)
	select {
	case l.accept <- far:
		return near, nil
	case <-l.closed:
		_ = near.Close()
		return nil, dialError(addr, syscall.ECONNREFUSED)
	case <-ctx.Done():
		_ = near.Close()
		return nil, dialError(addr, ctx.Err())
	}
}

func dialError(addr string, err error) error {
	return &net.OpError{Op: "dial", Net: "memory", Addr: Addr(addr), Err: err}
}

func (n *Network) add(c *Conn, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		n.conns = make(map[*Conn]string)
	}
	n.conns[c] = addr
	c.onClose = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.conns, c)
	}
	c.SetLatency(n.latency)
	if n.stalled[addr] {
		c.Stall(true)
	}
}

// SetLatency delays everything written from now on, on all connections.
func (n *Network) SetLatency(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latency = d
	for c := range n.conns {
		c.SetLatency(d)
	}
}

// Stall stops (or lets go on) delivery on all connections to addr, now and later.
func (n *Network) Stall(addr string, stalled bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stalled == nil {
		n.stalled = make(map[string]bool)
	}
	n.stalled[addr] = stalled
	for c, to := range n.conns {
		if to == addr {
			c.Stall(stalled)
		}
	}
}

// Cut breaks all connections to addr that exist now, see [Conn.Cut].
func (n *Network) Cut(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c, to := range n.conns {
		if to == addr {
			c.Cut()
		}
	}
}

type listener struct {
	net    *Network
	addr   string
	accept chan *Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
	default:
		select {
		case c := <-l.accept:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "memory", Addr: Addr(l.addr), Err: net.ErrClosed}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.addr)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return Addr(l.addr) }
