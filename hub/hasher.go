package hub

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// How many passwords may wait to be hashed: in all, and of one client address,
// so that somebody who guesses does not keep others from logging in.
const (
	maxHashing        = 256
	maxHashingAddress = 8
)

// A hasher lets few passwords be hashed at a time, half as many as there are
// processors, so that other requests do not wait for them.
type hasher struct {
	slots chan struct{}
	mu    sync.Mutex
	all   int
	by    map[netip.Addr]int // who waits or is served
}

func newHasher() *hasher {
	return &hasher{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), by: map[netip.Addr]int{}}
}

var errHashing = &couch.RetryLater{
	Err:   &couch.Error{Status: 429, Code: "too_many_requests", Reason: "Too many passwords wait to be checked."},
	After: 2 * time.Second,
}

// do calls f when it is its turn. Errors: 429 if too many wait already.
func (h *hasher) do(ctx context.Context, from netip.Addr, f func()) error {
	if !h.enter(from) {
		return errHashing
	}
	defer h.leave(from)
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.slots }()
	f()
	return nil
}

func (h *hasher) enter(from netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all >= maxHashing || h.by[from] >= maxHashingAddress {
		return false
	}
	h.all++
	h.by[from]++
	return true
}

func (h *hasher) leave(from netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all--
	if h.by[from]--; h.by[from] == 0 {
		delete(h.by, from)
	}
}

func (h *hasher) waiting() float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return float64(h.all)
}
