package replicate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// SyncResult is what a two-way replication did.
type SyncResult struct {
	Pushed Result `json:"pushed"` // a to b
	Pulled Result `json:"pulled"` // b to a
}

// The directions of a [Sync].
const (
	push = "push"
	pull = "pull"
)

// SyncDB copies both ways between a and b. See [Sync].
func SyncDB(ctx context.Context, a, b couch.DB, o Options) (SyncResult, error) {
	return newSync(a, b, o).do(ctx)
}

// A twoWay is two runs in opposite directions, push and pull.
type twoWay struct {
	runs [2]*run
	o    Options
}

func newSync(a, b couch.DB, o Options) *twoWay {
	atA, atB := newRevSet(), newRevSet() // revisions that a, or b, is known to have by what the other run did
	to, fro := o, o
	to.direction, to.known, to.discovered = push, atB, atA
	fro.direction, fro.known, fro.discovered = pull, atA, atB
	fro.create = nil
	if o.OnProgress != nil {
		var mu sync.Mutex // one call at a time also for both directions
		tell := func(p Progress) {
			mu.Lock()
			defer mu.Unlock()
			o.OnProgress(p)
		}
		to.OnProgress, fro.OnProgress = tell, tell
	}
	s := &twoWay{[2]*run{newRun(a, b, to), newRun(b, a, fro)}, o}
	s.runs[0].home, s.runs[1].home = a, b
	return s
}

func (s *twoWay) do(ctx context.Context) (SyncResult, error) {
	errs := s.copy(ctx)
	var results [2]Result
	var wg sync.WaitGroup
	for i, r := range s.runs {
		wg.Go(func() { results[i], _ = r.finish(ctx, errs[i]) })
	}
	wg.Wait()
	return SyncResult{results[0], results[1]}, oneOf(errs)
}

func (s *twoWay) copy(ctx context.Context) [2]error {
	runs, o := s.runs, s.o
	if err := runs[0].setUp(ctx); err != nil {
		return [2]error{err, err}
	}
	ready := together(ctx, runs, o.Live, func(ctx context.Context, r *run) error { return r.prepare(ctx) })
	if o.Live && ready != [2]error{} {
		return ready
	}
	if o.Resolver != nil {
		// At one end only, whoever syncs these two. If that cannot be told by their
		// names, both ends' resolutions are the same revisions anyway.
		at := runs[0]
		if runs[1].log != nil && runs[0].log != nil && runs[1].log.from < runs[0].log.from {
			at = runs[1]
		}
		at.o.resolve = true
	}
	errs := together(ctx, runs, o.Live, func(ctx context.Context, r *run) error {
		if r == runs[0] && ready[0] == nil || r == runs[1] && ready[1] == nil {
			return r.copy(ctx)
		}
		return nil
	})
	for i := range errs {
		errs[i] = cmp.Or(ready[i], errs[i])
	}
	if o.Live {
		return errs
	}
	for range maxEchoes {
		if errs != [2]error{} {
			break
		}
		before := written(runs)
		errs = echoes(ctx, runs)
		if written(runs) == before {
			break
		}
	}
	return errs
}

// maxEchoes ends a sync of databases into which others write all the time.
const maxEchoes = 5

// written is how many revisions were written so far, conflicts' resolutions among them.
func written(runs [2]*run) (n int64) {
	for _, r := range runs {
		c := r.report.counts()
		n += c.DocsWritten + c.Resolved
	}
	return n
}

// together runs f for both directions. If bound, a failure of one ends the other.
func together(ctx context.Context, runs [2]*run, bound bool, f func(context.Context, *run) error) (errs [2]error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i, r := range runs {
		wg.Go(func() {
			if errs[i] = f(ctx, r); errs[i] != nil && bound {
				cancel(errs[i])
			}
		})
	}
	wg.Wait()
	return errs
}

// oneOf returns the errors of both directions as one, without saying the same twice.
func oneOf(errs [2]error) error {
	if errs[0] != nil && errs[1] != nil && errs[0].Error() == errs[1].Error() {
		return errs[0]
	}
	return errors.Join(errs[:]...)
}

// echoes lets each direction pass over what the other one has written in the
// meantime. That is known and costs next to nothing now; left to the next run, it
// would have to be compared then.
func echoes(ctx context.Context, runs [2]*run) [2]error {
	var echo [2]bool
	for i := range runs {
		echo[i] = runs[1-i].report.counts().DocsWritten > 0 || runs[0].report.counts().Resolved+runs[1].report.counts().Resolved > 0
	}
	return together(ctx, runs, false, func(ctx context.Context, r *run) error {
		if r == runs[0] && echo[0] || r == runs[1] && echo[1] {
			return r.copy(ctx)
		}
		return nil
	})
}

// A revSet remembers some revisions. A nil one remembers none.
type revSet struct {
	mu  sync.RWMutex
	set map[revKey]struct{}
}

// revKey is a cryptographic hash, since a peer chooses ids and revisions.
type revKey [16]byte

// maxRevSet bounds the memory of a set to some 30 MB.
const maxRevSet = 1 << 19

func newRevSet() *revSet { return &revSet{set: map[revKey]struct{}{}} }

func keyOf(id string, rev couch.Rev) revKey {
	b := make([]byte, 0, 128)
	b = append(append(b, id...), 0)
	b, _ = rev.AppendText(b)
	h := sha256.Sum256(b)
	return revKey(h[:16])
}

func (s *revSet) add(id string, revs ...couch.Rev) {
	if s == nil {
		return
	}
	for _, rev := range revs {
		k := keyOf(id, rev)
		s.mu.Lock()
		if len(s.set) >= maxRevSet {
			for old := range s.set { // any one
				delete(s.set, old)
				break
			}
		}
		s.set[k] = struct{}{}
		s.mu.Unlock()
	}
}

// has reports whether all revs of the document are in the set.
func (s *revSet) has(id string, revs []couch.Rev) bool {
	if s == nil || len(revs) == 0 {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.set) == 0 {
		return false
	}
	for _, rev := range revs {
		if _, ok := s.set[keyOf(id, rev)]; !ok {
			return false
		}
	}
	return true
}
