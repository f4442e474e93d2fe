package peeradapter

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/share"
)

// hubDB opens a hub's database until the test ends.
func hubDB(t *testing.T, hub string) *kivik.DB {
	t.Helper()
	server, name, err := SplitHub(hub)
	must(t, err)
	client, err := kivik.New(HTTPDriver, server)
	must(t, err)
	t.Cleanup(func() { must(t, client.Close()) })
	return client.DB(name)
}

// joined is a peer of a hub until the test ends.
func joined(t *testing.T, hub string) *share.Peer {
	t.Helper()
	peer, err := Join(t.Context(), hubDB(t, hub), Options{Logger: discard})
	must(t, err)
	t.Cleanup(func() { must(t, peer.Close()) })
	return peer
}

// connectionEvents is what a peer hears of its connections until the test ends.
func connectionEvents(t *testing.T, p *share.Peer) <-chan share.ConnectionEvent {
	t.Helper()
	events, done := make(chan share.ConnectionEvent, 100), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		_ = p.WatchConnections(ctx, func(e share.ConnectionEvent) error { events <- e; return nil })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return events
}

func nextEvent(t *testing.T, events <-chan share.ConnectionEvent, state share.ConnectionState) share.ConnectionEvent {
	t.Helper()
	for limit := time.After(time.Minute); ; {
		select {
		case e := <-events:
			if e.State == state { // on a busy machine it may be interrupted in between
				return e
			}
		case <-limit:
			t.Fatalf("nothing of %s", state)
		}
	}
}

// direct are the routes of two peers on one machine.
var direct = []string{"host", "srflx"}

// Two peers know of their connection who is on its other end, how it is reached, since when, what went
// over it and for which shares, and hear of its coming and going.
func TestPeersSeeTheirConnections(t *testing.T) {
	hub := startHub(t)
	sharer, opener := joined(t, hub), joined(t, hub)
	store := localStore(t, "notes")
	heardSharer := connectionEvents(t, sharer)
	began := time.Now()
	s, err := sharer.Share(t.Context(), store.DB("notes"), share.ShareOptions{})
	must(t, err)
	if all := opener.Connections(); len(all) != 0 {
		t.Errorf("before: %+v", all)
	}
	r, err := opener.Open(t.Context(), s.ID())
	must(t, err)
	heardOpener := connectionEvents(t, opener) // late: it hears of it nevertheless
	for _, c := range []struct {
		self     *share.Peer
		heard    <-chan share.ConnectionEvent
		other    string
		incoming bool
	}{{sharer, heardSharer, opener.ID(), true}, {opener, heardOpener, sharer.ID(), false}} {
		e := nextEvent(t, c.heard, share.ConnectionOpened)
		if e.Peer != c.other || e.Incoming != c.incoming || !slices.Contains(direct, e.Route) || e.Since.Before(began) || e.Since.After(time.Now()) || e.Err != nil {
			t.Errorf("%+v", e)
		}
		var last share.Connection
		waitFor(t, func() bool { // the round trip is known after the next check of the path
			_, err := r.DB().GetRev(t.Context(), "doc")
			must(t, err)
			all := c.self.Connections()
			if len(all) != 1 {
				t.Fatalf("%+v", all)
			}
			last = all[0]
			return last.RTT > 0
		})
		if last.Peer != c.other || last.Address != e.Address || last.Incoming != c.incoming || !slices.Contains(direct, last.Route) || !last.Since.Equal(e.Since) ||
			last.RTT > time.Minute || last.Streams < 1 || fmt.Sprint(last.Shares) != fmt.Sprint([]string{s.ID()}) {
			t.Errorf("%+v", last)
		}
		_, err := r.DB().GetRev(t.Context(), "doc")
		must(t, err)
		if all := c.self.Connections(); len(all) != 1 || all[0].Sent <= last.Sent || all[0].Received <= last.Received {
			t.Errorf("after a request: %+v, before %+v", all, last)
		}
	}
	must(t, opener.Close())
	if e := nextEvent(t, heardSharer, share.ConnectionClosed); e.Peer != opener.ID() || e.Err != nil && e.Route != "" {
		t.Errorf("%+v", e)
	}
	waitFor(t, func() bool { return len(sharer.Connections()) == 0 })
	if all := opener.Connections(); len(all) != 0 {
		t.Errorf("after: %+v", all)
	}
}
