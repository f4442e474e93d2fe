package localdb

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

const (
	maxCommit = 4500 // documents in one transaction
	// Pages of the write-ahead log (8 KiB each): where the checkpointer starts
	// to copy beside the writer, and where the writer waits for it, because a
	// log that is written to without a pause never starts again at its beginning.
	checkpointAt = 4000
	waitAt       = 4 * checkpointAt
	idleAfter    = 3 * time.Second // without a write, the log is emptied

	// A commit of few documents costs more than they do, so it waits for those
	// who were there at the last one, as many as they were, while they keep
	// coming: over HTTP they come one after the other, and without the wait for
	// each, 32 clients were committed by 23 and wrote a tenth less.
	linger     = 500 * time.Microsecond // for the next one
	lingerAll  = 2 * time.Millisecond   // from its beginning
	lingerUpTo = 256                    // documents
)

// A request is work for the writer. apply may run more than once; it reports
// what became of single documents in its own results, and an error only for
// what rolls back the transaction.
type request struct {
	weight int // documents, about
	apply  func(*tx) error
	done   chan error
}

// A tx is the open write transaction.
type tx struct {
	c *sqlite.Conn
	counters
	num, bid  int64 // the last used of docs and bodies
	expectNew bool  // the last document was a new one: the next may be, too
	freed     bool  // something was deleted: the file may have free pages

	orphans [][]byte // SHA-256 of contents that were deleted and are files
}

// submit has apply run in a transaction, alone or with others, and returns when
// that is durable. ctx bounds the wait for the writer only.
func (d *database) submit(ctx context.Context, weight int, apply func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := d.use()
	if err != nil {
		return d.translate(err)
	}
	defer d.release()
	return d.translate(s.submit(ctx, weight, apply))
}

func (s *session) submit(ctx context.Context, weight int, apply func(*tx) error) error {
	r := &request{weight, apply, make(chan error, 1)}
	s.writers.Add(1)
	defer s.writers.Add(-1)
	select {
	case s.queue <- r:
		return <-r.done
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return errClosed
	}
}

// writeLoop owns the writing connection until the session is closed.
func (s *session) writeLoop(c *sqlite.Conn) {
	defer c.Close()
	large := false
	defer func() { s.resize(c, &large, false) }()
	_ = c.Exec(cacheSize(readerCache))
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-idle.C:
			c.BusyTimeout(0)
			_ = c.Exec("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory") // busy: another process goes on
			s.resize(c, &large, false)
			s.readers.trim()
		case r := <-s.queue:
			s.resize(c, &large, true)
			s.commit(c, r)
			s.makeRoom(c)
			idle.Reset(idleAfter)
		}
	}
}

// resize gives the writer a large page cache if there is one left, or takes it back.
func (s *session) resize(c *sqlite.Conn, large *bool, want bool) {
	if *large == want || want && !s.d.awake.takeCache() {
		return
	}
	size := writerCache
	if *large = want; !want {
		s.d.awake.caches.Add(-1)
		size = readerCache
	}
	_ = c.Exec(cacheSize(size)) // never fails; if it does, the writer is slower
}

func cacheSize(kib int) string { return fmt.Sprintf("PRAGMA cache_size=-%d", kib) }

// commit runs a request, and all that are waiting by the time it is done, in
// one transaction. If that fails, each gets its own, so that no request fails
// for the fault of another.
func (s *session) commit(c *sqlite.Conn, first *request) {
	group, limit := []*request{first}, time.Now().Add(lingerAll)
	err := s.transaction(c, func(t *tx) error {
		if err := first.apply(t); err != nil {
			return err
		}
		for weight := first.weight; weight < maxCommit; {
			var patience time.Duration
			if weight < lingerUpTo && len(group) < s.expected {
				patience = min(linger, time.Until(limit))
			}
			r := s.nextRequest(patience)
			if r == nil {
				break
			}
			group = append(group, r)
			weight += r.weight
			if err := r.apply(t); err != nil {
				return err
			}
		}
		return nil
	})
	s.expected = int(s.writers.Load())
	for _, r := range group {
		if err != nil && len(group) > 1 {
			r.done <- s.transaction(c, r.apply)
		} else {
			r.done <- err
		}
	}
}

// nextRequest returns a request that is waiting, or nil. It lets goroutines
// that are ready run first, so that those just answered can ask again, and then
// waits so long.
func (s *session) nextRequest(patience time.Duration) *request {
	for range 2 {
		select {
		case r := <-s.queue:
			return r
		default:
			runtime.Gosched()
		}
	}
	if patience <= 0 {
		return nil
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case r := <-s.queue:
		return r
	case <-t.C:
		return nil
	}
}

func (s *session) transaction(c *sqlite.Conn, fn func(*tx) error) error {
	// IMMEDIATE takes the lock now; what is read after it cannot be outdated by another process.
	c.BusyTimeout(0)
	err := retryBusy(func() error { return c.Prepare("BEGIN IMMEDIATE").Exec() })
	c.BusyTimeout(busyTimeout)
	if err != nil {
		return err
	}
	t := &tx{c: c}
	if err = t.load(s.d.uuid); err == nil {
		before := t.counters
		if err = fn(t); err == nil && t.counters != before {
			err = t.saveCounters()
		}
	}
	if err == nil {
		err = c.Prepare("COMMIT").Exec()
	}
	if err != nil {
		if !c.Autocommit() {
			err = errors.Join(err, c.Exec("ROLLBACK"))
		}
		return err
	}
	s.d.published(t.seq)
	s.noteUntidy(t)
	return nil
}

func (t *tx) load(uuid string) (err error) {
	if t.counters, err = readCounters(t.c, uuid); err != nil {
		return err
	}
	if t.num, err = t.c.Int("SELECT max(num) FROM docs"); err != nil {
		return err
	}
	t.bid, err = t.c.Int("SELECT max(bid) FROM bodies")
	return err
}

func (t *tx) saveCounters() error {
	s := t.c.Prepare("UPDATE meta SET value = CASE key WHEN 'seq' THEN ?1 WHEN 'docs' THEN ?2 WHEN 'dels' THEN ?3 ELSE ?4 END WHERE key IN ('seq', 'docs', 'dels', 'dead')")
	s.BindInt(1, t.seq)
	s.BindInt(2, t.docs)
	s.BindInt(3, t.dels)
	s.BindInt(4, max(t.dead, 0))
	return s.Exec()
}

// published tells the feeds of this process how far the database is.
func (d *database) published(seq int64) {
	for {
		known := d.seq.Load()
		if seq <= known {
			return
		}
		if d.seq.CompareAndSwap(known, seq) {
			d.bell.ring()
			return
		}
	}
}

// makeRoom starts a checkpoint when the write-ahead log is long, and waits for
// it when it is too long.
func (s *session) makeRoom(c *sqlite.Conn) {
	pages := c.WALPages()
	if pages < checkpointAt {
		return
	}
	select {
	case <-s.drained: // of an earlier round
	default:
	}
	select {
	case s.full <- struct{}{}:
	default:
	}
	if pages >= waitAt {
		select {
		case <-s.drained:
		case <-s.done:
		}
	}
}

// checkpointLoop copies the write-ahead log into the database on a connection
// of its own, while the writer goes on.
func (s *session) checkpointLoop() {
	var c *sqlite.Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for {
		select {
		case <-s.done:
			return
		case <-s.full:
		}
		if c == nil {
			c, _ = s.d.openReader() // a failure shows in the log's length only; tried again
		}
		if c != nil {
			_, _, _ = c.Checkpoint() // so does this
		}
		select {
		case s.drained <- struct{}{}:
		default:
		}
	}
}

// settle copies the whole log into the database, as far as readers let it within
// a time in which nobody writes. With the mode TRUNCATE the log is emptied, too.
func (d *database) settle(mode string, patience time.Duration) {
	c, err := openConn(d.path, 1<<10)
	if err != nil {
		return
	}
	defer c.Close()
	_, _, _ = c.Checkpoint() // most of it, while others write
	c.BusyTimeout(patience)
	_ = c.Exec("PRAGMA wal_checkpoint(" + mode + ")") // it can be done later
}
