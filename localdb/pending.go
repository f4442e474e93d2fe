package localdb

import (
	"context"
	"sync"

	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// exactPending is how many changes are counted every time; see counts.
const exactPending = 2000

// counts remembers how many changes follow a sequence. A reader that takes
// page after page of a long feed would otherwise have the rest counted for
// every page, which costs more than reading the page.
type counts struct {
	mu    sync.Mutex
	after map[int64]count
}

type count struct{ seq, pending int64 } // as of the update sequence seq

// guess derives the count behind a feed's end from that at its beginning. It is
// exact if nothing was written since; documents written twice in that time
// make it a little too high.
func (k *counts) guess(f *feed, seq int64) (pending int64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.after[f.since]
	return c.pending - f.passed + seq - c.seq, ok
}

func (k *counts) remember(after int64, c count) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.after) >= 64 || k.after == nil {
		k.after = make(map[int64]count)
	}
	k.after[after] = c
}

// pending is the number of changes after the end of a feed.
func (d *database) pending(ctx context.Context, f *feed) (pending int64, err error) {
	err = d.view(ctx, func(c *sqlite.Conn) error {
		n, err := readCounters(c, d.uuid)
		if err != nil || f.last >= n.seq {
			return err
		}
		if pending, err = countAfter(c, f.last, exactPending); err != nil || pending < exactPending {
			return err
		}
		guess, known := d.counts.guess(f, n.seq)
		if known {
			pending = min(max(guess, exactPending), n.docs+n.dels)
		} else if pending, err = countAfter(c, f.last, -1); err != nil {
			return err
		}
		d.counts.remember(f.last, count{n.seq, pending})
		return nil
	})
	return pending, err
}

// countAfter counts changes after a sequence, up to limit if that is not negative.
func countAfter(c *sqlite.Conn, after, limit int64) (int64, error) {
	s := c.Prepare("SELECT count(*) FROM (SELECT 1 FROM docs WHERE seq > ? LIMIT ?)")
	defer s.Reset()
	s.BindInt(1, after)
	s.BindInt(2, limit)
	_, err := s.Step()
	return s.Int(0), err
}
