package peeradapter

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/internal/fair"
	"github.com/loveseat-db/loveseat/share"
)

// How many strangers may be busy with us, and how much of that one of them may be. Places go by
// [share.Doorkeeper]: whoever takes much loses its own oldest, and nobody who is unknown
// takes the place of a peer that has opened a share before.
const (
	maxHalfOpen    = 64          // negotiations that others have begun
	halfOpenEach   = 16          // of one peer, or of one user of the hub
	halfOpenSettle = time.Second // so old its oldest must be to give way to its next: more is refused
	maxByes        = 64          // refusals under way
	byesEach       = 4
)

// crowd are the places of those who connect to a transport.
type crowd struct {
	door     share.Doorkeeper // nil: nobody is known
	halfOpen fair.Places
	all      fair.Places // half-open ones and links
	byes     fair.Places
}

func (c *crowd) init(s share.Signaler, maxPeers int) {
	c.door, _ = s.(share.Doorkeeper)
	c.halfOpen.Max, c.halfOpen.Each, c.halfOpen.Settle = maxHalfOpen, halfOpenEach, halfOpenSettle
	c.all.Max, c.all.Firm = maxPeers, 1
	c.byes.Max, c.byes.Each, c.byes.Settle = maxByes, byesEach, byeTimeout
}

// claim is what a peer's claim to a place is worth; l is its link, nil if there is none yet.
// A link counts for more once a share has let its peer in; if nobody says, at once.
func (c *crowd) claim(addr string, l *link) fair.Claim {
	claim := fair.Claim{}
	if c.door != nil {
		s := c.door.Standing(addr)
		claim.Group, claim.Rank = s.Group, s.Rank
	}
	if claim.Group == "" {
		claim.Group, _, _ = strings.Cut(addr, ".") // the peer id
	}
	if l != nil && (c.door == nil || l.welcome.Load()) {
		claim.Rank = max(claim.Rank, 1)
	}
	return claim
}

// A seat is what a peer that connects to this one takes up. Its methods may be called on nil.
type seat struct {
	half, whole *fair.Place
	link        atomic.Pointer[link] // nil: half-open
	strange     bool                 // somebody will say when its peer is let in
	giveUp      func()               // ends the attempt to make the link
	lost        atomic.Bool          // others needed it
}

// seat makes room for a peer that connects; nil: there is none. giveUp ends what it is
// for, until there is a link. t.mu is held, also when giveUp is called.
func (t *Transport) seat(addr string, giveUp func()) *seat {
	s := &seat{giveUp: giveUp, strange: t.crowd.door != nil}
	who := func() fair.Claim { return t.crowd.claim(addr, s.link.Load()) }
	if s.half = t.crowd.halfOpen.Take(who, s.lose); s.half == nil {
		return nil
	}
	if s.whole = t.crowd.all.Take(who, s.lose); s.whole == nil {
		s.half.Leave()
		return nil
	}
	return s
}

// lose ends the connection of a seat that others need.
func (s *seat) lose() {
	s.lost.Store(true)
	s.leave()
	if l := s.link.Load(); l != nil {
		l.end(ErrCrowded)
	} else {
		s.giveUp()
	}
}

// linked notes the link that the seat was taken for.
func (s *seat) linked(l *link) {
	if s == nil {
		return
	}
	l.seat = s
	if s.strange {
		l.strange()
	}
	s.link.Store(l)
	s.half.Leave()
	if s.lost.Load() {
		l.end(ErrCrowded)
	}
}

func (s *seat) leave() {
	if s != nil {
		s.half.Leave()
		s.whole.Leave()
	}
}

// refuse tells the peer that its offer is refused, unless we are busy with that. t.mu is held.
func (t *Transport) refuse(to, session, reason string) {
	ctx, cancel := context.WithTimeout(t.ctx, byeTimeout)
	place := t.crowd.byes.Take(func() fair.Claim { return t.crowd.claim(to, nil) }, cancel)
	if place == nil {
		cancel()
		return
	}
	t.wg.Go(func() {
		defer cancel()
		defer place.Leave()
		t.bye(ctx, to, session, reason)
	})
}

// shed makes room in a list of early signals: those of the peer that has most of them go first.
func (c *crowd) shed(list []inbound, keep int) []inbound {
	for len(list) > keep {
		list = fair.Drop(list, func(in inbound) fair.Claim { return c.claim(in.From, nil) })
	}
	return list
}

// crowded is why an offer is refused where there is no place for it.
const crowded = "it has too many connections"
