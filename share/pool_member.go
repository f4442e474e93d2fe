package share

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/replicate"
)

// A member is another member of the topic. The pool's mu guards it.
type member struct {
	id, peer string // share and peer id; they stay

	info   Info
	state  PoolState
	err    error
	status replicate.Status
	remote *Remote // while it is open

	cancel context.CancelFunc // ends the link; nil: it is no neighbour
	ended  chan struct{}      // closed when the last link has ended
}

// down reports whether the pool does without the member for now.
func (m *member) down() bool { return m.state == PoolFailed || m.state == PoolRefused }

// note takes in what the hub tells. It reports whether the members are others now. p.mu is held.
func (p *Pool) note(e Event) bool {
	if e.Kind == Omitted {
		return false
	}
	m := p.members[e.Share.ID]
	in := e.Kind != Gone && p.in(e.Share)
	switch {
	case in && m == nil:
		ended := make(chan struct{})
		close(ended)
		p.members[e.Share.ID] = &member{id: e.Share.ID, peer: e.Share.Peer, info: e.Share, state: PoolKnown, ended: ended}
	case in:
		m.info = e.Share
		return false
	case m != nil:
		p.part(m)
		delete(p.members, e.Share.ID)
	default:
		return false
	}
	p.changed()
	return true
}

// choose links the pool to its neighbours, and to no others. p.mu is held.
func (p *Pool) choose() {
	ids := make([]string, 0, len(p.members))
	for id := range p.members {
		ids = append(ids, id)
	}
	chosen := neighbours(p.topic, p.share.ID(), ids, p.o.MaxPeers, func(id string) bool { return p.members[id].down() })
	for id, m := range p.members {
		switch {
		case chosen[id] && m.cancel == nil:
			p.link(m)
		case !chosen[id] && m.cancel != nil:
			p.part(m)
		}
	}
}

// link begins to pull from a member, once an earlier link to it has ended. p.mu is held.
func (p *Pool) link(m *member) {
	ctx, cancel := context.WithCancel(p.ctx)
	before, ended := m.ended, make(chan struct{})
	err := p.run(func() {
		defer close(ended)
		defer cancel()
		<-before
		p.pulls(ctx, m)
	})
	if err != nil { // the Peer closes
		cancel()
		return
	}
	m.cancel, m.ended, m.state = cancel, ended, PoolConnecting
	p.changed()
}

// part ends a member's link. p.mu is held.
func (p *Pool) part(m *member) {
	if m.cancel != nil {
		m.cancel()
		m.cancel = nil
	}
	m.state, m.err, m.status = PoolKnown, nil, replicate.Status{}
	p.changed()
}

// How long the pool waits before it tries a member again.
const (
	poolRetryMin  = 200 * time.Millisecond
	poolRetryMax  = 10 * time.Second
	poolRefusedIn = time.Minute     // it was refused, here or there
	poolPatience  = 5 * time.Second // with a member that is being connected, before others take its place
)

// pulls pulls from a member until ctx ends, whatever goes wrong.
func (p *Pool) pulls(ctx context.Context, m *member) {
	if p.direction(m.peer) == PoolPush {
		p.set(ctx, m, func() { m.state = PoolSending })
		<-ctx.Done()
		return
	}
	wait := poolRetryMin
	for ctx.Err() == nil {
		met, err := p.pull(ctx, m)
		if ctx.Err() != nil {
			return
		}
		state := PoolFailed
		if met {
			wait = poolRetryMin
		}
		pauseFor := jitter(wait)
		if refusedBy(err) || errors.Is(err, errNotAccepted) {
			state, pauseFor = PoolRefused, jitter(poolRefusedIn)
		}
		p.set(ctx, m, func() { m.state, m.err = state, err })
		p.report(PoolError{Share: m.id, Peer: m.peer, Err: err})
		wait = min(2*wait, poolRetryMax)
		pause(ctx, pauseFor)
	}
}

var (
	errNotAccepted = errors.New("not accepted here")
	errNoAnswer    = errors.New("no answer yet")
)

// pull opens a member and pulls from it until ctx ends or it fails. met: it came to replicating.
func (p *Pool) pull(ctx context.Context, m *member) (met bool, err error) {
	if p.o.Accept != nil {
		if err := p.o.Accept(m.peer); err != nil {
			return false, fmt.Errorf("%w: %w", errNotAccepted, err)
		}
	}
	p.set(ctx, m, func() { m.state = PoolConnecting })
	late := time.AfterFunc(poolPatience, func() { p.set(ctx, m, func() { m.state, m.err = PoolFailed, errNoAnswer }) })
	remote, err := p.peer.Open(ctx, m.id)
	late.Stop()
	if err != nil {
		return false, err
	}
	defer remote.Close()
	p.set(ctx, m, func() { m.remote, p.met = remote, true })
	defer p.set(context.Background(), m, func() { m.remote = nil })

	r := replicate.StartDB(ctx, couchkivik.From(remote.DB()), p.db, p.options())
	for s := range r.Updates(ctx) {
		p.follow(ctx, m, s)
	}
	_, err = r.Wait()
	return true, err
}

// follow keeps a member's state as its replication has it, and reports what is tried again.
func (p *Pool) follow(ctx context.Context, m *member, s replicate.Status) {
	var trouble error
	p.set(ctx, m, func() {
		m.status = s
		switch s.Total.State {
		case replicate.Retrying, replicate.Stalled:
			if m.state != PoolFailed {
				trouble = fmt.Errorf("%s at the %s (%s): %w", s.Total.State, s.Total.End, s.Total.Stage, orStalled(s.Total.Err))
			}
			m.state, m.err = PoolFailed, orStalled(s.Total.Err)
		case replicate.Idle:
			m.state, m.err = PoolInSync, nil
		case replicate.Starting, replicate.Running:
			if m.state != PoolFailed || s.Total.State == replicate.Running {
				m.state, m.err = PoolRunning, nil
			}
		}
	})
	if trouble != nil {
		p.report(PoolError{Share: m.id, Peer: m.peer, Err: trouble})
	}
}

func orStalled(err error) error {
	if err == nil {
		return replicate.ErrStalled
	}
	return err
}

// set changes a member, unless ctx, its link's, has ended; if it goes down or comes
// up by that, the neighbours are chosen anew.
func (p *Pool) set(ctx context.Context, m *member, change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	down := m.down()
	change()
	p.changed()
	if m.down() != down && p.ctx.Err() == nil {
		p.choose()
	}
}
