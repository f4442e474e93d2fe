package peeradapter

import (
	"errors"
	"io"
	"testing"
	"time"
)

// An idle peer costs no buffer: there is one while a message is read.
func TestIdleReadBuffer(t *testing.T) {
	x, y, stop := rawPair(t, nil)
	defer stop()
	_, err := x.Write([]byte("abcd"))
	must(t, err)
	for _, held := range []bool{true, false} {
		_, err = io.ReadFull(y, make([]byte, 2))
		must(t, err)
		if (y.buf != nil) != held {
			t.Errorf("a buffer is held: %v", !held)
		}
	}
}

// Who watches an idle peer is told when something is sent to it.
func TestStirred(t *testing.T) {
	x, _, stop := rawPair(t, nil)
	defer stop()
	for _, resting := range []bool{false, true} {
		x.resting.Store(resting)
		_, err := x.Write([]byte("a"))
		must(t, err)
		if told := len(x.stirred) == 1; told != resting {
			t.Errorf("resting: %v, told: %v", resting, told)
		}
	}
}

// A peer to whom nothing is sent rests, and is asked all the same: one that is cut off then is noticed. So
// it is, without waiting for that, when something is sent.
func TestRestingPeer(t *testing.T) {
	for name, c := range map[string]struct{ writes bool }{"asked": {}, "written to": {true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := simulate(t, conditions{lostAfter: 100 * time.Millisecond})
			go echo(listen(t, s.sharer, "sharer"))
			conn := dial(t, s.opener, "sharer")
			must(t, ping(conn))
			pulse := s.opener.link("sharer").pulse
			waitFor(t, pulse.conn.resting.Load)
			if pulse.pinged.Load() == 0 {
				t.Error("it was not asked before")
			}
			s.cut.Store(true)
			s.hub.Store(true)
			if c.writes {
				_, err := conn.Write([]byte("a"))
				must(t, err)
				waitFor(t, func() bool { return !pulse.conn.resting.Load() })
			}
			must(t, conn.SetReadDeadline(time.Now().Add(2*time.Minute)))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, ErrPeerLost) {
				t.Error(err)
			}
		})
	}
}
