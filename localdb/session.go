package localdb

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// A session is the open connections of a database that is awake, and the
// goroutines that use them. A database that nobody uses has none.
type session struct {
	d       *database
	readers *pool
	queue   chan *request // to the writer
	full    chan struct{} // to the checkpointer: the log has grown
	drained chan struct{} // from the checkpointer: it has been through
	untidy  chan struct{} // to the tidier: there is something to look at
	done    chan struct{} // closed by close

	writers  atomic.Int32 // who waits for a write
	expected int          // of them were there at the last commit; the writer's

	wg sync.WaitGroup
}

// startSession makes a session around the writer's connection.
func (d *database) startSession(c *sqlite.Conn) *session {
	s := &session{
		d: d, readers: newPool(d.openReader),
		queue: make(chan *request), full: make(chan struct{}, 1), drained: make(chan struct{}, 1),
		untidy: make(chan struct{}, 1), done: make(chan struct{}),
	}
	c.CountWAL()
	s.wg.Go(func() { s.writeLoop(c) })
	s.wg.Go(s.checkpointLoop)
	s.wg.Go(s.tidyLoop)
	return s
}

// close waits for reads in progress and for the goroutines; writes that wait fail.
func (s *session) close() error {
	close(s.done)
	err := s.readers.close()
	s.wg.Wait()
	return err
}

// use returns the session, opening one if the database sleeps. The caller calls
// release when it is done.
func (d *database) use() (*session, error) {
	d.mu.Lock()
	woken, err := d.wake()
	s := d.session
	if err == nil {
		d.users.Add(1)
		d.used.Store(d.awake.clock.Add(1))
	}
	d.mu.Unlock()
	if woken {
		d.awake.trim(d)
	}
	return s, err
}

// isThere reports whether the file is still this database. That of one that
// sleeps may have been replaced, even by one with the same inode.
func (d *database) isThere() bool {
	_, err := d.use()
	if err == nil {
		d.release()
	}
	return !errors.Is(err, errDestroyed)
}

func (d *database) release() { d.users.Add(-1) }

// wake opens a session if there is none. The caller holds d.mu.
func (d *database) wake() (woken bool, err error) {
	select {
	case <-d.done:
		return false, errClosed
	default:
	}
	if d.session != nil {
		return false, nil
	}
	c, err := d.openConn(writerCache)
	if err != nil {
		return false, err
	}
	d.session = d.startSession(c)
	d.awake.add(d)
	return true, nil
}

// sleep closes the session of a database that is not in use.
func (d *database) sleep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session != nil && d.users.Load() == 0 {
		_ = d.session.close() // what was written is in the log, if not in the file
		d.session = nil
		d.awake.remove(d)
	}
}

// openConn opens a connection; the name may belong to another database by now.
func (d *database) openConn(cacheKiB int) (*sqlite.Conn, error) {
	c, err := openConn(d.path, cacheKiB)
	if err != nil {
		if _, gone := os.Stat(d.path); errors.Is(gone, fs.ErrNotExist) {
			err = errDestroyed
		}
		return nil, err
	}
	if _, err := readCounters(c, d.uuid); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (d *database) openReader() (*sqlite.Conn, error) { return d.openConn(readerCache) }

// awake is the databases of a store that have a session. Connections cost
// file descriptors and memory, so those not used for the longest time are
// closed when there are too many.
//
// Its lock is taken after those of databases.
type awake struct {
	max   int
	clock atomic.Int64 // counts uses

	caches atomic.Int32 // large ones that writers have

	mu  sync.Mutex
	all map[*database]struct{}
}

// takeCache reports whether there is a large page cache left, and takes it.
func (a *awake) takeCache() bool {
	if a.caches.Add(1) <= writerCaches {
		return true
	}
	a.caches.Add(-1)
	return false
}

func (a *awake) add(d *database) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all[d] = struct{}{}
}

func (a *awake) remove(d *database) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, d)
}

// trim puts the databases to sleep that are too many; those in use, and except, stay.
func (a *awake) trim(except *database) {
	for _, d := range a.surplus(except) {
		d.sleep()
	}
}

func (a *awake) surplus(except *database) []*database {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.all) - a.max
	if n <= 0 {
		return nil
	}
	var idle []*database
	for d := range a.all {
		if d != except && d.users.Load() == 0 {
			idle = append(idle, d)
		}
	}
	slices.SortFunc(idle, func(x, y *database) int { return cmp.Compare(x.used.Load(), y.used.Load()) })
	return idle[:min(n, len(idle))]
}
