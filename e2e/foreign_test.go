package e2e

import (
	"fmt"
	"testing"
)

// foreign starts a CouchDB-compatible server that is none of ours, and returns its URL.
func (w *world) foreign() string {
	w.Helper()
	var e struct{ URL string }
	w.next(w.start(w.command("node", "pouchdb/server.mjs")), "listening", &e)
	return e.URL
}

// TestForeignHub: peers meet on a server that knows nothing of Loveseat.
func TestForeignHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.foreign()
	hub := server + "/hub"
	ask[any](w, "PUT", hub, "")
	watch := w.start(w.command("loveseat", "ls", hub, "--watch", "--json"))
	w.edit("alice/notes", `{"_id":"a"}`, `{"_id":"b","_attachments":{"x":`+inline(bytes256)+`}}`)
	s := w.share(hub, "alice/notes", "--name", "Notes", "--info", `{"x":1}`)
	var seen listed
	w.next(watch, "new", &seen)
	if seen.ID != s.ID || seen.Name != "Notes" || string(seen.Info) != `{"x":1}` {
		t.Errorf("ls --watch: %+v", seen)
	}
	if l := w.ls(hub); len(l) != 1 || l[0].ID != s.ID {
		t.Errorf("ls: %+v", l)
	}
	url := w.open(hub, "Notes")
	w.edit("bob/notes", `{"_id":"c"}`)
	if c := w.sync(w.path("bob/notes"), s.Link); c.Pulled.Written != 2 || c.Pushed.Written != 1 || c.Route != "host" {
		t.Errorf("sync: %+v", c)
	}
	w.equal(map[string]leaves{"alice": w.local("alice/notes"), "bob": w.local("bob/notes"), "the open share": w.remote(url)})
	w.ok(s.Stop())
	w.next(watch, "gone", &seen)
	if seen.ID != s.ID {
		t.Errorf("ls --watch: gone is %+v", seen)
	}
}

// TestSyncWithForeignServer: a local database and one of a foreign server, both ways.
func TestSyncWithForeignServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url := w.foreign() + "/notes"
	p := w.pouch()
	ask[any](w, "PUT", url, "")
	w.fillPouchAndHub(p, "memory:other", url)
	w.edit("ours/notes", `{"_id":"clash","by":"us"}`, `{"_id":"ours ☃","_attachments":{"ünï ☃.bin":`+inline(bytes256)+`}}`, `{"_id":"gone","x":1}`)
	w.edit("ours/notes", `{"_id":"gone","_deleted":true}`)

	c := w.sync(w.path("ours/notes"), url)
	if c.Pushed.Written != 3 {
		t.Errorf("sync: %+v", c)
	}
	ours := w.local("ours/notes")
	w.equal(map[string]leaves{"ours": ours, "the foreign server": w.remote(url)})
	if got := fmt.Sprint(ours.conflicted()); got != "[clash three]" {
		t.Errorf("conflicts in %s", got)
	}
	if c := w.sync(w.path("ours/notes"), url); c.Pulled.Checked+c.Pushed.Checked != 0 {
		t.Errorf("second sync: %+v", c)
	}
}
