package replicate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

func TestAReplicationInTheBackground(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 3000)
	b.edit("theirs", couch.Rev{}, `{}`, false)
	h := replicate.StartSyncDB(context.Background(), a, b, replicate.Options{Live: true, BatchSize: 100})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := h.AwaitInSync(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // the other direction may still find that what it hears of is there
		s := h.State()
		if s.Total.State != replicate.Idle || s.Total.Counts.DocsWritten != 3001 || s.Total.Source.Docs != 3001 || s.Total.Source.Bytes == 0 ||
			s.Total.Target.Bytes == 0 || s.Total.Pending != 0 || s.Total.ETA != 0 {
			return fmt.Errorf("%+v", s.Total)
		}
		if len(s.Directions) != 2 || s.Directions[0].Direction != "push" || s.Directions[1].Counts.DocsWritten != 1 {
			return fmt.Errorf("%+v", s.Directions)
		}
		for _, d := range s.Directions { // an idle live direction listens to its source
			if d.Source.Stage != "changes" || d.Source.Calls != 1 || d.Target.Calls != 0 {
				return fmt.Errorf("%+v", d)
			}
		}
		return nil
	})
	heard := false
	a.edit("more", couch.Rev{}, `{}`, false)
	for s := range h.Updates(ctx) {
		if heard = s.Total.Counts.DocsWritten == 3002; heard {
			break
		}
	}
	h.Cancel()
	res, err := h.Wait()
	if !heard || !errors.Is(err, context.Canceled) || res.Pushed.DocsWritten != 3001 || h.State().Total.State != replicate.Failed {
		t.Errorf("%v %v %+v", heard, err, res)
	}
	if err := h.AwaitInSync(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestUpdatesEnd(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 10)
	h := replicate.StartDB(context.Background(), a, b, replicate.Options{})
	var last replicate.Status
	for s := range h.Updates(context.Background()) {
		last = s
	}
	if last.Total.State != replicate.Complete || last.Total.Counts.DocsWritten != 10 {
		t.Errorf("%+v", last)
	}
	if err := h.AwaitInSync(context.Background()); err != nil {
		t.Error(err)
	}
}

// While a target is slow, the state says what goes on where and how long it will take.
func TestProgressNamesStagesAndETA(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 5000)
	gate := make(chan struct{})
	target := &gated{DB: b, gate: gate}
	h := replicate.StartDB(context.Background(), a, target, replicate.Options{BatchSize: 50, InFlight: 1})
	for range 20 {
		gate <- struct{}{}
	}
	eventually(t, func() error {
		p := h.State().Total
		if p.Target.Stage != "write" || p.Target.Calls == 0 || p.Target.Docs < 900 || p.Pending <= 0 || p.ETA <= 0 || p.Rate <= 0 || p.BytesRate <= 0 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	if b, err := json.Marshal(h.State()); err != nil {
		t.Error(string(b), err)
	}
	close(gate)
	if _, err := h.Wait(); err != nil {
		t.Error(err)
	}
}

type gated struct {
	couch.DB
	gate chan struct{}
}

func (g *gated) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	<-g.gate
	return g.DB.BulkDocs(ctx, docs, o)
}

func TestCreateTarget(t *testing.T) {
	near, far := openStore(t), openStore(t)
	write(t, newDB(t, near, "a"), &couch.Doc{ID: "x"})
	ctx := context.Background()
	missing := replicate.Options{Retry: quick.Retry}
	if _, err := replicate.Run(ctx, near.DB("a"), far.DB("b"), missing); !errors.Is(err, couch.ErrNotFound) {
		t.Error(err)
	}
	for _, name := range []string{"b", "b", "c"} { // b twice: it is there already
		res, err := replicate.Sync(ctx, near.DB("a"), far.DB(name), replicate.Options{CreateTarget: true})
		if err != nil || res.Pushed.DocWriteFailures > 0 {
			t.Error(name, err)
		}
		if got, err := replicate.Verify(ctx, near.DB("a"), far.DB(name), replicate.VerifyOptions{}); err != nil || !got.Equal {
			t.Errorf("%+v %v", got, err)
		}
	}
	var e *replicate.Error
	if _, err := replicate.Run(ctx, near.DB("a"), far.DB("No!"), replicate.Options{CreateTarget: true, Retry: quick.Retry}); !errors.As(err, &e) || e.Stage != "create" {
		t.Error(err)
	}
}
