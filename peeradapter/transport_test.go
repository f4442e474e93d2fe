package peeradapter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/share"
)

// One connection carries the streams of both directions.

func TestBothDial(t *testing.T) {
	var opened atomic.Int64
	count := Config{OnPeer: func(e PeerEvent) {
		if e.State == Connected {
			opened.Add(1)
		}
	}}
	p := new(post)
	a, b := newTransport(t, p, "a", count), newTransport(t, p, "b", count)
	go echo(listen(t, a, "a"))
	go echo(listen(t, b, "b"))
	must(t, ping(dial(t, a, "b")))
	must(t, ping(dial(t, b, "a")))
	if n := opened.Load(); n != 2 { // one at each end
		t.Errorf("%d connections were opened", n)
	}
	for _, c := range []struct {
		t        *Transport
		peer     string
		incoming bool
	}{{a, "b", false}, {b, "a", true}} {
		s, ok := c.t.Stats(c.peer)
		if !ok || s.Route != "host" || s.Incoming != c.incoming || s.BytesSent == 0 || s.BytesReceived == 0 || time.Since(s.Since) > time.Minute {
			t.Errorf("%+v, %v", s, ok)
		}
	}
}

func TestConnKnowsItsPeer(t *testing.T) {
	p := new(post)
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
	l := listen(t, b, "b")
	c := dial(t, a, "b").(share.Conn)
	s, err := l.Accept()
	must(t, err)
	if c.Peer() != "b" || s.(share.Conn).Peer() != "a" || c.Route() != "host" {
		t.Errorf("%q, %q, %q", c.Peer(), s.(share.Conn).Peer(), c.Route())
	}
	if c.RemoteAddr().String() != "b" || s.LocalAddr().String() != "b" || s.RemoteAddr().String() != "a" {
		t.Errorf("%v, %v, %v", c.RemoteAddr(), s.LocalAddr(), s.RemoteAddr())
	}
}

// Both dial at once: one connection comes of it.

func TestGlare(t *testing.T) {
	for i := range 10 {
		p := new(post)
		if i%2 == 1 { // the signals cross
			p.route = func(share.Signal) []time.Duration { return []time.Duration{10 * time.Millisecond} }
		}
		a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
		go echo(listen(t, a, "a"))
		go echo(listen(t, b, "b"))
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := ping(dial(t, a, "b")); err != nil {
				t.Error("a:", err)
			}
		})
		wg.Go(func() {
			if err := ping(dial(t, b, "a")); err != nil {
				t.Error("b:", err)
			}
		})
		wg.Wait()
		x, _ := a.Stats("b")
		y, _ := b.Stats("a")
		if x.Incoming == y.Incoming {
			t.Errorf("two connections: %+v, %+v", x, y)
		}
		p.wg.Wait()
	}
}

func TestSingleFlight(t *testing.T) {
	var offers atomic.Int64
	p := new(post)
	p.route = func(s share.Signal) []time.Duration {
		if s.Kind == kindOffer {
			offers.Add(1)
		}
		return []time.Duration{0}
	}
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
	go echo(listen(t, b, "b"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			c := dial(t, a, "b")
			if err := ping(c); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	if n := offers.Load(); n != 1 {
		t.Errorf("%d offers", n)
	}
}

// Signals may come late, twice and in any order.

// Signals of others, of other sessions and without sense change nothing.

// A dial ends with its own context, whatever the others wait for.

func TestDialEndsWithContext(t *testing.T) {
	p := &post{route: func(share.Signal) []time.Duration { return nil }}
	a := newTransport(t, p, "a", Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.DialContext(ctx, "", "b"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	must(t, a.Close())
	if _, err := a.DialContext(t.Context(), "", "b"); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	must(t, a.Close())
}

// A connection that the peer closes ends with an error, and the next dial makes a new one.

func TestRedial(t *testing.T) {
	p := new(post)
	events := make(chan PeerEvent, 100)
	a := newTransport(t, p, "a", Config{OnPeer: func(e PeerEvent) { events <- e }})
	for range 3 {
		b := newTransport(t, p, "b", Config{})
		l := listen(t, b, "b")
		go echo(l)
		c := dial(t, a, "b")
		must(t, ping(c))
		must(t, l.Close())
		_, err := io.ReadAll(c)
		if !errors.Is(err, ErrPeerClosed) && err != nil {
			t.Error(err)
		}
		must(t, b.Close())
		if e := <-events; e.State != Connected || e.Peer != "b" || e.Route != "host" {
			t.Errorf("%+v", e)
		}
		if e := <-events; e.State != Closed || !errors.Is(e.Err, ErrPeerClosed) {
			t.Errorf("%+v", e)
		}
	}
}

// Closing the listener ends what peers opened, not what was dialled here.

func TestListenerClose(t *testing.T) {
	p := new(post)
	a, b, c := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{}), newTransport(t, p, "c", Config{})
	l := listen(t, b, "b")
	go echo(l)
	go echo(listen(t, c, "c"))
	must(t, ping(dial(t, a, "b")))
	kept := dial(t, b, "c")
	must(t, l.Close())
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, ok := b.Stats("a"); ok {
		t.Error("the accepted connection is still there")
	}
	must(t, ping(kept))
	if s, err := c.DialContext(t.Context(), "", "b"); err == nil { // over the connection there is
		if err := ping(s); err == nil {
			t.Error("a stream was served without a listener")
		}
	}
	go echo(listen(t, b, "b"))
	must(t, ping(dial(t, a, "b")))
}

// A peer reaches itself without signals.

func TestDialSelf(t *testing.T) {
	p := &post{route: func(share.Signal) []time.Duration { return nil }}
	a := newTransport(t, p, "a", Config{})
	l := listen(t, a, "a")
	go echo(l)
	c := dial(t, a, "a")
	defer func() { _ = c.Close() }()
	must(t, ping(c))
	if c := c.(share.Conn); c.Peer() != "a" || c.Route() != "memory" {
		t.Errorf("%q, %q", c.Peer(), c.Route())
	}
}

func TestMaxPeers(t *testing.T) {
	p := new(post)
	b := newTransport(t, p, "b", Config{MaxPeers: 2})
	go echo(listen(t, b, "b"))
	var dialled []*Transport
	for i := range 2 {
		dialled = append(dialled, newTransport(t, p, fmt.Sprint("a", i), Config{}))
		must(t, ping(dial(t, dialled[i], "b")))
	}
	c := newTransport(t, p, "c", Config{})
	if _, err := c.DialContext(t.Context(), "", "b"); !errors.Is(err, ErrRefused) {
		t.Errorf("one too many: %v", err)
	}
	must(t, dialled[0].Close())
	waitFor(t, func() bool { _, ok := b.Stats("a0"); return !ok })
	must(t, ping(dial(t, c, "b")))
}

// A peer that lost its side of a connection gets a new one at once.

func TestReconnectFromOldPeer(t *testing.T) {
	p := new(post)
	closed := make(chan error, 10)
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{OnPeer: func(e PeerEvent) {
		if e.State == Closed {
			closed <- e.Err
		}
	}})
	go echo(listen(t, b, "b"))
	old := dial(t, a, "b")
	must(t, ping(old))
	again := newTransport(t, p, "a", Config{}) // the same address: as after a crash
	must(t, ping(dial(t, again, "b")))
	if err := <-closed; !errors.Is(err, ErrReplaced) {
		t.Error(err)
	}
	if _, err := io.ReadAll(old); err == nil {
		t.Error("the old connection ended as if nothing had happened")
	}
}

// When the attempt of the peer that a dial waits for fails, the dial makes its own.

// Candidates may come before the description they belong to: before the offer,
// and before it is set.

func TestParallelRequests(t *testing.T) {
	body := strings.Repeat("x", 10_000)
	client := httpPair(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+body)
	})
	client.Transport.(*http.Transport).MaxConnsPerHost = 0
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			path := fmt.Sprint("/", i)
			resp, err := client.Get("http://b" + path)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if string(got) != path+body || err != nil {
				t.Errorf("%s: %d bytes, %v", path, len(got), err)
			}
		})
	}
	wg.Wait()
}

// waitFor polls until ok, for a minute.

func waitFor(tb testing.TB, ok func() bool) {
	tb.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			tb.Fatal("it did not happen")
		}
	}
}
