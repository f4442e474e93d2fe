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
		t.early = append(t.early, in) // its offer may be still on its way
		t.early = t.early[max(0, len(t.early)-maxEarly):]
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
	reason := t.refuses(a)
	if t.relay != nil && t.relay.Mode == RelayHub {
		reason = hubOnly
	}
	if reason != "" {
		t.refuse(in, reason)
		return
	}
	n := t.newNegotiation(in.From, in.Session, &in)
	n.self = in.To
	t.adopt(n)
	if a != nil {
		a.supersede(n)
	} else {
		t.start(p, n)
	}
}

// refuse tells the peer that its offer is refused, unless we are busy with that. t.mu is held.
func (t *Transport) refuse(in inbound, reason string) {
	if t.refusing >= maxHalfOpen {
		return
	}
	t.refusing++
	t.wg.Go(func() {
		t.bye(in.From, in.Session, reason)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refusing--
	})
}

// refuses tells why an offer that joins the attempt a (or none) is refused, "" if
// it is not. t.mu is held.
func (t *Transport) refuses(a *attempt) string {
	if a != nil {
		return "" // we want this connection, or were making it already
	}
	if t.listener == nil {
		return "it shares nothing"
	}
	incoming, halfOpen := 0, t.answering
	for _, p := range t.peers {
		if p.attempt != nil && p.attempt.incoming() {
			halfOpen++
		}
		if l := p.live(); l != nil && l.incoming {
			incoming++
		}
	}
	if halfOpen >= maxHalfOpen || incoming+halfOpen >= t.config.MaxPeers {
		return "it has too many connections"
	}
	return ""
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
