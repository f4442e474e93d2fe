package hub

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// bells wake the feeds that wait for a change of a hub database which concerns
// them, and no others: one reader follows the database for all, and hands each what it
// waits for. It runs while the hub does, from the first feed that waits.
type bells struct {
	ctx     context.Context // of the hub
	running *sync.WaitGroup

	mu      sync.Mutex
	ringing bool
	waiting map[string]map[*ear]struct{} // by what they wait for

	// Whom signals are from and to, by document id: the last ones.
	young, old map[string]parties
}

// An ear is one feed that waits. All but rung is guarded by bells.mu.
type ear struct {
	rung   chan struct{}   // holds one when something has been heard
	heard  []*couch.Change // in their order; not to be changed, others hear the same
	missed bool            // more has happened than was kept
}

const maxHeard = 16

// parties are the addresses of a signal.
type parties struct {
	To   string `json:"to"`
	From string `json:"from"`
}

const maxParties = 20_000 // in each generation

// everybody is what those wait for who see shares; others wait for signals to a user or a peer.
const everybody = "*"

func (c *caller) keys() []string {
	keys := []string{everybody}
	if c.Name != "" {
		keys = append(keys, "user "+c.Name)
	}
	if c.peer != "" {
		keys = append(keys, "peer "+c.peer)
	}
	return keys
}

// listen returns an ear that hears what happens to one of the keys after the
// call, until end is called.
func (b *bells) listen(ctx context.Context, h *hubDatabase, db couch.DB, keys []string) (*ear, error) {
	e := &ear{rung: make(chan struct{}, 1)}
	b.mu.Lock()
	if b.waiting == nil {
		b.waiting = map[string]map[*ear]struct{}{}
	}
	for _, k := range keys {
		if b.waiting[k] == nil {
			b.waiting[k] = map[*ear]struct{}{}
		}
		b.waiting[k][e] = struct{}{}
	}
	ringing := b.ringing
	b.mu.Unlock()
	if !ringing {
		if err := b.start(ctx, h, db); err != nil {
			b.end(e, keys)
			return nil, err
		}
	}
	return e, nil
}

// take returns what an ear has heard since the last time.
func (b *bells) take(e *ear) (heard []*couch.Change, missed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	heard, missed = e.heard, e.missed
	e.heard, e.missed = nil, false
	return heard, missed
}

func (b *bells) end(e *ear, keys []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		if delete(b.waiting[k], e); len(b.waiting[k]) == 0 {
			delete(b.waiting, k)
		}
	}
}

// start begins to follow the database, from where it is now.
func (b *bells) start(ctx context.Context, h *hubDatabase, db couch.DB) error {
	info, err := db.Info(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ringing && b.ctx.Err() == nil {
		b.ringing = true
		b.running.Go(func() { b.follow(h, db, info.UpdateSeq) })
	}
	return nil
}

// follow rings for each change until the hub ends or the database cannot be
// read. Then everybody is rung, so that all see for themselves.
func (b *bells) follow(h *hubDatabase, db couch.DB, since couch.Seq) {
	for {
		o := couch.ChangesOptions{Since: since, Feed: couch.FeedLongpoll, IncludeDocs: true, AllLeaves: true}
		res, err := db.Changes(b.ctx, o, func(c *couch.Change) error { return b.change(h, db, c) })
		if err != nil {
			break
		}
		since = res.LastSeq
	}
	t := time.NewTimer(time.Second) // those who try again shall not do so all the time
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ringing = false
	for k := range b.waiting {
		b.ring(k, nil)
	}
}

// change rings for whom a change concerns.
func (b *bells) change(h *hubDatabase, db couch.DB, c *couch.Change) error {
	if !strings.HasPrefix(c.ID, hubdoc.SignalPrefix) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if strings.HasPrefix(c.ID, hubdoc.SharePrefix) {
			b.ring(everybody, c)
		}
		return nil
	}
	if c.Deleted || c.Doc == nil {
		return nil
	}
	var p parties
	if json.Unmarshal(c.Doc.Body, &p) != nil {
		return nil
	}
	keys := []string{}
	for _, peer := range []string{hubdoc.PeerOf(p.To), hubdoc.PeerOf(p.From)} {
		o, err := h.owners.of(b.ctx, db, peer)
		if err != nil {
			return err
		}
		keys = append(keys, "peer "+peer, "user "+o.user)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remember(c.ID, p)
	for _, k := range keys {
		b.ring(k, c)
	}
	return nil
}

// ring lets all who wait for a key hear of a change; nil is one that is not known. b.mu is held.
func (b *bells) ring(key string, c *couch.Change) {
	for e := range b.waiting[key] {
		switch n := len(e.heard); {
		case n > 0 && e.heard[n-1] == c: // by another key
		case c == nil || n == maxHeard:
			e.missed = true
		default:
			e.heard = append(e.heard, c)
		}
		select {
		case e.rung <- struct{}{}:
		default: // one is there
		}
	}
}

// remember keeps the parties of a signal. b.mu is held.
func (b *bells) remember(id string, p parties) {
	if b.young == nil || len(b.young) >= maxParties {
		b.young, b.old = map[string]parties{}, b.young
	}
	b.young[id] = p
}

// partiesOf returns the parties of a signal that is remembered.
func (b *bells) partiesOf(id string) (p parties, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok = b.young[id]; !ok {
		p, ok = b.old[id]
	}
	return p, ok
}
