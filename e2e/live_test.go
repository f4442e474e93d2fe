package e2e

import (
	"fmt"
	"strings"
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
	w.tellsProgress(live)
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

// tellsProgress: a sync's progress tells both directions, and what goes on at either end of each.
func (w *world) tellsProgress(live *proc.Proc) {
	w.Helper()
	var p struct {
		Stage      string
		Docs       int64
		Total      int64
		Bytes      *int64
		Rate       *float64 `json:"docs_per_second"`
		ETA        *float64 `json:"eta_seconds"`
		Directions []struct {
			Direction, State string
			Pending          int64
			Source, Target   *struct{ Calls, Docs, Bytes int64 }
		}
	}
	w.next(live, "progress", &p)
	if p.Stage != "syncing" || p.Bytes == nil || p.Rate == nil || p.ETA == nil || len(p.Directions) == 0 {
		w.Errorf("%+v", p)
	}
	for _, d := range p.Directions {
		if d.Direction != "push" && d.Direction != "pull" || d.State == "" || d.Source == nil || d.Target == nil {
			w.Errorf("%+v", d)
		}
	}
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

// TestLiveSyncOutlivesTheShare: the sharer ends its share properly; a live sync waits until it shares again, and so does
// one that is started meanwhile.
func TestLiveSyncOutlivesTheShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"first"}`)
	w.edit("bob/notes", `{"_id":"second"}`)
	s := w.share(hub.db, "alice/notes")
	live := w.live(w.path("bob/notes"), s.Link)
	w.converge("alice/notes", "bob/notes", 2)
	w.ok(s.Stop())
	w.next(live, "waiting", nil)
	w.edit("alice/notes", `{"_id":"alice"}`)
	w.edit("bob/notes", `{"_id":"bob"}`)
	late := w.live(w.path("carol/notes"), s.Link)
	w.next(late, "waiting", nil)
	w.share(hub.db, "alice/notes")
	w.converge("alice/notes", "bob/notes", 4)
	w.converge("alice/notes", "carol/notes", 4)
	w.endLive(late)
	if c := w.endLive(live); c.Pulled.Written != 2 || c.Pushed.Written != 2 {
		t.Errorf("counts of all replications together: %+v", c)
	}
}

// TestLiveSyncBeforeTheHub: a live sync may be started before the hub is; one that is not live says what is wrong.
func TestLiveSyncBeforeTheHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"first"}`)
	s := w.share(hub.db, "alice/notes")
	w.edit("bob/notes", `{"_id":"second"}`)
	hub.Kill()
	for _, b := range []string{hub.url + "/notes", s.Link} {
		if r := w.run("", w.command("loveseat", "sync", w.path("bob/notes"), b)); r.status != 1 || !strings.Contains(r.stderr, "refused") {
			t.Errorf("status %d: %s", r.status, r.stderr)
		}
	}
	live := []*proc.Proc{w.live(w.path("bob/notes"), hub.url+"/notes"), w.live(w.path("bob/notes"), s.Link)}
	for _, p := range live {
		w.next(p, "waiting", nil)
	}
	w.hubAt(hub.addr(), "hub")
	w.converge("alice/notes", "bob/notes", 2)
	w.eventually("both are in the hub", func() error { return difference(w.local("bob/notes"), w.remote(hub.url+"/notes")) })
	for _, p := range live {
		w.endLive(p)
	}
	for _, wrong := range []string{hub.url + "/No", w.path("none") + "/"} { // waiting would not help
		if r := w.run("", w.command("loveseat", "sync", "--live", w.path("bob/notes"), wrong)); r.status == 0 {
			t.Errorf("%s: status %d: %s", wrong, r.status, r.stderr)
		}
	}
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
func (w *world) endLive(live *proc.Proc) (c complete) {
	w.Helper()
	_ = live.Interrupt()
	w.next(live, "complete", &c)
	if c.Pulled.Written == 0 && c.Pushed.Written == 0 || c.Pulled.Failed+c.Pushed.Failed > 0 {
		w.Errorf("live sync: %+v", c)
	}
	if err := live.Wait(); err != nil {
		w.Errorf("after Ctrl-C: %v", err)
	}
	return c
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
