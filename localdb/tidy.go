package localdb

import (
	"context"
	"fmt"
	"math"
	"time"
)

const (
	// A file is compacted by itself when so many bytes, and half of what is
	// used of it, are bodies that no leaf owns.
	minDead = 4 << 20
	// It is made shorter by itself when so many pages, and a quarter of all, are free.
	minFree = 256
	// tidyLinger is how long the tidier waits for more to come, and so how often it works at most.
	tidyLinger = time.Second
)

// noteUntidy wakes the tidier after a commit that leaves it something to look at.
func (s *session) noteUntidy(t *tx) {
	if !t.freed && t.dead < s.d.tidyAt.Load() {
		return
	}
	select {
	case s.untidy <- struct{}{}:
	default:
	}
}

// tidyLoop keeps the file from growing for ever: it drops dead bodies and gives
// free pages back, a little at a time between the writes of others.
func (s *session) tidyLoop() {
	for {
		select {
		case <-s.done:
			return
		case <-s.untidy:
		}
		select {
		case <-s.done:
			return
		case <-time.After(tidyLinger):
		}
		s.d.users.Add(1)
		_ = s.tidy(context.Background()) // the end of the session ends it; other failures show to those who write
		s.d.users.Add(-1)
	}
}

func (s *session) tidy(ctx context.Context) error {
	select {
	case s.d.tidying <- struct{}{}:
		defer func() { <-s.d.tidying }()
	default:
		return nil // somebody does it
	}
	u, err := s.usage(ctx)
	if err != nil {
		return err
	}
	limit := max(minDead, (u.pages-u.free)*u.pageSize/2)
	s.d.tidyAt.Store(limit)
	if u.dead >= limit {
		if err := s.compactBodies(ctx); err != nil {
			return err
		}
		if u, err = s.usage(ctx); err != nil {
			return err
		}
	}
	if u.free > max(minFree, u.pages/4) {
		return s.shrink(ctx, minFree/2)
	}
	return nil
}

// usage is what the space of a file is used for.
type usage struct{ pages, free, pageSize, dead int64 }

func (s *session) usage(ctx context.Context) (u usage, err error) {
	err = s.submit(ctx, 1, func(t *tx) (err error) {
		if u.pages, err = t.c.Int("PRAGMA page_count"); err != nil {
			return err
		}
		if u.free, err = t.c.Int("PRAGMA freelist_count"); err != nil {
			return err
		}
		u.dead = t.dead
		u.pageSize, err = t.c.Int("PRAGMA page_size")
		return err
	})
	return u, err
}

// shrinkStep is how many pages are given back in one transaction: about 10 ms.
const shrinkStep = 256

// shrink moves pages from the end of the file to free ones before it and cuts
// the end off, until no more than keep pages are free.
func (s *session) shrink(ctx context.Context, keep int64) error {
	last := int64(math.MaxInt64)
	for more := true; more; {
		var free int64
		err := s.submit(ctx, shrinkStep, func(t *tx) (err error) {
			free, err = t.c.Int("PRAGMA freelist_count")
			if more = free > keep && free < last; err != nil || !more { // a file that cannot shrink stays as it is
				return err
			}
			return t.c.Exec(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", min(free-keep, shrinkStep)))
		})
		if err != nil {
			return err
		}
		last = free
	}
	return nil
}
