package share

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// DriverName is the kivik driver of opened shares, which peeradapter registers.
const DriverName = "peer"

// A Remote is an opened share: the sharer's database over a peer connection.
//
// The connection is made by the first request and made again, to wherever the
// sharer is then, by the next request after it broke. Requests wait for that
// until their contexts end or the share is gone from the hub.
type Remote struct {
	peer    *Peer
	id      string
	dbName  string
	headers map[string]string // of each request: what OpenOptions say
	until   time.Time         // when the share ends by itself; zero: it does not
	http    *http.Transport
	client  *couchhttp.Client
	route   atomic.Pointer[func() string] // of the last connection
	failed  atomic.Pointer[dialError]     // why the last attempt to connect failed, nil if it did not

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	unpin  func() // lets the directory forget the share
	once   sync.Once

	mu     sync.Mutex
	closed bool
	conns  map[*remoteConn]struct{}
	calls  sync.WaitGroup // dials and round trips
}

const (
	openTime     = 30 * time.Second // for the first connection
	answerTime   = 3 * time.Minute  // for the head of an answer; OnRemote may ask a person
	maxConns     = 32
	maxIdleConns = 8
)

// Open opens a share, given by its id, its link, or its name if only one live
// share of the hub has it. It connects to the sharer and asks for the database, so that
// what is wrong is told now; for that it takes at most 30 s.
//
// Errors: not_found (404), ambiguous_name (409), own_share (409) if this process
// is the sharer, forbidden (403) with the sharer's reason, [ErrClosed], the transport's.
func (p *Peer) Open(ctx context.Context, ref string) (*Remote, error) {
	return p.OpenWith(ctx, ref, OpenOptions{})
}

// OpenOptions is what an opener shows the sharer. The zero value works.
type OpenOptions struct {
	// Invite is the secret of an invite. "": that of the link, if it has one.
	Invite string
	// Info is any JSON value of at most 4 KiB for the sharer to see when it decides: a device's name, say.
	Info any
}

// OpenWith is Open with options. Errors: 400 for an info that is no JSON or too long, too.
func (p *Peer) OpenWith(ctx context.Context, ref string, o OpenOptions) (*Remote, error) {
	headers, err := o.headers(ref)
	if err != nil {
		return nil, err
	}
	doc, err := p.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if doc.address() == p.address() {
		return nil, &couch.Error{Status: http.StatusConflict, Code: "own_share", Reason: "This process shares " + doc.id + " itself."}
	}
	r := &Remote{peer: p, id: doc.id, dbName: doc.DB, headers: headers, until: doc.until, conns: map[*remoteConn]struct{}{}}
	r.ctx, r.cancel = context.WithCancel(p.ctx)
	r.http = couchhttp.NewTransport(r.dial)
	r.http.MaxIdleConnsPerHost, r.http.MaxConnsPerHost = maxIdleConns, maxConns
	r.http.IdleConnTimeout = 0 // open streams cost little, and tell the sharer that the share is still open
	r.http.ResponseHeaderTimeout = answerTime
	r.client = couchhttp.NewClient(&url.URL{Scheme: "http", Host: r.id, Path: "/"}, r.HTTPClient(), couchhttp.ClientOptions{Compress: true})
	if !p.addRemote(r) {
		r.cancel()
		return nil, ErrClosed
	}
	go r.follow(doc.address())
	if err := r.connect(ctx); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("open share %s: %w", r.id, err)
	}
	return r, nil
}

// connect makes the first request.
func (r *Remote) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	_, err := r.client.Open(ctx, r.dbName)
	if failed := r.failed.Load(); failed != nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (%w)", failed, err) // rather the transport's reason than that time was up
	}
	return err
}

func (p *Peer) addRemote(r *Remote) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return false
	}
	p.remotes[r] = struct{}{}
	r.unpin = p.dir.pin(r.id)
	r.calls.Add(1) // follow
	return true
}

// DB returns the share as a kivik database.
func (r *Remote) DB() *kivik.DB { return couchkivik.DB(DriverName, r.client, r.dbName) }

// Info returns what the hub tells of the share now; of a share that is gone, only its id.
func (r *Remote) Info() Info {
	if s, _ := r.peer.dir.get(r.id); s != nil {
		return r.peer.info(s)
	}
	return Info{ID: r.id, DB: r.dbName, Link: r.peer.link(r.id)}
}

// Route tells how the packets travel at the moment, see [Conn]; "" before there is a connection.
func (r *Remote) Route() string {
	if route := r.route.Load(); route != nil {
		return (*route)()
	}
	return ""
}

// URL returns the share's database URL, which means something to [Remote.HTTPClient] only.
func (r *Remote) URL() *url.URL {
	return &url.URL{Scheme: "http", Host: r.id, Path: "/" + r.dbName, RawPath: "/" + url.PathEscape(r.dbName)}
}

// HTTPClient returns a client whose requests to the host of URL reach the
// sharer: CouchDB's HTTP API as it is. Its transport asks for no compression on its own.
func (r *Remote) HTTPClient() *http.Client {
	return &http.Client{Transport: introduced{roundTripper{r}}}
}

// Close ends requests under way and lets go of the share. It is idempotent. The
// peer connection stays with the transport.
func (r *Remote) Close() error {
	r.peer.mu.Lock()
	delete(r.peer.remotes, r)
	r.peer.mu.Unlock()

	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.closeConns(func(*remoteConn) bool { return true })
	r.calls.Wait()
	r.once.Do(r.unpin)
	r.http.CloseIdleConnections()
	return nil
}

// begin notes a call that Close waits for. false: the Remote is closed.
func (r *Remote) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.calls.Add(1)
	}
	return !r.closed
}
