package peeradapter

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/fair"
)

// Connections without a hub come from anybody who reaches the address. One that has not shown yet that it is
// welcome holds a place of its own kind, by its address, for some seconds; where these run short, the address that has
// most of them loses its oldest. One that has shown it moves to the places of peers, which no stranger can take.
const (
	maxStrangers = 256
	answerTime   = 5 * time.Minute // for the owner's answer about a peer
)

// The ranks of those who have a place among the peers.
const (
	rankAsking  = iota // the owner is being asked
	rankWelcome        // has shown a secret, or was let in
	rankListed
)

// A visit is a connection from its first byte to its last.
type visit struct {
	w     *wires
	addr  string
	end   func() // ends the connection
	timer *time.Timer

	mu    sync.Mutex
	place *fair.Place // nil: it has left
	link  *link
}

// arrive takes a stranger's place for a connection, whose end is called when it must give it up. It is kept for take
// if it came through a gate: then conn is not nil. nil: the listener is closed.
func (w *wires) arrive(addr string, conn net.Conn, end func()) *visit {
	v := &visit{w: w, addr: addressGroup(addr), end: end}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.links == nil {
		return nil
	}
	v.place = w.strangers.Take(func() fair.Claim { return fair.Claim{Group: v.addr} }, end)
	if v.place == nil {
		return nil
	}
	v.timer = time.AfterFunc(w.options.patience, end)
	w.wg.Add(1)
	if conn != nil {
		w.visits[conn] = v
	}
	return v
}

// addressGroup is whose connections count together: an IPv4 address, an IPv6 network of 64 bits.
func addressGroup(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return addr
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

// claim is what the place of a visit among the peers is worth.
func (v *visit) claim() fair.Claim {
	c := fair.Claim{Group: v.link.peer, Rank: rankAsking}
	switch {
	case v.link.peer != "" && slices.Contains(v.w.options.Peers, v.link.peer):
		c.Rank = rankListed
	case v.link.welcome.Load():
		c.Rank = rankWelcome
	}
	if c.Group == "" {
		c.Group = v.addr
	}
	return c
}

// asking moves a visit to the peers' places while the owner is asked, for a while.
func (v *visit) asking() { v.move(false) }

// proven moves a visit to the peers' places for good.
func (v *visit) proven() { v.move(true) }

func (v *visit) move(proven bool) {
	if proven {
		v.timer.Stop()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.place == nil || v.place.Of(&v.w.peers) {
		return
	}
	if !proven {
		v.timer.Reset(answerTime)
	}
	l := v.link
	v.place.Leave()
	if v.place = v.w.peers.Take(v.claim, func() { l.end(ErrCrowded) }); v.place == nil {
		l.end(ErrCrowded)
	}
}

// leave gives the place up. It may be called more than once.
func (v *visit) leave() {
	v.timer.Stop()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.place.Leave(); v.end != nil {
		v.end = nil
		v.place = nil
		v.w.wg.Done()
	}
}

// A gate is a listener whose connections have a place from the beginning.
type gate struct {
	net.Listener
	w *wires
}

// Accept implements [net.Listener].
func (g gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g.w.arrive(c.RemoteAddr().String(), c, func() { _ = c.Close() }) != nil {
			return c, nil
		}
		_ = c.Close()
	}
}

// visit returns the visit of a connection that came through a gate; nil: there is none.
func (w *wires) visit(c net.Conn) *visit {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.visits[below(c)]
}

// take takes a connection over from the gate, whose visit the caller ends. nil: it has ended.
func (w *wires) take(c net.Conn) *visit {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.visits[below(c)]
	delete(w.visits, below(c))
	return v
}

func below(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// connState is an http.Server's hook: connections that end before they were taken over leave.
func (w *wires) connState(c net.Conn, s http.ConnState) {
	if s != http.StateClosed {
		return
	}
	if v := w.take(c); v != nil {
		v.leave()
	}
}
