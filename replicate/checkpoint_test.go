package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

func TestASecondRunReadsNothing(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 2500)
	o := replicate.Options{BatchSize: 100}
	first := mustRun(t, a, b, o)
	if first.DocsRead != 2500 || first.DocsWritten != 2500 || first.MissingFound != 2500 || first.LastSeq != "2500" || first.Bytes == 0 {
		t.Errorf("%+v", first)
	}
	wantEqual(t, a, b)
	second := mustRun(t, a, b, o)
	if second.MissingChecked != 0 || second.DocsRead != 0 || second.LastSeq != "2500" {
		t.Errorf("%+v", second)
	}
}

func TestCheckpointsFallBackToWhatBothEndsKnow(t *testing.T) {
	logOf := func(m *memory) (string, *couch.Doc) {
		for id, doc := range m.log {
			return id, doc
		}
		return "", nil
	}
	for name, lose := range map[string]func(a, b *memory, id string, oldA, oldB *couch.Doc) (checked int64){
		"both kept":          func(_, _ *memory, _ string, _, _ *couch.Doc) int64 { return 0 },
		"source's lost":      func(a, _ *memory, id string, _, _ *couch.Doc) int64 { delete(a.log, id); return 20 },
		"target's lost":      func(_, b *memory, id string, _, _ *couch.Doc) int64 { delete(b.log, id); return 20 },
		"source rolled back": func(a, _ *memory, id string, oldA, _ *couch.Doc) int64 { a.log[id] = oldA; return 10 },
		"target rolled back": func(_, b *memory, id string, _, oldB *couch.Doc) int64 { b.log[id] = oldB; return 10 },
		"garbage": func(_, b *memory, id string, _, _ *couch.Doc) int64 {
			b.log[id].Body = []byte(`{"history":7}`)
			return 20
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newMemory("a"), newMemory("b")
			fill(a, 10)
			mustRun(t, a, b, quick)
			id, oldA := logOf(a)
			_, oldB := logOf(b)
			for i := range 10 {
				a.edit(fmt.Sprint("more", i), couch.Rev{}, `{}`, false)
			}
			mustRun(t, a, b, quick)
			want := lose(a, b, id, oldA, oldB)
			if got := mustRun(t, a, b, quick).MissingChecked; got != want {
				t.Errorf("%d revisions compared, want %d", got, want)
			}
			if got := mustRun(t, a, b, quick).MissingChecked; got != 0 {
				t.Errorf("then %d revisions compared, want none", got)
			}
		})
	}
}

func TestAReadOnlySourceIsFollowedByTheTargetsCheckpoint(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	a.noLocals = true
	fill(a, 10)
	mustRun(t, a, b, quick)
	if got := mustRun(t, a, b, quick); got.MissingChecked != 0 {
		t.Errorf("%+v", got)
	}
	again := newMemory("a") // under the same name, but not what it was
	again.noLocals = true
	fill(again, 5)
	if got := mustRun(t, again, b, quick); got.MissingChecked != 5 {
		t.Errorf("%+v", got)
	}
}

func TestACheckpointOfAnotherSourceOfTheSameNameIsNotUsed(t *testing.T) {
	b := newMemory("b")
	for range 2 {
		a := newMemory("a")
		a.noLocals, a.noUUID = true, true
		fill(a, 10)
		if got := mustRun(t, a, b, quick); got.MissingChecked != 10 {
			t.Errorf("%+v", got)
		}
	}
}

func TestAnInterruptedRunGoesOn(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	var stop sync.Once
	o := replicate.Options{BatchSize: 10, InFlight: 1}
	target := &hooked{DB: b, bulkDocs: func() {
		if b.seq >= 500 {
			stop.Do(cancel)
		}
	}}
	res, err := replicate.RunDB(ctx, a, target, o)
	if !errors.Is(err, context.Canceled) || res.DocsWritten < 500 || res.DocsWritten > 600 {
		t.Fatal(res, err)
	}
	if got := mustRun(t, a, b, o); got.MissingChecked > 1000-res.DocsWritten+10 || got.DocsWritten != 1000-res.DocsWritten {
		t.Errorf("after %d: %+v", res.DocsWritten, got)
	}
	wantEqual(t, a, b)
}

func TestTheCheckpointIsBeforeTheFirstBatchThatIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMemory("a"), newMemory("b")
		fill(a, 30)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		target := &hanging{DB: b, id: "doc-00000"}
		time.AfterFunc(time.Second, cancel) // when nothing moves any more
		res, err := replicate.RunDB(ctx, a, target, replicate.Options{BatchSize: 10, InFlight: 3})
		if !errors.Is(err, context.Canceled) || res.DocsWritten != 20 || res.LastSeq != "" {
			t.Errorf("%+v %v", res, err)
		}
		mustRun(t, a, b, replicate.Options{})
		wantEqual(t, a, b)
	})
}

type hanging struct {
	couch.DB
	id string
}

func (h *hanging) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	if docs[0].ID == h.id {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.DB.BulkDocs(ctx, docs, o)
}

type hooked struct {
	couch.DB
	bulkDocs func()
}

func (h *hooked) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	h.bulkDocs()
	return h.DB.BulkDocs(ctx, docs, o)
}

// An end that is gone takes no checkpoint, and the end of the run does not wait for it; one that only fails is asked again.
func TestTheLastCheckpointIsNotForAnEndThatIsGone(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want int
	}{
		"gone":   {couch.NotFound("No such share."), 1},
		"closed": {fmt.Errorf("share: %w", couch.ErrClosed), 1},
		"broken": {errors.New("connection reset"), 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newMemory("a"), newMemory("b")
			fill(a, 10)
			target := &noLocals{DB: b, err: tt.err}
			res, err := replicate.RunDB(context.Background(), a, target, replicate.Options{})
			if err != nil || res.DocsWritten != 10 || target.asked != tt.want {
				t.Errorf("%s: %d times, %+v %v", name, target.asked, res, err)
			}
		})
	}
}

type noLocals struct {
	couch.DB
	err   error
	asked int
}

func (n *noLocals) PutLocal(context.Context, *couch.Doc) (couch.Rev, error) {
	n.asked++
	return couch.Rev{}, n.err
}
