package share

import (
	"context"
	"net"
)

// A Transport connects peers. Every connection it gives or accepts is one
// duplex stream (a yamux stream over a WebRTC data channel, a WebSocket, a TCP
// socket, a pipe), on which HTTP/1.1 is spoken: code above never knows which.
//
// A transport treats the address of a peer as an opaque text, which it compares
// and never takes apart: it begins with the peer id and may name one of several
// processes of that peer. The same text is in self, addr, Signal.To and
// Signal.From. Which of a peer's shares is meant is said by the HTTP Host, so that
// one peer connection carries any number of them.
type Transport interface {
	// Listen accepts the streams that other peers open to this peer (self is
	// its address) until the listener is closed, which ends the peer
	// connections it accepted. The accepted connections are [Conn]s.
	Listen(ctx context.Context, self string) (net.Listener, error)
	// DialContext opens a stream to the peer with the address addr, over the peer
	// connection there is or a new one. network is ignored. The connection is a [Conn].
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	// Close ends all peer connections and returns when every goroutine of the transport has exited.
	Close() error
}

// A Conn is a stream that knows who is on its other end.
type Conn interface {
	net.Conn
	// Peer returns the address of the other end, which the transport has verified
	// (it is the Signal.From of its signed messages).
	Peer() string
	// Route tells how the packets travel at the moment: "host", "srflx", "relay" or, without WebRTC, "hub", "tcp", "websocket", "memory".
	Route() string
}

// A Signaler carries the messages by which a transport negotiates connections.
// The mailbox of a [Peer] on a hub is one: it signs, seals and opens payloads, so
// Signal.From is verified and no reader of the hub knows the payload.
type Signaler interface {
	// Send delivers a message to the mailbox of peer s.To; s.From is filled in.
	Send(ctx context.Context, s Signal) error
	// Receive calls fn for each message to this peer, in order per session,
	// until ctx ends. fn must not block. Several receivers each get all messages.
	Receive(ctx context.Context, fn func(Signal)) error
}

// A Doorkeeper is a [Signaler] that knows which peers are worth a place where places run short.
type Doorkeeper interface {
	// Standing tells what is known of the peer with an address. It does not wait.
	Standing(address string) Standing
}

// A Standing is what a peer's claim to a place is worth.
type Standing struct {
	// Group is whom the peer belongs to: all places of a group count together. A user of the
	// hub, where the hub tells that, or else the peer alone.
	Group string
	// Rank is 0 for a stranger, 1 for a peer that has opened a share of this process, 2 for
	// one that its owner has listed. A lower one never takes the place of a higher one.
	Rank int
}

// A Signal is one message between two peers.
type Signal struct {
	To, From string // addresses of peers
	Session  string // names one negotiation: random, chosen by its initiator
	Kind     string // the transport's: "offer", "answer", "candidate", "bye"
	Payload  []byte // the transport's: SDP or a candidate, at most 64 KiB
}
