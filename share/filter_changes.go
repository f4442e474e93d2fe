package share

import (
	"context"
	"errors"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/mango"
)

// Changes tells the changes of documents that are seen. A feed that waits does
// so until there is one: others' changes wake nobody. A filter function of a
// design document is refused.
func (f *filtered) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	if o.Filter != "" {
		return couch.ChangesResult{}, couch.NoFilter(o.Filter)
	}
	feed := &filteredFeed{f: f, o: o, fn: fn}
	if o.Selector != nil {
		var err error
		if feed.selector, err = mango.Compile(ctx, o.Selector); err != nil {
			return couch.ChangesResult{}, err
		}
	}
	if o.Feed == couch.FeedLongpoll && !o.Descending {
		return feed.wait(ctx)
	}
	return feed.run(ctx)
}

// A filteredFeed is a changes feed of a filtered database.
type filteredFeed struct {
	f        *filtered
	o        couch.ChangesOptions // as asked
	selector *mango.Selector      // of o
	fn       func(*couch.Change) error
	wanted   map[string]bool // not nil: the ids asked for, by a feed that waits
	hidden   func(id string) // is told of changes that are not; nil: nobody
	rows     int             // told
	last     couch.Seq       // of the last row
}

var errEnough = errors.New("enough rows")

// wait reads until there is something to tell, or the time is over.
func (w *filteredFeed) wait(ctx context.Context) (couch.ChangesResult, error) {
	deadline := time.Now().Add(w.o.Timeout)
	timed := w.o.Timeout > 0
	if w.o.DocIDs != nil {
		// The database is not to wait for these ids: what is not seen of them would wake the feed, and show in how far it is.
		w.o.Feed, w.o.Timeout = couch.FeedNormal, 0
		res, err := w.run(ctx)
		if err != nil || w.rows > 0 {
			return res, err
		}
		w.o.Feed, w.o.Since = couch.FeedLongpoll, res.LastSeq
		w.wanted = make(map[string]bool, len(w.o.DocIDs))
		for _, id := range w.o.DocIDs {
			w.wanted[id] = true
		}
		w.o.DocIDs = nil
	}
	for {
		if timed {
			w.o.Timeout = max(time.Until(deadline), time.Millisecond)
		}
		res, err := w.run(ctx)
		if err != nil || w.rows > 0 || timed && !time.Now().Before(deadline) {
			return res, err
		}
		if err := ctx.Err(); err != nil {
			return res, err
		}
		w.o.Since = res.LastSeq
	}
}

// run reads the database's feed once.
func (w *filteredFeed) run(ctx context.Context) (couch.ChangesResult, error) {
	all := w.o
	all.Selector, all.Limit, all.DocIDs = nil, 0, w.ids()
	if w.f.selector != nil {
		all.AllLeaves = true
	}
	if w.f.selector != nil || w.selector != nil {
		all.IncludeDocs = true
	}
	end, err := w.end(ctx, &all)
	if err != nil {
		return couch.ChangesResult{}, err
	}
	res, err := w.f.db.Changes(ctx, all, func(c *couch.Change) error { return w.change(ctx, c) })
	if errors.Is(err, errEnough) {
		return couch.ChangesResult{LastSeq: w.last, Pending: -1}, nil
	}
	if res.Pending > 0 {
		res.Pending = -1 // how many of them would be told is not known
	}
	switch {
	case end == "":
	case all.Descending && w.rows > 0:
		res.LastSeq = w.last
	default:
		res.LastSeq = end
	}
	return res, err
}

// end is where a feed is at its end if where the database's is depends on rows that
// are not seen: where that was at the beginning. "": it does not.
func (w *filteredFeed) end(ctx context.Context, all *couch.ChangesOptions) (couch.Seq, error) {
	if all.DocIDs == nil && !all.Descending {
		return "", nil
	}
	info, err := w.f.db.Info(ctx)
	if err != nil {
		return "", err
	}
	return info.UpdateSeq, nil
}

// ids are those both the asker and the limits name, nil for all.
func (w *filteredFeed) ids() []string {
	switch {
	case w.f.ids == nil:
		return w.o.DocIDs
	case w.o.DocIDs == nil:
		return w.f.sorted(nil, nil, false)
	}
	both := []string{}
	for _, id := range w.o.DocIDs {
		if w.f.has(id) {
			both = append(both, id)
		}
	}
	return both
}

func (w *filteredFeed) change(ctx context.Context, c *couch.Change) error {
	id := c.ID
	c, err := w.see(ctx, c)
	if err != nil {
		return err
	}
	if c == nil {
		if w.hidden != nil {
			w.hidden(id)
		}
		return nil
	}
	if !w.o.IncludeDocs {
		c.Doc = nil
	}
	if err := w.fn(c); err != nil {
		return err
	}
	w.last = c.Seq
	if w.rows++; w.rows == w.o.Limit {
		return errEnough
	}
	return nil
}

// see returns a change as it is seen, nil if it is not.
func (w *filteredFeed) see(ctx context.Context, c *couch.Change) (*couch.Change, error) {
	if !w.f.has(c.ID) || w.wanted != nil && !w.wanted[c.ID] {
		return nil, nil
	}
	if w.f.selector != nil {
		var err error
		if c, err = w.judge(ctx, c); c == nil {
			return nil, err
		}
	}
	if w.selector != nil {
		if c.Doc == nil {
			return nil, nil
		}
		if ok, err := w.selector.Match(ctx, c.Doc); !ok {
			return nil, err
		}
	}
	return c, nil
}

// judge holds a change against the limits' selector.
func (w *filteredFeed) judge(ctx context.Context, c *couch.Change) (*couch.Change, error) {
	seen := []*couch.Doc{}
	var err error
	if d := c.Doc; d != nil && len(c.Revs) == 1 && c.Revs[0] == d.Rev {
		if d, err = w.f.show(ctx, d); d != nil {
			seen = append(seen, d)
		}
	} else {
		seen, err = w.f.leaves(ctx, c.ID)
	}
	if err != nil || len(seen) == 0 {
		return nil, err
	}
	best := seen[0]
	if len(c.Revs) > 1 && w.o.IncludeDocs {
		o := couch.GetOptions{Rev: best.Rev, Attachments: w.o.Attachments}
		d, err := w.f.db.Get(ctx, c.ID, o)
		if err != nil {
			return nil, unlessMissing(err)
		}
		if best, err = w.f.show(ctx, d); best == nil {
			return nil, err
		}
	}
	if w.o.Conflicts {
		best = withConflicts(best, seen)
	}
	out := &couch.Change{Seq: c.Seq, ID: c.ID, Deleted: best.Deleted, Doc: best, Revs: []couch.Rev{best.Rev}}
	if w.o.AllLeaves {
		for _, d := range seen[1:] {
			out.Revs = append(out.Revs, d.Rev)
		}
	}
	return out, nil
}
