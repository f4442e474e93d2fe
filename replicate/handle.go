package replicate

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// A Replication is one that goes on in the background.
type Replication struct {
	runs   []*run
	cancel context.CancelFunc
	done   chan struct{}
	result SyncResult // after done
	err    error

	mu   sync.Mutex
	news chan struct{} // closed at the next news
}

// Status is how a [Replication] stands.
type Status struct {
	// Total is all directions together: numbers added up, and the state, stage and error of the
	// direction that needs attention most.
	Total      Progress   `json:"total"`
	Directions []Progress `json:"directions"` // one, or push and pull
}

// Start is [Run] in the background, until it is done, ctx ends or it is cancelled.
func Start(ctx context.Context, source, target *kivik.DB, o Options) *Replication {
	return StartDB(ctx, couchkivik.From(source), couchkivik.From(target), o.creating(target))
}

// StartSync is [Sync] in the background, until it is done, ctx ends or it is cancelled.
func StartSync(ctx context.Context, a, b *kivik.DB, o Options) *Replication {
	return StartSyncDB(ctx, couchkivik.From(a), couchkivik.From(b), o.creating(b))
}

// StartDB is [RunDB] in the background.
func StartDB(ctx context.Context, source couch.Source, target couch.Target, o Options) *Replication {
	h := newReplication()
	r := newRun(source, target, h.listening(o))
	h.runs = []*run{r}
	return h.start(ctx, func(ctx context.Context) (SyncResult, error) {
		pushed, err := r.do(ctx)
		return SyncResult{Pushed: pushed}, err
	})
}

// StartSyncDB is [SyncDB] in the background.
func StartSyncDB(ctx context.Context, a, b couch.DB, o Options) *Replication {
	h := newReplication()
	s := newSync(a, b, h.listening(o))
	h.runs = s.runs[:]
	return h.start(ctx, s.do)
}

func newReplication() *Replication {
	return &Replication{done: make(chan struct{}), news: make(chan struct{})}
}

func (h *Replication) start(ctx context.Context, do func(context.Context) (SyncResult, error)) *Replication {
	ctx, h.cancel = context.WithCancel(ctx)
	go func() {
		defer close(h.done)
		defer h.cancel()
		h.result, h.err = do(ctx)
	}()
	return h
}

// listening has h hear of progress too.
func (h *Replication) listening(o Options) Options {
	tell := o.OnProgress
	o.OnProgress = func(p Progress) {
		if tell != nil {
			tell(p)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		close(h.news)
		h.news = make(chan struct{})
	}
	return o
}

// State returns how it stands now. It never waits.
func (h *Replication) State() Status {
	s := Status{Directions: make([]Progress, len(h.runs))}
	for i, r := range h.runs {
		s.Directions[i] = r.report.progress()
	}
	s.Total = total(s.Directions)
	return s
}

// Updates yields how it stands: at once, when a state changes, otherwise a few times a
// second while something moves, and at the end, after which it ends. It also ends with ctx.
func (h *Replication) Updates(ctx context.Context) iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for {
			h.mu.Lock()
			news := h.news
			h.mu.Unlock()
			if !yield(h.State()) {
				return
			}
			select {
			case <-news:
			case <-h.done:
				yield(h.State())
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// AwaitInSync waits until everything there is is copied, in all directions: a live
// replication is idle, another one complete. It returns the replication's error if it ends
// with one before, or ctx's.
func (h *Replication) AwaitInSync(ctx context.Context) error {
	for s := range h.Updates(ctx) {
		if s.Total.State == Idle {
			return nil
		}
	}
	select {
	case <-h.done:
		return h.err
	default:
		return context.Cause(ctx)
	}
}

// Wait returns what [Run] (as Pushed) or [Sync] return, at the end.
func (h *Replication) Wait() (SyncResult, error) {
	<-h.done
	return h.result, h.err
}

// Cancel ends the replication, and returns after its last checkpoint.
func (h *Replication) Cancel() {
	h.cancel()
	<-h.done
}

// urgency orders states by how much they say about all directions together.
var urgency = []State{Complete, Idle, Running, Starting, Retrying, Stalled, Failed}

// total adds the directions up.
func total(all []Progress) Progress {
	t := all[0]
	t.Direction = ""
	for _, p := range all[1:] {
		if slices.Index(urgency, p.State) > slices.Index(urgency, t.State) {
			t.State, t.Stage, t.End, t.Err, t.Attempt, t.Wait = p.State, p.Stage, p.End, p.Err, p.Attempt, p.Wait
		}
		t.Rate += p.Rate
		t.BytesRate += p.BytesRate
		t.Source.add(p.Source)
		t.Target.add(p.Target)
		t.Counts = t.Counts.And(p.Counts)
		t.Counts.LastSeq = ""
		if t.Pending < 0 || p.Pending < 0 {
			t.Pending, t.ETA = -1, -1
			continue
		}
		t.Pending += p.Pending
		if t.ETA = max(t.ETA, p.ETA); p.ETA < 0 {
			t.ETA = -1
		}
	}
	return t
}

func (e *EndProgress) add(o EndProgress) {
	if e.Stage == "" {
		e.Stage = o.Stage
	}
	e.Calls += o.Calls
	e.Failures += o.Failures
	e.Docs += o.Docs
	e.Bytes += o.Bytes
}
