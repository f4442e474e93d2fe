package couchkivik

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	kivik "github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/mango"
)

const (
	pollHeartbeat = 30 * time.Second // CouchDB ends a longpoll without one after a minute
	pollPause     = time.Second      // after a longpoll that did not wait
)

var errLimit = errors.New("limit reached")

// Changes implements couch.Source. Waiting feeds are longpolls, one after the
// other: kivik's continuous feed panics when the server ends it.
func (f *foreign) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	p, err := newPoll(ctx, f, o, fn)
	if err != nil {
		return couch.ChangesResult{}, err
	}
	wait := o.Feed == couch.FeedLongpoll || o.Feed == couch.FeedContinuous
	for {
		began, told := time.Now(), p.told
		err := p.once(ctx)
		if errors.Is(err, errLimit) {
			return p.result, nil
		}
		silent := p.told == told
		switch {
		case err != nil, !wait, !silent && o.Feed == couch.FeedLongpoll, o.Limit > 0 && p.told >= o.Limit:
			return p.result, err
		case silent && o.Timeout > 0 && time.Since(began) >= o.Timeout:
			return p.result, nil
		case silent && time.Since(began) < pollPause:
			if err := sleep(ctx, pollPause); err != nil {
				return p.result, err
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A poll is a feed made of requests.
type poll struct {
	f        *foreign
	o        couch.ChangesOptions
	selector *mango.Selector // nil: everything
	fn       func(*couch.Change) error
	told     int
	result   couch.ChangesResult
}

func newPoll(ctx context.Context, f *foreign, o couch.ChangesOptions, fn func(*couch.Change) error) (*poll, error) {
	p := &poll{f: f, o: o, fn: fn, result: couch.ChangesResult{LastSeq: o.Since, Pending: -1}}
	if o.Selector == nil {
		return p, nil
	}
	var err error
	p.selector, err = mango.Compile(ctx, o.Selector)
	return p, err
}

// params are those of the next request.
func (p *poll) params() map[string]any {
	v := map[string]any{}
	for name, value := range p.o.FilterParams {
		v[name] = value
	}
	if p.o.Filter != "" {
		v["filter"] = p.o.Filter
	}
	v["feed"] = string(couch.FeedNormal)
	if p.result.LastSeq != "" {
		v["since"] = string(p.result.LastSeq)
	}
	if p.o.Limit > 0 && p.selector == nil {
		v["limit"] = p.o.Limit - p.told
	}
	for name, on := range map[string]bool{
		"descending": p.o.Descending, "include_docs": p.o.IncludeDocs || p.selector != nil, "conflicts": p.o.IncludeDocs && p.o.Conflicts,
	} {
		if on {
			v[name] = true
		}
	}
	if p.o.AllLeaves {
		v["style"] = "all_docs"
	}
	if p.o.DocIDs != nil {
		v["filter"], v["doc_ids"] = "_doc_ids", p.o.DocIDs
	}
	if p.o.Feed == couch.FeedLongpoll || p.o.Feed == couch.FeedContinuous {
		v["feed"] = string(couch.FeedLongpoll)
		if p.o.Timeout > 0 {
			v["timeout"] = p.o.Timeout.Milliseconds()
		} else {
			v["heartbeat"] = max(p.o.Heartbeat, pollHeartbeat).Milliseconds()
		}
	}
	return v
}

// once makes one request and tells its changes.
func (p *poll) once(ctx context.Context) error {
	feed := p.f.db.Changes(ctx, kivik.Params(p.params()))
	for feed.Next() {
		if err := p.tell(ctx, feed); err != nil {
			return closed(feed, err)
		}
	}
	if err := feed.Err(); err != nil {
		return closed(feed, Error(err))
	}
	meta, err := feed.Metadata()
	if err != nil {
		return Error(err)
	}
	if meta != nil && meta.LastSeq != "" {
		p.result = couch.ChangesResult{LastSeq: couch.Seq(meta.LastSeq), Pending: meta.Pending}
	}
	return nil
}

func (p *poll) tell(ctx context.Context, feed *kivik.Changes) error {
	c, err := p.change(feed)
	if err != nil {
		return err
	}
	p.result = couch.ChangesResult{LastSeq: c.Seq, Pending: -1}
	if p.selector != nil && c.Doc != nil {
		if ok, err := p.selector.Match(ctx, c.Doc); err != nil || !ok {
			return err
		}
	}
	if !p.o.IncludeDocs {
		c.Doc = nil
	}
	if err := p.fn(c); err != nil {
		return err
	}
	if p.told++; p.told == p.o.Limit && p.selector != nil {
		return errLimit
	}
	return nil
}

func (p *poll) change(feed *kivik.Changes) (*couch.Change, error) {
	c := &couch.Change{Seq: couch.Seq(feed.Seq()), ID: feed.ID(), Deleted: feed.Deleted()}
	for _, s := range feed.Changes() {
		rev, err := couch.ParseRev(s)
		if err != nil {
			return nil, err
		}
		c.Revs = append(c.Revs, rev)
	}
	if !p.o.IncludeDocs && p.selector == nil {
		return c, nil
	}
	var text json.RawMessage
	if err := feed.ScanDoc(&text); err != nil {
		return nil, Error(err)
	}
	doc, err := p.f.parse(text, couch.GetOptions{Attachments: p.o.IncludeDocs && p.o.Attachments})
	c.Doc = doc
	return c, err
}
