package replicate

import (
	"context"
	"errors"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// pageBatches is how many batches one request for changes asks for.
const pageBatches = 4

var errFeedEnded = errors.New("the changes feed ended by itself")

// read sends what changed after r.since to out. When a live feed breaks off, what
// came in between is read as pages again, which also shows that the source is back.
func (r *run) read(ctx context.Context, out chan<- *batch) error {
	for failures := 0; ; {
		if err := r.readPages(ctx, out); err != nil || !r.o.Live {
			return err
		}
		r.report.caughtUp()
		rows, err := r.follow(ctx, out)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.final(fromSource, err):
			return &Error{fromSource.stage, fromSource.end, err}
		case rows > 0:
			failures = 0
		}
		failures++
		if err := r.pause(ctx, fromSource, err, failures); err != nil {
			return err
		}
	}
}

var fromSource = where{"changes", sourceEnd}

func (r *run) changes() couch.ChangesOptions {
	return couch.ChangesOptions{
		Since: r.since, AllLeaves: !r.o.WinnersOnly, DocIDs: r.o.DocIDs, Selector: r.o.Selector,
		Filter: r.o.DesignFilter, FilterParams: r.o.QueryParams,
	}
}

// readPages reads pages until one is not full. A page is read into memory, so
// that the source's feed never waits for the target.
func (r *run) readPages(ctx context.Context, out chan<- *batch) error {
	for {
		page, last, err := r.page(ctx)
		if err != nil {
			return err
		}
		pending := last.Pending
		for from, to := 0, 0; ; from = to { // once also for an empty page, which may move the sequence
			to = min(from+r.pace.size(), len(page))
			b := &batch{rows: page[from:to:to], seq: last.LastSeq, pending: pending}
			if rest := len(page) - to; rest > 0 {
				b.seq = b.rows[len(b.rows)-1].Seq
				if pending >= 0 {
					b.pending = pending + int64(rest)
				}
			}
			if len(b.rows) == 0 && b.seq == r.since {
				break
			}
			if err := r.send(ctx, out, b); err != nil {
				return err
			}
			if to == len(page) {
				break
			}
		}
		r.since = last.LastSeq
		if len(page) < r.o.BatchSize*pageBatches {
			return nil
		}
	}
}

// send queues b.
func (r *run) send(ctx context.Context, out chan<- *batch, b *batch) error {
	b.chunks = 1
	r.report.queued()
	select {
	case out <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *run) page(ctx context.Context) (page []couch.Change, last couch.ChangesResult, err error) {
	o := r.changes()
	o.Feed, o.Limit = couch.FeedNormal, r.o.BatchSize*pageBatches
	err = r.try(ctx, fromSource, func(ctx context.Context, a *attempt) (err error) {
		page = page[:0]
		last, err = r.source.Changes(ctx, o, func(c *couch.Change) error {
			if len(page) == o.Limit { // more than was asked for
				return errFull
			}
			a.alive()
			page = append(page, *c)
			return nil
		})
		if errors.Is(err, errFull) {
			last, err = couch.ChangesResult{LastSeq: page[len(page)-1].Seq, Pending: -1}, nil
		}
		return err
	})
	// Sequences of a clustered source may be missing on single rows; the page's own is not.
	for i := len(page) - 1; i >= 0; i-- {
		if page[i].Seq == "" {
			page[i].Seq = r.since
			if i > 0 && page[i-1].Seq != "" {
				page[i].Seq = page[i-1].Seq
			}
		}
	}
	return page, last, err
}

// follow sends each change as it comes. Rows wait in out and in the feed itself
// while all batches are busy. The feed watches its own heartbeats.
func (r *run) follow(ctx context.Context, out chan<- *batch) (rows int, err error) {
	o := r.changes()
	o.Feed = couch.FeedContinuous
	ended := r.report.began(fromSource)
	defer func() { ended(err != nil && ctx.Err() == nil) }()
	_, err = r.source.Changes(ctx, o, func(c *couch.Change) error {
		rows++
		seq := c.Seq
		if seq == "" {
			seq = r.since
		}
		if err := r.send(ctx, out, &batch{rows: []couch.Change{*c}, seq: seq}); err != nil {
			return err
		}
		r.since = seq
		return nil
	})
	if err == nil {
		err = errFeedEnded
	}
	return rows, err
}
