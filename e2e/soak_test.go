package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// TestSoak edits both sides of a live sync for ten minutes (or LOVESEAT_SOAK, such as 90s) while hub, sharer and syncing peer are
// killed and started again, each at random. Nothing is lost, and everything arrives. `make soak` runs it.
func TestSoak(t *testing.T) {
	if os.Getenv("LOVESEAT_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	length, err := time.ParseDuration(os.Getenv("LOVESEAT_SOAK"))
	if err != nil {
		length = 10 * time.Minute
	}
	w := newWorldFor(t, length+10*time.Minute)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"first"}`)
	s := w.share(hub.db, "alice/notes")
	start := func() *proc.Proc {
		live := w.live(w.path("bob/notes"), s.Link)
		w.next(live, "progress", nil) // before that it needs the hub
		return live
	}
	live := start()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	docs := 1
	for end := time.Now().Add(length); time.Now().Before(end); {
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
			live = start()
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
