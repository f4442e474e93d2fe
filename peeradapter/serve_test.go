package peeradapter

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/replicate"
)

const goodSecret = "a-secret-of-some-length"

// localStore is a store with databases of one document each.
func localStore(tb testing.TB, names ...string) *localdb.Store {
	tb.Helper()
	store, err := localdb.OpenStore(tb.TempDir(), localdb.Options{})
	must(tb, err)
	tb.Cleanup(func() { _ = store.Close() })
	for _, name := range names {
		must(tb, store.Create(tb.Context(), name))
		_, err := store.DB(name).Put(tb.Context(), "doc", map[string]string{"in": name})
		must(tb, err)
	}
	return store
}

// serving runs Serve until the test ends and returns its URL.
func serving(tb testing.TB, address string, o ServeOptions, dbs ...*kivik.DB) string {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	at, ended := make(chan string, 1), make(chan error, 1)
	o.OnListen, o.Logger = func(a string) { at <- a }, discard
	go func() { ended <- Serve(ctx, address, o, dbs...) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	select {
	case a := <-at:
		return a
	case err := <-ended:
		ended <- nil
		tb.Fatal(err)
	}
	return ""
}

func opening(tb testing.TB, address string, o WireOptions) *Remote {
	tb.Helper()
	o.Logger = discard
	r, err := Open(tb.Context(), address, o)
	must(tb, err)
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

// withoutPeer takes the peer's id off an address.
func withoutPeer(tb testing.TB, address string) string {
	tb.Helper()
	u, err := url.Parse(address)
	must(tb, err)
	u.User = nil
	return u.String()
}

// Above the transports nothing differs: read, write and replicate over each.
func TestServe(t *testing.T) {
	client := identity(t)
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	trust := cert.Client().Transport.(*http.Transport).TLSClientConfig
	for name, c := range map[string]struct {
		listen string
		serve  ServeOptions
		open   WireOptions
		route  string
	}{
		"tcp":                       {"tcp://127.0.0.1:0", ServeOptions{WireOptions: WireOptions{Peers: []string{client.ID()}}}, WireOptions{Identity: client}, "tcp"},
		"tcp with a secret":         {"tcp://127.0.0.1:0", ServeOptions{Secret: goodSecret}, WireOptions{}, "tcp"},
		"websocket with a key":      {"ws://127.0.0.1:0", ServeOptions{WireOptions: WireOptions{Peers: []string{client.ID()}}}, WireOptions{Identity: client}, "websocket"},
		"websocket with a secret":   {"ws://127.0.0.1:0", ServeOptions{Secret: goodSecret}, WireOptions{}, "websocket"},
		"secure websocket":          {"wss://127.0.0.1:0", ServeOptions{Secret: goodSecret, WireOptions: WireOptions{TLS: cert.TLS}}, WireOptions{TLS: &tls.Config{RootCAs: trust.RootCAs}}, "websocket"},
		"websocket on this machine": {"ws://127.0.0.1:0", ServeOptions{}, WireOptions{}, "websocket"},
	} {
		t.Run(name, func(t *testing.T) {
			store := localStore(t, "notes", "copy")
			address := serving(t, c.listen, c.serve, store.DB("notes")) + "#" + c.serve.Secret
			if strings.HasPrefix(name, "secure") || strings.HasSuffix(name, "machine") {
				address = withoutPeer(t, address)
			}
			r := opening(t, address, c.open)
			if r.Route() != c.route {
				t.Errorf("route %q", r.Route())
			}
			_, err := r.DB("").Put(t.Context(), "new", map[string]int{"n": 1})
			must(t, err)
			result, err := replicate.Sync(t.Context(), store.DB("copy"), r.DB("notes"), replicate.Options{})
			must(t, err)
			if result.Pulled.DocsWritten != 2 {
				t.Errorf("%+v", result)
			}
			names, err := r.Client().AllDBs(t.Context())
			if len(names) != 1 || names[0] != "notes" || err != nil {
				t.Errorf("%q, %v", names, err)
			}
			driven, err := kivik.New(Driver, address)
			must(t, err)
			defer driven.Close()
			if c.serve.Peers == nil && c.open.TLS == nil {
				_, err = driven.DB("notes").GetRev(t.Context(), "new")
				must(t, err)
			}
		})
	}
}

// One database, several or a whole store are served over one connection.
func TestServeModes(t *testing.T) {
	store := localStore(t, "a", "b", "c")
	for name, c := range map[string]struct {
		o    ServeOptions
		dbs  []*kivik.DB
		want string
	}{
		"one":     {ServeOptions{}, []*kivik.DB{store.DB("b")}, "b"},
		"several": {ServeOptions{}, []*kivik.DB{store.DB("c"), store.DB("a")}, "a c"},
		"all":     {ServeOptions{Store: store.DB("a").Client()}, nil, "a b c"},
	} {
		t.Run(name, func(t *testing.T) {
			address := serving(t, "tcp://127.0.0.1:0", c.o, c.dbs...)
			u, err := url.Parse(address)
			must(t, err)
			u.Path = "/"
			r := opening(t, u.String(), WireOptions{})
			names, err := r.Client().AllDBs(t.Context())
			must(t, err)
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("%s", got)
			}
			for _, name := range names {
				_, err := r.DB(name).GetRev(t.Context(), "doc")
				must(t, err)
			}
			for _, hidden := range []string{"b", "x", "_users"} {
				if _, err := r.DB(hidden).GetRev(t.Context(), "doc"); (err == nil) != strings.Contains(c.want, hidden) {
					t.Errorf("%s: %v", hidden, err)
				}
			}
		})
	}
}

// What a share refuses is refused, and to read only means that.
func TestServeRights(t *testing.T) {
	store := localStore(t, "notes")
	address := serving(t, "ws://127.0.0.1:0", ServeOptions{ReadOnly: true}, store.DB("notes"))
	r := opening(t, address, WireOptions{})
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "notes/doc", "", 200}, {"GET", "notes/_all_docs", "", 200}, {"PUT", "notes/_local/x", "{}", 201},
		{"PUT", "notes/new", "{}", 403}, {"PUT", "notes/_design/d", "{}", 403}, {"PUT", "notes", "", 403}, {"DELETE", "notes", "", 403},
		{"POST", "notes/_compact", "{}", 403}, {"POST", "notes/_purge", "{}", 403}, {"PUT", "notes/_security", "{}", 403}, {"GET", "notes/_security", "", 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+r.url.Host+"/"+c.path, strings.NewReader(c.body))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := r.HTTPClient().Do(req)
		must(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s: %d", c.method, c.path, resp.StatusCode)
		}
	}
	if rs, err := r.DB("").BulkDocs(t.Context(), []any{map[string]string{"_id": "bulk"}}); err == nil && rs[0].Error == nil {
		t.Error("a document was written")
	}
}

// Who is not welcome gets nothing.
func TestServeRefuses(t *testing.T) {
	server, client, stranger := identity(t), identity(t), identity(t)
	store := localStore(t, "notes")
	listed := ServeOptions{WireOptions: WireOptions{Identity: server, Peers: []string{client.ID()}}}
	secret := ServeOptions{WireOptions: WireOptions{Identity: server}, Secret: goodSecret}
	for name, c := range map[string]struct {
		listen string
		serve  ServeOptions
		open   WireOptions
		change func(address string) string
	}{
		"tcp, not listed":         {"tcp://127.0.0.1:0", listed, WireOptions{Identity: stranger}, nil},
		"websocket, not listed":   {"ws://127.0.0.1:0", listed, WireOptions{Identity: stranger}, nil},
		"websocket, without keys": {"ws://127.0.0.1:0", listed, WireOptions{}, func(a string) string { return withoutPeer(t, a) }},
		"no secret":               {"ws://127.0.0.1:0", secret, WireOptions{}, nil},
		"no secret, without keys": {"ws://127.0.0.1:0", secret, WireOptions{}, func(a string) string { return withoutPeer(t, a) }},
		"a wrong secret":          {"ws://127.0.0.1:0", secret, WireOptions{}, func(a string) string { return a + "#" + goodSecret + "x" }},
		"tcp, a wrong secret":     {"tcp://127.0.0.1:0", secret, WireOptions{}, func(a string) string { return a + "#" + goodSecret[1:] }},
		"another server": {"ws://127.0.0.1:0", secret, WireOptions{}, func(a string) string {
			return strings.Replace(a, server.ID(), stranger.ID(), 1) + "#" + goodSecret
		}},
		"tcp, another server": {"tcp://127.0.0.1:0", secret, WireOptions{}, func(a string) string {
			return strings.Replace(a, server.ID(), stranger.ID(), 1) + "#" + goodSecret
		}},
	} {
		t.Run(name, func(t *testing.T) {
			address := serving(t, c.listen, c.serve, store.DB("notes"))
			if c.change != nil {
				address = c.change(address)
			}
			c.open.Logger = discard
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := Open(ctx, address, c.open)
			if err == nil {
				_ = r.Close()
				t.Fatal("it is open")
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error("it was not told:", err)
			}
		})
	}
}

// Off loopback somebody must be named, secrets be long, and be sent to nobody who is not known.
func TestServeOpenToAll(t *testing.T) {
	for address, o := range map[string]ServeOptions{
		"tcp://0.0.0.0:0":   {},
		"ws://0.0.0.0:0":    {},
		"ws://[::]:0":       {ReadOnly: true},
		"ws://127.0.0.1:0":  {Secret: "short"},
		"wss://127.0.0.1:0": {},
		"udp://127.0.0.1:0": {},
		"127.0.0.1:0":       {},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		o.OnListen = func(string) { t.Errorf("%s is served", address); cancel() }
		if err := Serve(ctx, address, o); err == nil {
			t.Errorf("%s: no error", address)
		}
		cancel()
	}
	for _, bad := range []string{"", "ws://", "http://127.0.0.1/", "ws:127.0.0.1", "tcp://"} {
		if r, err := newRemote(bad, WireOptions{}); err == nil {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}

// Pages of web origins are kept out unless they are named, also where the host name that they use means this machine.
func TestWebSocketOrigin(t *testing.T) {
	l := listening(t)(ListenWebSocket("127.0.0.1:0", WireOptions{Origins: []string{"https://app.example"}, Logger: discard}))
	for _, c := range []struct {
		host, origin string
		want         int
	}{
		{"", "", 101}, {"", "https://app.example", 101},
		{"", "https://evil.example", 403}, {"", "null", 403}, {"", "http://" + l.Addr().String(), 403},
		{"evil.example", "http://evil.example", 403}, // DNS rebinding
	} {
		o := &websocket.DialOptions{Subprotocols: []string{protocolPlain}, Host: c.host, HTTPHeader: http.Header{}}
		if c.origin != "" {
			o.HTTPHeader.Set("Origin", c.origin)
		}
		ws, resp, err := websocket.Dial(t.Context(), "ws://"+l.Addr().String(), o)
		if resp == nil || resp.StatusCode != c.want {
			t.Errorf("%+v: %v, %v", c, resp, err)
		}
		if err == nil {
			_ = ws.CloseNow()
		}
	}
	resp, err := http.Get("http://" + l.Addr().String() + "/notes")
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("%d", resp.StatusCode)
	}
}

// A connection that breaks is made again by the next request.
func TestRemoteRedials(t *testing.T) {
	store := localStore(t, "notes")
	r := opening(t, serving(t, "ws://127.0.0.1:0", ServeOptions{}, store.DB("notes")), WireOptions{})
	r.current().link.end(ErrPeerLost)
	waitFor(t, func() bool {
		_, err := r.DB("").GetRev(t.Context(), "doc")
		return err == nil
	})
	must(t, r.Close())
	if _, err := r.DB("").GetRev(t.Context(), "doc"); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// Serve works on any listener, as one in memory.
func TestServeOn(t *testing.T) {
	store := localStore(t, "notes")
	var m Memory
	l, err := m.Listen("here")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- ServeOn(ctx, l, ServeOptions{WireOptions: WireOptions{Logger: discard}}, store.DB("notes"))
	}()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return m.DialContext(ctx, "", "here")
	}}}
	resp, err := client.Get("http://x/notes/doc")
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%d", resp.StatusCode)
	}
	client.CloseIdleConnections()
	cancel()
	must(t, <-ended)
	if _, err := m.DialContext(t.Context(), "", "here"); err == nil {
		t.Error("it is still there")
	}
}
