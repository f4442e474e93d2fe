package share

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/fair"
)

// Limits on the _local documents that peers keep in a share: whoever may read may write these. Where
// there are too many, those go that were used least lately: of the same peer, or, of all, first
// of peers and users that have most of them, and of peers that came lately.
const (
	maxLocalDoc   = 64 << 10
	maxLocals     = 256 // of one peer
	maxLocalBytes = 4 << 20
	allLocals     = 4096 // of a share
	allLocalBytes = 64 << 20
	localOverhead = 256            // bytes a document takes besides its body
	localKnown    = 24 * time.Hour // so long after its first one a peer counts for more than a new one
	localFresh    = 30 * 24 * time.Hour
	localsLinger  = 2 * time.Second
	localsPrecise = time.Hour // how exactly the index has it when one was used last
)

// locals is the index of those documents, which is kept beside them in "_local/loveseat-locals-<share id>":
// nothing else tells which there are.
type locals struct {
	db    couch.Locals
	id    string
	log   *slog.Logger
	claim func(peer string) fair.Claim // nil: every peer for itself

	mu     sync.Mutex
	loaded bool
	rev    couch.Rev
	all    map[string]*localEntry // by the id under which it is kept
	peers  map[string]*localUse
	bytes  int
	dirty  bool
	wake   chan struct{} // holds one
}

type localEntry struct {
	ID    string    `json:"id"`
	Peer  string    `json:"peer"`
	Size  int       `json:"size"`
	First time.Time `json:"first"`
	Used  time.Time `json:"used"`
}

// A localUse is what a peer has.
type localUse struct {
	docs, bytes int
	first       time.Time
}

func newLocals(db couch.Locals, share string, log *slog.Logger) *locals {
	return &locals{db: db, id: "loveseat-locals-" + share, log: log, wake: make(chan struct{}, 1)}
}

// load reads the index, the first time. l.mu is held.
func (l *locals) load(ctx context.Context) error {
	if l.loaded {
		return nil
	}
	d, err := l.db.GetLocal(ctx, l.id)
	if err != nil && !errors.Is(err, couch.ErrNotFound) {
		return err
	}
	l.all, l.peers, l.bytes = map[string]*localEntry{}, map[string]*localUse{}, 0
	if err == nil {
		l.rev = d.Rev
		var doc struct{ Docs []*localEntry }
		if err := json.Unmarshal(d.Body, &doc); err != nil {
			l.log.Warn("the index of _local documents is damaged", "err", err)
		}
		for _, e := range doc.Docs {
			l.add(e)
		}
	}
	l.loaded = true
	return nil
}

// add takes an entry in. l.mu is held.
func (l *locals) add(e *localEntry) {
	l.all[e.ID] = e
	use := l.peers[e.Peer]
	if use == nil {
		use = &localUse{first: e.First}
		l.peers[e.Peer] = use
	}
	use.docs++
	use.bytes += e.Size
	l.bytes += e.Size
	if e.First.Before(use.first) {
		use.first = e.First
	}
}

// remove takes an entry out. l.mu is held.
func (l *locals) remove(e *localEntry) {
	delete(l.all, e.ID)
	l.bytes -= e.Size
	use := l.peers[e.Peer]
	use.bytes -= e.Size
	if use.docs--; use.docs == 0 {
		delete(l.peers, e.Peer)
	}
}

// used notes that a document was read.
func (l *locals) used(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.all[id]; e != nil {
		l.touch(e, time.Now())
	}
}

func (l *locals) touch(e *localEntry, now time.Time) {
	if now.Sub(e.Used) > localsPrecise {
		l.changed()
	}
	e.Used = now
}

// changed sees to it that the index is written. l.mu is held.
func (l *locals) changed() {
	l.dirty = true
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// put notes a document that a peer is about to write, and removes others if there are too many.
func (l *locals) put(ctx context.Context, peer, id string, size int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return err
	}
	now := time.Now()
	size += localOverhead + len(id)
	e := l.all[id]
	if e != nil && e.Size == size {
		l.touch(e, now)
		return nil
	}
	first := now
	if e != nil {
		first = e.First
		l.remove(e)
	}
	e = &localEntry{id, peer, size, first, now}
	l.add(e)
	l.changed()
	return l.makeRoom(ctx, e)
}

// deleted notes that a document is gone.
func (l *locals) deleted(ctx context.Context, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.load(ctx) != nil {
		return
	}
	if e := l.all[id]; e != nil {
		l.remove(e)
		l.changed()
	}
}

// makeRoom removes documents until there are few enough, many at a time. l.mu is held.
func (l *locals) makeRoom(ctx context.Context, newest *localEntry) error {
	use := l.peers[newest.Peer]
	if use.docs > maxLocals || use.bytes > maxLocalBytes {
		if err := l.shrink(ctx, newest, func(e *localEntry) bool { return e.Peer == newest.Peer }, func() bool {
			return use.docs <= maxLocals*15/16 && use.bytes <= maxLocalBytes*15/16
		}); err != nil {
			return err
		}
	}
	if len(l.all) <= allLocals && l.bytes <= allLocalBytes {
		return nil
	}
	return l.shrink(ctx, newest, func(*localEntry) bool { return true }, func() bool {
		return len(l.all) <= allLocals*15/16 && l.bytes <= allLocalBytes*15/16
	})
}

// shrink removes those that count, but not the newest, until it is enough.
func (l *locals) shrink(ctx context.Context, newest *localEntry, counts func(*localEntry) bool, enough func() bool) error {
	var entries []*localEntry
	for _, e := range l.all {
		if e != newest && counts(e) {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b *localEntry) int { return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(a.ID, b.ID)) })
	claims := make([]fair.Claim, len(entries))
	known := map[string]fair.Claim{}
	for i, e := range entries {
		c, ok := known[e.Peer]
		if !ok {
			c = l.claimOf(e.Peer)
			known[e.Peer] = c
		}
		if c.Weight = e.Size; time.Since(e.Used) > localFresh {
			c.Rank = 0
		}
		claims[i] = c
	}
	for _, i := range fair.Order(claims) {
		if enough() {
			break
		}
		if err := l.drop(ctx, entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// claimOf is a peer's claim to what it keeps: one that its owner has listed comes first, then those that are known for long.
func (l *locals) claimOf(peer string) fair.Claim {
	c := fair.Claim{Group: peer}
	if l.claim != nil {
		c = l.claim(peer)
	}
	switch {
	case c.Rank >= rankListed:
		c.Rank = 2
	case time.Since(l.peers[peer].first) > localKnown:
		c.Rank = 1
	default:
		c.Rank = 0
	}
	return c
}

func (l *locals) drop(ctx context.Context, e *localEntry) error {
	d, err := l.db.GetLocal(ctx, e.ID)
	if err == nil {
		_, err = l.db.PutLocal(ctx, &couch.Doc{ID: e.ID, Rev: d.Rev, Deleted: true})
	}
	if err != nil && !errors.Is(err, couch.ErrNotFound) && !errors.Is(err, couch.ErrConflict) {
		return err
	}
	l.remove(e)
	l.changed()
	return nil
}

// run writes the index, soon after it has changed, and a last time when ctx ends.
func (l *locals) run(ctx context.Context) {
	whenWoken(ctx, l.wake, localsLinger, authorFlush, l.flush)
}

func (l *locals) flush(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty {
		return
	}
	var doc struct {
		Docs []*localEntry `json:"docs"`
	}
	for _, e := range l.all {
		doc.Docs = append(doc.Docs, e)
	}
	slices.SortFunc(doc.Docs, func(a, b *localEntry) int { return cmp.Compare(a.ID, b.ID) })
	body, err := json.Marshal(doc)
	if err == nil {
		l.rev, err = l.db.PutLocal(ctx, &couch.Doc{ID: l.id, Rev: l.rev, Body: body})
	}
	if l.dirty = err != nil; err != nil {
		l.log.Warn("the index of _local documents is not kept", "err", err)
		l.loaded = !errors.Is(err, couch.ErrConflict) // another process serves the share
	}
}
