package peeradapter

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// A Remote is the databases that another process serves, see [Serve], over one
// connection. It is made by the first request, and again by the next one after it broke.
type Remote struct {
	url     url.URL     // without database and secret
	db      string      // of the URL, "" if it has none
	header  http.Header // what each request shows
	options WireOptions
	http    *http.Transport
	client  *couchhttp.Client

	mu     sync.Mutex // also held while connecting
	closed bool
	wire   *Wire
}

// IsAddress reports whether a reference is the URL of databases that are served without
// a hub, as [Open] takes it.
func IsAddress(ref string) bool {
	for _, scheme := range []string{"ws://", "wss://", "tcp://"} {
		if strings.HasPrefix(ref, scheme) {
			return true
		}
	}
	return false
}

// Open connects to a process that serves databases:
//
//	ws://[PEER@]HOST:PORT/[DB][#SECRET]
//	wss://[PEER@]HOST:PORT/[DB][#SECRET]
//	tcp://PEER@HOST:PORT/[DB][#SECRET]
//
// With the id of the peer the two show each other their device keys and what they say is encrypted
// from end to end; without, the host must be on loopback or the URL wss:. The secret is sent
// inside of that with each request.
//
// Errors: not_found (404) if DB is not served, forbidden (403) if this peer is not welcome, the network's.
func Open(ctx context.Context, address string, o WireOptions) (*Remote, error) {
	r, err := newRemote(address, o)
	if err != nil {
		return nil, err
	}
	if r.db != "" {
		_, err = r.client.Open(ctx, r.db)
	} else {
		_, err = r.client.Databases(ctx)
	}
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("open %s://%s: %w", r.url.Scheme, r.url.Host, err)
	}
	return r, nil
}

func newRemote(address string, o WireOptions) (*Remote, error) {
	u, err := url.Parse(address)
	if err != nil || !IsAddress(address) || u.Host == "" {
		return nil, errNoURL
	}
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Remote{url: *u, options: o}
	o.Opening.Invite = cmp.Or(o.Opening.Invite, u.Fragment)
	if r.header, err = o.Opening.Header(o.Identity); err != nil {
		return nil, err
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	at := strings.LastIndexByte(path, '/') + 1
	if r.db, err = url.PathUnescape(path[at:]); err != nil {
		return nil, errNoURL
	}
	r.url = url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: path[:at]}
	r.http = couchhttp.NewTransport(r.dial)
	r.http.MaxConnsPerHost = 32
	r.http.ResponseHeaderTimeout = 3 * time.Minute
	r.client = couchhttp.NewClient(&url.URL{Scheme: "http", Host: u.Host, Path: "/"}, r.HTTPClient(), couchhttp.ClientOptions{})
	return r, nil
}

// dial opens a stream over the connection there is or a new one.
func (r *Remote) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	for try := 0; ; try++ {
		w, err := r.connect(ctx)
		if err != nil {
			return nil, err
		}
		c, err := w.DialContext(ctx, network, addr)
		if err == nil || w.link.alive() || ctx.Err() != nil || try > 0 {
			return c, err
		}
	}
}

func (r *Remote) connect(ctx context.Context) (*Wire, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, net.ErrClosed
	}
	if r.wire != nil && r.wire.link.alive() {
		return r.wire, nil
	}
	if r.wire != nil {
		_ = r.wire.Close()
		r.wire = nil
	}
	o, err := r.options, error(nil)
	if r.url.Scheme == "tcp" {
		if peer := r.url.User.Username(); peer != "" {
			o.Peers = []string{peer}
		}
		r.wire, err = DialTCP(ctx, r.url.Host, o)
	} else {
		r.wire, err = DialWebSocket(ctx, r.url.String(), o)
	}
	return r.wire, err
}

// Client returns the databases as a kivik client, which the Remote closes.
func (r *Remote) Client() *kivik.Client { return couchkivik.Client(Driver, r.client) }

// DB returns a database; "": that of the URL.
func (r *Remote) DB(name string) *kivik.DB {
	if name == "" {
		name = r.db
	}
	return r.Client().DB(name)
}

// Peer returns the verified id of the peer that serves, "" if it has shown none or there is no connection.
func (r *Remote) Peer() string {
	if w := r.current(); w != nil {
		return w.Peer()
	}
	return ""
}

// Route returns "tcp" or "websocket", "" if there is no connection.
func (r *Remote) Route() string {
	if w := r.current(); w != nil {
		return w.link.route()
	}
	return ""
}

func (r *Remote) current() *Wire {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wire != nil && r.wire.link.alive() {
		return r.wire
	}
	return nil
}

// URL returns the URL of a database ("": that of the Remote's URL), which means something to [Remote.HTTPClient] only.
func (r *Remote) URL(name string) *url.URL {
	if name == "" {
		name = r.db
	}
	return (&url.URL{Scheme: "http", Host: r.url.Host, Path: "/"}).JoinPath(url.PathEscape(name))
}

// HTTPClient returns a client whose requests to the host of URL reach the other process.
func (r *Remote) HTTPClient() *http.Client { return &http.Client{Transport: showing{r}} }

// Close ends the connection. It is idempotent.
func (r *Remote) Close() error {
	r.mu.Lock()
	r.closed = true
	w := r.wire
	r.mu.Unlock()
	r.http.CloseIdleConnections()
	if w == nil {
		return nil
	}
	err := w.Close()
	r.http.CloseIdleConnections()
	return err
}

// A showing shows the secret, and who it is, with each request.
type showing struct{ r *Remote }

// RoundTrip implements [http.RoundTripper].
func (t showing) RoundTrip(req *http.Request) (*http.Response, error) {
	if len(t.r.header) > 0 {
		req = req.Clone(req.Context())
		maps.Copy(req.Header, t.r.header)
	}
	return t.r.http.RoundTrip(req)
}

// A remoteStore is a Remote as the store of a kivik client, which closes it.
type remoteStore struct {
	*couchhttp.Client
	r *Remote
}

func (s remoteStore) Close() error { return s.r.Close() }
