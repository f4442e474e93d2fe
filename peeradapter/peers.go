package peeradapter

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/loveseat-db/loveseat/share"
)

// What strangers may make us remember.
const (
	maxEarly = 64   // signals that came before their offer
	maxPeers = 4096 // peers of whom we remember the last offer
)

const byeTimeout = 3 * time.Second

// A peer is what the transport knows of one address. All of it is guarded by Transport.mu.
type peer struct {
	link     *link     // direct and live, or nil
	relay    *link     // through the hub, or nil
	attempt  *attempt  // to make link, or nil: at most one, whoever began it
	relaying *relayTry // to make relay, or nil
	offered  int64     // the time in its last offer: earlier ones are stale
}

// An attempt makes a link, by one negotiation or, when another takes its place, several.
type attempt struct {
	negotiation *negotiation  // the current one; guarded by Transport.mu
	seat        *seat         // nil: this peer wants the link itself
	done        chan struct{} // closed when link and err are set
	link        *link
	err         error
}

func (a *attempt) incoming() bool { return a.negotiation.offer != nil }

// connect returns the link to a peer. If there is none it makes one, or waits
// for the one that is being made.
func (t *Transport) connect(ctx context.Context, addr string) (*link, error) {
	for {
		t.mu.Lock()
		p := t.peer(addr)
		if l := p.live(); l != nil {
			t.mu.Unlock()
			return l, nil
		}
		if t.relay != nil && t.relay.Mode == RelayHub {
			r := t.relayTo(p, addr, nil)
			t.mu.Unlock()
			return r.wait(ctx)
		}
		joined := p.attempt != nil && p.attempt.incoming()
		if p.attempt == nil {
			t.start(p, t.newNegotiation(addr, rand.Text(), nil), nil)
		}
		a := p.attempt
		r := t.relayTo(p, addr, a)
		t.mu.Unlock()
		l, err := first(ctx, a, r)
		if err == nil || ctx.Err() != nil || !joined {
			return l, err
		}
		// The peer's own attempt failed: make ours.
	}
}

// first returns the link of a or, where there is no direct path, of r, which may be nil.
func first(ctx context.Context, a *attempt, r *relayTry) (*link, error) {
	if r == nil {
		r = &relayTry{} // is never done
	}
	select {
	case <-a.done:
	case <-r.done:
		if r.err == nil {
			return r.link, nil
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if a.err == nil || r.done == nil {
		return a.link, a.err
	}
	if l, err := r.wait(ctx); err == nil {
		return l, nil
	}
	return nil, a.err
}

func (r *relayTry) wait(ctx context.Context) (*link, error) {
	select {
	case <-r.done:
		return r.link, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// peer returns the entry of an address. t.mu is held.
func (t *Transport) peer(addr string) *peer {
	p := t.peers[addr]
	if p == nil {
		t.forgetIdle()
		p = new(peer)
		t.peers[addr] = p
	}
	return p
}

func (t *Transport) forgetIdle() {
	if len(t.peers) < maxPeers {
		return
	}
	for addr, p := range t.peers {
		if p.link == nil && p.attempt == nil && p.relay == nil && p.relaying == nil {
			delete(t.peers, addr)
		}
	}
}

// forget takes an ended link off its peer.
func (t *Transport) forget(l *link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.seat.leave()
	if p := t.peers[l.peer]; p != nil && p.link == l {
		p.link = nil
	}
}

// start begins an attempt with its first negotiation. t.mu is held; the
// transport is not closed, or the caller is one of its goroutines.
func (t *Transport) start(p *peer, n *negotiation, s *seat) {
	a := &attempt{negotiation: n, seat: s, done: make(chan struct{})}
	p.attempt = a
	t.wg.Go(func() { t.run(p, a) })
}

// supersede puts n in the place of the attempt's negotiation. t.mu is held.
func (a *attempt) supersede(n *negotiation) {
	a.negotiation.cancel(errSuperseded)
	a.negotiation = n
}

var errSuperseded = errors.New("another negotiation took its place")

// run negotiates until the attempt's last negotiation has an outcome.
func (t *Transport) run(p *peer, a *attempt) {
	for {
		t.mu.Lock()
		n := a.negotiation
		t.mu.Unlock()
		l, err := n.link()
		if !t.settle(p, a, n, l, err) {
			if l != nil {
				l.end(ErrReplaced)
				l.run(func(s *stream) { _ = s.Close() })
			}
			continue
		}
		if err != nil {
			t.giveUp(n, err)
		}
		return
	}
}

// settle makes the outcome of n that of the attempt, unless n was superseded.
func (t *Transport) settle(p *peer, a *attempt, n *negotiation, l *link, err error) bool {
	t.mu.Lock()
	if a.negotiation != n {
		t.mu.Unlock()
		return false
	}
	a.link, a.err, p.attempt = l, err, nil
	old := p.link
	if l == nil {
		a.seat.leave()
	} else {
		a.seat.linked(l)
		p.link = l
		if p.relay != nil {
			p.relay.supersede()
		}
	}
	closed := t.closed
	t.mu.Unlock()
	if l != nil {
		if closed {
			l.end(nil)
		}
		if old != nil {
			old.end(ErrReplaced)
		}
		t.emit(l, Connected)
		t.wg.Go(func() { t.serve(l) })
	}
	close(a.done)
	return true
}

// giveUp tells the peer that we gave up, so that it need not wait.
func (t *Transport) giveUp(n *negotiation, err error) {
	t.config.Logger.Debug("negotiation failed", "peer", n.peer, "err", err)
	switch {
	case errors.Is(err, ErrRefused):
	case errors.Is(err, ErrCrowded):
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refuse(n.peer, n.session, crowded)
	default:
		ctx, cancel := context.WithTimeout(t.ctx, byeTimeout)
		defer cancel()
		t.bye(ctx, n.peer, n.session, "negotiation failed")
	}
}

func (t *Transport) bye(ctx context.Context, to, session, reason string) {
	err := t.signaler.Send(ctx, share.Signal{
		To: to, Session: session, Kind: kindBye, Payload: message{Reason: reason}.payload(),
	})
	if err != nil {
		t.config.Logger.Debug("bye not sent", "peer", to, "err", err)
	}
}
