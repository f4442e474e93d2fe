package peeradapter

import (
	"errors"
	"io"
	"net"
	"sync"
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

// A peer to whom nothing is sent is asked more seldom, but asked: one that has frozen is noticed.
func TestRestingPeer(t *testing.T) {
	near, far := net.Pipe()
	l, err := newNetLink("x", false, newNetCarrier(near, ""), discard)
	must(t, err)
	l.keepAlive, l.silence = 10*time.Millisecond, 100*time.Millisecond
	l.path = new(icePath)
	l.pinged.Store(1) // it was asked before
	var running sync.WaitGroup
	running.Go(func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{far}) })
	running.Go(l.watch)
	select {
	case <-l.ending:
		if !errors.Is(l.err, ErrPeerLost) {
			t.Error(l.err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it is not noticed")
		l.end(nil)
	}
	_ = l.session.Close()
	_ = near.Close()
	_ = far.Close()
	running.Wait()
}
