package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// A monitored is a transport of a world that tells of the connections that a test gives it.
type monitored struct {
	*memTransport
	mu    sync.Mutex
	all   []Connection
	heard map[int]func(ConnectionEvent)
	n     int
}

func (m *monitored) Connections() []Connection {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

func (m *monitored) WatchConnections(fn func(ConnectionEvent)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heard == nil {
		m.heard = map[int]func(ConnectionEvent){}
	}
	m.n++
	n := m.n
	m.heard[n] = fn
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.heard, n)
	}
}

func (m *monitored) emit(e ConnectionEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, fn := range m.heard {
		fn(e)
	}
}

func (m *monitored) watchers() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.heard)
}

// monitor makes a peer with such a transport.
func (w *world) monitor() (*Peer, *monitored) {
	m := new(monitored)
	return w.join(func(c *Config) {
		c.NewTransport = func(s Signaler) (Transport, error) {
			t, err := w.transport(s)
			m.memTransport = t.(*memTransport)
			return m, err
		}
	}), m
}

// Connections are told with who is there, whatever the address of the process, and with the shares in both directions.
func TestConnections(t *testing.T) {
	w := newWorld(t)
	alice, m := w.monitor()
	bob := w.join(nil)
	hers, his := w.share(alice, "hers", ShareOptions{}), w.share(bob, "his", ShareOptions{})
	w.open(alice, his.ID())
	w.open(bob, hers.ID())
	w.eventually("bob is there", func() bool { return len(alice.openShares()[bob.address()]) == 2 })
	since := time.Now()
	other := address(alice.ID(), "other")
	m.all = []Connection{
		{Address: bob.address(), Route: "host", Since: since, RTT: time.Millisecond, Sent: 1, Received: 2, Streams: 3},
		{Address: other, Incoming: true},
	}
	got := alice.Connections()
	slices.SortFunc(got, func(a, b Connection) int { return len(b.Shares) - len(a.Shares) })
	want := Connection{
		Peer: bob.ID(), Address: bob.address(), Route: "host", Since: since, RTT: time.Millisecond, Sent: 1, Received: 2, Streams: 3,
		Shares: []string{hers.ID(), his.ID()},
	}
	slices.Sort(want.Shares)
	if len(got) != 2 || fmt.Sprint(got[0]) != fmt.Sprint(want) || got[1].Peer != alice.ID() || !got[1].Incoming || got[1].Shares != nil {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if got := bob.Connections(); got != nil {
		t.Errorf("of a transport that does not tell: %+v", got)
	}
}

// Who watches hears first of what is open, and of that not twice, then of what becomes of it.
func TestWatchConnections(t *testing.T) {
	w := newWorld(t)
	alice, m := w.monitor()
	there := Connection{Address: address(alice.ID(), "there"), Since: time.Now()}
	later := Connection{Address: address(alice.ID(), "later"), Since: time.Now()}
	again := Connection{Address: there.Address, Since: there.Since.Add(time.Second)}
	m.all = []Connection{there}
	heard, stopped := make(chan ConnectionEvent, 1), make(chan error, 1)
	enough := errors.New("enough")
	go func() {
		stopped <- alice.WatchConnections(w.ctx, func(e ConnectionEvent) error {
			heard <- e
			if e.Err != nil {
				return e.Err
			}
			return nil
		})
	}()
	next := func(state ConnectionState, c Connection) {
		t.Helper()
		select {
		case e := <-heard:
			if e.State != state || e.key() != c.key() || e.Peer != alice.ID() {
				t.Errorf("%+v, want %s of %+v", e, state, c)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing of %s", state)
		}
	}
	next(ConnectionOpened, there)
	m.emit(ConnectionEvent{State: ConnectionOpened, Connection: there}) // came between watching and looking
	m.emit(ConnectionEvent{State: ConnectionOpened, Connection: later})
	next(ConnectionOpened, later)
	m.emit(ConnectionEvent{State: ConnectionInterrupted, Connection: there})
	next(ConnectionInterrupted, there)
	m.emit(ConnectionEvent{State: ConnectionClosed, Connection: there})
	next(ConnectionClosed, there)
	m.emit(ConnectionEvent{State: ConnectionOpened, Connection: again})
	next(ConnectionOpened, again)
	m.emit(ConnectionEvent{State: ConnectionClosed, Connection: again, Err: enough})
	next(ConnectionClosed, again)
	if err := <-stopped; !errors.Is(err, enough) {
		t.Error(err)
	}
	if n := m.watchers(); n != 0 {
		t.Errorf("%d watch", n)
	}
}

// A watcher that is slow holds nothing up, and stops with its context or the peer.
func TestWatchConnectionsEnds(t *testing.T) {
	w := newWorld(t)
	alice, m := w.monitor()
	ctx, cancel := context.WithCancel(w.ctx)
	busy, stopped := make(chan struct{}), make(chan error, 2)
	go func() {
		stopped <- alice.WatchConnections(ctx, func(ConnectionEvent) error { <-busy; return nil })
	}()
	w.eventually("it watches", func() bool { return m.watchers() == 1 })
	emitted := make(chan struct{})
	go func() {
		defer close(emitted)
		for range 1000 {
			m.emit(ConnectionEvent{State: ConnectionOpened, Connection: Connection{Address: alice.address()}})
		}
	}()
	select {
	case <-emitted:
	case <-time.After(30 * time.Second):
		t.Error("it holds up the transport")
	}
	cancel()
	close(busy)
	<-emitted
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		stopped <- alice.WatchConnections(w.ctx, func(ConnectionEvent) error { return nil })
	}()
	w.eventually("it watches", func() bool { return m.watchers() == 1 })
	w.must(alice.Close())
	if err := <-stopped; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
