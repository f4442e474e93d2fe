package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// A connectionEvent is the event "connection" of --json.
type connectionEvent struct {
	Event, State string
	Connection   struct {
		Peer, Route string
		Incoming    bool
		Since       time.Time
		Shares      []string
	}
}

func (w *world) checkConnection(what string, e connectionEvent, state, peer string, incoming bool) {
	w.Helper()
	c := e.Connection
	if e.State != state || c.Peer != peer || c.Incoming != incoming || c.Since.IsZero() || (c.Route == "") != (state == "closed") {
		w.Errorf("%s: %+v, want %s of %s", what, e, state, peer)
	}
}

// TestConnectionEvents: with --json each command that connects to peers tells of its connections as they come and go.
func TestConnectionEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"a"}`)
	bob, carol := w.peerID("bob"), w.peerID("carol")
	s := w.share(hub.db, "alice/notes")
	var e connectionEvent

	o := w.start(w.command("loveseat", "--identity", w.path("bob"), "open", hub.db, s.ID, "--json"))
	w.next(o, "connection", &e)
	w.checkConnection("open", e, "connected", s.Peer, false)
	w.next(s.Proc, "connection", &e)
	w.checkConnection("share", e, "connected", bob, true)
	w.next(o, "open", nil)
	w.ok(o.Stop())
	for e.State != "closed" { // on a busy machine it may be interrupted before
		e = connectionEvent{}
		w.next(s.Proc, "connection", &e)
	}
	w.checkConnection("share", e, "closed", bob, true)

	out := w.loveseat("sync", w.path("carol/notes"), s.Link, "--json")
	var states []string
	for line := range strings.Lines(out) {
		var e connectionEvent
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "connection" {
			if states = append(states, e.State); e.State == "connected" {
				w.checkConnection("sync", e, "connected", s.Peer, false)
			}
		}
	}
	if !slices.Contains(states, "connected") {
		t.Errorf("sync: %q in\n%s", states, out)
	}
	lastEvent[complete](w, out, "complete")
	w.checkConnection("share", w.connected(s.Proc, carol), "connected", carol, true)

	// The members of a pool connect, whoever is first.
	var joins [2]struct{ Peer string }
	members := []string{"dan/notes", "eve/notes"}
	w.edit("dan/notes", `{"_id":"d"}`)
	first := w.start(w.command("loveseat", "join", hub.db, w.path(members[0]), "topic", "--json"))
	w.next(first, "joined", &joins[0])
	second := w.start(w.command("loveseat", "join", hub.db, w.path(members[1]), "topic", "--json"))
	w.next(second, "joined", &joins[1])
	w.connected(first, joins[1].Peer)
	w.connected(second, joins[0].Peer)
}

// connected waits until a program says that it is connected to a peer.
func (w *world) connected(p *proc.Proc, peer string) (e connectionEvent) {
	w.Helper()
	for e.State != "connected" || e.Connection.Peer != peer {
		e = connectionEvent{}
		w.next(p, "connection", &e)
	}
	return e
}
