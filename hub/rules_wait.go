package hub

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// wait is a feed that waits: it reads what there is, and from then on tells what
// the bell lets it hear, until there is something to tell. So it reads nothing while others write to others.
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
		e, err := d.hub.bells.listen(ctx, d.hub, d.DB, keys)
		if err != nil {
			return couch.ChangesResult{}, err
		}
		f := &ruledFeed{d: d, o: o, fn: fn, lean: o.Selector == nil && o.DocIDs == nil && !o.Attachments && !d.hub.far}
		res, err := f.run(ctx)
		if err == nil && f.rows == 0 {
			res, err = f.follow(ctx, e, timeout, res)
		}
		d.hub.bells.end(e, keys)
		if !errors.Is(err, errMissed) {
			return res, err
		}
		o.Since = res.LastSeq
	}
}

// errMissed is why a feed has to read the database again.
var errMissed = errors.New("not all was heard")

// follow tells what the ear hears. res is how far the feed is.
func (f *ruledFeed) follow(ctx context.Context, e *ear, timeout <-chan time.Time, res couch.ChangesResult) (couch.ChangesResult, error) {
	for {
		select {
		case <-e.rung:
		case <-timeout:
			return res, nil
		case <-ctx.Done():
			return res, ctx.Err()
		}
		heard, missed := f.d.hub.bells.take(e)
		if missed || !f.lean || f.o.Conflicts { // lean is also: nothing else is asked than the bell tells
			return res, errMissed
		}
		for _, c := range heard {
			if seqNumber(c.Seq) <= seqNumber(res.LastSeq) {
				continue // it has been read
			}
			res = couch.ChangesResult{LastSeq: c.Seq}
			if err := f.tell(ctx, *c); errors.Is(err, errEnough) {
				return couch.ChangesResult{LastSeq: c.Seq, Pending: -1}, nil
			} else if err != nil {
				return res, err
			}
		}
		if f.rows > 0 {
			return res, nil
		}
	}
}

// tell tells a change that others hear too, if the caller sees it.
func (f *ruledFeed) tell(ctx context.Context, c couch.Change) error {
	if c.Doc != nil {
		doc := *c.Doc
		c.Doc = &doc
	}
	if !f.o.AllLeaves {
		c.Revs = c.Revs[:min(1, len(c.Revs))] // the winner's
	}
	return f.pass(ctx, &c)
}

// seqNumber is the number with which the sequences of local databases begin.
func seqNumber(s couch.Seq) int64 {
	digits, _, _ := strings.Cut(string(s), "-")
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}
