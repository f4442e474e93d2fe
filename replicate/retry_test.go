package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

func TestDocumentsThatATargetHasNoTimeForAreWrittenLater(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 100)
	var busy atomic.Int32
	b.refuse = func(doc *couch.Doc) *couch.Error {
		if busy.Add(1)%3 == 0 {
			return &couch.Error{Status: 503, Code: "timeout"}
		}
		return nil
	}
	if res := mustRun(t, a, b, quick); res.DocsWritten != 100 || res.DocWriteFailures != 0 {
		t.Errorf("%+v", res)
	}
	wantEqual(t, a, b)
}

type script struct {
	couch.DB
	info func(ctx context.Context, call int) error
	n    int
}

func (s *script) Info(ctx context.Context) (*couch.Info, error) {
	s.n++
	if err := s.info(ctx, s.n); err != nil {
		return nil, err
	}
	return s.DB.Info(ctx)
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		s := &script{DB: newMemory("a"), info: func(context.Context, int) error {
			at = append(at, time.Since(began))
			return errFlaky
		}}
		_, err := replicate.RunDB(context.Background(), s, newMemory("b"), replicate.Options{})
		if !errors.Is(err, errFlaky) || len(at) != 10 {
			t.Fatal(err, at)
		}
		full, jitter := 200*time.Millisecond, false
		for i := 1; i < len(at); i++ {
			if d := at[i] - at[i-1]; d < full/2 || d > full {
				t.Errorf("wait %d was %v, want about %v", i, d, full)
			}
			jitter = jitter || at[i]-at[i-1] != full
			full = min(2*full, 10*time.Second)
		}
		if !jitter {
			t.Error("peers would come in step")
		}
	})
}

func TestRetryAfterIsRespected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &script{DB: newMemory("a"), info: func(_ context.Context, n int) error {
			if n == 1 {
				return &couch.RetryLater{Err: &couch.Error{Status: 429, Code: "too_many_requests"}, After: 42 * time.Second}
			}
			return nil
		}}
		mustRun(t, s, newMemory("b"), replicate.Options{})
		if d := time.Since(began); d != 42*time.Second {
			t.Error(d)
		}
	})
}

func TestRefusalsOfTheDatabaseAreFinal(t *testing.T) {
	for _, status := range []int{401, 403, 404} {
		for _, live := range []bool{false, true} {
			s := &script{DB: newMemory("a"), info: func(context.Context, int) error { return &couch.Error{Status: status, Code: "x"} }}
			if _, err := replicate.RunDB(context.Background(), newMemory("b"), s, replicate.Options{Live: live}); err == nil || s.n != 1 {
				t.Errorf("%d: %v after %d calls", status, err, s.n)
			}
		}
	}
}

func TestAHungCallIsNamedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{DB: newMemory("a"), info: func(ctx context.Context, n int) error {
			if n == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		var seen []string
		_, err := replicate.RunDB(context.Background(), s, newMemory("b"), replicate.Options{OnProgress: func(p replicate.Progress) {
			seen = append(seen, fmt.Sprint(p.State, " ", p.Stage, " ", p.End))
			if p.State == replicate.Retrying && !errors.Is(p.Err, replicate.ErrStalled) {
				t.Error(p.Err)
			}
		}})
		if want := "[starting   stalled info source retrying info source running   complete  ]"; err != nil || fmt.Sprint(seen) != want {
			t.Errorf("%v %v", seen, err)
		}
	})
}

type slow struct {
	couch.DB
	moving bool
}

func (s *slow) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	for range 100 {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if s.moving {
			couch.Moving(ctx)()
		}
	}
	return s.DB.BulkDocs(ctx, docs, o)
}

func TestASlowCallIsNotAHungOne(t *testing.T) {
	for _, moving := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newMemory("a"), newMemory("b")
			fill(a, 10)
			stalls := 0
			mustRun(t, a, &slow{b, moving}, replicate.Options{OnProgress: func(p replicate.Progress) {
				if p.State == replicate.Stalled {
					stalls++
				}
			}})
			wantEqual(t, a, b)
			if want := map[bool]int{true: 0, false: 2}[moving]; stalls != want {
				t.Errorf("moving %v: %d stalls, want %d", moving, stalls, want)
			}
		})
	}
}
