package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy forwards TCP connections to an address, and can cut them.
type proxy struct {
	net.Listener
	to    string
	tasks sync.WaitGroup

	mu    sync.Mutex
	away  bool // connections are not taken
	conns map[net.Conn]struct{}
}

// newProxy listens on a free port of this machine.
func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to, conns: map[net.Conn]struct{}{}}
	p.tasks.Go(p.run)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut(true)
		p.tasks.Wait()
	})
	return p
}

func (p *proxy) url() string { return "http://" + p.Addr().String() }

func (p *proxy) run() {
	for {
		c, err := p.Accept()
		if err != nil {
			return
		}
		p.tasks.Go(func() { p.forward(c) })
	}
}

func (p *proxy) forward(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer up.Close()
	if !p.track(c, up) {
		return
	}
	defer p.untrack(c, up)
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{c: up, up: c} {
		both.Go(func() {
			_, _ = io.Copy(to, from)
			_ = to.(*net.TCPConn).CloseWrite()
		})
	}
	both.Wait()
}

func (p *proxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return !p.away
}

func (p *proxy) untrack(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// cut breaks all connections in the middle of what they carry; new ones are not taken while away.
func (p *proxy) cut(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
	for c := range p.conns {
		_ = c.(*net.TCPConn).SetLinger(0) // a reset, and what is under way is lost
		_ = c.Close()
	}
}
