package share

import (
	"context"
	"hash/maphash"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// counts are the numbers of documents that are seen, kept up with the changes
// feed: the first look reads the database once, later ones what is new.
type counts struct {
	mu    sync.Mutex
	since couch.Seq
	purge couch.Seq
	state map[uint64]bool // documents that are seen, by hashes of their ids: are they deleted?
	dels  int64
}

type counted struct {
	docs, dels int64
	seq        couch.Seq // up to which
}

// at counts what there is at the moment that info tells of, or later.
func (c *counts) at(ctx context.Context, f *filtered, info *couch.Info) (counted, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil || c.purge != info.PurgeSeq {
		c.state, c.since, c.purge, c.dels = map[uint64]bool{}, "", info.PurgeSeq, 0
	}
	if c.since == "" || c.since != info.UpdateSeq {
		if err := c.read(ctx, f); err != nil {
			c.state = nil
			return counted{}, err
		}
	}
	return counted{int64(len(c.state)) - c.dels, c.dels, c.since}, nil
}

// read takes in the changes since the last time.
func (c *counts) read(ctx context.Context, f *filtered) error {
	feed := &filteredFeed{f: f, o: couch.ChangesOptions{Since: c.since}, fn: func(ch *couch.Change) error {
		c.set(ch.ID, true, ch.Deleted)
		return nil
	}, hidden: func(id string) { c.set(id, false, false) }}
	res, err := feed.run(ctx)
	if err == nil {
		c.since = res.LastSeq
	}
	return err
}

// idSeed makes hashes that nobody can make collide.
var idSeed = maphash.MakeSeed()

func (c *counts) set(docID string, seen, deleted bool) {
	id := maphash.String(idSeed, docID)
	was, known := c.state[id]
	if known && was {
		c.dels--
	}
	if !seen {
		delete(c.state, id)
		return
	}
	c.state[id] = deleted
	if deleted {
		c.dels++
	}
}
