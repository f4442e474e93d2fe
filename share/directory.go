package share

import (
	"bytes"
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/fair"
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

	own     string               // this peer, whose shares stay
	pinned  map[string]int       // shares that are open, and stay
	asked   map[string]time.Time // that were looked up by id, and stay for a minute
	bytes   int
	arrived int
	omitted int // documents that there was no room for, since the last listing began
}

// What is kept of others' share documents. Where there are more, those of peers that have most go first, and
// then the newest, so that a flood changes nothing of what is known. What is left out can be opened by its id.
const (
	maxShares  = 10_000
	maxTouched = 100_000
	maxAsked   = 256
	askedTime  = time.Minute
)

var maxShareBytes = 32 << 20 // tests have less

func newDirectory(own string, log *slog.Logger) *directory {
	return &directory{log: log, own: own, pinned: map[string]int{}, asked: map[string]time.Time{}, shares: map[string]*shareDoc{}, changed: make(chan struct{})}
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
	d.touch(id)
	d.set(id, s)
}

// touch notes that something newer than a listing under way is known of a share. d.mu is held.
func (d *directory) touch(id string) {
	if d.listings > 0 && len(d.touched) < maxTouched {
		d.touched[id] = true
	}
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
		d.remove(known)
	case known != nil && !s.published.After(known.published):
		return
	default:
		if known != nil {
			s.arrived = known.arrived
			d.remove(known)
		} else {
			d.arrived++
			s.arrived = d.arrived
		}
		d.shares[id] = s
		d.bytes += s.size
		d.makeRoom()
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// remove forgets a share. d.mu is held.
func (d *directory) remove(s *shareDoc) {
	delete(d.shares, s.id)
	d.bytes -= s.size
}

// makeRoom leaves out shares if there are too many, many at a time. d.mu is held.
func (d *directory) makeRoom() {
	if len(d.shares) <= maxShares && d.bytes <= maxShareBytes {
		return
	}
	if d.omitted == 0 {
		d.log.Warn("the hub has more shares than are kept; the rest can be opened by their ids")
	}
	newest := slices.SortedFunc(maps.Values(d.shares), func(a, b *shareDoc) int { return cmp.Compare(b.arrived, a.arrived) })
	claims := make([]fair.Claim, len(newest))
	now := time.Now()
	for i, s := range newest {
		claims[i] = fair.Claim{Group: s.Peer, Weight: s.size}
		if s.Peer == d.own || d.pinned[s.id] > 0 || now.Sub(d.asked[s.id]) < askedTime {
			claims[i].Rank = 1
		}
	}
	for _, i := range fair.Order(claims) {
		if len(d.shares) <= maxShares*15/16 && d.bytes <= maxShareBytes*15/16 {
			return
		}
		d.remove(newest[i])
		d.omitted++
	}
}

// pin keeps a share whatever comes, until unpin is called.
func (d *directory) pin(id string) (unpin func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pinned[id]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.pinned[id]--; d.pinned[id] == 0 {
			delete(d.pinned, id)
		}
	}
}

// ask keeps a share that is looked up for a while.
func (d *directory) ask(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if len(d.asked) >= maxAsked {
		maps.DeleteFunc(d.asked, func(_ string, at time.Time) bool { return now.Sub(at) >= askedTime })
	}
	if len(d.asked) < maxAsked {
		d.asked[id] = now
	}
}

// left returns how many shares of the hub are left out.
func (d *directory) left() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.omitted
}

// A listing makes the directory's content that of the hub, except for what the feed
// tells in the meantime, which is newer.
type listing struct {
	dir   *directory
	found map[string]bool // those of the directory's that were found
}

func (d *directory) beginListing() *listing {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listings++; d.listings == 1 {
		d.touched = map[string]bool{}
	}
	return &listing{dir: d, found: map[string]bool{}}
}

// add takes one document of the listing.
func (l *listing) add(doc *couch.Doc) {
	id, d := strings.TrimPrefix(doc.ID, shareDocPrefix), l.dir
	if d.has(id, doc.Rev) {
		l.found[id] = true // as it is known: there is no need to verify it again
		return
	}
	s := d.read(doc)
	d.mu.Lock()
	defer d.mu.Unlock()
	if s != nil && !d.touched[id] { // nil if forged: then what is known stays
		d.set(id, s)
		if d.listings > 1 {
			d.touch(id)
		}
	}
	if d.shares[id] != nil && len(l.found) < 2*maxShares {
		l.found[id] = true
	}
}

// has reports whether a revision of a share's document is the one that is known.
func (d *directory) has(id string, rev couch.Rev) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.shares[id]
	return s != nil && !rev.IsZero() && s.rev == rev
}

// endAll applies the listing of all shares: what it lacks is gone.
func (l *listing) endAll() {
	l.end(func(d *directory) {
		for id := range d.shares {
			if !l.found[id] && !d.touched[id] {
				d.set(id, nil)
			}
		}
	})
}

// endOne applies the listing of one share: if it was not found, it is gone.
func (l *listing) endOne(id string) {
	l.end(func(d *directory) {
		if !l.found[id] && !d.touched[id] {
			d.set(id, nil)
		}
	})
}

// cancel ends a listing that failed.
func (l *listing) cancel() {
	l.end(func(*directory) {})
}

func (l *listing) end(remove func(*directory)) {
	d := l.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	remove(d)
	d.listings--
}

// snapshot returns the live shares in the order of names and ids, when the
// first of them will be dead (zero: none), and a channel that closes at the next change.
func (d *directory) snapshot() (live []*shareDoc, next time.Time, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, s := range d.shares {
		switch {
		case !now.Before(s.gone()):
			d.remove(s) // a renewal brings it back
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
