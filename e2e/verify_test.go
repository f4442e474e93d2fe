package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestVerify: the command compares a local database with one of a hub and with a share.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"a","_attachments":{"x":`+inline(bytes256)+`}}`, `{"_id":"b"}`, `{"_id":"c"}`)
	w.edit("alice/notes", `{"_id":"c","_deleted":true}`)
	s := w.share(hub.db, "alice/notes")
	url := hub.url + "/notes"
	w.sync(w.path("alice/notes"), url)
	w.sync(w.path("bob/notes"), s.Link)
	for _, other := range []string{url, s.Link} {
		if out := w.loveseat("verify", w.path("bob/notes"), other); !strings.HasPrefix(out, "equal: 3 documents with 3 leaf revisions") {
			t.Errorf("verify %s: %s", other, out)
		}
	}
	w.edit("alice/notes", `{"_id":"a","by":"alice"}`)
	w.edit("bob/notes", `{"_id":"a","by":"bob"}`, `{"_id":"d"}`)
	r := w.run("", w.command("loveseat", "verify", w.path("bob/notes"), s.Link))
	if r.status != 1 || !strings.Contains(r.stdout, "a: only in A: 2-") || !strings.Contains(r.stdout, "; only in B: 2-") || !strings.Contains(r.stdout, "d: only in A: 1-") {
		t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
	}
	r = w.run("", w.command("loveseat", "verify", w.path("bob/notes"), s.Link, "--json"))
	sum := lastEvent[struct {
		A, B        struct{ Docs, Leaves int64 }
		Differences int
	}](w, r.stdout, "different")
	if r.status != 1 || sum.Differences != 2 || sum.A.Docs != 4 || sum.B.Docs != 3 {
		t.Errorf("status %d: %+v", r.status, sum)
	}
	w.sync(w.path("bob/notes"), s.Link)
	w.loveseat("verify", w.path("bob/notes"), s.Link)
	if out := w.loveseat("conflicts", w.path("bob/notes")); !strings.HasPrefix(out, "a: 2-") || strings.Count(out, "\n") != 1 {
		t.Errorf("conflicts: %s", out)
	}
	if r := w.run("", w.command("loveseat", "verify", w.path("bob/notes"), w.path("nobody/notes"))); r.status != 1 || !strings.Contains(r.stderr, "there is no local database") {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
}

// TestSyncSelects: the flags that select what a sync copies.
func TestSyncSelects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	url := hub.url + "/notes"
	for i := range 20 {
		w.edit("alice/notes", fmt.Sprintf(`{"_id":"d%02d","n":%d}`, i, i))
	}
	w.sync(w.path("alice/notes"), url)
	for i, tt := range []struct {
		flags []string
		want  int64
	}{
		{[]string{"--doc-ids", "d01,d02,none"}, 2},
		{[]string{"--selector", `{"n":{"$lt":5}}`}, 5},
		{[]string{"--winners"}, 20},
		{[]string{"--since", "now"}, 0},
	} {
		c := w.sync(append([]string{w.path(fmt.Sprint("bob", i, "/notes")), url, "--pull"}, tt.flags...)...)
		if c.Pulled.Written != tt.want {
			t.Errorf("%v: %+v", tt.flags, c)
		}
	}
	for i, tt := range []struct {
		flags []string
		words string
	}{
		{[]string{"--pull", "--filter", "app/mine", "--param", "who=me"}, "no JavaScript runs here"},
		{[]string{"--create=false"}, "there is no"},
		{[]string{"--doc-ids", "a", "--selector", "{}"}, "one of --doc-ids"},
		{[]string{"--selector", "{"}, "not JSON"},
		{[]string{"--since", "3"}, "--push or --pull"},
		{[]string{"--param", "a=b"}, "--filter"},
	} {
		r := w.run("", w.command("loveseat", append([]string{"sync", w.path(fmt.Sprint("carol", i, "/notes")), url}, tt.flags...)...))
		if r.status == 0 || !strings.Contains(r.stderr, tt.words) {
			t.Errorf("%v: status %d: %s", tt.flags, r.status, r.stderr)
		}
	}
}

// TestDesignFilterOfAServer: a server that runs JavaScript filters what is pulled from it.
func TestDesignFilterOfAServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url := w.foreign() + "/notes"
	ask[any](w, "PUT", url, "")
	ask[any](w, "PUT", url+"/_design/app", `{"filters":{"mine":"function (doc, req) { return doc.owner === req.query.who; }"}}`)
	for i := range 10 {
		ask[any](w, "PUT", fmt.Sprintf("%s/d%d", url, i), fmt.Sprintf(`{"owner":"%s"}`, []string{"ann", "bea"}[i%2]))
	}
	flags := []string{w.path("ann/notes"), url, "--pull", "--filter", "app/mine", "--param", "who=ann"}
	if c := w.sync(flags...); c.Pulled.Written != 5 {
		t.Errorf("%+v", c)
	}
	if c := w.sync(flags...); c.Pulled.Checked != 0 {
		t.Errorf("the second sync compares: %+v", c)
	}
	flags[len(flags)-1] = "who=bea"
	if c := w.sync(flags...); c.Pulled.Written != 5 {
		t.Errorf("with another parameter: %+v", c)
	}
}
