package replicate

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A run is one replication in one direction.
type run struct {
	source couch.Source
	target couch.Target
	home   couch.Target // the source, of a Sync
	o      Options
	report *reporter
	log    *checkpoints
	sizes  sizer
	pace   pacer
	since  couch.Seq // what the next reader starts after
	blank  bool      // the target had nothing when this began, so it need not be asked what it lacks

	mu       sync.Mutex
	underway []*batch // oldest first: the checkpoint is before the first that is not done
}

// A batch is some neighbouring changes.
type batch struct {
	rows    []couch.Change
	seq     couch.Seq // when this batch and those before are written, the target is at seq
	pending int64     // changes after seq, -1 if not known
	chunks  int       // as which it was read
	began   time.Time
	done    bool
}

func newRun(source couch.Source, target couch.Target, o Options) *run {
	o = o.withDefaults()
	r := &run{source: source, target: target, o: o, report: newReporter(o)}
	r.sizes.limit(o.BatchBytes)
	r.pace.max = o.BatchSize
	return r
}

// setUp checks the options and makes the target if it has to.
func (r *run) setUp(ctx context.Context) error {
	if err := r.o.check(); err != nil || r.o.create == nil {
		return err
	}
	r.report.state(Starting)
	return r.try(ctx, where{"create", targetEnd}, func(ctx context.Context, _ *attempt) error { return r.o.create(ctx) })
}

// prepare finds where to start.
func (r *run) prepare(ctx context.Context) error {
	r.report.state(Starting)
	var from, to *couch.Info
	err := r.try(ctx, where{"info", sourceEnd}, func(ctx context.Context, _ *attempt) (err error) {
		from, err = r.source.Info(ctx)
		return err
	})
	if err != nil {
		return err
	}
	err = r.try(ctx, where{"info", targetEnd}, func(ctx context.Context, _ *attempt) (err error) {
		to, err = r.target.Info(ctx)
		return err
	})
	if err != nil {
		return err
	}
	// A live run asks all the same: others may fill the target meanwhile.
	r.blank = !r.o.Live && to.DocCount == 0 && to.DelCount == 0 && number(to.UpdateSeq) == 0
	r.log = newCheckpoints(r, from, to)
	r.since, err = r.log.read(ctx, from.UpdateSeq)
	r.report.setSeq(r.since)
	return err
}

// copy copies what there is, and if live then what comes, until ctx ends.
func (r *run) copy(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	chunks := make(chan *batch, 1)
	g.Go(func() error {
		defer close(chunks)
		return r.read(ctx, chunks)
	})
	g.Go(func() error { return r.dispatch(ctx, chunks) })
	stop := r.log.keep(ctx)
	err := g.Wait()
	stop()
	r.blank = false
	return err
}

// dispatch works on up to InFlight batches at a time. What arrives while all
// are busy is taken together.
func (r *run) dispatch(ctx context.Context, chunks <-chan *batch) error {
	g, ctx := errgroup.WithContext(ctx)
	free := make(chan struct{}, r.o.InFlight)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return g.Wait()
		}
		b := r.next(ctx, chunks)
		if b == nil {
			return g.Wait()
		}
		g.Go(func() error {
			defer func() { <-free }()
			return r.copyBatch(ctx, b)
		})
	}
}

// next returns a batch of what is ready, waiting for the first of it; nil at the end.
func (r *run) next(ctx context.Context, chunks <-chan *batch) *batch {
	var b *batch
	select {
	case b = <-chunks:
	case <-ctx.Done():
	}
	if b == nil {
		return nil
	}
	for len(b.rows) < r.pace.size() {
		select {
		case more, ok := <-chunks:
			if !ok {
				return r.began(b)
			}
			b.rows = append(b.rows, more.rows...)
			b.seq, b.pending, b.chunks = more.seq, more.pending, b.chunks+more.chunks
			continue
		default:
		}
		break
	}
	return r.began(b)
}

func (r *run) began(b *batch) *batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.began = time.Now()
	r.underway = append(r.underway, b)
	return b
}

// finished notes that b is written and moves the checkpoint up to the first
// batch that is not.
func (r *run) finished(b *batch) {
	r.mu.Lock()
	b.done = true
	var upTo *batch
	for len(r.underway) > 0 && r.underway[0].done {
		upTo = r.underway[0]
		r.underway = r.underway[1:]
	}
	if upTo != nil {
		r.report.front(upTo.seq, upTo.pending)
	}
	r.mu.Unlock()
	r.pace.took(len(b.rows), time.Since(b.began))
	r.log.batches(r.report.batch(b.chunks, len(b.rows)))
}

// finish records how far the run came, also if it was cancelled or failed.
func (r *run) finish(ctx context.Context, err error) (Result, error) {
	if r.log != nil {
		r.log.last(ctx)
	}
	return r.report.finish(err), err
}
