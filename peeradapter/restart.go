package peeradapter

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
)

// How a connection whose packets do not get through is brought back.
const (
	restartTime  = 3 * time.Second        // for one ICE restart
	restartPause = 500 * time.Millisecond // between two, and as long again at random
	askTime      = time.Second            // for asking for one
	pathLost     = 10 * time.Second       // after pathSilent: then a peer of whom nothing else is heard is lost
	pathGone     = 30 * time.Second       // also one that answers signals
	networkPoll  = time.Second            // how often this machine's addresses are looked at
)

// An icePath keeps a peer connection alive while networks change: when no packets come
// for pathSilent, or this machine loses the address that they came to, it
// looks for a new path by an ICE restart (RFC 8445 section 2.4), which leaves streams as they are.
// Who offered the connection offers its restarts too, so that they never cross; the other
// asks for one.
type icePath struct {
	t        *Transport
	link     *link
	session  string // of the negotiation that made the connection
	offering bool
	able     bool // the peer knows restarts

	wake   chan struct{} // the state of ICE, or silent, has changed
	offers chan inbound  // restarts that the peer offers or asks for
	moved  chan addressChange
	silent atomic.Bool               // nothing is acknowledged: see hears
	found  atomic.Pointer[time.Time] // when the last restart found a path
	broken atomic.Bool               // no packets come at the moment

	down  time.Time // since when; zero: packets come
	heard time.Time // when the peer has last answered a signal
	reply string    // the session in which the peer was last heard of
	route string    // how packets travelled when it was last looked at

	round *negotiation // under way, or nil; guarded by Transport.mu
}

func newPath(n *negotiation, l *link) *icePath {
	p := &icePath{
		t: n.transport, link: l, session: n.session, reply: n.session, offering: n.offer == nil, able: n.able,
		wake: make(chan struct{}, 1), offers: make(chan inbound, 1), moved: make(chan addressChange, 1),
	}
	p.route = l.route()
	p.found.Store(new(time.Time))
	n.pc.OnICEConnectionStateChange(func(webrtc.ICEConnectionState) { put(p.wake, struct{}{}) })
	return p
}

// run keeps the path until the link ends.
func (p *icePath) run() {
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-p.link.ending:
			return
		case in := <-p.offers:
			p.serve(in)
		case c := <-p.moved:
			if c.concerns(p.link.pc) {
				p.renew()
			}
		case <-retry.C:
			p.renew()
		case <-p.wake:
		}
		if p.up() {
			retry.Stop()
			p.note(true)
			continue
		}
		if p.down.IsZero() {
			p.note(false)
			retry.Reset(0)
			continue
		}
		if p.lost() {
			p.link.end(ErrPeerLost)
			return
		}
		retry.Reset(restartPause + mathrand.N(restartPause))
	}
}

// up reports whether packets come.
func (p *icePath) up() bool {
	pair, err := iceOf(p.link.pc).GetSelectedCandidatePair()
	return err == nil && pair != nil && !p.silent.Load()
}

// hears is told whether packets come.
func (p *icePath) hears(something bool) {
	if p.silent.Swap(!something) == something {
		put(p.wake, struct{}{})
	}
}

// age is how long ago the path was found.
func (p *icePath) age() time.Duration { return time.Since(*p.found.Load()) }

// note takes down whether packets come, and tells when that or the route changes.
func (p *icePath) note(up bool) {
	p.broken.Store(!up)
	was := p.route
	switch {
	case !up:
		p.down = time.Now()
		p.t.emit(p.link, Interrupted)
		return
	case p.link.route() != was || !p.down.IsZero():
		p.route, p.down = p.link.route(), time.Time{}
		p.t.emit(p.link, Restored)
	}
}

// lost reports whether it is time to give the peer up.
func (p *icePath) lost() bool {
	silent := p.down
	if p.heard.After(silent) {
		silent = p.heard
	}
	return time.Since(silent) > p.t.config.lostAfter || time.Since(p.down) > pathGone
}

// renew restarts ICE, or has the peer do so.
func (p *icePath) renew() {
	switch {
	case !p.able:
	case p.offering:
		p.restart(nil)
	case p.reply != "":
		p.ask()
	}
}

// serve does what the peer wants.
func (p *icePath) serve(in inbound) {
	p.heard, p.reply, p.able = time.Now(), in.Session, true
	switch {
	case !p.offering:
		p.restart(&in)
	case p.age() > askTime: // or it was asked for before that
		p.restart(nil)
	}
}

// ask asks the peer for a restart, in the session in which its keys are known. If that
// does not get through it will notice by itself that nothing comes.
func (p *icePath) ask() {
	ctx, cancel := context.WithTimeout(p.t.ctx, askTime)
	defer cancel()
	s := signal(p.link.peer, p.reply, kindRestart, message{Of: p.session})
	stop := p.untilEnd(cancel)
	defer stop()
	if err := p.t.signaler.Send(ctx, s); err != nil {
		p.t.config.Logger.Debug("restart not asked for", "peer", p.link.peer, "err", err)
	}
}

// restart makes an ICE restart, or answers the one that the peer offers.
func (p *icePath) restart(offer *inbound) {
	n := p.begin(offer)
	stop := p.untilEnd(func() { n.cancel(errSuperseded) })
	defer stop()
	err := n.restart(p.wake)
	p.t.mu.Lock()
	p.round = nil
	p.t.mu.Unlock()
	if offer == nil && n.described {
		p.heard = time.Now()
	}
	if err == nil {
		now := time.Now()
		p.found.Store(&now)
		p.silent.Store(false)
	}
	p.t.config.Logger.Debug("ICE restart", "peer", p.link.peer, "offering", offer == nil, "err", err)
	if errors.Is(err, ErrRefused) {
		p.link.end(ErrPeerLost) // the peer knows the connection no longer
	}
}

func (p *icePath) begin(offer *inbound) *negotiation {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	session := rand.Text()
	if offer != nil {
		session = offer.Session
	}
	n := p.t.newNegotiation(p.link.peer, session, offer)
	n.pc, n.of, n.self = p.link.pc, p.session, p.link.conn.LocalAddr().String()
	p.round = n
	p.t.adopt(n)
	return n
}

// untilEnd calls fn when the link ends, unless it is stopped before.
func (p *icePath) untilEnd(fn func()) (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-p.link.ending:
			fn()
		case <-stopped:
		}
	}()
	return func() { close(stopped); <-done }
}

// retract takes back an offer that was not answered: pion knows no rollback, but
// another can be made after the peer's last description is set once more.
func (n *negotiation) retract() error {
	if n.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
		return nil
	}
	return n.pc.SetRemoteDescription(*n.pc.CurrentRemoteDescription())
}

// restart negotiates a new path for the connection there is. state tells that ICE's has changed.
func (n *negotiation) restart(state <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(n.ctx, restartTime)
	defer n.cancel(nil)
	defer cancel()
	n.woken = state
	gathered := n.gathered
	n.pc.OnICECandidate(func(c *webrtc.ICECandidate) { put(gathered, c) })
	sender := make(chan struct{})
	go func() { defer close(sender); n.sendAll(ctx) }()
	err := n.describe(ctx)
	if err == nil {
		_, err = n.connect(ctx)
	}
	close(n.outbox)
	if err != nil {
		cancel()
	}
	<-sender
	return err
}

// receiveRestart hands a restart to the path that it is for. t.mu is held.
func (t *Transport) receiveRestart(in inbound) {
	p := t.peers[in.From]
	if p == nil || p.link == nil || p.link.path == nil || p.link.path.session != in.Of || !p.link.alive() {
		t.refuse(in.From, in.Session, "there is no such connection")
		return
	}
	path := p.link.path
	if path.offering != (in.SDP == "") {
		return // who offered the connection offers its restarts
	}
	if !path.offering {
		if in.Time <= p.offered {
			return // a duplicate, or overtaken by a later one
		}
		p.offered = in.Time
		if path.round != nil {
			path.round.cancel(errSuperseded)
		}
	}
	select {
	case <-path.offers:
	default:
	}
	put(path.offers, in)
}

// receive takes a signal that belongs to a connection there is. t.mu is held.
func (p *icePath) receive(in inbound) bool {
	if p.round != nil && p.round.session == in.Session {
		put(p.round.inbox, in)
		return true
	}
	if in.Kind == kindBye && in.Session == p.session && p.broken.Load() {
		p.link.end(ErrPeerLost)
		return true
	}
	return false
}

// An addressChange tells that this machine's addresses are others now.
type addressChange struct {
	now  map[netip.Addr]struct{}
	more bool // there are new ones
}

// concerns reports whether a connection's address has gone, or a new one may be a better path.
func (c addressChange) concerns(pc *webrtc.PeerConnection) bool {
	pair, err := iceOf(pc).GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return true
	}
	base := pair.Local.Address
	if pair.Local.Typ != webrtc.ICECandidateTypeHost {
		base = pair.Local.RelatedAddress
	}
	a, err := netip.ParseAddr(base)
	if err != nil || a.IsUnspecified() {
		return true
	}
	_, there := c.now[a.Unmap()]
	return !there || c.more && worse(routeOf(pair.Local), routeOf(pair.Remote)) != "host"
}

// watchNetwork tells the paths when this machine's addresses change.
func (t *Transport) watchNetwork() {
	tick := time.NewTicker(networkPoll)
	defer tick.Stop()
	was, _ := localAddrs(t.engine.net, t.engine.filter)
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		}
		now, err := localAddrs(t.engine.net, t.engine.filter)
		if err != nil {
			continue
		}
		if c, changed := compareAddrs(was, now); changed {
			t.config.Logger.Debug("the network has changed", "addresses", len(now))
			for _, p := range t.paths() {
				put(p.moved, c)
			}
		}
		was = now
	}
}

func compareAddrs(was, now map[netip.Addr]struct{}) (c addressChange, changed bool) {
	c.now = now
	for a := range now {
		if _, ok := was[a]; !ok {
			c.more, changed = true, true
		}
	}
	for a := range was {
		if _, ok := now[a]; !ok {
			changed = true
		}
	}
	return c, changed
}

func (t *Transport) paths() []*icePath {
	t.mu.Lock()
	defer t.mu.Unlock()
	var paths []*icePath
	for _, p := range t.peers {
		if p.link != nil && p.link.path != nil && p.link.alive() {
			paths = append(paths, p.link.path)
		}
	}
	return paths
}
