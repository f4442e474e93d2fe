package evil

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A peer is one that takes part in a hub database, with a wire that is ours: its device key and its
// signals are real, and so is WebRTC; on the streams goes what the attack wants.
type peer struct {
	*share.Peer
	id     *share.Identity
	target *Target
	hub    string // URL of the hub database, with log-in
	client *kivik.Client

	transport share.Transport
}

// A wiring is how a peer differs from an honest one. The zero value is a signed-in Mallory with a new key.
type wiring struct {
	id     *share.Identity
	as     *Login                              // nil: Mallory
	nobody bool                                // does not sign in
	direct bool                                // an honest one, whose bytes are not looked through
	server string                              // another hub's URL
	relay  peeradapter.RelayMode               // RelayOff if it is RelayAuto
	signal func(share.Signaler) share.Signaler // changes what is signalled
	serve  func(net.Conn)                      // takes the streams that others open

	succeeds bool // shows sharers which keys it succeeds
}

func (t *Target) join(ctx context.Context, db string, w wiring) (*peer, error) {
	p := &peer{id: w.id, target: t}
	var err error
	if p.id == nil {
		if p.id, err = share.NewIdentity(); err != nil {
			return nil, err
		}
	}
	server := t.Hub
	if w.direct {
		server = t.Direct
	}
	if w.server != "" {
		server = w.server
	}
	if w.as == nil {
		w.as = &t.Mallory
	}
	dsn := server
	if !w.nobody && w.as.Name != "" {
		dsn = with(server, *w.as)
	}
	p.hub = dsn + "/" + db
	if p.client, err = kivik.New(peeradapter.HTTPDriver, dsn); err != nil {
		return nil, err
	}
	if w.relay == peeradapter.RelayAuto {
		w.relay = peeradapter.RelayOff
	}
	p.Peer, err = share.Join(ctx, p.client.DB(db), share.Config{Identity: p.id, HubURL: server + "/" + db, Logger: quiet,
		NewTransport: func(s share.Signaler) (share.Transport, error) {
			if w.signal != nil {
				s = w.signal(s)
			}
			tr, err := peeradapter.New(peeradapter.Config{Networks: t.networks(), Logger: quiet, Relay: peeradapter.Relay{Mode: w.relay, Hub: p.hub}}, s)
			if err != nil {
				return nil, err
			}
			p.transport = &ownTransport{Transport: tr, loot: t.Loot, direct: w.direct, serve: w.serve}
			return p.transport, nil
		}})
	if err != nil {
		_ = p.client.Close()
		return nil, err
	}
	return p, nil
}

func (t *Target) networks() []string {
	if t.AnyNetwork {
		return nil
	}
	return []string{"127.0.0.0/8"}
}

// Close leaves the hub.
func (p *peer) Close() {
	_ = p.Peer.Close()
	_ = p.client.Close()
}

// An ownTransport looks through what comes over its streams, and takes those of others for itself.
type ownTransport struct {
	share.Transport
	loot   *Loot
	direct bool
	serve  func(net.Conn)
}

func (o *ownTransport) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := o.Transport.DialContext(ctx, network, addr)
	if err != nil || o.direct {
		return c, err
	}
	return lootedStream{c.(share.Conn), o.loot.Conn(c, "a share")}, nil
}

func (o *ownTransport) Listen(ctx context.Context, self string) (net.Listener, error) {
	l, err := o.Transport.Listen(ctx, self)
	if err != nil || o.serve == nil {
		return l, err
	}
	m := &mute{Listener: l, loot: o.loot, serve: o.serve, closed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	m.running.Go(m.run)
	return m, nil
}

// A lootedStream is a share.Conn whose bytes are looked through.
type lootedStream struct {
	share.Conn
	looted net.Conn
}

func (s lootedStream) Read(p []byte) (int, error) { return s.looted.Read(p) }

// A mute listener never accepts: its streams are for serve.
type mute struct {
	net.Listener
	loot    *Loot
	serve   func(net.Conn)
	once    sync.Once
	closed  chan struct{}
	running sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
}

func (m *mute) run() {
	for {
		c, err := m.Listener.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.conns[c] = struct{}{}
		m.mu.Unlock()
		m.running.Go(func() {
			defer func() {
				_ = c.Close()
				m.mu.Lock()
				delete(m.conns, c)
				m.mu.Unlock()
			}()
			m.serve(m.loot.Conn(c, "an opener"))
		})
	}
}

func (m *mute) Accept() (net.Conn, error) {
	<-m.closed
	return nil, net.ErrClosed
}

func (m *mute) Close() error {
	err := m.Listener.Close()
	m.once.Do(func() { close(m.closed) })
	m.mu.Lock()
	for c := range m.conns {
		_ = c.Close()
	}
	m.mu.Unlock()
	m.running.Wait()
	return err
}

// address is where a share is served: its peer and process.
func (p *peer) address(ctx context.Context, id string) (string, error) {
	a, err := do(ctx, "GET", p.hub+"/share:"+id, request{})
	if err != nil {
		return "", err
	}
	peer, instance := member(a.Body, "peer"), member(a.Body, "instance")
	if peer == "" {
		return "", fmt.Errorf("share %s: %v", id, a)
	}
	return peer + "." + instance, nil
}

// stream opens a stream to the sharer, on which anything can be said.
func (p *peer) stream(ctx context.Context, id string) (net.Conn, error) {
	address, err := p.address(ctx, id)
	if err != nil {
		return nil, err
	}
	return p.transport.DialContext(ctx, "", address)
}

// http is a client for http://SHARE/DB/…, as raw as Go's is, over streams to sharers.
func (p *peer) http() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: true, MaxConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			id, _, _ := strings.Cut(addr, ":")
			return p.stream(ctx, id)
		}}}
}

// raw sends bytes on a stream to the sharer and returns what comes back.
func (p *peer) raw(ctx context.Context, id, text string) (string, error) {
	c, err := p.stream(ctx, id)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return exchange(c, text), nil
}

// An opener is a hostile peer that has a share open.
type opener struct {
	*peer
	share Share
	base  string      // http://SHARE/DB
	shows http.Header // with each request
	via   *http.Client
}

// open joins as Mallory with a new key, and opens a share of the hub database "hub".
func (t *Target) open(ctx context.Context, s Share) (*opener, error) {
	return t.openAs(ctx, s, wiring{})
}

func (t *Target) openAs(ctx context.Context, s Share, w wiring) (*opener, error) {
	p, err := t.join(ctx, "hub", w)
	if err != nil {
		return nil, notMade("joining the hub", err)
	}
	o := &opener{p, s, "http://" + s.ID + "/" + s.DB, http.Header{}, p.http()}
	if w.succeeds {
		if o.shows, err = succession(p.id); err != nil {
			o.Close()
			return nil, notMade("reading what the key succeeds", err)
		}
	}
	var a *answer
	for range 3 { // a busy machine's first negotiation may take too long
		if a, err = o.do(ctx, "GET", "", request{}); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("%v", a)
	}
	if err != nil {
		o.Close()
		return nil, notMade("opening a share", err)
	}
	return o, nil
}

// do makes a request for a path of the shared database.
func (o *opener) do(ctx context.Context, method, path string, r request) (*answer, error) {
	r.via, r.header = o.via, r.header.Clone()
	if r.header == nil {
		r.header = http.Header{}
	}
	maps.Copy(r.header, o.shows)
	return do(ctx, method, o.base+path, r)
}

// Close leaves the hub.
func (o *opener) Close() {
	o.via.CloseIdleConnections()
	o.peer.Close()
}

// succession is the header by which a peer shows whom it succeeds.
func succession(id *share.Identity) (http.Header, error) {
	exported, err := id.ExportPlain()
	if err != nil {
		return nil, err
	}
	var content struct{ Succeeds json.RawMessage }
	block, _ := pem.Decode(exported)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	if err := json.Unmarshal(block.Bytes, &content); err != nil || len(content.Succeeds) == 0 {
		return http.Header{}, err
	}
	return headers(hubdoc.SuccessionHeader, base64.RawURLEncoding.EncodeToString(content.Succeeds)), nil
}
