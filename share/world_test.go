package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/internal/memnet"
	"github.com/loveseat-db/loveseat/localdb"
)

// A world is a hub in a local store, and a network in memory between its peers.
type world struct {
	t     testing.TB
	ctx   context.Context
	store *localdb.Store
	hub   *kivik.DB
	net   memnet.Network
}

func newWorld(t testing.TB) *world {
	t.Helper()
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // of synctest's time; go test has its own limit
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, store: store}
	w.hub = w.create("hub")
	return w
}

// create makes a database beside the hub.
func (w *world) create(name string) *kivik.DB {
	w.t.Helper()
	w.must(w.store.Create(w.ctx, name))
	return couchkivik.DB(DriverName, w.store, name)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// join makes a peer with a new identity, unless change gives it one.
func (w *world) join(change func(*Config)) *Peer {
	w.t.Helper()
	c := Config{NewTransport: w.transport, HubURL: "http://hub.test/hub", Logger: slog.New(slog.NewTextHandler(testLog{w.t}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&c)
	}
	p, err := Join(w.ctx, w.hub, c)
	w.must(err)
	w.t.Cleanup(func() { _ = p.Close() })
	return p
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b[:len(b)-1])
	return len(b), nil
}

// share shares a database, with one document in it.
func (w *world) share(p *Peer, db string, o ShareOptions) *Share {
	w.t.Helper()
	d := w.create(db)
	w.put(d, "first", `{"n":1}`)
	s, err := p.Share(w.ctx, d, o)
	w.must(err)
	return s
}

func (w *world) put(db *kivik.DB, id, body string) {
	w.t.Helper()
	_, err := db.Put(w.ctx, id, []byte(body))
	w.must(err)
}

func (w *world) open(p *Peer, ref string) *Remote {
	w.t.Helper()
	r, err := p.Open(w.ctx, ref)
	w.must(err)
	w.t.Cleanup(func() { _ = r.Close() })
	return r
}

// hubDocs returns the ids of the hub's documents that begin with prefix.
func (w *world) hubDocs(prefix string) (ids []string) {
	w.t.Helper()
	w.must(eachDoc(w.ctx, couchkivik.From(w.hub), prefix, func(d *couch.Doc) { ids = append(ids, d.ID) }))
	return ids
}

// eventually polls until ok.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatal("did not happen: " + what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// memTransport connects peers over the world's network. Each stream is
// negotiated by an offer and an answer through the hub.
type memTransport struct {
	w       *world
	sig     Signaler
	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	accept  chan net.Conn
	mu      sync.Mutex
	waiting map[string]chan struct{} // dials, by session
	listens bool
	open    map[*memConn]struct{}
}

func (w *world) transport(sig Signaler) (Transport, error) {
	m := &memTransport{w: w, sig: sig, accept: make(chan net.Conn), waiting: map[string]chan struct{}{}, open: map[*memConn]struct{}{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.tasks.Go(func() { _ = sig.Receive(m.ctx, m.receive) })
	return m, nil
}

func (m *memTransport) receive(s Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case s.Kind == "offer" && m.listens:
		m.tasks.Go(func() { m.answer(s) })
	case s.Kind == "answer" && m.waiting[s.Session] != nil:
		close(m.waiting[s.Session])
		delete(m.waiting, s.Session)
	}
}

func (m *memTransport) answer(s Signal) {
	l, err := m.w.net.Listen(s.Session)
	if err != nil {
		return
	}
	defer l.Close()
	stop := context.AfterFunc(m.ctx, func() { _ = l.Close() })
	defer stop()
	if m.sig.Send(m.ctx, Signal{To: s.From, Session: s.Session, Kind: "answer", Payload: []byte("yes")}) != nil {
		return
	}
	c, err := l.Accept()
	if err != nil {
		return
	}
	select {
	case m.accept <- m.conn(c, s.From):
	case <-m.ctx.Done():
	}
}

func (m *memTransport) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	answered := make(chan struct{})
	session := randomHex(8)
	m.mu.Lock()
	m.waiting[session] = answered
	m.mu.Unlock()
	if err := m.sig.Send(ctx, Signal{To: addr, Session: session, Kind: "offer", Payload: []byte(session)}); err != nil {
		return nil, err
	}
	select {
	case <-answered:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.ctx.Done():
		return nil, net.ErrClosed
	}
	c, err := m.w.net.DialContext(ctx, "", session)
	if err != nil {
		return nil, err
	}
	return m.conn(c, addr), nil
}

func (m *memTransport) Listen(_ context.Context, self string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listens = true
	return &memListener{memTransport: m, self: self, closed: make(chan struct{})}, nil
}

func (m *memTransport) Close() error {
	m.cancel()
	m.mu.Lock()
	for c := range m.open {
		_ = c.Conn.Close()
	}
	m.mu.Unlock()
	m.tasks.Wait()
	return nil
}

// cut breaks all connections.
func (m *memTransport) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.open {
		c.Conn.(*memnet.Conn).Cut()
	}
}

// hang makes the transport's connections silent, and makes no more.
func (m *memTransport) hang() {
	m.cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.open {
		c.Conn.(*memnet.Conn).Stall(true)
	}
}

type memListener struct {
	*memTransport
	self   string
	once   sync.Once
	closed chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memListener) Addr() net.Addr { return memnet.Addr(l.self) }

type memConn struct {
	net.Conn
	m    *memTransport
	peer string
}

func (m *memTransport) conn(c net.Conn, peer string) *memConn {
	out := &memConn{c, m, peer}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[out] = struct{}{}
	return out
}

func (c *memConn) Peer() string  { return c.peer }
func (c *memConn) Route() string { return "memory" }

func (c *memConn) Close() error {
	c.m.mu.Lock()
	delete(c.m.open, c)
	c.m.mu.Unlock()
	return c.Conn.Close()
}

// status is the HTTP status of an error.
func status(err error) int {
	var e *couch.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return kivik.HTTPStatus(err)
}

// watch collects what Watch tells, as "kind name".
func (w *world) watch(p *Peer) <-chan string {
	events := make(chan string, 100)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	w.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		_ = p.Watch(ctx, func(e Event) error {
			events <- fmt.Sprintf("%s %s", e.Kind, e.Share.Name)
			return nil
		})
	}()
	return events
}
