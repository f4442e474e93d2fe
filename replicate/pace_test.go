package replicate_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

// A link takes a time for each document.
type link struct {
	couch.DB
	mu     sync.Mutex
	each   time.Duration
	sizes  []int
	mended int // after so many batches it is quick
}

func (l *link) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	l.mu.Lock()
	l.sizes = append(l.sizes, len(docs))
	each := l.each
	if len(l.sizes) > l.mended {
		each = 0
	}
	l.mu.Unlock()
	for range docs {
		time.Sleep(each)
		couch.Moving(ctx)()
	}
	return l.DB.BulkDocs(ctx, docs, o)
}

// Batches become small while the target is slow, and large again when it is quick.
func TestBatchesAdapt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMemory("a"), newMemory("b")
		fill(a, 12_000)
		to := &link{DB: b, each: 20 * time.Millisecond, mended: 8}
		mustRun(t, a, to, replicate.Options{BatchSize: 800, InFlight: 1})
		smallest, largest := 800, 0
		for i, n := range to.sizes {
			if smallest = min(smallest, n); i > to.mended {
				largest = max(largest, n)
			}
		}
		if to.sizes[0] != 800 || smallest > 200 || largest < 700 {
			t.Error(to.sizes)
		}
		wantEqual(t, a, b)
	})
}
