package peeradapter

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	mrand "math/rand/v2"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/share"
)

// kindRelay asks a peer to meet at the hub's relay: who sent it waits there, in the
// session that the payload names, which only the two know. See noise.go for what is said there.
const kindRelay = "relay"

// A relayCall is the payload of a signal of kindRelay: JSON.
type relayCall struct {
	Version int    `json:"v"` // 1
	Session string `json:"session"`
}

// hubOnly is why an offer is refused by a peer that connects through the hub alone.
const hubOnly = "it connects through the hub only"

// meetTime is how long a peer may take to come to the relay.
const meetTime = 15 * time.Second

// relaying is what the transport does with the hub's relay; nil: there is none.
type relaying struct {
	Relay
	hub  *hubRelay
	keys share.KeyedSignaler
}

func newRelaying(r Relay, s share.Signaler) (*relaying, error) {
	keys, ok := s.(share.KeyedSignaler)
	if !ok || r.Hub == "" || r.Mode == RelayOff {
		return nil, nil
	}
	hub, err := newHubRelay(r.Hub, keys.RelayProof)
	if err != nil {
		return nil, err
	}
	return &relaying{r, hub, keys}, nil
}

// A relayTry makes a link through the hub. Its fields are set when done is closed.
type relayTry struct {
	done chan struct{}
	link *link
	err  error
}

// relayTo returns the try to reach a peer through the hub that is under way, or begins
// one, which waits until the attempt a, if there is one, has failed or taken too long. nil: there
// is no relay. t.mu is held.
func (t *Transport) relayTo(p *peer, addr string, a *attempt) *relayTry {
	if t.relay == nil {
		return nil
	}
	if p.relaying != nil {
		return p.relaying
	}
	r := &relayTry{done: make(chan struct{})}
	p.relaying = r
	t.wg.Go(func() {
		l, err := t.tryRelay(addr, a)
		t.mu.Lock()
		p.relaying = nil
		r.link, r.err = l, err
		t.mu.Unlock()
		if l != nil {
			t.addRelay(l)
		} else {
			t.config.Logger.Debug("no relay", "peer", addr, "err", err)
		}
		close(r.done)
	})
	return r
}

func (t *Transport) tryRelay(addr string, a *attempt) (*link, error) {
	if a != nil {
		after := time.NewTimer(t.relay.After)
		defer after.Stop()
		select {
		case <-after.C:
		case <-a.done:
			if a.err == nil || errors.Is(a.err, ErrRefused) && !strings.Contains(a.err.Error(), hubOnly) {
				return nil, a.err
			}
		case <-t.ctx.Done():
			return nil, t.ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(t.ctx, meetTime)
	defer cancel()
	return t.callRelay(ctx, addr)
}

// callRelay asks a peer to the relay and waits for it there.
func (t *Transport) callRelay(ctx context.Context, addr string) (*link, error) {
	name := relayName{session: rand.Text(), initiator: t.relay.keys.Address(), responder: addr}
	payload, err := json.Marshal(relayCall{1, name.session})
	if err != nil {
		return nil, err
	}
	signal := share.Signal{To: addr, Session: rand.Text(), Kind: kindRelay, Payload: payload}
	channel, err := t.relay.hub.open(ctx, name.session, relayOpens)
	if err != nil {
		return nil, err
	}
	if err := t.signaler.Send(ctx, signal); err != nil {
		_ = channel.Close()
		return nil, err
	}
	return t.relayLink(ctx, channel, name, signal.Session)
}

// answerRelay meets a peer at the relay.
func (t *Transport) answerRelay(ctx context.Context, s share.Signal, session string) (*link, error) {
	channel, err := t.relay.hub.open(ctx, session, relayShares)
	if err != nil {
		return nil, err
	}
	return t.relayLink(ctx, channel, relayName{session: session, initiator: s.From, responder: s.To}, s.Session)
}

// relayLink encrypts and multiplexes a socket at the relay.
func (t *Transport) relayLink(ctx context.Context, c MessageChannel, name relayName, signals string) (*link, error) {
	peer, self, incoming := name.responder, name.initiator, false
	if self != t.relay.keys.Address() {
		peer, self, incoming = self, peer, true
	}
	key, err := t.relay.keys.SealingKeyOf(ctx, peer, signals)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	conn, err := noiseConn(ctx, c, noiseConfig(name, !incoming, t.relay.keys.SealingKey(), key, nil))
	if err != nil {
		return nil, err
	}
	carrier := newNetCarrier(conn, "hub", peerAddr(self), peerAddr(peer))
	carrier.pending = nil // what the hub holds is not known
	return newNetLink(peer, incoming, carrier, t.config.Logger)
}

// receiveRelay answers a peer that waits at the relay. t.mu is not held.
func (t *Transport) receiveRelay(s share.Signal) {
	var call relayCall
	if t.relay == nil || json.Unmarshal(s.Payload, &call) != nil || call.Version != 1 || len(call.Session) < 26 || len(call.Session) > 64 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || s.To != t.relay.keys.Address() {
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, meetTime)
	var place *seat
	if t.listener != nil {
		place = t.seat(s.From, cancel)
	}
	if place == nil {
		cancel()
		t.config.Logger.Debug("relay refused", "peer", s.From)
		return
	}
	t.wg.Go(func() {
		defer cancel()
		l, err := t.answerRelay(ctx, s, call.Session)
		if err != nil {
			place.leave()
			t.config.Logger.Debug("no relay", "peer", s.From, "err", err)
			return
		}
		t.mu.Lock()
		place.linked(l)
		t.mu.Unlock()
		t.addRelay(l)
	})
}

// addRelay serves a link through the hub.
func (t *Transport) addRelay(l *link) {
	t.mu.Lock()
	p := t.peer(l.peer)
	if t.relays == nil {
		t.relays = make(map[*link]struct{})
	}
	t.relays[l] = struct{}{}
	p.relay = l
	if t.closed {
		l.end(nil)
	}
	t.mu.Unlock()
	t.emit(l, Connected)
	t.wg.Go(func() {
		t.serve(l)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.relays, l)
		if p.relay == l {
			p.relay = nil
		}
	})
	if !l.incoming {
		t.wg.Go(func() { t.tend(p, l) })
	}
}

const (
	drainPoll  = 100 * time.Millisecond // how often a link is looked at that new streams no longer take
	retryTimes = 16                     // how much longer the pause between two tries becomes
)

// tend looks for a direct path as long as a link goes through the hub, and ends
// the link when there is one and no stream is left.
func (t *Transport) tend(p *peer, l *link) {
	pause := t.relay.Retry
	wait := jittered(pause)
	idle := time.Now() // since when there is no attempt
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		select {
		case <-l.ending:
			return
		case <-tick.C:
		}
		t.mu.Lock()
		direct := p.link != nil && p.link.alive() || p.relay != l
		switch {
		case direct || t.relay.Mode == RelayHub || t.closed:
		case p.attempt != nil:
			idle = time.Now()
		case time.Since(idle) > wait:
			pause = min(2*pause, retryTimes*t.relay.Retry)
			wait = jittered(pause)
			t.start(p, t.newNegotiation(l.peer, rand.Text(), nil), nil)
		}
		t.mu.Unlock()
		if !direct {
			continue
		}
		l.supersede()
		if l.session.NumStreams() == 0 {
			l.end(nil)
		}
	}
}

// jittered is d and up to as much again, so that peers do not act as one.
func jittered(d time.Duration) time.Duration { return d + mrand.N(d) }

// supersede tells the users of a link's streams that there is a better one.
func (l *link) supersede() { l.betterOnce.Do(func() { close(l.better) }) }

// Superseded is closed when there is a better connection to the peer than that of
// this stream: what is opened from then on takes it. nil: it is as good as any.
func (s *stream) Superseded() <-chan struct{} {
	if s.link.pc != nil {
		return nil
	}
	return s.link.better
}

// live returns the link that new streams take, or nil. Transport.mu is held.
func (p *peer) live() *link {
	for _, l := range []*link{p.link, p.relay} {
		if l != nil && l.alive() {
			return l
		}
	}
	return nil
}
