package share

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/replicate"
)

// PoolState is how a [Pool] stands with another member.
type PoolState string

// The states of a pool's members.
const (
	PoolKnown      PoolState = "known"      // no neighbour: its changes come through others
	PoolConnecting PoolState = "connecting" // it is being opened
	PoolRunning    PoolState = "running"    // its documents are being pulled
	PoolInSync     PoolState = "in-sync"    // everything it had is here
	PoolSending    PoolState = "sending"    // by PoolOptions.Direction nothing is pulled from it
	PoolFailed     PoolState = "failed"     // PoolPeer.Err; it is tried again
	PoolRefused    PoolState = "refused"    // by Accept, its or this pool's; it is asked about again in a minute
)

// PoolPeer is another member of a pool's topic.
type PoolPeer struct {
	Share  Info             `json:"share"`
	State  PoolState        `json:"state"`
	Err    error            `json:"-"`
	Route  string           `json:"route,omitempty"` // how its packets travel, see [Conn]; "": not connected
	Status replicate.Status `json:"status"`          // of the pull; without directions while there is none
}

// PoolError is something that went wrong in a pool, which goes on.
type PoolError struct {
	Share string // the other member's share id; "" of what is not about one that is pulled from
	Peer  string // its peer id, or this peer's
	Err   error
}

func (e PoolError) Error() string { return fmt.Sprintf("peer %s: %v", ShortID(e.Peer), e.Err) }

func (e PoolError) Unwrap() error { return e.Err }

// MarshalJSON writes the error as its text.
func (e PoolError) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"share": e.Share, "peer": e.Peer, "error": e.Err.Error()})
}

// maxPoolErrors is how many errors wait for a reader.
const maxPoolErrors = 64

// Errors returns what goes wrong, as it does; errors never end a pool. It is one stream, closed by
// [Pool.Close]: several readers share it. Of what nobody reads the latest 64 are kept.
func (p *Pool) Errors() <-chan PoolError { return p.errors }

// report puts an error into the stream.
func (p *Pool) report(e PoolError) {
	p.peer.log.Debug("pool", "topic", p.topic, "peer", ShortID(e.Peer), "err", e.Err)
	p.reporting.Lock()
	defer p.reporting.Unlock()
	if p.silent {
		return
	}
	for {
		select {
		case p.errors <- e:
			return
		default:
		}
		select {
		case <-p.errors: //nolint:errcheck // the oldest gives way
		default:
		}
	}
}

// changed tells of news. p.mu is held.
func (p *Pool) changed() {
	close(p.news)
	p.news = make(chan struct{})
}

// Peers returns the other live members of the topic, by share id.
func (p *Pool) Peers() []PoolPeer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peers()
}

// peers is Peers with p.mu held.
func (p *Pool) peers() []PoolPeer {
	all := make([]PoolPeer, 0, len(p.members))
	for _, m := range p.members {
		peer := PoolPeer{Share: m.info, State: m.state, Err: m.err, Status: m.status}
		if m.remote != nil {
			peer.Route = m.remote.Route()
		}
		all = append(all, peer)
	}
	slices.SortFunc(all, func(a, b PoolPeer) int { return strings.Compare(a.Share.ID, b.Share.ID) })
	return all
}

// Updates yields [Pool.Peers]: at once, and after each change, until ctx ends or
// the pool is closed. Changes that come faster than they are taken are told as one.
func (p *Pool) Updates(ctx context.Context) iter.Seq[[]PoolPeer] {
	return func(yield func([]PoolPeer) bool) {
		for {
			p.mu.Lock()
			peers, news := p.peers(), p.news
			p.mu.Unlock()
			if !yield(peers) || p.hear(ctx, news) != nil {
				return
			}
		}
	}
}

// AwaitFirstPeer waits until a member has been connected, be it gone again since. Errors: ctx's, [ErrClosed].
func (p *Pool) AwaitFirstPeer(ctx context.Context) error {
	return p.await(ctx, func() bool { return p.met })
}

// AwaitInSync waits until everything that the pool's neighbours had is here: those
// that can be reached, at least one if there are any who do not refuse; at once if the pool is alone.
// What was written here others pull: their pools know about that. Errors: ctx's, [ErrClosed].
func (p *Pool) AwaitInSync(ctx context.Context) error {
	return p.await(ctx, p.inSync)
}

// inSync reports whether all links that work are idle. p.mu is held.
func (p *Pool) inSync() bool {
	synced, failed := 0, 0
	for _, m := range p.members {
		switch m.state {
		case PoolConnecting, PoolRunning:
			return false
		case PoolInSync:
			synced++
		case PoolFailed:
			failed++
		}
	}
	return synced > 0 || failed == 0
}

// await waits until ok, which is called with p.mu held, at once and after all news.
func (p *Pool) await(ctx context.Context, ok func() bool) error {
	for {
		p.mu.Lock()
		news := p.news
		done := ok()
		p.mu.Unlock()
		if done {
			return nil
		}
		if err := p.hear(ctx, news); err != nil {
			return err
		}
	}
}

// hear waits for news.
func (p *Pool) hear(ctx context.Context, news <-chan struct{}) error {
	select {
	case <-news:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ctx.Done():
		return ErrClosed
	}
}
