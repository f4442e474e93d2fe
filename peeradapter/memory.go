package peeradapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// A Memory is a network within the process: what one part listens on, by any
// name, others dial. The zero value is ready.
type Memory struct {
	mu        sync.Mutex
	listeners map[string]*listener
}

// Listen accepts the streams that [Memory.DialContext] opens to a name.
func (m *Memory) Listen(name string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners[name] != nil {
		return nil, fmt.Errorf("peeradapter: memory %q is listened on already", name)
	}
	l := newListener(name, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.listeners, name)
	})
	if m.listeners == nil {
		m.listeners = make(map[string]*listener)
	}
	m.listeners[name] = l
	return l, nil
}

// DialContext opens a stream to who listens on the name addr; network is ignored.
func (m *Memory) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[addr]
	m.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: peerAddr(addr), Err: errors.New("nobody listens")}
	}
	return dialOwn(ctx, l)
}
