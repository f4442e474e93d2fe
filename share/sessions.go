package share

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/loveseat-db/loveseat/internal/fair"
)

// Limits on the sessions a mailbox remembers, so that no flood of signals, however
// well signed, takes much memory, and none keeps out others than those who send it:
// where there are too many, those of whoever has most go first. What the hub could replay
// of such a session harms its sender alone.
const (
	sessionIdle     = time.Hour // then a session is over, and forgotten
	maxSessions     = 10_000
	maxPeerSessions = 1_000   // of one sender
	maxOutSessions  = 20_000  // that we have sent in
	maxHeld         = 64      // signals that wait for an earlier one of their session
	maxHeldBytes    = 4 << 20 // of their payloads, in all sessions
	maxPeerHeld     = 1 << 20 // and in those of one sender
)

// sessions puts incoming signals into order, and refuses those seen before. A
// session is named by the sender's address and the session's name; its signals
// are numbered, so that a hub that tells them out of order (a cluster may) or
// twice does no harm. It is not safe for concurrent use.
type sessions struct {
	in    map[sessionKey]*inSession
	out   map[sessionKey]*outSession
	peers map[string]*senderUse
	held  int                          // bytes of payloads that are held
	claim func(peer string) fair.Claim // nil: every peer for itself
}

// A senderUse is what a peer takes up.
type senderUse struct{ sessions, held int }

type sessionKey struct{ address, session string }

type inSession struct {
	keys Keys
	next uint64
	held map[uint64]Signal
	used time.Time
}

type outSession struct {
	next uint64
	used time.Time
}

// accept takes a verified signal and returns those that can now be delivered,
// in order. Errors: a number used before (a replay), too many.
func (s *sessions) accept(sig Signal, seq uint64, keys Keys, now time.Time) ([]Signal, error) {
	key := sessionKey{sig.From, sig.Session}
	in := s.in[key]
	if in == nil {
		in = s.begin(key)
	}
	in.used, in.keys = now, keys
	if _, dup := in.held[seq]; seq < in.next || dup {
		return nil, fmt.Errorf("number %d was used before", seq)
	}
	if seq >= in.next+maxHeld {
		return nil, fmt.Errorf("number %d is too far ahead", seq)
	}
	if seq > in.next && !s.hold(key, len(sig.Payload)) {
		return nil, errors.New("too much waits for earlier signals")
	}
	in.held[seq] = sig
	s.count(key, len(sig.Payload))
	var ready []Signal
	for {
		next, ok := in.held[in.next]
		if !ok {
			return ready, nil
		}
		delete(in.held, in.next)
		s.count(key, -len(next.Payload))
		in.next++
		ready = append(ready, next)
	}
}

// count notes that so many more bytes of a session are held.
func (s *sessions) count(key sessionKey, n int) {
	s.held += n
	s.peers[peerOf(key.address)].held += n
}

// hold reports whether n bytes more of a session may be held: others, who hold more, make room.
func (s *sessions) hold(key sessionKey, n int) bool {
	mine := s.peers[peerOf(key.address)].held + n
	for mine <= maxPeerHeld && s.held+n > maxHeldBytes {
		var most string
		for peer, use := range s.peers {
			if most == "" || use.held > s.peers[most].held {
				most = peer
			}
		}
		if s.peers[most].held <= mine {
			return false
		}
		for k, in := range s.in {
			if len(in.held) > 0 && peerOf(k.address) == most {
				s.drop(k)
			}
		}
	}
	return mine <= maxPeerHeld
}

// begin makes room for a session that others began.
func (s *sessions) begin(key sessionKey) *inSession {
	peer := peerOf(key.address)
	switch use := s.peers[peer]; {
	case use != nil && use.sessions >= maxPeerSessions:
		s.shrink(maxPeerSessions/16, func(k sessionKey) bool { return peerOf(k.address) == peer })
	case len(s.in) >= maxSessions:
		s.shrink(maxSessions/16, func(sessionKey) bool { return true })
	}
	if s.in == nil {
		s.in, s.peers = map[sessionKey]*inSession{}, map[string]*senderUse{}
	}
	in := &inSession{held: map[uint64]Signal{}}
	s.in[key] = in
	if s.peers[peer] == nil {
		s.peers[peer] = &senderUse{}
	}
	s.peers[peer].sessions++
	return in
}

// shrink drops n sessions, of those that count: many at a time, because it looks at all.
func (s *sessions) shrink(n int, counts func(sessionKey) bool) {
	var keys []sessionKey
	for k := range s.in {
		if counts(k) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b sessionKey) int { return s.in[a].used.Compare(s.in[b].used) })
	claims := make([]fair.Claim, len(keys))
	known := map[string]fair.Claim{}
	for i, k := range keys {
		peer := peerOf(k.address)
		if _, ok := known[peer]; !ok {
			known[peer] = fair.Claim{Group: peer}
			if s.claim != nil {
				known[peer] = s.claim(peer)
			}
		}
		claims[i] = known[peer]
	}
	for _, i := range fair.Order(claims)[:min(n, len(keys))] {
		s.drop(keys[i])
	}
}

// drop forgets a session that others began.
func (s *sessions) drop(key sessionKey) {
	peer := peerOf(key.address)
	for _, sig := range s.in[key].held {
		s.count(key, -len(sig.Payload))
	}
	delete(s.in, key)
	if s.peers[peer].sessions--; s.peers[peer].sessions == 0 {
		delete(s.peers, peer)
	}
}

// number returns the number of the next signal to an address in a session.
func (s *sessions) number(to, session string, now time.Time) uint64 {
	key := sessionKey{to, session}
	out := s.out[key]
	if out == nil {
		out = &outSession{}
		if s.out == nil {
			s.out = map[sessionKey]*outSession{}
		}
		if len(s.out) >= maxOutSessions {
			s.shrinkOut()
		}
		s.out[key] = out
	}
	out.used = now
	out.next++
	return out.next - 1
}

// keysOf returns the public keys of who has sent to us in a session.
func (s *sessions) keysOf(address, session string) (Keys, bool) {
	in := s.in[sessionKey{address, session}]
	if in == nil {
		return Keys{}, false
	}
	return in.keys, true
}

// forget drops sessions that nothing has come or gone in for so long.
func (s *sessions) forget(now time.Time, idle time.Duration) {
	for k, in := range s.in {
		if now.Sub(in.used) > idle {
			s.drop(k)
		}
	}
	for k, out := range s.out {
		if now.Sub(out.used) > idle {
			delete(s.out, k)
		}
	}
}

// shrinkOut drops the oldest of the sessions that we have sent in.
func (s *sessions) shrinkOut() {
	keys := slices.SortedFunc(maps.Keys(s.out), func(a, b sessionKey) int { return s.out[a].used.Compare(s.out[b].used) })
	for _, k := range keys[:len(keys)/16] {
		delete(s.out, k)
	}
}
