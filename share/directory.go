package share

import (
	"bytes"
	"cmp"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A directory is what a process knows of the hub's shares: verified documents,
// kept up to date by the hub's changes feed, and by listings.
type directory struct {
	log *slog.Logger

	mu       sync.Mutex
	shares   map[string]*shareDoc // by share id; dead ones stay until they are swept
	changed  chan struct{}        // closed and replaced when something changes
	listings int                  // under way
	touched  map[string]bool      // ids that the feed has told of during a listing
}

const maxShares = 20_000

func newDirectory(log *slog.Logger) *directory {
	return &directory{log: log, shares: map[string]*shareDoc{}, changed: make(chan struct{})}
}

// apply takes a share document from the changes feed, deleted or not.
func (d *directory) apply(docID string, doc *couch.Doc) {
	id := strings.TrimPrefix(docID, shareDocPrefix)
	var s *shareDoc
	if doc != nil && !doc.Deleted {
		if s = d.read(doc); s == nil {
			return // forged: what is known of the share stays
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listings > 0 {
		d.touched[id] = true
	}
	d.set(id, s)
}

// read verifies a share document; nil: not to be believed.
func (d *directory) read(doc *couch.Doc) *shareDoc {
	s, err := parseShare(doc)
	if err != nil {
		d.log.Debug("share document ignored", "id", doc.ID, "err", err)
		return nil
	}
	return s
}

// set replaces what is known of a share; nil removes it. An older signed
// document that someone writes again does not count.
func (d *directory) set(id string, s *shareDoc) {
	known := d.shares[id]
	switch {
	case s == nil && known == nil:
		return
	case s == nil:
		delete(d.shares, id)
	case known != nil && !s.published.After(known.published):
		return
	case known == nil && len(d.shares) >= maxShares:
		d.log.Error("too many shares in the hub", "id", id)
		return
	default:
		d.shares[id] = s
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// A listing replaces the directory's content by that of the hub, except for what the feed
// tells in the meantime, which is newer.
type listing struct {
	dir   *directory
	found map[string]*shareDoc
}

func (d *directory) beginListing() *listing {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listings++; d.listings == 1 {
		d.touched = map[string]bool{}
	}
	return &listing{dir: d, found: map[string]*shareDoc{}}
}

// add takes one document of the listing.
func (l *listing) add(doc *couch.Doc) {
	l.found[strings.TrimPrefix(doc.ID, shareDocPrefix)] = l.dir.read(doc) // nil if forged: then what is known stays
}

// endAll applies the listing of all shares: what it lacks is gone.
func (l *listing) endAll() {
	l.end(func(d *directory) {
		for id := range d.shares {
			if _, there := l.found[id]; !there && !d.touched[id] {
				d.set(id, nil)
			}
		}
	})
}

// endOne applies the listing of one share: if it was not found, it is gone.
func (l *listing) endOne(id string) {
	l.end(func(d *directory) {
		if _, there := l.found[id]; !there && !d.touched[id] {
			d.set(id, nil)
		}
	})
}

// cancel ends a listing that failed.
func (l *listing) cancel() {
	l.found = nil
	l.end(func(*directory) {})
}

func (l *listing) end(remove func(*directory)) {
	d := l.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	remove(d)
	for id, s := range l.found {
		if s != nil && !d.touched[id] {
			d.set(id, s)
		}
	}
	d.listings--
}

// snapshot returns the live shares in the order of names and ids, when the
// first of them will be dead (zero: none), and a channel that closes at the next change.
func (d *directory) snapshot() (live []*shareDoc, next time.Time, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for id, s := range d.shares {
		switch {
		case !now.Before(s.gone()):
			delete(d.shares, id) // a renewal brings it back
			continue
		case next.IsZero() || s.gone().Before(next):
			next = s.gone()
		}
		live = append(live, s)
	}
	slices.SortFunc(live, func(a, b *shareDoc) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.id, b.id)) })
	return live, next, d.changed
}

// get returns a live share, nil if there is none, and a channel that closes at the next change.
func (d *directory) get(id string) (*shareDoc, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.shares[id]
	if s != nil && !time.Now().Before(s.gone()) {
		s = nil
	}
	return s, d.changed
}

// keys returns a sharer's public keys.
func (d *directory) keys(peer string) (Keys, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.shares {
		if s.Peer == peer {
			return s.Keys, true
		}
	}
	return Keys{}, false
}

// sameShare reports whether two documents tell the same; renewals alone do not count.
func sameShare(a, b *shareDoc) bool {
	return a.Name == b.Name && bytes.Equal(a.Info, b.Info) && a.DB == b.DB && a.Access == b.Access &&
		a.Admission == b.Admission && a.Filtered == b.Filtered && a.Until == b.Until &&
		a.DocCount == b.DocCount && a.UpdateSeq == b.UpdateSeq
}
