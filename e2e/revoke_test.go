package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestRevokeWithoutSharer: access is taken away while nobody serves the share, whether its process has
// ended or was killed, and that holds when it is served again; a dead one's entry is taken out of the hub.
func TestRevokeWithoutSharer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*sharer) error{
		"ended":  func(s *sharer) error { return s.Stop() },
		"killed": func(s *sharer) error { s.Kill(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			hub := w.hub("hub")
			w.edit("alice/notes", `{"_id":"a"}`)
			w.edit("bob/notes", `{"_id":"b"}`)
			s := w.share(hub.db, "alice/notes", "--name", "diary")
			w.sync(w.path("bob/notes"), s.Link) // bob has written, and is known
			bob := w.peerID("bob")
			w.eventually("the author is remembered", func() error { return w.says(bob, "authors", w.path("alice/notes"), "b") })
			w.ok(end(s))
			alice := []string{"--identity", w.path("alice"), "revoke", hub.db}
			if r := w.run("", w.command("loveseat", "--identity", w.path("alice"), "revoke", hub.db, "unknown", bob)); r.status != 1 || !strings.Contains(r.stderr, "no such database") || !strings.Contains(r.stderr, "--identity DIR") {
				t.Errorf("another share: status %d %s", r.status, r.stderr)
			}
			withdrawn := make(chan result, 1)
			go func() { // at the same time: both wait for an answer
				withdrawn <- w.run("", w.command("loveseat", append(slices.Clip(alice), "diary", "--json")...))
			}()
			done := lastEvent[struct{ Peer, DB string }](w, w.loveseat(append(slices.Clip(alice), s.ID, bob[:9], "--reason", "Bye.", "--json")...), "revoked_stored")
			if done.Peer != bob || done.DB != "notes" {
				t.Errorf("%+v", done)
			}
			if r := <-withdrawn; (name == "killed") != strings.Contains(r.stdout, `"event":"withdrawn"`) || (name == "killed") != (r.status == 0) {
				t.Errorf("withdrawn: status %d %s %s", r.status, r.stdout, r.stderr)
			}
			if left := w.ls(hub.db); len(left) != 0 {
				t.Errorf("the hub still lists %+v", left)
			}
			if r := w.run("", w.command("loveseat", append(alice, s.ID)...)); r.status != 1 || !strings.Contains(r.stderr, "nothing to end") {
				t.Errorf("a share that is not there: status %d %s", r.status, r.stderr)
			}
			again := w.share(hub.db, "alice/notes")
			if r := w.run("", w.command("loveseat", "sync", w.path("bob/notes"), again.Link)); r.status != 1 || !strings.Contains(r.stderr, "Access to this share was revoked. Bye.") {
				t.Errorf("bob: status %d %s", r.status, r.stderr)
			}
			w.sync(w.path("carol/notes"), again.Link)
		})
	}
}
