package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// TestSoak edits both sides of a live sync for ten minutes while hub, sharer and syncing peer are
// killed and started again, each at random. Nothing is lost, and everything arrives. `make soak` runs it.
func TestSoak(t *testing.T) {
	if os.Getenv("LOVESEAT_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	w := newWorldFor(t, 20*time.Minute)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"first"}`)
	s := w.share(hub.db, "alice/notes")
	live := w.live(w.path("bob/notes"), s.Link)
	w.eventually("the live sync has begun", func() error { _, err := os.Stat(w.path("bob/notes.sqlite")); return err })
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	docs := 1
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); {
		for range 1 + random.IntN(5) {
			side := []string{"alice", "bob"}[random.IntN(2)]
			w.edit(side+"/notes", fmt.Sprintf(`{"_id":"%s-%d","_attachments":{"a":%s}}`, side, docs, inline(bytes256)), fmt.Sprintf(`{"_id":"clash-%d","%s":%d}`, random.IntN(20), side, docs))
			docs++
		}
		switch random.IntN(4) {
		case 0:
			hub.Kill()
			hub = w.hubAt(hub.addr(), "hub")
		case 1:
			s.Kill()
			s = w.share(hub.db, "alice/notes")
		case 2:
			live.Kill()
			live = w.live(w.path("bob/notes"), s.Link)
		default:
			w.eventually("both sides have the same", func() error { return difference(w.local("alice/notes"), w.local("bob/notes")) })
		}
	}
	w.eventually("both sides have the same", func() error { return difference(w.local("alice/notes"), w.local("bob/notes")) })
	for key := range w.local("alice/notes") {
		if key[:5] != "clash" {
			docs--
		}
	}
	if docs != 0 {
		t.Errorf("%d documents are missing", docs)
	}
}
