package share

import (
	"errors"
	"fmt"
	"time"
)

// Limits on the sessions a mailbox remembers, so that no flood of signals, however
// well signed, takes much memory, and none of one peer keeps out the others.
const (
	sessionIdle     = time.Hour // then a session is over, and forgotten
	maxSessions     = 10_000
	maxPeerSessions = 2_000   // of one sender
	maxHeld         = 64      // signals that wait for an earlier one of their session
	maxHeldBytes    = 4 << 20 // of their payloads, in all sessions
)

// sessions puts incoming signals into order, and refuses those seen before. A
// session is named by the sender's address and the session's name; its signals
// are numbered, so that a hub that tells them out of order (a cluster may) or
// twice does no harm. It is not safe for concurrent use.
type sessions struct {
	in    map[sessionKey]*inSession
	out   map[sessionKey]*outSession
	peers map[string]int // how many of in are of a peer
	held  int            // bytes of payloads that are held
	swept time.Time      // when begin last made room
}

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
		var err error
		if in, err = s.begin(key, now); err != nil {
			return nil, err
		}
	}
	in.used, in.keys = now, keys
	if _, dup := in.held[seq]; seq < in.next || dup {
		return nil, fmt.Errorf("number %d was used before", seq)
	}
	if seq >= in.next+maxHeld {
		return nil, fmt.Errorf("number %d is too far ahead", seq)
	}
	if seq > in.next && s.held+len(sig.Payload) > maxHeldBytes {
		return nil, errors.New("too much waits for earlier signals")
	}
	in.held[seq] = sig
	s.held += len(sig.Payload)
	var ready []Signal
	for {
		next, ok := in.held[in.next]
		if !ok {
			return ready, nil
		}
		delete(in.held, in.next)
		s.held -= len(next.Payload)
		in.next++
		ready = append(ready, next)
	}
}

// begin makes room for a session that others began.
func (s *sessions) begin(key sessionKey, now time.Time) (*inSession, error) {
	peer := peerOf(key.address)
	full := func() bool { return len(s.in) >= maxSessions || s.peers[peer] >= maxPeerSessions }
	if full() && now.Sub(s.swept) >= time.Second { // not for every signal of a flood
		s.swept = now
		s.forget(now, 2*signalAge) // what could be replayed from these is stale
	}
	if full() {
		return nil, errors.New("too many sessions")
	}
	if s.in == nil {
		s.in, s.peers = map[sessionKey]*inSession{}, map[string]int{}
	}
	in := &inSession{held: map[uint64]Signal{}}
	s.in[key] = in
	s.peers[peer]++
	return in, nil
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
		if now.Sub(in.used) <= idle {
			continue
		}
		for _, sig := range in.held {
			s.held -= len(sig.Payload)
		}
		delete(s.in, k)
		if s.peers[peerOf(k.address)]--; s.peers[peerOf(k.address)] == 0 {
			delete(s.peers, peerOf(k.address))
		}
	}
	for k, out := range s.out {
		if now.Sub(out.used) > max(idle, sessionIdle) {
			delete(s.out, k)
		}
	}
}
