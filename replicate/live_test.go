package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

func TestLiveWakesAndIdles(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 50)
	ctx, cancel := context.WithCancel(context.Background())
	states := make(chan replicate.State, 1000)
	done := make(chan error, 1)
	go func() {
		_, err := replicate.RunDB(ctx, a, b, replicate.Options{Live: true, OnProgress: func(p replicate.Progress) { states <- p.State }})
		done <- err
	}()
	awaitState(t, states, replicate.Idle)
	wantEqual(t, a, b)
	a.edit("new", couch.Rev{}, `{}`, false)
	awaitState(t, states, replicate.Idle)
	wantEqual(t, a, b)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := mustRun(t, a, b, replicate.Options{}); got.MissingChecked != 0 {
		t.Error("no checkpoint was written when the run was cancelled")
	}
}

func awaitState(t *testing.T, states <-chan replicate.State, want replicate.State) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case s := <-states:
			if s == want {
				return
			}
		case <-deadline:
			t.Fatal("never became", want)
		}
	}
}

func TestLiveSyncMovesBothWaysWithoutComparingEchoes(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 20)
	for i := range 20 {
		b.edit(fmt.Sprint("b", i), couch.Rev{}, `{}`, false)
	}
	res, err := replicate.SyncDB(context.Background(), a, b, replicate.Options{})
	if err != nil || res.Pushed.DocsWritten != 20 || res.Pulled.DocsWritten != 20 {
		t.Fatal(res, err)
	}
	wantEqual(t, a, b)
	before := a.calls["RevsDiff"] + b.calls["RevsDiff"]
	res, err = replicate.SyncDB(context.Background(), a, b, replicate.Options{})
	if err != nil || a.calls["RevsDiff"]+b.calls["RevsDiff"] != before {
		t.Error("the second run compares what the first one copied:", res, err)
	}
}

func TestALiveSyncEndsWhenOneDirectionFailsForGood(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 1)
	_, err := replicate.SyncDB(context.Background(), a, &denied{b}, replicate.Options{Live: true})
	var e *replicate.Error
	if !errors.As(err, &e) || e.Stage != "write" || e.End != "target" || !errors.Is(err, couch.ErrForbidden) {
		t.Error(err)
	}
}

type denied struct{ couch.DB }

func (d *denied) BulkDocs(context.Context, []*couch.Doc, couch.WriteOptions) ([]couch.WriteResult, error) {
	return nil, couch.Forbidden("read only")
}
