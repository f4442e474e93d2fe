// Package share lets peers find each other's databases in a hub, and open them.
//
// The hub is a database that all peers can reach, and the only thing they have
// in common: a Loveseat hub, another CouchDB-compatible server, or a local
// database. Its documents are
//
//	share:<id>     a database that a peer shares: name, info, who, until when (shareDoc)
//	signal:<time>  a message between two peers that negotiate a connection (signalDoc)
//
// both signed by their authors, so that neither the hub nor its other users need
// be trusted, and signals sealed to their recipients.
//
// A process joins a hub with [Join]; then it shares databases ([Peer.Share]),
// sees those of others ([Peer.Shares], [Peer.Watch]) and opens them
// ([Peer.Open]): an opened share is CouchDB's HTTP API over a [Transport], and a *kivik.DB.
package share

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// Config says how to join a hub. NewTransport is needed; the other zero values work.
type Config struct {
	// Identity is the peer's; nil: a new one that lives in memory.
	Identity *Identity
	// NewTransport makes the transport to the other peers, which the Peer
	// closes. The signaler works until then.
	NewTransport func(Signaler) (Transport, error)
	// HubURL is the hub database's URL for others, which links are made of. "":
	// that which hub was opened with, if it is an HTTP server's.
	HubURL string
	// Lease is how long shares of this peer outlive it when it does not end
	// properly, give or take a minute. They are renewed three times as often. 0: 2 minutes.
	Lease time.Duration
	// Logger is told of what is worth knowing, with errors that are dealt with by trying again. nil: slog.Default.
	Logger *slog.Logger
}

const defaultLease = 2 * time.Minute

// ErrClosed is the error of what is done with a [Peer] or [Remote] that is closed.
var ErrClosed = fmt.Errorf("share: %w", couch.ErrClosed)

// A Peer is a process that takes part in a hub. It is safe for concurrent use.
type Peer struct {
	id       *Identity
	instance string
	hub      couch.DB
	hubURL   string
	lease    time.Duration
	log      *slog.Logger

	dir       *directory
	mailbox   *mailbox
	standings *standings
	transport Transport
	server    *server

	ctx    context.Context // ends with Close, after the shares have ended
	cancel context.CancelFunc

	sharing sync.Mutex // held while a share is begun

	mu      sync.Mutex
	closing bool
	serving bool // server.run has been started
	remotes map[*Remote]struct{}
	tasks   sync.WaitGroup // renewals, the server, dials
	service sync.WaitGroup // the feed and the trash, which outlive the transport
	closed  chan struct{}  // when Close has done its work
}

// Join takes part in a hub until [Peer.Close]. ctx bounds the call: it reads the
// hub's shares. The caller owns hub and closes it after the Peer.
func Join(ctx context.Context, hub *kivik.DB, c Config) (*Peer, error) {
	if c.NewTransport == nil {
		return nil, errors.New("share: Config.NewTransport is missing")
	}
	if c.Identity == nil {
		var err error
		if c.Identity, err = NewIdentity(); err != nil {
			return nil, err
		}
	}
	p := &Peer{
		id: c.Identity, instance: randomHex(8), hub: withProof(couchkivik.From(hub), hub.Name(), c.Identity), lease: min(cmp.Or(c.Lease, defaultLease), maxLease),
		hubURL:  strings.TrimRight(cmp.Or(c.HubURL, databaseURL(hub.Client().DSN(), hub.Name())), "/"),
		log:     cmp.Or(c.Logger, slog.Default()).With("peer", ShortID(c.Identity.ID())),
		remotes: map[*Remote]struct{}{}, closed: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.dir = newDirectory(p.ID(), p.log)
	trash := newTrash(p.hub, p.log)
	p.server = newServer(p.ctx, nil, p.address(), p.log)
	p.standings = &standings{own: p.ID(), shares: p.server.all, ask: make(chan string, maxAsking)}
	p.mailbox = &mailbox{hub: p.hub, id: p.id, address: p.address(), sealKey: p.sealKey, trash: trash, log: p.log, standings: p.standings}
	p.mailbox.sessions.claim = p.standings.claim
	f := &feed{hub: p.hub, log: p.log, dir: p.dir, mailbox: p.mailbox}
	if err := f.list(ctx); err != nil {
		p.cancel()
		return nil, err
	}
	var err error
	if p.transport, err = c.NewTransport(p.mailbox); err != nil {
		p.cancel()
		return nil, err
	}
	p.server.transport = p.transport
	p.service.Go(func() { p.standings.run(p.ctx, p.userOf) })
	p.service.Go(func() { f.run(p.ctx) })
	p.service.Go(func() { trash.run(p.ctx) })
	p.service.Go(func() {
		if err := p.mailbox.sweep(p.ctx); err != nil && p.ctx.Err() == nil {
			p.log.Debug("stale signals not deleted", "err", err)
		}
	})
	return p, nil
}

// ID returns the peer id.
func (p *Peer) ID() string { return p.id.ID() }

// Transport returns what [Config].NewTransport made.
func (p *Peer) Transport() Transport { return p.transport }

func (p *Peer) address() string { return address(p.id.ID(), p.instance) }

// link returns a share's link, "" if the hub has no URL.
func (p *Peer) link(id string) string {
	if p.hubURL == "" {
		return ""
	}
	return Link{Hub: p.hubURL, Share: id}.String()
}

// info is what the public API tells of a share.
func (p *Peer) info(s *shareDoc) Info {
	i := s.public()
	i.Own = s.Peer == p.id.ID()
	i.Link = p.link(s.id)
	return i
}

// sealKey finds the key to which signals to a sharer are sealed.
func (p *Peer) sealKey(ctx context.Context, peer string) ([]byte, error) {
	keys, ok := p.dir.keys(peer)
	if !ok { // the feed may lag behind
		if err := listShares(ctx, p.hub, p.dir); err != nil {
			return nil, err
		}
		keys, ok = p.dir.keys(peer)
	}
	if !ok {
		return nil, couch.NotFound("Peer " + ShortID(peer) + " shares nothing in this hub.")
	}
	return keys.Seal, nil
}

// start runs fn in a goroutine that Close waits for. false: the peer is closed.
func (p *Peer) start(fn func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return false
	}
	p.tasks.Go(fn)
	return true
}

// serve makes a share reachable; with the first one the peer begins to accept connections.
func (p *Peer) serve(s *Share) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return ErrClosed
	}
	if err := p.server.add(s); err != nil {
		return err
	}
	if !p.serving {
		p.serving = true
		p.tasks.Go(func() { p.server.run(p.ctx) })
		p.service.Go(p.receiveOrders)
	}
	return nil
}

// closeTime bounds what Close does in the hub.
const closeTime = 5 * time.Second

// Close unshares the peer's shares, closes what it has opened, its transport and its
// mailbox, and returns when all its goroutines have exited. It is idempotent. The
// error tells of shares that could not be removed from the hub: they will expire.
func (p *Peer) Close() error {
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		<-p.closed
		return nil
	}
	p.closing = true
	remotes := p.remotes
	p.remotes = nil
	p.mu.Unlock()
	defer close(p.closed)

	errs := p.unshareAll()
	for r := range remotes {
		_ = r.Close()
	}
	_ = p.server.http.Close()                // first, so that the listener's end is no failure
	errs = append(errs, p.transport.Close()) // may still say goodbye through the mailbox
	p.cancel()
	p.tasks.Wait()
	p.service.Wait()
	return errors.Join(errs...)
}

func (p *Peer) unshareAll() []error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	shares := p.server.all()
	errs := make([]error, len(shares))
	var wg sync.WaitGroup
	for i, s := range shares {
		wg.Go(func() { errs[i] = s.Unshare(ctx) })
	}
	wg.Wait()
	return errs
}
