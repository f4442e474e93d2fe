package peeradapter

import "github.com/loveseat-db/loveseat/share"

// receive takes a signal from the signaler. It does not wait.
func (t *Transport) receive(s share.Signal) {
	if s.Kind == kindRelay {
		t.receiveRelay(s)
		return
	}
	in, err := readSignal(s)
	if err != nil {
		t.config.Logger.Debug("signal refused", "from", s.From, "kind", s.Kind, "err", err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	switch in.Kind {
	case kindOffer:
		t.receiveOffer(in)
		return
	case kindRestart:
		t.receiveRestart(in)
		return
	}
	p := t.peers[in.From]
	if p != nil && p.attempt != nil && p.attempt.negotiation.session == in.Session {
		put(p.attempt.negotiation.inbox, in)
	} else if p != nil && p.link != nil && p.link.path != nil && p.link.path.receive(in) {
		return
	} else if in.Kind == kindCandidate {
		t.early = t.crowd.shed(append(t.early, in), maxEarly) // its offer may be still on its way
	}
}

// receiveOffer answers an offer, unless it is stale, loses against ours or is too much. t.mu is held.
func (t *Transport) receiveOffer(in inbound) {
	p := t.peer(in.From)
	if in.Time <= p.offered {
		return // a duplicate, or overtaken by a later one
	}
	p.offered = in.Time
	a := p.attempt
	if a != nil && !a.incoming() && in.To < in.From {
		// Both offer at once: that of the lesser address counts. It may have been lost.
		put(a.negotiation.resend, struct{}{})
		return
	}
	reason := ""
	var s *seat // nil: we want this connection, or were making it already
	switch {
	case t.relay != nil && t.relay.Mode == RelayHub:
		reason = hubOnly
	case a == nil && t.listener == nil:
		reason = sharesNothing
	case a == nil:
		if s = t.seat(in.From, func() { t.giveWay(p) }); s == nil {
			reason = crowded
		}
	}
	if reason != "" {
		t.refuse(in.From, in.Session, reason)
		return
	}
	n := t.newNegotiation(in.From, in.Session, &in)
	n.self = in.To
	t.adopt(n)
	if a != nil {
		a.supersede(n)
	} else {
		t.start(p, n, s)
	}
}

const sharesNothing = "it shares nothing"

// giveWay ends the attempt that a peer has begun. t.mu is held.
func (t *Transport) giveWay(p *peer) {
	if p.attempt != nil {
		p.attempt.negotiation.cancel(ErrCrowded)
	}
}

// adopt gives n the candidates that came before its offer. t.mu is held.
func (t *Transport) adopt(n *negotiation) {
	kept := t.early[:0]
	for _, in := range t.early {
		if in.From == n.peer && in.Session == n.session {
			put(n.inbox, in)
		} else {
			kept = append(kept, in)
		}
	}
	t.early = kept
}
