package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/replicate"
)

// A poolMember is a pool with the database and peer it is of.
type poolMember struct {
	*Pool
	peer *Peer
	db   *kivik.DB
}

func (w *world) joinPool(db *kivik.DB, id *Identity, o PoolOptions) *poolMember {
	w.t.Helper()
	p := w.join(func(c *Config) { c.Identity = id })
	pool, err := p.Join(w.ctx, "topic", db, o)
	w.must(err)
	w.t.Cleanup(func() { _ = pool.Close() })
	return &poolMember{pool, p, db}
}

// pool makes n members, each with a document of its own.
func (w *world) pool(n int, o PoolOptions) []*poolMember {
	w.t.Helper()
	all := make([]*poolMember, n)
	for i := range all {
		db := w.create(fmt.Sprintf("db%d", i))
		w.put(db, fmt.Sprintf("doc%d", i), `{}`)
		all[i] = w.joinPool(db, nil, o)
	}
	w.t.Cleanup(func() { // at once: each waits a while for its last checkpoints at the others
		var wg sync.WaitGroup
		for _, m := range all {
			wg.Go(func() { _ = m.Close() })
		}
		wg.Wait()
	})
	return all
}

// converged waits until all members hold the same, at least docs documents.
func (w *world) converged(docs int64, all ...*poolMember) {
	w.t.Helper()
	w.eventually("convergence", func() bool {
		for _, m := range all {
			stats, err := m.db.Stats(w.ctx)
			w.must(err)
			if stats.DocCount < docs {
				return false
			}
		}
		for _, m := range all[1:] {
			r, err := replicate.VerifyDB(w.ctx, couchkivik.From(all[0].db), couchkivik.From(m.db), replicate.VerifyOptions{})
			w.must(err)
			if !r.Equal {
				return false
			}
		}
		return true
	})
}

func (w *world) edit(m *poolMember, id, body string) {
	w.t.Helper()
	rev, err := m.db.GetRev(w.ctx, id)
	w.must(err)
	_, err = m.db.Put(w.ctx, id, []byte(body), kivik.Rev(rev))
	w.must(err)
}

func TestPoolConverges(t *testing.T) {
	for _, n := range []int{3, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t)
			all := w.pool(n, PoolOptions{})
			w.converged(int64(n), all...)
			for i, m := range all { // everybody edits the neighbour's document and all edit one
				w.edit(m, fmt.Sprintf("doc%d", (i+1)%n), `{"edited":true}`)
				w.put(m.db, fmt.Sprintf("late%d", i), `{}`)
			}
			w.converged(int64(2*n), all...)
			for _, m := range all {
				w.must(m.AwaitFirstPeer(w.ctx))
				w.must(m.AwaitInSync(w.ctx))
				if peers := m.Peers(); len(peers) != n-1 || peers[0].Route != "memory" || len(peers[0].Status.Directions) != 1 {
					t.Errorf("%+v", peers)
				}
			}
		})
	}
}

func TestPoolAlone(t *testing.T) {
	w := newWorld(t)
	m := w.pool(1, PoolOptions{})[0]
	w.must(m.AwaitInSync(w.ctx))
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if err := m.AwaitFirstPeer(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := m.peer.Join(w.ctx, "topic", m.db, PoolOptions{}); status(err) != 412 {
		t.Error(err)
	}
	if _, err := m.peer.Join(w.ctx, "", w.create("x"), PoolOptions{}); status(err) != 400 {
		t.Error(err)
	}
	w.must(m.peer.Close())
	if err := m.AwaitFirstPeer(w.ctx); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	w.must(m.Close())
	w.must(m.Close())
	if _, open := <-m.Errors(); open {
		t.Error("an error")
	}
	if _, err := m.peer.Join(w.ctx, "topic", m.db, PoolOptions{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// Only those of one topic replicate; shares that say nothing of topics are none of their business.
func TestPoolTopics(t *testing.T) {
	w := newWorld(t)
	all := w.pool(2, PoolOptions{})
	w.share(w.join(nil), "notes", ShareOptions{Info: []int{1}})
	p := w.join(nil)
	db := w.create("elsewhere")
	other, err := p.Join(w.ctx, "elsewhere", db, PoolOptions{})
	w.must(err)
	w.converged(2, all...)
	if len(other.Peers()) != 0 || len(all[0].Peers()) != 1 || len(docIDs(w, "elsewhere")) != 0 {
		t.Errorf("%+v %+v", other.Peers(), all[0].Peers())
	}
}

func TestPoolMemberLeavesAndReturns(t *testing.T) {
	w := newWorld(t)
	all := w.pool(2, PoolOptions{})
	id := newTestIdentity(t)
	db := w.create("guest")
	guest := w.joinPool(db, id, PoolOptions{})
	w.converged(2, append(all, guest)...)

	w.must(guest.Close())
	w.must(guest.peer.Close())
	w.eventually("the others see it", func() bool { return len(all[0].Peers()) == 1 && len(all[1].Peers()) == 1 })
	w.put(db, "written away", `{}`)
	w.put(all[0].db, "written meanwhile", `{}`)

	guest = w.joinPool(db, id, PoolOptions{})
	w.converged(4, append(all, guest)...)

	for _, m := range append(all, guest) { // connections break
		m.peer.transport.(*memTransport).cut()
	}
	w.put(db, "after the cut", `{}`)
	w.put(all[1].db, "after the cut too", `{}`)
	w.converged(6, append(all, guest)...)
}

func TestPoolRefusal(t *testing.T) {
	w := newWorld(t)
	friends := w.pool(1, PoolOptions{})
	stranger := newTestIdentity(t)
	picky := w.create("picky")
	p := w.joinPool(picky, nil, PoolOptions{Accept: func(peer string) error {
		if peer == stranger.ID() {
			return errors.New("friends only")
		}
		return nil
	}})
	w.converged(1, append(friends, p)...)
	db := w.create("strange")
	w.put(db, "strange", `{}`)
	s := w.joinPool(db, stranger, PoolOptions{Accept: func(peer string) error {
		if peer == friends[0].peer.ID() {
			return errors.New("nor these")
		}
		return nil
	}})
	refused := func(m *poolMember, by string) func() bool {
		return func() bool {
			for _, peer := range m.Peers() {
				if peer.Share.Peer == by {
					return peer.State == PoolRefused && peer.Err != nil
				}
			}
			return false
		}
	}
	w.eventually("refused by the callback", refused(p, stranger.ID()))
	w.eventually("refused by the other's", refused(s, p.peer.ID()))
	w.eventually("refused both ways", refused(friends[0], stranger.ID()))
	w.must(p.AwaitInSync(w.ctx))
	w.must(s.AwaitInSync(w.ctx)) // nobody is left to wait for
	if len(docIDs(w, "strange")) != 1 || len(docIDs(w, "picky")) != 1 {
		t.Error("documents crossed")
	}
	if e := <-p.Errors(); e.Peer != stranger.ID() || e.Err == nil {
		t.Error(e)
	}
}

func TestPoolDesignDocs(t *testing.T) {
	w := newWorld(t)
	a := w.pool(1, PoolOptions{})[0]
	w.put(a.db, "_design/d", `{"views":{}}`)
	plain := w.joinPool(w.create("plain"), nil, PoolOptions{})
	trusting := w.joinPool(w.create("trusting"), nil, PoolOptions{DesignDocs: true})
	w.converged(2, a, trusting)
	w.must(plain.AwaitInSync(w.ctx))
	if ids := docIDs(w, "plain"); !slices.Equal(ids, []string{"doc0"}) {
		t.Error(ids)
	}
}

// In a large topic nobody has more than the neighbours it may have, and all get everything.
func TestPoolBoundedDegree(t *testing.T) {
	w := newWorld(t)
	const n, limit = 12, 4
	all := w.pool(n, PoolOptions{MaxPeers: limit})
	w.converged(n, all...)
	for _, m := range all {
		w.put(m.db, "more "+m.Share().ID(), `{}`)
	}
	w.converged(2*n, all...)
	w.eventually("few links", func() bool {
		for _, m := range all {
			links := slices.DeleteFunc(m.Peers(), func(p PoolPeer) bool { return p.State == PoolKnown })
			m.Share().mu.Lock()
			pulling := len(m.Share().remotes)
			m.Share().mu.Unlock()
			if len(links) > limit || len(links) < 2 || pulling > limit {
				return false
			}
		}
		return true
	})
}

func TestPoolErrorsKeepTheLatest(t *testing.T) {
	w := newWorld(t)
	m := w.pool(1, PoolOptions{})[0]
	for i := range 2 * maxPoolErrors {
		m.report(PoolError{Err: fmt.Errorf("%d", i)})
	}
	if e := <-m.Errors(); e.Err.Error() != fmt.Sprint(maxPoolErrors) {
		t.Error(e)
	}
}

func TestPoolUpdates(t *testing.T) {
	w := newWorld(t)
	m := w.pool(1, PoolOptions{})[0]
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	var joined *poolMember
	synced := false
	for peers := range m.Updates(ctx) {
		switch {
		case joined == nil:
			joined = w.joinPool(w.create("second"), nil, PoolOptions{})
		case len(peers) == 1 && peers[0].State == PoolInSync:
			synced = true
			go joined.Close()
		case len(peers) == 0 && synced:
			return
		}
	}
	t.Error("not told")
}
