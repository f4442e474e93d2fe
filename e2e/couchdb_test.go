package e2e

import (
	"strings"
	"testing"
)

// TestHubsOnForeignServer: two hubservers keep their databases on a
// CouchDB-compatible server that is none of ours; peers on different ones meet and replicate.
func TestHubsOnForeignServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.foreign()
	one, two := w.hub("one", "--couchdb", server), w.hub("two", "--couchdb", server)
	w.edit("alice/notes", `{"_id":"a"}`, `{"_id":"b","_attachments":{"x":`+inline(bytes256)+`}}`)
	w.edit("bob/notes", `{"_id":"c"}`)
	s := w.share(one.db, "alice/notes", "--name", "Notes")
	if l := w.ls(two.db); len(l) != 1 || l[0].ID != s.ID {
		t.Errorf("ls at the other hub: %+v", l)
	}
	link := strings.Replace(s.Link, one.url, two.url, 1)
	if c := w.sync(w.path("bob/notes"), link); c.Pulled.Written != 2 || c.Pushed.Written != 1 {
		t.Errorf("sync: %+v", c)
	}
	w.equal(map[string]leaves{"alice": w.local("alice/notes"), "bob": w.local("bob/notes")})
	if n := w.docCount(server + "/hub"); n < 1 {
		t.Errorf("%d documents at the server", n)
	}
	w.ok(s.Stop())
}
