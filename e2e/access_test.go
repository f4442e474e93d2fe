package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestAccess: who may open a share, what of it is seen, and how that ends, by the programs.
func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"a","open":true}`, `{"_id":"b","open":false}`, `{"_id":"c","open":true}`)
	s := w.start(w.command("loveseat", "share", hub.db, w.path("alice/notes"), "--json", "--invite", "--selector", `{"open":true}`, "--expires", "24h"))
	var e struct{ ID, Link, Invite string }
	w.next(s, "shared", &e)
	_, secret, _ := strings.Cut(e.Invite, "#")
	if !strings.HasPrefix(e.Invite, e.Link+"#") || len(secret) != 26 {
		t.Fatalf("%+v", e)
	}
	refused := func(reason string, args ...string) {
		t.Helper()
		if r := w.run("", w.command("loveseat", args...)); r.status != 1 || !strings.Contains(r.stderr, reason) {
			t.Errorf("%v: status %d, %s", args, r.status, r.stderr)
		}
	}
	refused("needs an invite", "sync", w.path("bob/notes"), e.Link)
	refused("invite is not valid", "sync", w.path("bob/notes"), e.Link+"#"+strings.Repeat("a", 26))
	w.loveseat("sync", w.path("bob/notes"), e.Invite)
	if got := w.loveseat("export", w.path("bob/notes")); strings.Contains(got, `"b"`) || strings.Count(got, "\n") != 2 {
		t.Errorf("replicated: %s", got)
	}
	if i := w.ls(hub.db); len(i) != 1 || i[0].DocCount != 2 {
		t.Errorf("ls: %+v", i)
	}
	// What is written within the limits comes back, and says who wrote it.
	w.edit("bob/notes", `{"_id":"d","open":true}`, `{"_id":"e"}`)
	w.run("", w.command("loveseat", "sync", w.path("bob/notes"), e.Link, "--invite", secret))
	var denied struct {
		Peer   string
		Writes []struct{ ID string }
	}
	if w.next(s, "write_refused", &denied); len(denied.Writes) != 1 || denied.Writes[0].ID != "e" {
		t.Errorf("%+v", denied)
	}
	w.eventually("the author is remembered", func() error {
		if got := w.loveseat("authors", w.path("alice/notes"), "d"); !strings.Contains(got, denied.Peer) {
			return fmt.Errorf("authors: %s", got)
		}
		return nil
	})
	if got := w.loveseat("authors", w.path("alice/notes"), "a"); !strings.HasSuffix(got, "  -\n") {
		t.Errorf("authors of the owner's: %s", got)
	}
	// Access is taken away, and the share ended, from another process of the identity.
	refused("its owner alone", "revoke", hub.db, e.ID)
	w.loveseat("--identity", w.path("alice"), "revoke", hub.db, e.ID, denied.Peer[:9], "--reason", "Bye.")
	w.next(s, "revoked", nil)
	refused("Access to this share was revoked. Bye.", "sync", w.path("bob/notes"), e.Invite)
	w.loveseat("sync", w.path("carol/notes"), e.Invite)
	w.loveseat("--identity", w.path("alice"), "revoke", hub.db, e.ID)
	w.next(s, "ended", nil)
	refused("No live share", "sync", w.path("carol/notes"), e.Invite)
}

// TestApprove: a program answers whether to let peers in.
func TestApprove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"a"}`)
	share := w.command("loveseat", "share", hub.db, w.path("alice/notes"), "--json", "--approve")
	stdin, answers := io.Pipe()
	share.Stdin = stdin
	s := w.start(share)
	t.Cleanup(func() { _ = answers.Close() })
	var e struct{ Link string }
	w.next(s, "shared", &e)
	sync := make(chan result, 1)
	try := func(db string) {
		sync <- w.run("", w.command("loveseat", "sync", w.path(db), e.Link, "--device", "phone"))
	}
	var asks struct {
		Peer string
		Info struct{ Device string }
	}
	go try("bob/notes")
	w.next(s, "asks", &asks)
	if asks.Info.Device != "phone" {
		t.Errorf("%+v", asks)
	}
	fmt.Fprintf(answers, "{\"peer\":\"another\",\"answer\":\"once\"}\n{\"peer\":%q,\"answer\":\"always\"}\n", asks.Peer)
	if r := <-sync; r.status != 0 {
		t.Errorf("approved: %s", r.stderr)
	}
	go try("bob/notes") // is not asked about again
	if r := <-sync; r.status != 0 {
		t.Errorf("approved for good: %s", r.stderr)
	}
	go try("carol/notes")
	w.next(s, "asks", &asks)
	fmt.Fprintf(answers, "{\"answer\":\"refuse\",\"reason\":\"Who are you?\"}\n")
	if r := <-sync; r.status != 1 || !strings.Contains(r.stderr, "Who are you?") {
		t.Errorf("refused: %d %s", r.status, r.stderr)
	}
	// A person is asked on a terminal only.
	if r := w.run("y\n", w.command("loveseat", "share", hub.db, w.path("alice/notes"), "--approve")); r.status != 2 || !strings.Contains(r.stderr, "terminal") {
		t.Errorf("without a terminal: %d %s", r.status, r.stderr)
	}
}

// TestAllowedUser: a share for a user of the hub is opened by that user's peers alone.
func TestAllowedUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "LOVESEAT_ADMIN=root:pw")
	hub := w.hub("hub")
	as := func(name string) string { return strings.Replace(hub.url, "http://", "http://"+name+":pw@", 1) }
	for _, name := range []string{"ann", "bob", "eve"} {
		ask[any](w, "PUT", as("root")+"/_users/org.couchdb.user:"+name, `{"_id":"org.couchdb.user:`+name+`","name":"`+name+`","password":"pw","type":"user","roles":[]}`)
	}
	w.edit("ann/notes", `{"_id":"x"}`)
	s := w.share(as("ann")+"/hub", "ann/notes", "--allow", "user:bob")
	for name, status := range map[string]int{"bob": 0, "eve": 1} {
		cmd := w.command("loveseat", "sync", w.path(name+"/notes"), s.Link)
		cmd.Env = append(cmd.Env, "LOVESEAT_HUB="+as(name)+"/hub")
		if r := w.run("", cmd); r.status != status || status == 1 && !strings.Contains(r.stderr, "listed") {
			t.Errorf("%s: status %d, %s", name, r.status, r.stderr)
		}
	}
}
