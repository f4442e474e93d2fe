package localdb

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/mango"
	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// A feed is one call of Changes.
type feed struct {
	d        *database
	o        couch.ChangesOptions
	selector *mango.Selector
	fn       func(*couch.Change) error
	left     int   // changes until the limit
	since    int64 // where the feed began
	now      int64 // how far the database is known to be
	last     int64 // how far it has come
	passed   int64 // rows from since to last
	sent     int   // changes
}

// A found change is what a page holds until the feed hands it on.
type found struct {
	couch.Change
	seq int64
	doc *couch.Doc // the winner, for the selector or IncludeDocs
}

// Changes implements [couch.Source]. Feeds that wait end with the context's error.
//
// A normal feed ends at the update sequence of its beginning, however fast
// others write. With Descending, Since is ignored, as in CouchDB.
func (d *database) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	f := &feed{d: d, o: o, fn: fn, left: math.MaxInt}
	if o.Limit > 0 {
		f.left = o.Limit
	}
	if o.Filter != "" {
		return couch.ChangesResult{}, couch.NoFilter(o.Filter)
	}
	if o.Selector != nil {
		var err error
		if f.selector, err = mango.Compile(ctx, o.Selector); err != nil {
			return couch.ChangesResult{}, err
		}
	}
	rung := d.bell.listen() // before reading: nothing is missed between the two
	var err error
	if f.now, err = d.currentSeq(ctx); err != nil {
		return couch.ChangesResult{}, err
	}
	if f.since, err = d.parseSeq(o.Since, f.now); err != nil {
		return couch.ChangesResult{}, err
	}
	f.last = f.since
	switch {
	case o.Descending:
		f.last = f.now + 1
		err = f.round(ctx, 0)
		f.last = min(f.last, f.now)
	case o.Feed == couch.FeedContinuous || o.Feed == couch.FeedLongpoll:
		err = f.follow(ctx, rung)
	default:
		err = f.round(ctx, f.now)
	}
	result := couch.ChangesResult{LastSeq: d.formatSeq(f.last)}
	if err == nil && !o.Descending && f.last < max(f.now, d.seq.Load()) {
		result.Pending, err = d.pending(ctx, f)
	}
	return result, err
}

func (d *database) currentSeq(ctx context.Context) (seq int64, err error) {
	err = d.peek(ctx, func(c *sqlite.Conn) error {
		n, err := readCounters(c, d.uuid)
		seq = n.seq
		return err
	})
	return seq, err
}

// follow is longpoll and continuous: rounds with waits between them. Thousands
// may wake at once, so what this process knows is not read again.
func (f *feed) follow(ctx context.Context, rung <-chan struct{}) error {
	var timeout <-chan time.Time
	if f.o.Timeout > 0 {
		timer := time.NewTimer(f.o.Timeout)
		defer timer.Stop()
		timeout = timer.C
		inner := f.fn
		f.fn = func(c *couch.Change) error {
			timer.Reset(f.o.Timeout)
			return inner(c)
		}
	}
	for {
		err := f.round(ctx, f.now)
		if err != nil || f.left == 0 || f.sent > 0 && f.o.Feed == couch.FeedLongpoll {
			return err
		}
		if timedOut, err := f.d.wait(ctx, rung, timeout); timedOut || err != nil {
			return err
		}
		rung = f.d.bell.listen()
		if f.now = f.d.seq.Load(); f.now > f.last {
			continue
		}
		if f.now, err = f.d.currentSeq(ctx); err != nil { // why the bell has rung, if for no change
			return err
		}
	}
}

// round hands on what there is up to a sequence (down to it, if descending).
func (f *feed) round(ctx context.Context, end int64) error {
	next := f.scan
	if f.o.DocIDs != nil {
		places, err := f.byIDs(ctx, end)
		if err != nil {
			return err
		}
		next = func(c *sqlite.Conn, end int64) ([]found, bool, error) { return f.at(c, places, end) }
	}
	for more := f.o.DocIDs != nil || f.o.Descending || f.last < end; more; {
		page, free, err := readPage(ctx, f.d.view, func(c *found) *couch.Doc { return c.doc }, func(c *sqlite.Conn) (page []found, err error) {
			page, more, err = next(c, end)
			return page, err
		})
		if err != nil {
			return err
		}
		for i := 0; i < len(page) && err == nil && f.left > 0; i++ {
			err = f.send(ctx, &page[i])
		}
		if free(); err != nil || f.left == 0 {
			return err
		}
	}
	if !f.o.Descending {
		f.last = max(f.last, end)
	}
	return nil
}

// send hands one change on, if it passes the selector.
func (f *feed) send(ctx context.Context, c *found) error {
	pass := true
	if f.selector != nil {
		var err error
		if pass, err = f.selector.Match(ctx, c.doc); err != nil {
			return err
		}
	}
	if pass {
		if f.o.IncludeDocs {
			c.Doc = c.doc
		}
		if err := f.fn(&c.Change); err != nil {
			return err
		}
		f.sent++
		f.left--
	}
	f.last = c.seq
	f.passed++
	return nil
}

const (
	selectUp   = "SELECT id, " + rowColumns + " FROM docs WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
	selectDown = "SELECT id, " + rowColumns + " FROM docs WHERE seq < ? AND seq > ? ORDER BY seq DESC LIMIT ?"
)

// scan reads the page after f.last and tells whether there may be another.
func (f *feed) scan(c *sqlite.Conn, end int64) (page []found, more bool, err error) {
	if !f.o.Descending && f.last >= end {
		return nil, false, nil
	}
	rows := pageRows
	if f.selector == nil {
		rows = min(rows, f.left)
	}
	page = make([]found, 0, min(rows, 64))
	s := c.Prepare(selectUp)
	if f.o.Descending {
		s = c.Prepare(selectDown)
	}
	defer s.Reset()
	s.BindInt(1, f.last)
	s.BindInt(2, end)
	s.BindInt(3, int64(rows))
	for size := 0; size < pageBytes; {
		ok, err := s.Step()
		if err != nil || !ok {
			return page, len(page) == rows, err
		}
		var r row
		if err := r.read(s, 1, s.Int(3)&flagBranched != 0); err != nil {
			return nil, false, err
		}
		change, err := f.found(c, s.Text(0), &r)
		if err != nil {
			return nil, false, err
		}
		size += docSize(change.doc)
		page = append(page, change)
	}
	return page, true, nil
}

// A place is where a document is in the order of changes.
type place struct {
	seq int64
	id  string
}

// byIDs finds the places of single documents, in the feed's order.
func (f *feed) byIDs(ctx context.Context, end int64) (all []place, err error) {
	ids := slices.Clone(f.o.DocIDs)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	for part := range slices.Chunk(ids, pageRows) {
		err := f.d.view(ctx, func(c *sqlite.Conn) error {
			for _, id := range part {
				r, err := findRow(c, id)
				if err != nil {
					return err
				}
				if r != nil && f.within(r, end) {
					all = append(all, place{r.seq, id})
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		if f.o.Descending {
			a, b = b, a
		}
		return cmp.Compare(a.seq, b.seq)
	})
	return all, nil
}

// within reports whether a row is still to be handed on.
func (f *feed) within(r *row, end int64) bool {
	if f.o.Descending {
		return r.seq < f.last
	}
	return r.seq > f.last && r.seq <= end
}

// at reads a page of places, those after f.last, and tells whether there may be another. A
// document that has been written since is not there any more, as in a scan.
func (f *feed) at(c *sqlite.Conn, places []place, end int64) (page []found, more bool, err error) {
	for size := 0; len(places) > 0 && len(page) < pageRows && size < pageBytes; places = places[1:] {
		if p := places[0]; !f.o.Descending && p.seq <= f.last || f.o.Descending && p.seq >= f.last {
			continue
		}
		r, err := findRow(c, places[0].id)
		if err != nil {
			return nil, false, err
		}
		if r == nil || !f.within(r, end) {
			continue
		}
		change, err := f.found(c, places[0].id, r)
		if err != nil {
			return nil, false, err
		}
		size += docSize(change.doc)
		page = append(page, change)
	}
	return page, len(places) > 0, nil
}

// found makes a change of a row.
func (f *feed) found(c *sqlite.Conn, id string, r *row) (found, error) {
	change := found{Change: couch.Change{Seq: f.d.formatSeq(r.seq), ID: id, Deleted: r.deleted()}, seq: r.seq}
	var err error
	if f.o.AllLeaves {
		change.Revs, err = r.leaves()
	} else {
		change.Revs = []couch.Rev{r.winner.Rev()}
	}
	if err != nil || f.selector == nil && !f.o.IncludeDocs {
		return change, err
	}
	o := couch.GetOptions{Conflicts: f.o.Conflicts, Attachments: f.o.Attachments && f.o.IncludeDocs}
	if !r.branched() && o.Conflicts {
		change.doc, err = f.d.readNode(c, id, r, revtree.Tree{r.winner}, 0, o)
	} else {
		change.doc, err = f.d.readDoc(c, id, r, o)
	}
	return change, err
}
