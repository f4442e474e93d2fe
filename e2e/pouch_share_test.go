package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestPouchDBWithShare: a real PouchDB pulls, pushes and syncs live with the URL of `loveseat open`.
func TestPouchDBWithShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.importCountries("alice/countries")
	w.share(hub.db, "alice/countries", "--name", "all")
	url := w.open(hub.db, "all")
	p := w.pouch()
	local := w.path("pouch")

	var c counts
	p.do("replicate", step{"from": url, "to": local}, &c)
	if c.Written != 250 || c.Failed != 0 {
		t.Errorf("pull: %+v", c)
	}
	w.equal(map[string]leaves{"PouchDB": p.leaves(local), "alice": w.local("alice/countries")})
	p.do("replicate", step{"from": url, "to": local}, &c)
	if c.Read != 0 {
		t.Errorf("second pull: %+v", c)
	}
	p.bulk(local, `{"_id":"clash","by":"pouch"}`, `{"_id":"from PouchDB","_attachments":{"ünï ☃.bin":`+inline(bytes256)+`}}`,
		fmt.Sprintf(`{"_id":"FRA","_rev":"%s","_deleted":true}`, p.rev(local, "FRA")))
	w.edit("alice/countries", `{"_id":"clash","by":"alice"}`, `{"_id":"FRA","by":"alice"}`, `{"_id":"DEU","_deleted":true}`)
	p.do("replicate", step{"from": local, "to": url}, &c)
	if c.Written != 3 || c.Failed != 0 {
		t.Errorf("push: %+v", c)
	}
	p.sync(local, url)
	alice := w.local("alice/countries")
	w.equal(map[string]leaves{"PouchDB": p.leaves(local), "alice": alice, "the open share": w.remote(url)})
	if got := alice.conflicted(); fmt.Sprint(got) != "[clash]" {
		t.Errorf("conflicts in %v", got)
	}
}

// TestPouchDBLiveWithShare: edits of a sharer and of a PouchDB reach each other through an open share.
func TestPouchDBLiveWithShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"first"}`)
	w.share(hub.db, "alice/notes")
	url := w.open(hub.db, "notes")
	p := w.pouch()
	w.pouchLive(p, "memory:live", url, func(round int) {
		w.edit("alice/notes", fmt.Sprintf(`{"_id":"alice-%d"}`, round), fmt.Sprintf(`{"_id":"both-%d","by":"alice"}`, round))
	})
	w.usePouchOn(p, url)
}

// TestReadOnlyShare: from a read-only share everybody can pull, with checkpoints; writes are refused one by one.
func TestReadOnlyShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"a"}`, `{"_id":"b","_attachments":{"x":`+inline("x")+`}}`)
	s := w.share(hub.db, "alice/notes", "--read-only")
	url := w.open(hub.db, "notes")
	if l := w.ls(hub.db); len(l) != 1 || l[0].Access != "read" {
		t.Errorf("ls: %+v", l)
	}
	before := w.local("alice/notes")

	p := w.pouch()
	var c counts
	p.do("replicate", step{"from": url, "to": "memory:pouch"}, &c)
	if c.Written != 2 {
		t.Errorf("PouchDB's pull: %+v", c)
	}
	p.do("replicate", step{"from": url, "to": "memory:pouch"}, &c)
	if c.Read != 0 {
		t.Errorf("PouchDB's second pull: %+v", c)
	}
	p.bulk("memory:pouch", `{"_id":"c"}`, `{"_id":"d"}`)
	p.do("replicate", step{"from": "memory:pouch", "to": url}, &c)
	if c.Written != 0 || c.Failed != 2 || len(c.Errors) != 2 || c.Errors[0].Error != "forbidden" || !strings.Contains(c.Errors[0].Reason, "read") {
		t.Errorf("PouchDB's push: %+v", c)
	}
	status, b, err := w.http("PUT", url+"/e", "{}")
	if err != nil || status != 403 || !strings.Contains(string(b), `"forbidden"`) {
		t.Errorf("PUT: %d %s %v", status, b, err)
	}

	w.sync(w.path("bob/notes"), s.Link, "--pull")
	if c := w.sync(w.path("bob/notes"), s.Link, "--pull"); c.Pulled.Checked != 0 {
		t.Errorf("our second pull: %+v", c)
	}
	w.edit("bob/notes", `{"_id":"c"}`, `{"_id":"d"}`)
	r := w.run("", w.command("loveseat", "sync", w.path("bob/notes"), s.Link, "--json"))
	var done complete
	if err := json.Unmarshal([]byte(lastLine(r.stdout)), &done); err != nil || done.Pushed.Failed != 2 || done.Pushed.Written != 0 ||
		len(done.Pushed.Errors) != 2 || done.Pushed.Errors[0].Error != "forbidden" {
		t.Errorf("our push: status %d, %s %s", r.status, r.stdout, r.stderr)
	}
	w.equal(map[string]leaves{"alice before": before, "alice after": w.local("alice/notes")})
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// TestWhatAShareRefuses: an open share gives documents, and nothing that would harm the sharer.
func TestWhatAShareRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"a"}`)
	w.edit("alice/private", `{"_id":"secret"}`)
	w.share(hub.db, "alice/notes")
	url := w.open(hub.db, "notes")
	for _, tt := range []struct {
		method, path, body string
	}{
		{"DELETE", "", ""},
		{"PUT", "/_design/x", `{"validate_doc_update":"function(){}"}`},
		{"PUT", "/_security", `{}`},
		{"POST", "/_compact", `{}`},
		{"POST", "/_purge", `{"a":["1-967a00dff5e02add41819138abb3284d"]}`},
		{"PUT", "/_revs_limit", `1`},
		{"GET", "/../private/secret", ""},
		{"GET", "/..%2fprivate/secret", ""},
		{"GET", "/../_all_dbs", ""},
		{"POST", "/_temp_view", `{"map":"function(){}"}`},
	} {
		status, b, err := w.http(tt.method, url+tt.path, tt.body)
		if err != nil || status/100 != 4 || !json.Valid(b) {
			// a listing of databases may be told if it names nothing but this one
			if tt.path == "/../_all_dbs" && status == 200 && strings.TrimSpace(string(b)) == `["notes"]` {
				continue
			}
			t.Errorf("%s %s: %d %s %v", tt.method, tt.path, status, b, err)
		}
	}
	if n := w.docCount(url); n != 1 {
		t.Errorf("%d documents", n)
	}
}
