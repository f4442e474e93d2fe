package couchhttp

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// CouchDB's limits on one purge ([purge] max_document_id_number and max_revisions_number).
const (
	maxPurgeDocs = 100
	maxPurgeRevs = 1000
)

// https://docs.couchdb.org/en/stable/api/database/misc.html#db-purge
func purge(c *call) error {
	if err := c.needJSON(); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	body, err := c.listBody()
	if err != nil {
		return err
	}
	docs, err := decodeIDsRevs(body, c.s.o.Limits.Bulk)
	if err != nil {
		return err
	}
	revs := 0
	for _, d := range docs {
		revs += len(d.Revs)
	}
	switch {
	case len(docs) > maxPurgeDocs:
		return couch.BadRequest("Exceeded maximum number of documents.")
	case revs > maxPurgeRevs:
		return couch.BadRequest("Exceeded maximum number of revisions.")
	}
	purged, err := db.Purge(c.r.Context(), docs)
	if err != nil {
		return err
	}
	b := []byte(`{"purge_seq":null,"purged":{`)
	for i, d := range purged {
		if i > 0 {
			b = append(b, ',')
		}
		b = couch.AppendString(b, d.ID)
		b = appendRevList(append(b, ':'), d.Revs)
	}
	return writeJSON(c.w, http.StatusCreated, append(b, "}}"...))
}

// https://docs.couchdb.org/en/stable/api/database/compact.html#db-compact
func compact(c *call) error {
	if err := c.needJSON(); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	c.s.compactions.start(c.db, func(ctx context.Context) {
		if err := db.Compact(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, couch.ErrNotFound) {
			c.s.o.Logger.Error("compaction failed", "db", c.db, "err", err)
		}
	})
	return c.ok(http.StatusAccepted)
}

// compactIndex is of a design document's indexes, of which there are none to compact.
func compactIndex(c *call) error {
	if err := c.needJSON(); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	if _, err := db.Get(c.r.Context(), "_design/"+c.index, couch.GetOptions{}); err != nil {
		return err
	}
	return c.ok(http.StatusAccepted)
}

// viewCleanup removes indexes that no design document has: there are none.
func viewCleanup(c *call) error {
	if _, err := c.open(); err != nil {
		return err
	}
	return c.ok(http.StatusAccepted)
}

// compactions are those the server carries out after it has answered, one for each database.
type compactions struct {
	ctx     context.Context // ends with the server
	mu      sync.Mutex
	running map[string]bool // by database
	closed  bool
	wg      sync.WaitGroup
}

// start runs a compaction, unless one is running or the server is closed.
func (t *compactions) start(db string, run func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[db] || t.closed {
		return
	}
	if t.running == nil {
		t.running = make(map[string]bool)
	}
	t.running[db] = true
	t.wg.Go(func() {
		defer func() {
			t.mu.Lock()
			delete(t.running, db)
			t.mu.Unlock()
		}()
		run(t.ctx)
	})
}

func (t *compactions) on(db string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[db]
}

// close starts no more and waits for those that run, which end soon after ctx.
func (t *compactions) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}
