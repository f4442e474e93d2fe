package peeradapter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/replicate"
	"github.com/loveseat-db/loveseat/share"
)

// A relayWorld is a hub whose wire is tapped, and a store for databases.
type relayWorld struct {
	tb    testing.TB
	url   string // of the hub database
	store *localdb.Store

	mu   sync.Mutex
	wire bytes.Buffer // what the hub sent and received
}

func newRelayWorld(tb testing.TB, c hub.Config) *relayWorld {
	tb.Helper()
	hubStore, err := localdb.OpenStore(tb.TempDir(), localdb.Options{})
	must(tb, err)
	c.Store, c.Logger = hubStore, discard
	h, err := hub.New(tb.Context(), c)
	must(tb, err)
	w := &relayWorld{tb: tb}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener = tapListener{srv.Listener, w}
	srv.Start()
	w.url = srv.URL + "/hub"
	w.store, err = localdb.OpenStore(tb.TempDir(), localdb.Options{})
	must(tb, err)
	tb.Cleanup(func() {
		_ = h.Close()
		srv.CloseClientConnections()
		srv.Close()
		_ = hubStore.Close()
		_ = w.store.Close()
	})
	return w
}

type tapListener struct {
	net.Listener
	w *relayWorld
}

func (l tapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return tapConn{c, l.w}, err
}

type tapConn struct {
	net.Conn
	w *relayWorld
}

func (c tapConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.w.saw(p[:n])
	return n, err
}

func (c tapConn) Write(p []byte) (int, error) {
	c.w.saw(p)
	return c.Conn.Write(p)
}

func (w *relayWorld) saw(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wire.Write(p)
}

// join makes a peer, as Join does.
func (w *relayWorld) join(c Config) (*share.Peer, *Transport) {
	w.tb.Helper()
	client, err := kivik.New(HTTPDriver, strings.TrimSuffix(w.url, "/hub"))
	must(w.tb, err)
	var t *Transport
	p, err := share.Join(w.tb.Context(), client.DB("hub"), share.Config{Logger: discard, NewTransport: func(s share.Signaler) (share.Transport, error) {
		c.Logger, c.Relay.Hub = discard, hubURL(client.DB("hub"))
		t, err = New(c, s)
		return t, err
	}})
	must(w.tb, err)
	w.tb.Cleanup(func() {
		_ = p.Close()
		_ = client.Close()
	})
	return p, t
}

func (w *relayWorld) database(name string) *kivik.DB {
	w.tb.Helper()
	must(w.tb, w.store.Create(w.tb.Context(), name))
	return w.store.DB(name)
}

const relaySecret = "nobody but the two may read this"

// Peers without a direct path share through the hub, which cannot read what they say, and
// move to a direct path when there is one.
func TestRelayThroughHub(t *testing.T) {
	w := newRelayWorld(t, hub.Config{})
	var direct atomic.Bool
	noPath := Config{Relay: Relay{Retry: 50 * time.Millisecond}, ICEServers: func(context.Context) ([]ICEServer, error) {
		if !direct.Load() {
			return nil, errors.New("no network")
		}
		return nil, nil
	}}
	sharer, _ := w.join(Config{})
	opener, transport := w.join(noPath)
	notes := w.database("notes")
	for _, id := range []string{"a", "b", "c"} {
		_, err := notes.Put(t.Context(), id, map[string]string{"text": relaySecret})
		must(t, err)
	}
	s, err := sharer.Share(t.Context(), notes, share.ShareOptions{})
	must(t, err)
	r, err := opener.Open(t.Context(), s.ID())
	must(t, err)
	if r.Route() != "hub" {
		t.Fatalf("route %q", r.Route())
	}
	if body := readDoc(t, r, "a"); !strings.Contains(body, relaySecret) {
		t.Errorf("%s", body)
	}
	result, err := replicate.Sync(t.Context(), w.database("copy"), r.DB(), replicate.Options{})
	must(t, err)
	if result.Pulled.DocsWritten != 3 {
		t.Errorf("%+v", result)
	}
	w.mu.Lock()
	if wire := w.wire.Bytes(); bytes.Contains(wire, []byte(relaySecret)) || bytes.Contains(wire, []byte("/notes/a")) {
		t.Error("the hub can read what the peers say")
	}
	w.mu.Unlock()

	direct.Store(true)
	waitFor(t, func() bool { return strings.Contains(readDoc(t, r, "b"), relaySecret) && r.Route() == "host" })
	waitFor(t, func() bool { // the way through the hub is given up
		transport.mu.Lock()
		defer transport.mu.Unlock()
		return len(transport.relays) == 0
	})
}

func readDoc(t *testing.T, r *share.Remote, id string) string {
	t.Helper()
	resp, err := r.HTTPClient().Get(r.URL().JoinPath(id).String())
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, b)
	}
	return string(b)
}

// Who wants to connect through the hub only does so from both ends, and shows no address.
func TestRelayOnlyThroughHub(t *testing.T) {
	w := newRelayWorld(t, hub.Config{})
	for name, modes := range map[string][2]RelayMode{"the opener": {RelayAuto, RelayHub}, "the sharer": {RelayHub, RelayAuto}} {
		t.Run(name, func(t *testing.T) {
			sharer, sharing := w.join(Config{Relay: Relay{Mode: modes[0]}})
			opener, opening := w.join(Config{Relay: Relay{Mode: modes[1]}})
			s, err := sharer.Share(t.Context(), w.database(string("db-"+modes[0]+"-"+modes[1])), share.ShareOptions{})
			must(t, err)
			r, err := opener.Open(t.Context(), s.ID())
			must(t, err)
			if r.Route() != "hub" {
				t.Errorf("route %q", r.Route())
			}
			if st, ok := sharing.Stats(opening.relay.keys.Address()); !ok || st.Route != "hub" || !st.Incoming || st.BytesSent == 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A hub without a relay, as CouchDB, is asked once, and the reason why there is no direct path is told.
func TestNoRelay(t *testing.T) {
	asked := make(chan struct{}, 100)
	for name, c := range map[string]hub.Config{
		"off":     {Service: hub.Service{Relay: hub.Relay{Off: true}}},
		"couchdb": {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRelayWorld(t, c)
			if name == "couchdb" {
				u, err := url.Parse(w.url)
				must(t, err)
				forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: u.Host})
				front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/_relay") {
						asked <- struct{}{}
						rw.Header().Set("Content-Type", "application/json")
						rw.WriteHeader(http.StatusMethodNotAllowed)
						_, _ = io.WriteString(rw, `{"error":"method_not_allowed","reason":"Only DELETE,GET,HEAD,PUT,COPY allowed"}`)
						return
					}
					forward.ServeHTTP(rw, r)
				}))
				defer front.Close()
				defer front.CloseClientConnections()
				w.url = front.URL + "/hub"
			}
			noPath := Config{ICEServers: func(context.Context) ([]ICEServer, error) { return nil, errors.New("no network") }}
			sharer, sharing := w.join(Config{})
			_, transport := w.join(noPath)
			_, err := sharer.Share(t.Context(), w.database("notes"), share.ShareOptions{})
			must(t, err)
			var failed *ConnectError
			for range 3 {
				_, err := transport.DialContext(t.Context(), "", sharing.relay.keys.Address())
				if !errors.As(err, &failed) || failed.Stage != StageServers {
					t.Errorf("%v", err)
				}
			}
		})
	}
	if n := len(asked); n != 1 {
		t.Errorf("the hub was asked for a relay %d times", n)
	}
}

// Who passes on what the peers say, and changes it, gets the connection lost, and nothing believed.
func TestRelayTamper(t *testing.T) {
	w := newRelayWorld(t, hub.Config{})
	sharer, _ := w.join(Config{})
	opener, transport := w.join(Config{Relay: Relay{Mode: RelayHub}})
	notes := w.database("notes")
	_, err := notes.Put(t.Context(), "a", map[string]string{"text": relaySecret})
	must(t, err)
	s, err := sharer.Share(t.Context(), notes, share.ShareOptions{})
	must(t, err)
	r, err := opener.Open(t.Context(), s.ID())
	must(t, err)
	transport.mu.Lock()
	var l *link
	for l = range transport.relays {
	}
	transport.mu.Unlock()
	// What the hub could do: a message of its own among those of the peer, which would mean something.
	channel := l.conn.(*netCarrier).Conn.(*messageConn).channel
	must(t, channel.Send(yamuxFrame(typePing, 0, 0, 7)))
	select {
	case <-l.ending:
	case <-time.After(time.Minute):
		t.Fatal("the connection goes on")
	}
	if body := readDoc(t, r, "a"); !strings.Contains(body, relaySecret) { // over a new one
		t.Errorf("%s", body)
	}
}
