package peeradapter

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/share"
)

// inviteHeader carries a secret by which who asks is let in.
const inviteHeader = "Loveseat-Invite"

// minSecret is how long a secret must be, in bytes.
const minSecret = 16

// ServeOptions say how databases are served without a hub. The zero value serves
// programs on this machine, to read and write.
type ServeOptions struct {
	WireOptions
	// Secret lets in who shows it, beside WireOptions.Peers: at least 16 bytes, of which nobody can guess any.
	Secret string
	// ReadOnly lets others read and pull only.
	ReadOnly bool
	// Store is a client all of whose databases are served; nil: those that are given.
	Store *kivik.Client
	// OnListen is told the URL by which others reach this process, without the secret.
	OnListen func(address string)
}

// Serve serves databases under their names to who connects to address until ctx
// ends. Each is CouchDB's HTTP API, without what a share refuses too: making and destroying
// databases, design documents, _security, purging and compacting. The address is
//
//	ws://HOST:PORT    WebSocket, for whoever has the secret or a device key in Peers
//	wss://HOST:PORT   the same with the certificate in WireOptions.TLS
//	tcp://HOST:PORT   TCP with TLS 1.3 on the peers' device keys
//
// On loopback nobody need be named; elsewhere Peers or a Secret must say who is welcome.
// The other end is [Open].
func Serve(ctx context.Context, address string, o ServeOptions, dbs ...*kivik.DB) error {
	name := ""
	if len(dbs) == 1 && o.Store == nil {
		name = dbs[0].Name()
	}
	l, err := o.listen(address, name)
	if err != nil {
		return err
	}
	return ServeOn(ctx, l, o, dbs...)
}

// ServeShare serves a share also at an address, as [Serve] does databases: what the share asks of the peers
// of its hub, it asks of those who connect, and o.Secret, which is needed, where it lets in all of them. They must show
// a device key. WireOptions.Peers, ReadOnly and Store of o are not used. ctx ends before the share's Peer is closed.
func ServeShare(ctx context.Context, address string, o ServeOptions, s *share.Share) error {
	if o.Secret == "" {
		return errors.New("peeradapter: a share that is served without its hub needs a secret")
	}
	l, err := o.listen(address, s.DB())
	if err != nil {
		return err
	}
	return s.ServeOn(ctx, l, o.Secret)
}

// listen listens at an address, and tells the URL of what is served; db is "" if that is not one database.
func (o *ServeOptions) listen(address, db string) (net.Listener, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, errNoURL
	}
	if o.WireOptions, err = o.withDefaults(); err != nil {
		return nil, err
	}
	w, err := o.forCarrier()
	if err != nil {
		return nil, err
	}
	l, err := listenAt(u, w)
	if err != nil || o.OnListen == nil {
		return l, err
	}
	here := url.URL{Scheme: u.Scheme, User: url.User(o.Identity.ID()), Host: l.Addr().String(), Path: "/"}
	if db != "" {
		here = *here.JoinPath(url.PathEscape(db))
	}
	o.OnListen(here.String())
	return l, nil
}

func listenAt(u *url.URL, w WireOptions) (net.Listener, error) {
	switch {
	case u.Scheme == "tcp":
		return ListenTCP(u.Host, w)
	case u.Scheme == "ws":
		w.TLS = nil
		return ListenWebSocket(u.Host, w)
	case u.Scheme == "wss" && w.TLS != nil:
		return ListenWebSocket(u.Host, w)
	case u.Scheme == "wss":
		return nil, errors.New("peeradapter: wss: needs a certificate in WireOptions.TLS")
	}
	return nil, errNoURL
}

// forCarrier is what a connection is asked for before its requests are, which
// show the secret.
func (o *ServeOptions) forCarrier() (WireOptions, error) {
	w := o.WireOptions
	if o.Secret != "" {
		if len(o.Secret) < minSecret {
			return w, fmt.Errorf("peeradapter: a secret needs %d bytes", minSecret)
		}
		w.Peers, w.Anyone, w.prove = nil, true, true
	}
	return w, nil
}

// ServeOn is [Serve] on any listener, which it closes: of this package, or net's.
// Who connects to a listener that does not tell its peers must show the secret, if there is one.
func ServeOn(ctx context.Context, l net.Listener, o ServeOptions, dbs ...*kivik.DB) error {
	w := &wireServer{o: o, open: o.Secret == "" && (o.Peers == nil || o.Anyone)}
	store := couch.Store(namedStore(dbs))
	if o.Store != nil {
		store = clientStore{o.Store}
	}
	w.api = couchhttp.NewServer(couchhttp.ServerOptions{Store: store, UUID: o.uuid(), Authorize: w.authorize, Logger: o.Logger})
	srv := &http.Server{
		Handler: w, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, belowKey{}, c) },
	}
	if o.Logger != nil {
		srv.ErrorLog = slogLogger(o.Logger)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		_ = w.api.Close()
		_ = l.Close() // its connections deliver what was written
		_ = srv.Close()
		err = <-served
		w.wait()
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// uuid identifies the server in the checkpoints of who replicates with it: by the device key.
func (o *ServeOptions) uuid() string {
	if o.Identity == nil {
		return ""
	}
	return strings.ReplaceAll(o.Identity.ID(), "-", "")
}

// A wireServer answers the requests of those who are welcome.
type wireServer struct {
	o    ServeOptions
	open bool // everybody is welcome who could connect
	api  *couchhttp.Server

	requests sync.WaitGroup // Add only while not ended
	mu       sync.Mutex
	ended    bool
}

// begin counts a request that wait waits for; false: it has come too late.
func (s *wireServer) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.requests.Add(1)
	}
	return !s.ended
}

// wait returns when no request uses the databases any more.
func (s *wireServer) wait() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.requests.Wait()
}

// ServeHTTP implements [http.Handler].
func (s *wireServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		return
	}
	defer s.requests.Done()
	st, _ := r.Context().Value(belowKey{}).(*stream)
	if !s.welcome(st, r.Header.Get(inviteHeader)) {
		w.Header().Set("Connection", "close")
		couchhttp.WriteError(w, couch.Forbidden("The secret is missing or wrong, and this peer is not on the list."))
		return
	}
	if st != nil {
		st.link.letIn()
	}
	s.api.ServeHTTP(w, r)
}

func (s *wireServer) welcome(st *stream, secret string) bool {
	switch {
	case s.open:
		return true
	case st != nil && st.link.peer != "" && slices.Contains(s.o.Peers, st.link.peer):
		return true
	}
	return s.o.Secret != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(s.o.Secret)) == 1
}

// authorize is what a share allows too.
func (s *wireServer) authorize(_ *http.Request, a couchhttp.Access) error {
	switch a.Op {
	case couchhttp.OpWelcome, couchhttp.OpListDBs, couchhttp.OpInfo, couchhttp.OpRead, couchhttp.OpReadLocal, couchhttp.OpWriteLocal:
		return nil
	case couchhttp.OpWriteDoc:
		if !s.o.ReadOnly || a.Doc == "" { // "": _bulk_docs, whose documents are asked about one by one
			return nil
		}
		return couch.Forbidden("These databases are read-only.")
	}
	return couch.Forbidden("Served databases are for reading and replicating documents.")
}

// A namedStore is databases as a couch.Store.
type namedStore []*kivik.DB

func (s namedStore) Databases(context.Context) ([]string, error) {
	names := make([]string, len(s))
	for i, db := range s {
		names[i] = db.Name()
	}
	slices.Sort(names)
	return names, nil
}

func (s namedStore) Open(_ context.Context, name string) (couch.DB, error) {
	for _, db := range s {
		if db.Name() == name {
			return couchkivik.From(db), nil
		}
	}
	return nil, couch.NotFound("Database does not exist.")
}

func (s namedStore) Create(context.Context, string) error  { return errServed }
func (s namedStore) Destroy(context.Context, string) error { return errServed }

var errServed = couch.Forbidden("Databases are made and destroyed by who serves them.")

// A clientStore is all databases of a kivik client.
type clientStore struct{ client *kivik.Client }

func (s clientStore) Databases(ctx context.Context) ([]string, error) {
	names, err := s.client.AllDBs(ctx)
	return slices.DeleteFunc(names, private), err
}

// private reports whether a database is the server's own, as _users.
func private(name string) bool { return strings.HasPrefix(name, "_") }

func (s clientStore) Open(ctx context.Context, name string) (couch.DB, error) {
	exists, err := s.client.DBExists(ctx, name)
	if err == nil && (!exists || private(name)) {
		err = couch.NotFound("Database does not exist.")
	}
	if err != nil {
		return nil, err
	}
	return couchkivik.From(s.client.DB(name)), nil
}

func (s clientStore) Create(context.Context, string) error  { return errServed }
func (s clientStore) Destroy(context.Context, string) error { return errServed }

var (
	_ couch.Store = namedStore{}
	_ couch.Store = clientStore{}
	_ share.Conn  = (*stream)(nil)
)
