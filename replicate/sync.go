package replicate

import (
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

// SyncDB copies both ways between a and b. See [Sync].
func SyncDB(ctx context.Context, a, b couch.DB, o Options) (SyncResult, error) {
	atA, atB := newRevSet(), newRevSet() // revisions that a, or b, is known to have by what the other run did
	push, pull := o, o
	push.direction, push.known, push.discovered = "push", atB, atA
	pull.direction, pull.known, pull.discovered = "pull", atA, atB
	if o.OnProgress != nil {
		var mu sync.Mutex // one call at a time also for both directions
		tell := func(p Progress) {
			mu.Lock()
			defer mu.Unlock()
			o.OnProgress(p)
		}
		push.OnProgress, pull.OnProgress = tell, tell
	}
	runs := [2]*run{newRun(a, b, push), newRun(b, a, pull)}
	errs := together(ctx, runs, o.Live, func(ctx context.Context, r *run) error {
		if err := r.prepare(ctx); err != nil {
			return err
		}
		return r.copy(ctx)
	})
	if errors.Join(errs[:]...) == nil && !o.Live {
		errs = echoes(ctx, runs)
	}
	var results [2]Result
	var wg sync.WaitGroup
	for i, r := range runs {
		wg.Go(func() { results[i], _ = r.finish(ctx, errs[i]) })
	}
	wg.Wait()
	return SyncResult{results[0], results[1]}, oneOf(errs)
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
		echo[i] = runs[1-i].report.counts().DocsWritten > 0
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
