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
// them, and no others: one reader follows the database for all. It runs while the hub
// does, from the first feed that waits.
type bells struct {
	ctx     context.Context // of the hub
	running *sync.WaitGroup

	mu      sync.Mutex
	ringing bool
	waiting map[string]map[chan struct{}]struct{} // by what they wait for

	// Whom signals are from and to, by document id: the last ones.
	young, old map[string]parties
}

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

// listen returns a channel on which a ring is left when something happens to one
// of the keys after the call, and a function that ends it.
func (b *bells) listen(ctx context.Context, h *hubDatabase, db couch.DB, keys []string) (rung <-chan struct{}, end func(), err error) {
	ch := make(chan struct{}, 1)
	b.mu.Lock()
	if b.waiting == nil {
		b.waiting = map[string]map[chan struct{}]struct{}{}
	}
	for _, k := range keys {
		if b.waiting[k] == nil {
			b.waiting[k] = map[chan struct{}]struct{}{}
		}
		b.waiting[k][ch] = struct{}{}
	}
	ringing := b.ringing
	b.mu.Unlock()
	end = func() { b.end(ch, keys) }
	if !ringing {
		if err := b.start(ctx, h, db); err != nil {
			end()
			return nil, nil, err
		}
	}
	return ch, end, nil
}

func (b *bells) end(ch chan struct{}, keys []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		if delete(b.waiting[k], ch); len(b.waiting[k]) == 0 {
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
		o := couch.ChangesOptions{Since: since, Feed: couch.FeedLongpoll, IncludeDocs: true}
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
		b.ring(k)
	}
}

// change rings for whom a change concerns.
func (b *bells) change(h *hubDatabase, db couch.DB, c *couch.Change) error {
	if !strings.HasPrefix(c.ID, hubdoc.SignalPrefix) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if strings.HasPrefix(c.ID, hubdoc.SharePrefix) {
			b.ring(everybody)
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
		b.ring(k)
	}
	return nil
}

// ring leaves a ring with all who wait for a key. b.mu is held.
func (b *bells) ring(key string) {
	for ch := range b.waiting[key] {
		select {
		case ch <- struct{}{}:
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

// wait is a feed that waits: it reads what there is, and again when the bell
// has rung, until there is something to tell.
func (d *ruledDB) wait(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	var timeout <-chan time.Time
	if o.Timeout > 0 {
		t := time.NewTimer(o.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	o.Feed, o.Timeout, o.Heartbeat = couch.FeedNormal, 0, 0
	keys := d.who.keys()
	for {
		rung, end, err := d.hub.bells.listen(ctx, d.hub, d.DB, keys)
		if err != nil {
			return couch.ChangesResult{}, err
		}
		f := &ruledFeed{d: d, o: o, fn: fn, lean: o.Selector == nil && o.DocIDs == nil && !o.Attachments && !d.hub.far}
		res, err := f.run(ctx)
		if err != nil || f.rows > 0 {
			end()
			return res, err
		}
		o.Since = res.LastSeq
		select {
		case <-rung:
			end()
		case <-timeout:
			end()
			return res, nil
		case <-ctx.Done():
			end()
			return res, ctx.Err()
		}
	}
}
