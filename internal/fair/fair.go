// Package fair decides who gives way where many share what is bounded, so that whoever
// takes much keeps nobody else out: its own oldest go first.
package fair

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// A Claim says for whom something is held.
type Claim struct {
	Group  string // all that one user, peer or address holds counts together
	Rank   int    // holders of a lower rank give way to those of a higher one, never the other way round
	Weight int    // 0: 1
}

// Order returns the indices of claims, which are in the order of arrival, so that what gives
// way first comes first: the lowest rank; then what has most of its own group after it (a group that
// holds much loses its oldest until it holds no more than others); then the oldest.
func Order(claims []Claim) []int {
	order := make([]int, len(claims))
	depth := make([]int, len(claims))
	sums := make(map[string]int)
	for i := len(claims) - 1; i >= 0; i-- {
		c := claims[i]
		sums[c.Group] += cmp.Or(c.Weight, 1)
		order[i], depth[i] = i, sums[c.Group]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(claims[a].Rank, claims[b].Rank), cmp.Compare(depth[b], depth[a]))
	})
	return order
}

// Drop removes from a list, oldest first, the element that gives way first.
func Drop[T any](list []T, who func(T) Claim) []T {
	if len(list) == 0 {
		return list
	}
	claims := make([]Claim, len(list))
	for i, v := range list {
		claims[i] = who(v)
	}
	at := Order(claims)[0]
	return slices.Delete(list, at, at+1)
}

// Places is a bounded number of places. It is safe for concurrent use.
type Places struct {
	Max    int           // in all
	Each   int           // for one group, whose oldest gives way to its next; 0: Max
	Settle time.Duration // a place is not given to another one of its own group before it is so old
	Firm   int           // from this rank on nobody gives way to one who would then hold as much; 0: all do

	mu   sync.Mutex
	held []*Place // oldest first
}

// A Place is held until Leave, or until its holder is told to give way.
type Place struct {
	of    *Places
	who   func() Claim
	evict func()
	since time.Time
}

// Take takes a place. who is asked for the claim whenever somebody must give way: it may change.
// If all places are taken the one that gives way is lost, and its evict called before Take
// returns. nil: the newcomer itself would be the one to give way.
func (p *Places) Take(who func() Claim, evict func()) *Place {
	newcomer := &Place{p, who, evict, time.Now()}
	p.mu.Lock()
	victim := newcomer
	if out, ok := p.victim(newcomer); ok {
		victim = out
		p.held = append(p.held, newcomer)
		p.remove(out)
	}
	p.mu.Unlock()
	if victim == newcomer {
		return nil
	}
	if victim != nil {
		victim.evict()
	}
	return newcomer
}

// victim returns who gives way to a newcomer, nil if there is room; false: nobody does. p.mu is held.
func (p *Places) victim(newcomer *Place) (out *Place, ok bool) {
	each := cmp.Or(p.Each, p.Max)
	if len(p.held) < min(each, p.Max) {
		return nil, true
	}
	mine := newcomer.who()
	claims, own := make([]Claim, 0, len(p.held)+1), 0
	var oldest *Place
	for _, h := range p.held {
		c := h.who()
		if claims = append(claims, c); c.Group != mine.Group {
			continue
		}
		if own++; oldest == nil {
			oldest = h
		}
	}
	switch {
	case own >= each:
		out = oldest
	case len(p.held) < p.Max:
		return nil, true
	default:
		at := Order(append(claims, mine))[0]
		if at == len(p.held) {
			return nil, false
		}
		if out = p.held[at]; claims[at].Group != mine.Group {
			return out, p.Firm == 0 || claims[at].Rank < p.Firm || claims[at].Rank < mine.Rank || holds(claims, claims[at].Group) > own+1
		}
	}
	return out, time.Since(out.since) >= p.Settle
}

func holds(claims []Claim, group string) (n int) {
	for _, c := range claims {
		if c.Group == group {
			n++
		}
	}
	return n
}

// Of reports whether it is one of these places.
func (h *Place) Of(p *Places) bool { return h.of == p }

// remove takes a place from those that are held; nil: none. p.mu is held.
func (p *Places) remove(out *Place) {
	if i := slices.Index(p.held, out); i >= 0 {
		p.held = slices.Delete(p.held, i, i+1)
	}
}

// Leave gives the place up. It may be called more than once, and on nil.
func (h *Place) Leave() {
	if h == nil {
		return
	}
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.of.remove(h)
}

// Held returns how many places are taken.
func (p *Places) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}
