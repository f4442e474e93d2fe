package peeradapter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/share"
)

const (
	// Driver is the kivik driver of the shares of a hub. Its data source name is
	// the URL of a hub database (http://[USER:PASSWORD@]HOST/hub) or a share link;
	// its databases are the hub's live shares, by id or by a name that only one
	// of them has. A client joins the hub at its first call, as a peer with a new
	// identity, and leaves when it is closed. Or it is the URL of databases that
	// are served without a hub, see [Open]: "ws://HOST:PORT/#SECRET".
	Driver = share.DriverName
	// HTTPDriver is the kivik driver of any CouchDB-compatible server: the
	// client of Loveseat's replication as a kivik driver. Its data source name
	// is the server's URL.
	HTTPDriver = "couchhttp"
)

func init() {
	couchkivik.Register(Driver, newSharesStore)
	couchkivik.Register(HTTPDriver, func(dsn string) (couch.Store, error) { return newHTTPStore(dsn) })
}

func newHTTPStore(dsn string) (*couchhttp.Client, error) {
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, couch.BadRequest("Not the URL of a CouchDB server.") // without the URL: it may hold a password
	}
	return couchhttp.NewClient(u, nil, couchhttp.ClientOptions{}), nil
}

// A sharesStore is a hub as a couch.Store whose databases are its shares.
type sharesStore struct {
	server, hub string // the hub's server, with credentials, and its database
	only        string // id of the one share of a link; "": all

	mu      sync.Mutex // also held while joining
	closed  bool
	client  *kivik.Client // the hub's; nil until joined
	peer    *share.Peer
	remotes map[string]*share.Remote // opened, by reference
}

var _ couch.Store = (*sharesStore)(nil)

func newSharesStore(dsn string) (couch.Store, error) {
	if IsAddress(dsn) {
		r, err := newRemote(dsn, WireOptions{})
		if err != nil {
			return nil, err
		}
		return remoteStore{r.client, r}, nil
	}
	s := &sharesStore{remotes: make(map[string]*share.Remote)}
	if link, err := share.ParseLink(dsn); err == nil {
		dsn, s.only = link.Hub, link.Share
	}
	var err error
	if s.server, s.hub, err = SplitHub(dsn); err != nil {
		return nil, couch.BadRequest("Not the URL of a hub database, nor a share link.") // without the URL: it may hold a password
	}
	return s, nil
}

var errNoHub = errors.New("peeradapter: not the URL of a database, such as http://127.0.0.1:5984/hub")

// SplitHub takes the database's name off the URL of a hub, or of any database on a CouchDB-compatible
// server: that of the server, as kivik.New takes it for [HTTPDriver], and the name. The error does not show
// the URL, which may hold a password.
func SplitHub(dsn string) (server, db string, err error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", "", errNoHub
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	at := strings.LastIndexByte(path, '/')
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || at < 0 || path[at+1:] == "" {
		return "", "", errNoHub
	}
	if db, err = url.PathUnescape(path[at+1:]); err != nil {
		return "", "", errNoHub
	}
	user := ""
	if u.User != nil {
		user = u.User.String() + "@"
	}
	return u.Scheme + "://" + user + u.Host + path[:at+1], db, nil
}

// join returns the peer, which the first call makes. s.mu is held.
func (s *sharesStore) join(ctx context.Context) (*share.Peer, error) {
	if s.closed {
		return nil, share.ErrClosed
	}
	if s.peer != nil {
		return s.peer, nil
	}
	client, err := kivik.New(HTTPDriver, s.server)
	if err != nil {
		return nil, err
	}
	peer, err := Join(ctx, client.DB(s.hub), Options{})
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("joining the hub: %w", err)
	}
	s.client, s.peer = client, peer
	return peer, nil
}

// Databases returns the ids of the hub's live shares.
func (s *sharesStore) Databases(ctx context.Context) ([]string, error) {
	if s.only != "" {
		return []string{s.only}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	peer, err := s.join(ctx)
	if err != nil {
		return nil, err
	}
	shares, err := peer.Shares(ctx)
	var ids []string
	for _, i := range shares {
		ids = append(ids, i.ID)
	}
	slices.Sort(ids)
	return ids, err
}

// Create refuses: a share is made by who has its database.
func (s *sharesStore) Create(context.Context, string) error { return errShares }

// Destroy refuses: a share is ended by who made it.
func (s *sharesStore) Destroy(context.Context, string) error { return errShares }

var errShares = &couch.Error{Status: http.StatusForbidden, Code: "forbidden", Reason: "Shares are made and ended by their sharers."}

// Open opens a share by its id, or by its name if no other has it.
func (s *sharesStore) Open(ctx context.Context, name string) (couch.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	peer, err := s.join(ctx)
	if err != nil {
		return nil, err
	}
	r := s.remotes[name]
	if r == nil {
		if r, err = peer.Open(ctx, name); err != nil {
			return nil, err
		}
		if i := r.Info(); s.only != "" && i.ID != s.only {
			_ = r.Close()
			return nil, couch.NotFound("The link is one of another share.")
		}
		s.remotes[name] = r
	}
	return couchkivik.From(r.DB()), nil
}

// Close leaves the hub.
func (s *sharesStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.peer == nil {
		s.closed = true
		return nil
	}
	s.closed = true
	return errors.Join(s.peer.Close(), s.client.Close())
}
