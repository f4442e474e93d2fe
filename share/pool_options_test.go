package share

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/replicate"
)

// One database in two topics, shared besides, by one process: each is a share of its own, and ends alone.
func TestPoolsAndShareOfOneDatabase(t *testing.T) {
	w := newWorld(t)
	a, b := w.pool(1, PoolOptions{})[0], w.pool2("b", "topic", PoolOptions{})
	other, err := a.peer.Join(w.ctx, "other", a.db, PoolOptions{})
	w.must(err)
	c := w.pool2("c", "other", PoolOptions{})
	plain, err := a.peer.Share(w.ctx, a.db, ShareOptions{})
	w.must(err)
	remote := w.open(w.join(nil), plain.ID())
	w.put(b.db, "from b", `{}`)
	w.put(c.db, "from c", `{}`)
	w.converged(3, a, b, c)
	w.must(other.Close())
	w.put(c.db, "not any more", `{}`)
	w.put(b.db, "still", `{}`)
	w.converged(4, a, b)
	if _, err := remote.DB().GetRev(w.ctx, "still"); err != nil {
		t.Error(err)
	}
	ids := map[string]bool{a.Share().ID(): true, other.Share().ID(): true, plain.ID(): true}
	if len(ids) != 3 || plain.ID() != shareID(a.peer.ID(), shareNonce(w.uuid(a))) {
		t.Errorf("share ids %v", slices.Collect(maps.Keys(ids)))
	}
}

// pool2 is a member of a topic with a new, empty database.
func (w *world) pool2(db, topic string, o PoolOptions) *poolMember {
	w.t.Helper()
	m := &poolMember{peer: w.join(nil), db: w.create(db)}
	var err error
	m.Pool, err = m.peer.Join(w.ctx, topic, m.db, o)
	w.must(err)
	w.t.Cleanup(func() { _ = m.Close() })
	return m
}

func (w *world) uuid(m *poolMember) string {
	info, err := couchkivik.From(m.db).Info(w.ctx)
	w.must(err)
	return cmp.Or(info.UUID, info.Name)
}

func TestPoolDirection(t *testing.T) {
	w := newWorld(t)
	source := w.pool(1, PoolOptions{})[0]
	only := func(d PoolDirection) PoolOptions {
		return PoolOptions{Direction: func(peer string) PoolDirection {
			if peer == source.peer.ID() {
				return d
			}
			return PoolBoth
		}}
	}
	puller := w.pool2("puller", "topic", only(PoolPull))
	w.put(puller.db, "kept", `{}`)
	w.converged(2, puller) // it pulls, and the source gets nothing
	state := func(m *poolMember, of *poolMember) PoolState {
		for _, p := range m.Peers() {
			if p.Share.Peer == of.peer.ID() {
				return p.State
			}
		}
		return ""
	}
	w.eventually("the source is refused", func() bool { return state(source, puller) == PoolRefused })
	w.must(puller.Close())

	pusher := w.pool2("pusher", "topic", only(PoolPush))
	w.put(pusher.db, "sent", `{}`)
	w.converged(2, source)
	if state(pusher, source) != PoolSending || len(docIDs(w, "pusher")) != 1 || fmt.Sprint(docIDs(w, source.db.Name())) != "[doc0 sent]" {
		t.Error(state(pusher, source), docIDs(w, "pusher"), docIDs(w, source.db.Name()))
	}
	w.must(pusher.AwaitInSync(w.ctx)) // there is nothing to wait for
}

// branch makes a first revision of its own, whether or not another member's is there already.
func (w *world) branch(db *kivik.DB, id string, who int, body string) {
	w.t.Helper()
	doc := &couch.Doc{ID: id, Rev: couch.Rev{Gen: 1, Hash: fmt.Sprintf("%032x", who)}, Body: []byte(body)}
	_, err := couchkivik.From(db).BulkDocs(w.ctx, []*couch.Doc{doc}, couch.WriteOptions{Replicated: true})
	w.must(err)
}

// A resolver ends conflicts in all members, though each asks it alone, and its errors are told.
func TestPoolResolver(t *testing.T) {
	w := newWorld(t)
	o := PoolOptions{Replication: replicate.Options{Resolver: func(c replicate.Conflict) (*replicate.Document, error) {
		if c.ID == "stubborn" {
			return nil, errors.New("undecided")
		}
		sum := 0
		for _, leaf := range c.Leaves {
			var doc struct{ N int }
			_ = json.Unmarshal(leaf.Body, &doc)
			sum += doc.N
		}
		return &replicate.Document{Body: fmt.Appendf(nil, `{"n":%d}`, sum)}, nil
	}}}
	dbs := w.pool(3, o)
	for i, m := range dbs {
		w.branch(m.db, "counter", i, fmt.Sprintf(`{"n":%d}`, 1<<i))
	}
	w.converged(4, dbs...)
	w.eventually("all have resolved", func() bool {
		for _, m := range dbs {
			var doc struct{ N int }
			n := 0
			w.must(m.db.Get(w.ctx, "counter").ScanDoc(&doc))
			w.must(replicate.Conflicts(w.ctx, m.db, func(replicate.Conflict) error { n++; return nil }))
			if n > 0 || doc.N < 7 {
				return false
			}
		}
		return true
	})
	w.converged(4, dbs...)

	for i, m := range dbs[:2] {
		w.branch(m.db, "stubborn", i, fmt.Sprintf(`{"at":%q}`, m.db.Name()))
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		for e := range dbs[0].Errors() {
			if e.Peer == dbs[0].peer.ID() && e.Err.Error() == "resolve conflicts: undecided" {
				return
			}
		}
	}()
	select {
	case <-told:
	case <-time.After(30 * time.Second):
		t.Error("the resolver's error was not told")
	}
}

// A member that does not answer counts as failed, so that others take its place, long before the attempt to connect ends.
func TestPoolDoesNotWaitForTheSilent(t *testing.T) {
	w := newWorld(t)
	silent := w.pool2("silent", "topic", PoolOptions{})
	silent.peer.transport.(*memTransport).hang()
	m := w.pool2("m", "topic", PoolOptions{})
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	for peers := range m.Updates(ctx) {
		if len(peers) == 1 && errors.Is(peers[0].Err, errNoAnswer) && peers[0].State == PoolFailed {
			return
		}
	}
	t.Errorf("%+v", m.Peers())
}
