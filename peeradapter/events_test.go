package peeradapter

import (
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/share"
)

// Who watches hears of a connection that is interrupted, restored by another path and closed, and
// can ask for what is known of it.
func TestConnectionEvents(t *testing.T) {
	s := simulate(t, conditions{delay: 10 * time.Millisecond})
	heard := make(chan share.ConnectionEvent, 100)
	stop := s.opener.WatchConnections(func(e share.ConnectionEvent) { heard <- e })
	next := func(want share.ConnectionState) share.ConnectionEvent {
		t.Helper()
		select {
		case e := <-heard:
			if e.State != want || e.Address != "sharer" || e.Incoming {
				t.Fatalf("%+v, want %s", e, want)
			}
			return e
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing of %s", want)
		}
		panic("unreachable")
	}
	go echo(listen(t, s.sharer, "sharer"))
	c := dial(t, s.opener, "sharer")
	must(t, ping(c))
	if e := next(share.ConnectionOpened); e.Route != "host" || e.Since.IsZero() {
		t.Errorf("%+v", e)
	}
	all := s.opener.Connections()
	if len(all) != 1 || all[0].Streams != 1 || all[0].Sent == 0 || all[0].Received == 0 || all[0].RTT < 15*time.Millisecond {
		t.Errorf("%+v", all)
	}
	s.cut.Store(true)
	next(share.ConnectionInterrupted)
	s.cut.Store(false)
	next(share.ConnectionRestored)
	must(t, ping(c))
	must(t, s.opener.Close())
	next(share.ConnectionClosed)
	stop()
	if all := s.opener.Connections(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}
