package peeradapter

import (
	"context"
	"log/slog"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/share"
)

// Options says how to join a hub. The zero value works.
type Options struct {
	// Identity is this peer's; nil: a new one that lives in memory. See [share.LoadIdentity].
	Identity *share.Identity
	// HubURL is the hub database's URL for others, which links are made of; "":
	// that which hub was opened with.
	HubURL string
	// Lease is how long shares outlive this process when it dies; 0: 2 minutes.
	Lease time.Duration
	// WebRTC says how peers are connected. Without ICEServers it takes those
	// that the hub tells, if it is Loveseat's (GET /_ice).
	WebRTC Config
	// Logger is for all of it; nil: [slog.Default].
	Logger *slog.Logger
}

// Join takes part in a hub, with WebRTC to the other peers, until the Peer is
// closed. hub may be on any CouchDB-compatible server, or a local database in the
// same process; the caller owns it. ctx bounds the call.
func Join(ctx context.Context, hub *kivik.DB, o Options) (*share.Peer, error) {
	if o.WebRTC.Logger == nil {
		o.WebRTC.Logger = o.Logger
	}
	if ice := newHubICE(hub); ice != nil && o.WebRTC.ICEServers == nil {
		o.WebRTC.ICEServers = ice.get
	}
	if o.WebRTC.Relay.Hub == "" {
		o.WebRTC.Relay.Hub = hubURL(hub)
	}
	return share.Join(ctx, hub, share.Config{
		Identity: o.Identity, HubURL: o.HubURL, Lease: o.Lease, Logger: o.Logger,
		NewTransport: func(s share.Signaler) (share.Transport, error) { return New(o.WebRTC, s) },
	})
}
