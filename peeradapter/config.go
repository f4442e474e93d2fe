package peeradapter

import (
	"cmp"
	"context"
	"log/slog"
	"time"
)

// An ICEServer is a STUN or TURN server (RFC 8829 section 4.1.1); its JSON is that of an RTCIceServer.
type ICEServer struct {
	URLs       []string `json:"urls"` // "stun:host:port", "turn:host:port?transport=udp"
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Config says how a [Transport] connects. The zero value connects peers that
// reach each other without a STUN or TURN server.
type Config struct {
	// ICEServers returns the STUN and TURN servers for the next connection. It
	// is asked once per connection, because TURN credentials expire; an error
	// fails the dial. nil: none.
	ICEServers func(context.Context) ([]ICEServer, error)
	// RelayOnly hides this peer's addresses: it connects through TURN servers alone.
	RelayOnly bool
	// Timeout bounds a negotiation, from the offer to the open data channel; 0: 15 s.
	Timeout time.Duration
	// MaxPeers bounds the connections that others have opened to this peer; 0: 256.
	MaxPeers int
	// OnPeer is told when a connection to a peer opens and closes. Calls come
	// one at a time, in order; it must not block.
	OnPeer func(PeerEvent)
	// Logger gets what is worth knowing for debugging; nil: [slog.Default].
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	c.MaxPeers = cmp.Or(c.MaxPeers, 256)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if c.ICEServers == nil {
		c.ICEServers = func(context.Context) ([]ICEServer, error) { return nil, nil }
	}
	if c.OnPeer == nil {
		c.OnPeer = func(PeerEvent) {}
	}
	return c
}

// PeerState is what has become of a connection to a peer.
type PeerState string

// The states of a connection that Config.OnPeer hears of.
const (
	Connected PeerState = "connected"
	Closed    PeerState = "closed"
)

// A PeerEvent tells that a connection to a peer has opened or closed.
type PeerEvent struct {
	Peer  string
	State PeerState
	Route string // see [Transport.Stats]
	Err   error  // Closed: why, nil if it was closed here
}
