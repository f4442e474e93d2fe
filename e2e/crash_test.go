package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// perSide is how many documents each side has that the other lacks, of about 1 KB.
const perSide = 10_000

// fill imports documents of about 1 KB.
func (w *world) fill(db, prefix string, n int) {
	w.Helper()
	var t strings.Builder
	for i := range n {
		fmt.Fprintf(&t, `{"_id":"%s-%06d","n":%d,"text":"%s"}`+"\n", prefix, i, i, strings.Repeat(fmt.Sprintf("%x lorem ipsum ", i*7919), 50))
	}
	w.loveseatIn(t.String(), "import", w.path(db), "-", "--json")
}

// TestKilledPeer: the program that replicates with a share is killed in the middle, and the job is done by another run.
func TestKilledPeer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.fill("alice/notes", "a", perSide)
	w.fill("bob/notes", "b", perSide)
	s := w.share(hub.db, "alice/notes")

	first := w.start(w.command("loveseat", "sync", w.path("bob/notes"), s.Link, "--json"))
	bob, alice := w.killInTheMiddle(first, "bob/notes", "alice/notes")
	c := w.sync(w.path("bob/notes"), s.Link)
	if want := int64(2*perSide - bob); c.Pulled.Written != want || c.Pulled.Read != want {
		t.Errorf("the second run pulled %+v, want %d", c.Pulled, want)
	}
	if most := int64(2*perSide - alice); c.Pushed.Written > most { // what had arrived may have been written after the kill
		t.Errorf("the second run pushed %+v, want at most %d", c.Pushed, most)
	}
	w.same2n(w.local("alice/notes"), w.local("bob/notes"))
	if c := w.sync(w.path("bob/notes"), s.Link); c.Pulled.Checked+c.Pushed.Checked != 0 {
		t.Errorf("the third run compared: %+v", c)
	}
}

// TestKilledSharer: the sharer is killed in the middle and started again; the sync finishes by itself.
func TestKilledSharer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.fill("alice/notes", "a", perSide)
	w.fill("bob/notes", "b", perSide)
	s := w.share(hub.db, "alice/notes")

	sync := w.start(w.command("loveseat", "sync", w.path("bob/notes"), s.Link, "--json"))
	w.killInTheMiddle(s.Proc, "bob/notes", "alice/notes")
	w.share(hub.db, "alice/notes")
	w.finishes(sync)
	w.same2n(w.local("alice/notes"), w.local("bob/notes"))
}

// TestKilledHub: the hub is killed in the middle of a sync with one of its databases and started again.
func TestKilledHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	url := hub.url + "/notes"
	w.fill("alice/notes", "a", perSide)
	w.fill("bob/notes", "b", perSide)
	w.sync(w.path("alice/notes"), url)

	sync := w.start(w.command("loveseat", "sync", w.path("bob/notes"), url, "--json"))
	w.killInTheMiddle(hub.Proc, "bob/notes", "hub/notes")
	w.hubAt(hub.addr(), "hub")
	w.finishes(sync)
	w.same2n(w.remote(url), w.local("bob/notes"))
}

// finishes waits until a one-shot sync that was disturbed completes without having written a document twice.
func (w *world) finishes(sync *proc.Proc) {
	w.Helper()
	var c complete
	w.next(sync, "complete", &c)
	w.ok(sync.Wait())
	if c.Pulled.Written != perSide || c.Pushed.Written > perSide || c.Pulled.Failed+c.Pushed.Failed > 0 {
		w.Errorf("the disturbed sync: %+v", c)
	}
}

func (w *world) same2n(a, b leaves) {
	w.Helper()
	if err := difference(a, b); err != nil || len(a) != 2*perSide {
		w.Errorf("%d documents, want %d; %v", len(a), 2*perSide, err)
	}
}

func (w *world) count(db string) int {
	w.Helper()
	return strings.Count(w.loveseat("export", w.path(db)), "\n")
}

// killInTheMiddle kills a program when one of the databases has grown by a third of what
// a sync will bring, and returns how many documents each has then.
func (w *world) killInTheMiddle(victim *proc.Proc, a, b string) (inA, inB int) {
	w.Helper()
	before := max(w.size(filepath.Dir(a)), w.size(filepath.Dir(b)))
	deadline, tick := time.After(waitTime), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for max(w.size(filepath.Dir(a)), w.size(filepath.Dir(b))) < before+perSide*1000/3 {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("the databases do not grow: %s", victim.Stderr())
		}
	}
	victim.Kill()
	inA, inB = w.count(a), w.count(b)
	w.Logf("killed when %s had %d of %d documents and %s %d", a, inA, 2*perSide, b, inB)
	if inA == 2*perSide && inB == 2*perSide {
		w.Fatal("that is not in the middle")
	}
	return inA, inB
}

// size is how many bytes are in a directory. Files may come and go meanwhile.
func (w *world) size(dir string) (n int64) {
	_ = filepath.WalkDir(w.path(dir), func(path string, _ fs.DirEntry, _ error) error {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}
