package couchkivik

import (
	"context"

	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// changes implements driver.Changes.
type changes struct {
	*stream[driver.Change]
	result couch.ChangesResult // set before the stream ends
}

// Changes implements driver.DB: feeds normal, longpoll and continuous, of which
// only the first tells an error before it is read from.
func (d *database) Changes(ctx context.Context, options driver.Options) (driver.Changes, error) {
	p := parseOptions(options)
	o := p.changes()
	if p.err != nil {
		return nil, p.err
	}
	c := &changes{}
	c.stream = newStream(ctx, func(ctx context.Context, emit func(driver.Change) error) (err error) {
		c.result, err = d.db.Changes(ctx, o, func(change *couch.Change) error { return emit(kivikChange(change)) })
		return err
	})
	if o.Feed == couch.FeedNormal {
		if err := c.settle(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func kivikChange(c *couch.Change) driver.Change {
	out := driver.Change{ID: c.ID, Seq: string(c.Seq), Deleted: c.Deleted, Changes: make(driver.ChangedRevs, len(c.Revs))}
	for i, rev := range c.Revs {
		out.Changes[i] = rev.String()
	}
	if c.Doc != nil {
		out.Doc = c.Doc.AppendJSON(nil)
	}
	return out
}

func (c *changes) Next(change *driver.Change) error {
	next, err := c.next()
	if err == nil {
		*change = next
	}
	return err
}

func (c *changes) Close() error {
	c.close()
	return nil
}

func (c *changes) LastSeq() string { return string(c.result.LastSeq) }
func (c *changes) Pending() int64  { return max(c.result.Pending, 0) }
func (c *changes) ETag() string    { return "" }
