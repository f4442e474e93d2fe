package localdb

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/mango"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// A database is one file, open or asleep (see session). It implements [couch.DB].
type database struct {
	name string
	path string
	file fs.FileInfo // to see whether path still is this database
	seen time.Time   // when it last was; guarded by the store's lock
	uuid string
	o    Options

	bell    bell
	counts  counts
	seq     atomic.Int64  // newest sequence this process knows
	tidying chan struct{} // holds one while somebody compacts
	tidyAt  atomic.Int64  // dead bytes at which to look whether to compact

	awake *awake // of the store
	used  atomic.Int64
	users atomic.Int64 // calls in progress
	mu    sync.Mutex
	// session is nil if the database sleeps.
	session *session

	done   chan struct{} // closed by close
	reason error         // why, set before
	wg     sync.WaitGroup
}

var _ couch.DB = (*database)(nil)

// openDatabase opens a file, making it a database or bringing it up to date if need be.
func openDatabase(name, path string, file fs.FileInfo, o Options, a *awake) (*database, error) {
	c, err := openConn(path, writerCache)
	if err != nil {
		return nil, err
	}
	d := &database{
		name: name, path: path, file: file, o: o, awake: a,
		tidying: make(chan struct{}, 1), done: make(chan struct{}),
	}
	d.tidyAt.Store(minDead)
	if err := d.load(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	d.removeLeftovers()
	d.session = d.startSession(c)
	d.used.Store(a.clock.Add(1))
	a.add(d)
	return d, nil
}

// load prepares the file and reads what identifies it.
func (d *database) load(c *sqlite.Conn) error {
	if err := prepareFile(c, d.path); err != nil {
		return err
	}
	s := c.Prepare("SELECT value FROM meta WHERE key='uuid'")
	defer s.Reset()
	if row, err := s.Step(); err != nil || !row {
		return errors.Join(err, errors.New("localdb: database without uuid"))
	}
	if d.uuid = s.Text(0); d.uuid == "" {
		return errDestroyed
	}
	s.Reset()
	n, err := readCounters(c, d.uuid)
	d.seq.Store(n.seq)
	return err
}

// close ends everything; calls that wait get reason.
func (d *database) close(reason error) error {
	d.bell.mu.Lock() // no poller starts after this
	d.reason = reason
	close(d.done)
	d.bell.mu.Unlock()
	d.mu.Lock() // no session starts after this
	s := d.session
	d.session = nil
	d.awake.remove(d)
	d.mu.Unlock()
	var err error
	if s != nil {
		err = s.close()
	}
	d.wg.Wait()
	return err
}

// translate gives an error of the engine the form callers know.
func (d *database) translate(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errClosed) {
		select {
		case <-d.done:
			err = d.reason
		default:
		}
	}
	if errors.Is(err, errDestroyed) {
		return couch.NotFound("Database does not exist.")
	}
	if sqlite.IsBusy(err) {
		return &couch.Error{Status: 503, Code: "service_unavailable", Reason: "Another process holds the database's lock."}
	}
	return err
}

// formatSeq is N with the database's identity, so that a sequence of a database
// that was destroyed and created again is not mistaken for one of the new one.
func (d *database) formatSeq(n int64) couch.Seq {
	b := make([]byte, 0, 24)
	b = strconv.AppendInt(b, n, 10)
	b = append(b, '-')
	return couch.Seq(append(b, d.uuid[:8]...))
}

// parseSeq reads a sequence; now is the present one. Sequences of another
// incarnation, and of a future that was undone by restoring an old file, start from 0.
func (d *database) parseSeq(s couch.Seq, now int64) (int64, error) {
	switch s {
	case "", "0":
		return 0, nil
	case couch.Now:
		return now, nil
	}
	digits, uuid, ours := strings.Cut(string(s), "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil || n < 0:
		return 0, couch.BadRequest("Malformed sequence supplied in 'since' parameter.")
	case ours && uuid != d.uuid[:8]:
		return 0, nil
	case n > now && ours:
		return 0, nil
	}
	return min(n, now), nil
}

// Info implements [couch.DB].
func (d *database) Info(ctx context.Context) (*couch.Info, error) {
	info := &couch.Info{Name: d.name, UUID: d.uuid}
	err := d.view(ctx, func(c *sqlite.Conn) error {
		n, err := readCounters(c, d.uuid)
		if err != nil {
			return err
		}
		info.DocCount, info.DelCount, info.UpdateSeq = n.docs, n.dels, d.formatSeq(n.seq)
		size, err := c.Int("PRAGMA page_size")
		if err != nil {
			return err
		}
		pages, err := c.Int("PRAGMA page_count")
		if err != nil {
			return err
		}
		free, err := c.Int("PRAGMA freelist_count")
		if err != nil {
			return err
		}
		purges, err := c.Int("SELECT value FROM meta WHERE key='purges'")
		if err != nil {
			return err
		}
		info.PurgeSeq = couch.Seq(strconv.FormatInt(purges, 10))
		files, err := c.Int("SELECT value FROM meta WHERE key='files'")
		info.ActiveSize = size*(pages-free) + files
		info.FileSize = size*pages + files
		return err
	})
	if err != nil {
		return nil, err
	}
	info.Compacting = len(d.tidying) > 0
	if wal, err := os.Stat(d.path + "-wal"); err == nil {
		info.FileSize += wal.Size()
	}
	return info, nil
}

// Security implements [couch.DB].
func (d *database) Security(ctx context.Context) (json.RawMessage, error) {
	var security json.RawMessage
	err := d.view(ctx, func(c *sqlite.Conn) error {
		s := c.Prepare("SELECT value FROM meta WHERE key='security'")
		defer s.Reset()
		_, err := s.Step()
		if err == nil {
			security = s.Bytes(0)
		}
		return err
	})
	return security, err
}

// SetSecurity implements [couch.DB].
func (d *database) SetSecurity(ctx context.Context, security json.RawMessage) error {
	if body := trimmed(security); len(body) < 2 || body[0] != '{' || !json.Valid(body) {
		return couch.BadRequest("Security object must be a JSON object")
	}
	return d.submit(ctx, 1, func(t *tx) error {
		s := t.c.Prepare("UPDATE meta SET value=? WHERE key='security'")
		s.BindTextBytes(1, security)
		return s.Exec()
	})
}

// Find implements [couch.DB].
func (d *database) Find(ctx context.Context, query json.RawMessage, fn func(json.RawMessage) error) (couch.FindResult, error) {
	return mango.Find(ctx, d, query, fn)
}
