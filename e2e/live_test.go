package e2e

import (
	"fmt"
	"testing"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// TestLiveSync: while a live sync runs, both sides are edited by other processes.
func TestLiveSync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"first"}`)
	s := w.share(hub.db, "alice/notes")
	live := w.live(w.path("bob/notes"), s.Link)
	for round := range 5 {
		for _, side := range []string{"alice", "bob"} {
			w.edit(side+"/notes",
				fmt.Sprintf(`{"_id":"%s-%d"}`, side, round),         // new
				fmt.Sprintf(`{"_id":"both","round":%d}`, round),     // edited by both, alike or not
				fmt.Sprintf(`{"_id":"%s","round":%d}`, side, round), // edited by one
				fmt.Sprintf(`{"_id":"clash","%s":%d}`, side, round), // conflicts
				fmt.Sprintf(`{"_id":"%s-%d","_deleted":true}`, side, round-1))
		}
	}
	w.converge("alice/notes", "bob/notes", 7)
	w.endLive(live)
}

// TestLiveSyncSurvives: the hub is away for a while, and the sharer is killed and started again.
func TestLiveSyncSurvives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"first"}`)
	s := w.share(hub.db, "alice/notes")
	live := w.live(w.path("bob/notes"), s.Link)
	n := 1
	bothEdit := func(when string) {
		w.Helper()
		w.edit("alice/notes", fmt.Sprintf(`{"_id":"alice %s"}`, when))
		w.edit("bob/notes", fmt.Sprintf(`{"_id":"bob %s"}`, when))
		n += 2
	}
	bothEdit("before")
	w.converge("alice/notes", "bob/notes", n)

	hub.Kill()
	bothEdit("without the hub")
	w.converge("alice/notes", "bob/notes", n)
	hub = w.hubAt(hub.addr(), "hub")
	bothEdit("with the hub again")
	w.converge("alice/notes", "bob/notes", n)

	s.Kill()
	bothEdit("without the sharer")
	again := w.share(hub.db, "alice/notes")
	if again.ID != s.ID || again.Link != s.Link {
		t.Errorf("the restarted sharer has the id %s, was %s", again.ID, s.ID)
	}
	bothEdit("with the sharer again")
	w.converge("alice/notes", "bob/notes", n)
	w.endLive(live)
}

// TestLiveSyncWithHub: a live sync with a hub's database recovers when the hub is killed and started again.
func TestLiveSyncWithHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	url := hub.url + "/notes"
	w.edit("bob/notes", `{"_id":"first"}`)
	live := w.live(w.path("bob/notes"), url)
	w.eventually("the first document is in the hub", func() error { return w.has(url, "first") })
	for round := range 2 {
		hub.Kill()
		w.edit("bob/notes", fmt.Sprintf(`{"_id":"bob-%d"}`, round))
		hub = w.hubAt(hub.addr(), "hub")
		ask[any](w, "PUT", url+fmt.Sprintf("/hub-%d", round), "{}")
		w.eventually("bob's document is in the hub", func() error { return w.has(url, fmt.Sprintf("bob-%d", round)) })
		w.eventually("both have the same", func() error { return difference(w.local("bob/notes"), w.remote(url)) })
	}
	w.endLive(live)
}

func (w *world) has(url, id string) error {
	status, b, err := w.http("GET", url+"/"+id, "")
	if err == nil && status != 200 {
		err = fmt.Errorf("%d %s", status, b)
	}
	return err
}

func (w *world) live(a, b string) *proc.Proc {
	w.Helper()
	return w.start(w.command("loveseat", "sync", a, b, "--live", "--json"))
}

// endLive ends a live sync with Ctrl-C: it prints what it did and exits with status 0.
func (w *world) endLive(live *proc.Proc) {
	w.Helper()
	_ = live.Interrupt()
	var c complete
	w.next(live, "complete", &c)
	if c.Pulled.Written == 0 && c.Pushed.Written == 0 || c.Pulled.Failed+c.Pushed.Failed > 0 {
		w.Errorf("live sync: %+v", c)
	}
	if err := live.Wait(); err != nil {
		w.Errorf("after Ctrl-C: %v", err)
	}
}

// converge waits until both databases are equal and have n documents that are not deleted.
func (w *world) converge(a, b string, n int) {
	w.Helper()
	w.eventually("both sides have the same", func() error {
		x, y := w.local(a), w.local(b)
		if got := x.documents(); got != n {
			return fmt.Errorf("%s has %d documents, want %d", a, got, n)
		}
		return difference(x, y)
	})
}
