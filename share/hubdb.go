package share

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// write writes one document of the hub and returns its new revision.
func write(ctx context.Context, hub couch.DB, d *couch.Doc) (couch.Rev, error) {
	results, err := hub.BulkDocs(ctx, []*couch.Doc{d}, couch.WriteOptions{})
	if err != nil {
		return couch.Rev{}, err
	}
	if len(results) != 1 {
		return couch.Rev{}, &couch.Error{Status: 502, Code: "bad_gateway", Reason: "The hub did not say what became of the document."}
	}
	if results[0].Err != nil {
		return couch.Rev{}, results[0].Err
	}
	return results[0].Rev, nil
}

// eachDoc calls fn with every document whose id begins with prefix.
func eachDoc(ctx context.Context, hub couch.DB, prefix string, fn func(*couch.Doc)) error {
	end := prefix + "\ufff0"
	o := couch.AllDocsOptions{StartKey: &prefix, EndKey: &end, IncludeDocs: true}
	_, err := hub.AllDocs(ctx, o, func(r *couch.Row) error {
		if r.Doc != nil && strings.HasPrefix(r.ID, prefix) {
			fn(r.Doc)
		}
		return nil
	})
	return err
}

// A trash deletes documents of the hub that have served, many at a time and as
// well as it can: what it fails to delete expires.
type trash struct {
	hub  couch.DB
	log  *slog.Logger
	mu   sync.Mutex
	docs []*couch.Doc
	wake chan struct{} // holds one
}

const (
	trashLinger = time.Second // for more to come
	maxTrash    = 1000
	flushTime   = 2 * time.Second // at the end
)

func newTrash(hub couch.DB, log *slog.Logger) *trash {
	return &trash{hub: hub, log: log, wake: make(chan struct{}, 1)}
}

// add puts a document into the trash.
func (t *trash) add(d *couch.Doc) {
	t.mu.Lock()
	if len(t.docs) < maxTrash {
		t.docs = append(t.docs, &couch.Doc{ID: d.ID, Rev: d.Rev, Deleted: true})
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run empties the trash from time to time, and a last time when ctx ends.
func (t *trash) run(ctx context.Context) {
	whenWoken(ctx, t.wake, trashLinger, flushTime, t.empty)
}

func (t *trash) empty(ctx context.Context) {
	t.mu.Lock()
	docs := t.docs
	t.docs = nil
	t.mu.Unlock()
	if len(docs) == 0 {
		return
	}
	// A conflict or a missing document has been deleted by someone else.
	if _, err := t.hub.BulkDocs(ctx, docs, couch.WriteOptions{}); err != nil {
		t.log.Debug("signals not deleted from the hub", "err", err)
	}
}
