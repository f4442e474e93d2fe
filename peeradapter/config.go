package peeradapter

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/pion/transport/v5"
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
	// Interfaces and Networks choose which of this machine's addresses connections
	// use: names of interfaces ("eth0", "wlan*") and ranges of addresses
	// ("192.168.0.0/16", "fd00::/8", one address). A "!" in front excludes. Empty: all.
	Interfaces []string
	Networks   []string
	// UDPPort is the one UDP port, on each address, for the connections to all peers; 0: a
	// free port for each. (Other traffic through a TURN or STUN server has ports of its own.)
	UDPPort int
	// Relay says when connections go through the hub.
	Relay Relay
	// Timeout bounds a negotiation, from the offer to the open data channel; 0: 15 s.
	Timeout time.Duration
	// MaxPeers bounds the connections that others have opened to this peer; 0: 256.
	MaxPeers int
	// OnPeer is told when a connection to a peer opens, closes and is interrupted. Calls come
	// one at a time, in order; it must not block.
	OnPeer func(PeerEvent)
	// Logger gets what is worth knowing for debugging; nil: [slog.Default].
	Logger *slog.Logger

	net       transport.Net // tests simulate a network; nil: the system's
	lostAfter time.Duration // and have no time; 0: pathLost
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 15*time.Second)
	c.MaxPeers = cmp.Or(c.MaxPeers, 256)
	c.lostAfter = cmp.Or(c.lostAfter, pathLost)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	c.Relay = c.Relay.withDefaults()
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
	Connected   PeerState = "connected"
	Interrupted PeerState = "interrupted" // no packets come: another path is looked for
	Restored    PeerState = "restored"    // they come again, or by another route
	Closed      PeerState = "closed"
)

// A PeerEvent tells what has become of a connection to a peer.
type PeerEvent struct {
	Peer  string
	State PeerState
	Route string // see [Transport.Stats]
	Err   error  // Closed: why, nil if it was closed here
}
