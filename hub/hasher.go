package hub

import (
	"context"
	"hash/maphash"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// maxHashing is how many passwords may wait in each lane.
const maxHashing = 128

// A hasher lets few passwords be hashed at a time, half as many as there are
// processors, so that other requests do not wait for them. Those that wait are
// served in turns: of the lanes, in a lane of the addresses and the names.
type hasher struct {
	places int

	mu    sync.Mutex
	free  int    // of the places
	last  laneOf // served
	lanes [lanes]lane
}

// A laneOf says who competes with whom, so that strangers do not hold up the rest.
type laneOf int

const (
	forKnown     laneOf = iota // names that have logged in from the same address before
	forOperators               // administrators' names
	forOthers
	lanes
)

// A ticket is whose password is to be hashed, and what that costs: 1 is a new password.
type ticket struct {
	lane laneOf
	from source
	name string // "": of nobody in particular
	cost float64
}

// A lane is a fair queue. What an address or a name has been given is paid for in
// the lane's own time, which is that of the last ticket it served.
type lane struct {
	waiting []*waiter // in the order they came
	now     float64
	paid    map[uint64]float64 // by hash of an address or a name
}

type waiter struct {
	ticket
	address, user uint64     // keys of lane.paid
	ready         chan error // gets nil when it is the waiter's turn
}

func newHasher() *hasher {
	n := max(1, runtime.GOMAXPROCS(0)/2)
	return &hasher{places: n, free: n, last: lanes - 1}
}

var errHashing = &couch.RetryLater{
	Err:   &couch.Error{Status: 429, Code: "too_many_requests", Reason: "Too many passwords wait to be checked."},
	After: 2 * time.Second,
}

// do calls f when it is the ticket's turn. Errors: 429 if too many wait already.
func (h *hasher) do(ctx context.Context, t ticket, f func()) error {
	w := h.enter(t)
	select {
	case err := <-w.ready:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		h.withdraw(w)
		return ctx.Err()
	}
	defer h.leave()
	f()
	return nil
}

var ticketSeed = maphash.MakeSeed()

func (h *hasher) enter(t ticket) *waiter {
	w := &waiter{ticket: t, ready: make(chan error, 1),
		address: maphash.Comparable(ticketSeed, t.from.counted()), user: maphash.Comparable(ticketSeed, t.name)}
	if t.lane == forOperators || t.name == "" {
		w.user = w.address // guesses at a name from elsewhere shall not be in an administrator's way
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &h.lanes[t.lane]
	if h.free > 0 {
		h.free--
		l.serve(w)
		return w
	}
	l.waiting = append(l.waiting, w)
	if len(l.waiting) > maxHashing {
		l.remove(l.crowding()).ready <- errHashing
	}
	return w
}

// leave gives the place to the next that waits.
func (h *hasher) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range lanes {
		h.last = (h.last + 1) % lanes
		if l := &h.lanes[h.last]; len(l.waiting) > 0 {
			l.serve(l.remove(l.first()))
			return
		}
	}
	h.free++
}

// withdraw is for who does not wait any more, and may have got the place just now.
func (h *hasher) withdraw(w *waiter) {
	h.mu.Lock()
	l := &h.lanes[w.lane]
	i := slices.Index(l.waiting, w)
	if i >= 0 {
		l.remove(i)
	}
	h.mu.Unlock()
	if i < 0 && <-w.ready == nil {
		h.leave()
	}
}

// busy is how many passwords are hashed or wait for it.
func (h *hasher) busy() float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.places - h.free
	for i := range h.lanes {
		n += len(h.lanes[i].waiting)
	}
	return float64(n)
}

// first is the index of who comes next: whose address and name were given least, and then who came first.
func (l *lane) first() (best int) {
	for i, w := range l.waiting {
		a, b := l.start(w), l.start(l.waiting[best])
		if a < b || a == b && l.paid[w.user] < l.paid[l.waiting[best].user] {
			best = i
		}
	}
	return best
}

// start is when what w's address and name were given is paid for. Nobody saves up turns.
func (l *lane) start(w *waiter) float64 { return max(l.now, l.paid[w.address], l.paid[w.user]) }

// serve gives a place to w, which does not wait any more.
func (l *lane) serve(w *waiter) {
	l.now = l.start(w)
	if l.paid == nil || len(l.paid) > 16*maxHashing {
		old := l.paid
		l.paid = map[uint64]float64{}
		for k, t := range maps.All(old) {
			if t > l.now {
				l.paid[k] = t
			}
		}
	}
	l.paid[w.address] = l.now + w.cost
	l.paid[w.user] = l.now + w.cost
	w.ready <- nil
}

// crowding is the index of who gives way: the newest of the name, of the address, that has most waiting.
func (l *lane) crowding() (most int) {
	addresses, users := map[uint64]int{}, map[[2]uint64]int{}
	for _, w := range l.waiting {
		addresses[w.address]++
		users[[2]uint64{w.address, w.user}]++
	}
	count := func(i int) (int, int) {
		w := l.waiting[i]
		return addresses[w.address], users[[2]uint64{w.address, w.user}]
	}
	for i := range l.waiting {
		a, u := count(i)
		if a0, u0 := count(most); a > a0 || a == a0 && u >= u0 {
			most = i
		}
	}
	return most
}

func (l *lane) remove(i int) *waiter {
	w := l.waiting[i]
	l.waiting = slices.Delete(l.waiting, i, i+1)
	return w
}
