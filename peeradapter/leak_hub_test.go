package peeradapter

import (
	"os"
	"runtime"
	"testing"
)

// Peers that join a hub, open a share and leave, again and again, leave nothing behind at the
// sharer nor in the hub: no goroutine, no descriptor, no document. `make soak` does it a thousand times.
func TestNoLeaksInHub(t *testing.T) {
	times := 10
	if os.Getenv("LOVESEAT_SOAK") != "" {
		times = 1000
	}
	hub := startHub(t)
	s := shareNotes(t, hub)
	db := hubDB(t, hub)
	connect := func() {
		peer, err := Join(t.Context(), db, Options{Logger: discard})
		must(t, err)
		r, err := peer.Open(t.Context(), s.ID())
		must(t, err)
		must(t, r.DB().Get(t.Context(), "hello").Err())
		must(t, peer.Close())
	}
	documents := func() int64 {
		stats, err := db.Stats(t.Context())
		must(t, err)
		return stats.DocCount
	}
	for range 3 { // what is made once
		connect()
	}
	waitFor(t, func() bool { return documents() == 1 })
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range times {
		connect()
	}
	if n := documents(); n != 1 {
		t.Logf("%d documents at first", n)
	}
	waitFor(t, func() bool { return documents() == 1 })
	const idle = 8 // what a few more idle connections to the hub have
	waitFor(t, func() bool { return openFiles(t) <= files+idle })
	waitFor(t, func() bool { return runtime.NumGoroutine() <= goroutines+idle })
}
