package peeradapter

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/share"
)

// Custom messages over a WebRTC data channel: many requests at once, one that is
// cancelled among them, a stream, and broadcasts both ways.
func TestMessages(t *testing.T) {
	hub := startHub(t)
	s := shareNotes(t, hub)
	cancelled := make(chan struct{})
	must(t, s.Handle("echo", func(_ context.Context, _ share.RemoteInfo, body json.RawMessage) (any, error) { return body, nil }))
	must(t, s.Handle("wait", func(ctx context.Context, _ share.RemoteInfo, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	}))
	must(t, s.Handle("count", func(context.Context, share.RemoteInfo, json.RawMessage) (any, error) {
		return share.Stream(func(yield func(any, error) bool) {
			for i := 0; i < 1000 && yield(i, nil); i++ {
			}
		}), nil
	}))
	peer := joined(t, hub)
	r, err := peer.Open(t.Context(), s.ID())
	must(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				want := fmt.Sprintf(`"%d.%d"`, i, j)
				if got, err := r.Request(ctx, "echo", fmt.Sprintf("%d.%d", i, j)); err != nil || string(got) != want {
					t.Errorf("%s: %s %v", want, got, err)
					return
				}
			}
		})
	}
	short, stop := context.WithCancel(ctx)
	time.AfterFunc(100*time.Millisecond, stop)
	if _, err := r.Request(short, "wait", nil); err == nil {
		t.Error("answered")
	}
	select {
	case <-cancelled:
	case <-ctx.Done():
		t.Error("the handler does not know that it was cancelled")
	}
	wg.Wait()
	n := 0
	for v, err := range r.Stream(ctx, "count", nil) {
		if err != nil || string(v) != fmt.Sprint(n) {
			t.Fatalf("%d: %s %v", n, v, err)
		}
		n++
	}
	if n != 1000 {
		t.Errorf("%d values", n)
	}
	broadcasts(ctx, t, s, r)
}

func broadcasts(ctx context.Context, t *testing.T, s *share.Share, r *share.Remote) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	here, there := make(chan string, 1000), make(chan string, 1000)
	wg.Go(func() {
		for m := range s.Messages(ctx) {
			here <- string(m.Message)
		}
	})
	wg.Go(func() {
		for m, err := range r.Messages(ctx) {
			if err == nil {
				there <- string(m.Message)
			}
		}
	})
	for heardHere, heardThere := false, false; !heardHere || !heardThere; { // until both listen
		must(t, s.Broadcast("down"))
		must(t, r.Broadcast(ctx, "up"))
		select {
		case m := <-here:
			heardHere = heardHere || m == `"up"`
		case m := <-there:
			heardThere = heardThere || m == `"down"`
		case <-ctx.Done():
			t.Fatal("nothing is heard")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
