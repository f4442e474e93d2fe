// Package hub is the policy of the server that everyone can reach: who may do
// what, which pages of which origins may ask, what is logged. What it serves is
// CouchDB's HTTP API (internal/couchhttp) over a [couch.Store], in which the
// database "hub" carries the shares and signals of peers.
//
// Requests pass, from the outside in: the access log, the check of the Host
// header, the page, CORS, authentication, and then either /_session or the API,
// which asks about each operation again.
package hub

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// Config configures a [Hub]. Only Store is needed.
type Config struct {
	Store   couch.Store // owned by the caller, who closes it after the hub
	UUID    string      // identifies the server across restarts; clients make it part of their checkpoints
	Release string      // Loveseat's version, told by GET /

	// Admin is the first administrator of the server, and Admins are further
	// ones. If there is none, everybody may do everything, and only requests to a loopback
	// host name are answered.
	Admin  *Admin
	Admins []Admin

	JWT JWT // log-in by JSON Web Tokens

	// SignUp lets everybody make an account: a document in _users. Otherwise administrators do.
	SignUp bool
	// UserDatabases gives each account a database of its own, which is named
	// "userdb-" and the user's name in hexadecimal, as CouchDB's couch_peruser does.
	UserDatabases bool
	// RequireUser answers nobody who has not logged in, whatever the _security of a database says.
	RequireUser bool
	// OpenMetrics lets everybody read /_metrics. Otherwise administrators do.
	OpenMetrics bool

	// Secret signs the cookies of sessions; servers that share accounts may share it. nil:
	// a random one, so that sessions end with the hub.
	Secret []byte
	// TrustedProxies are the reverse proxies whose X-Forwarded-For and
	// X-Forwarded-Proto are believed.
	TrustedProxies []netip.Prefix

	// Database is the name of the hub database, made if it is missing. "": "hub".
	Database string

	// Origins are the web origins whose pages may use the hub with credentials: "https://example.org".
	// Those on loopback may too, if there is no administrator.
	Origins []string

	// Hosts are the names under which the hub is reached, besides those of this machine and of the
	// certificate: "hub.example.org", with a port if it is neither 80, 443 nor
	// the one it listens on. Requests under other names are refused, and so are proofs of peers that dialled another hub.
	Hosts []string
	// CertificateHosts returns the names in the hub's TLS certificate, which may change; nil: none.
	CertificateHosts func() []string

	// SessionTimeout is how long a cookie session lasts without use. 0: 10 minutes, as in CouchDB.
	SessionTimeout time.Duration

	Service Service // hub databases, quotas, ICE

	Limits  couchhttp.Limits
	TempDir string       // see [couchhttp.ServerOptions]
	Logger  *slog.Logger // requests at debug level, failures above. nil: slog.Default
}

// Admin is an administrator's account. The password is in clear text or, better,
// what [HashPassword] made of it.
type Admin struct{ Name, Password string }

// A Hub serves the API under the hub's policy. It is an [http.Handler].
type Hub struct {
	c        Config
	api      *couchhttp.Server
	accounts *accounts
	tokens   *tokens // nil: none are taken
	security *securities
	sessions *sessions
	metrics  *metrics
	service  *service
	origins  map[string]bool
	hosts    []hostName // Config.Hosts
	machine  string     // its host name
	nonces   nonces
	handler  http.Handler

	proxyOnce sync.Once // tells of an undeclared proxy
}

// New returns a hub and makes its hub database if it is missing.
func New(ctx context.Context, c Config) (*Hub, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Database == "" {
		c.Database = "hub"
	}
	if c.SessionTimeout <= 0 {
		c.SessionTimeout = 10 * time.Minute
	}
	c.limitDatabases()
	h := &Hub{c: c, sessions: newSessions(c.SessionTimeout, c.Secret), security: newSecurities(c.Store), origins: map[string]bool{}}
	for _, o := range c.Origins {
		origin, err := parseOrigin(o)
		if err != nil {
			return nil, err
		}
		h.origins[origin] = true
	}
	for _, name := range c.Hosts {
		n, err := parseHost(name)
		if err != nil {
			return nil, err
		}
		h.hosts = append(h.hosts, n)
	}
	h.machine, _ = os.Hostname() // without one it is known by its addresses
	if err := h.newAccounts(ctx); err != nil {
		return nil, err
	}
	var err error
	if h.service, err = serviceOf(ctx, &c); err != nil {
		return nil, err
	}
	limits := c.Limits
	limits.Memory = h.service.quotas.memory()
	h.api = couchhttp.NewServer(couchhttp.ServerOptions{
		Store: h.service.store(&guardedStore{c.Store, h}), UUID: c.UUID, Release: c.Release, Authorize: h.guard,
		Limits: limits, Client: func(r *http.Request) string { return callerOf(r.Context()).client }, Logger: c.Logger, TempDir: c.TempDir,
		Varies: func(db string) bool { return h.service.hubs[db] != nil },
	})
	h.metrics = h.newMetrics()
	h.handler = h.forwarded(h.logged(h.checkHost(h.paged(h.cors(h.authenticated(h.limited(h.proven(h.routes()))))))))
	return h, nil
}

// limitDatabases puts Quotas.Databases in the way of whatever makes a database.
func (c *Config) limitDatabases() {
	n := c.Service.Quotas.Databases
	or(&n, -1)
	own := []string{c.Database}
	for _, d := range c.Service.Databases {
		own = append(own, d.Name)
	}
	c.Store = LimitDatabases(c.Store, n, own...)
}

// ServeHTTP answers one request.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	couchhttp.CommonHeaders(w.Header())
	couchhttp.Inert(w.Header()) // the page has a policy of its own
	if len(r.TransferEncoding) > 0 {
		// The header may have had a Content-Length too, which a proxy in front may have
		// believed: what it takes for the rest of this request must not become another one
		// (RFC 9112 section 6.1). net/http does not tell.
		w.Header().Set("Connection", "close")
	}
	h.handler.ServeHTTP(w, couchhttp.WithMethodOverride(r))
}

// Close ends waiting changes feeds, and later ones at once, so that a server can shut down.
func (h *Hub) Close() error {
	h.service.close()
	return h.api.Close()
}

// headerTime is how long a request's header may take; tests wait less.
var headerTime = 10 * time.Second

// grace is how long requests under way have to finish when the server stops.
const grace = 10 * time.Second

// Serve answers requests on ln until ctx ends. Then it accepts no more, ends the
// feeds, lets the other requests finish and returns nil.
func (h *Hub) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(h.c.Logger.Handler(), slog.LevelDebug),
		// No WriteTimeout: a changes feed lasts as long as its reader.
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	_ = h.Close()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(stop)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
