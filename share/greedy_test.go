package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/fair"
)

// A peer that broadcasts without end drowns no other's message in the queues of those who listen slowly.
func TestBroadcastFlood(t *testing.T) {
	var m messages
	h, leave := m.hear("")
	defer leave()
	m.broadcast(Message{From: "ann", Message: []byte("1")}, "x")
	for i := range 10 * hearerQueue {
		m.broadcast(Message{From: "mallory", Message: fmt.Append(nil, i)}, "x")
	}
	m.broadcast(Message{From: "bob", Message: []byte("2")}, "x")
	got := map[string]int{}
	last := ""
	for range len(h.queue) {
		msg := <-h.queue
		if got[msg.From]++; msg.From == "mallory" {
			last = string(msg.Message)
		}
	}
	if got["ann"] != 1 || got["bob"] != 1 || got["mallory"] != hearerQueue-2 || last != fmt.Sprint(10*hearerQueue-1) {
		t.Errorf("%v, the last is %s", got, last)
	}
}

// Custom requests of one user's many keys leave room for others'.
func TestRequestsOfManyKeys(t *testing.T) {
	var m messages
	user := func() fair.Claim { return fair.Claim{Group: "user:mallory"} }
	ended := 0
	for i := range 2 * maxRequests {
		if _, err := m.begin(fmt.Sprint("mallory", i), user, func(error) { ended++ }); err != nil {
			t.Fatal(err)
		}
		if i == 10 {
			if _, err := m.begin("ann", func() fair.Claim { return fair.Claim{Group: "ann"} }, func(error) { t.Error("hers was ended") }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := m.begin("bob", func() fair.Claim { return fair.Claim{Group: "bob"} }, nil); err != nil {
		t.Error(err)
	}
	if m.places.Held() != maxRequests || ended != maxRequests+2 {
		t.Errorf("%d under way, %d ended", m.places.Held(), ended)
	}
	for range maxPeerRequests {
		_, _ = m.begin("eve", func() fair.Claim { return fair.Claim{Group: "eve"} }, func(error) {})
	}
	if _, err := m.begin("eve", func() fair.Claim { return fair.Claim{Group: "eve"} }, func(error) {}); err == nil {
		t.Error("no bound for one peer")
	}
}

// The owner is asked about few peers at a time, and about a newcomer also while one user's many keys wait.
func TestQuestionsAreBounded(t *testing.T) {
	asked := make(chan string, 1000)
	a := &admission{claim: func(peer string) fair.Claim {
		if peer != "ann" {
			return fair.Claim{Group: "user:mallory"}
		}
		return fair.Claim{Group: peer}
	}, approve: func(ctx context.Context, i RemoteInfo) (Approval, error) {
		asked <- i.Peer
		if i.Peer == "ann" {
			return Once, nil
		}
		<-ctx.Done()
		return Refuse, ctx.Err()
	}}
	a.asks.Max, a.asks.Each, a.asks.Settle = maxAsks, asksEach, askAgain
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 100)
	for i := range 100 {
		go func() { results <- a.ask(ctx, RemoteInfo{Peer: fmt.Sprint("mallory", i)}) }()
	}
	for range 100 - asksEach {
		if err := <-results; !errors.Is(err, errAsked) {
			t.Error(err)
		}
	}
	if err := a.ask(ctx, RemoteInfo{Peer: "ann"}); err != nil {
		t.Error(err)
	}
	cancel()
	for range asksEach {
		<-results
	}
	if n := len(asked); n != asksEach+1 {
		t.Errorf("%d questions", n)
	}
}

// Whoever writes a lot through a share does not make it forget what others wrote.
func TestLedgerKeepsOthers(t *testing.T) {
	w := newWorld(t)
	w.create("notes")
	k := newKeeper(w, nil)
	l := newLedger(k.db, "x", slog.New(slog.DiscardHandler))
	rev := func(i int) couch.Rev { return couch.Rev{Gen: 1, Hash: fmt.Sprintf("%032x", i)} }
	for i := range 100 {
		l.note("ann", []revKey{{fmt.Sprint("ann", i), rev(i)}})
	}
	var batch []revKey
	for i := range 3 * authorSegments * segmentSize {
		if batch = append(batch, revKey{"flood", rev(i)}); len(batch) == segmentSize {
			l.note("mallory", batch)
			batch = nil
		}
	}
	for i := range 100 {
		if who, err := l.author(w.ctx, fmt.Sprint("ann", i), rev(i)); who != "ann" || err != nil {
			t.Fatalf("revision %d: %q %v", i, who, err)
		}
	}
	if n := len(l.by); n > authorSegments*segmentSize {
		t.Errorf("%d revisions are remembered", n)
	}
}

// One peer's refused writes do not hide another's.
func TestRefusedWritesOfOthers(t *testing.T) {
	var r refusedWrites
	r.add([]RefusedWrite{{Peer: "ann", Time: time.Now()}})
	for range 2 * maxRefused {
		r.add([]RefusedWrite{{Peer: "mallory"}})
	}
	if len(r.all) != maxRefused || r.all[0].Peer != "ann" {
		t.Errorf("%d, the first of %s", len(r.all), r.all[0].Peer)
	}
}
