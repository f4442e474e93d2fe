package peeradapter

import (
	"errors"
	"fmt"
)

// A Stage is how far a negotiation came.
type Stage string

// The stages of a negotiation, in order.
const (
	StageServers Stage = "ice servers" // Config.ICEServers failed
	StageSignal  Stage = "signal"      // the offer or answer could not be sent
	StageAnswer  Stage = "answer"      // the peer did not answer
	StageICE     Stage = "ice"         // no path between the peers was found
	StageDTLS    Stage = "dtls"        // no secure session on the path
	StageChannel Stage = "channel"     // no data channel, or not ours
)

var hints = map[Stage]string{
	StageServers: "cannot learn the STUN and TURN servers",
	StageSignal:  "cannot send signals through the hub",
	StageAnswer:  "no answer: it is offline or shares nothing",
	StageICE:     "no network path between the peers was found; a TURN server helps where a NAT or firewall is in between",
	StageDTLS:    "a network path was found, but no secure session came up on it",
	StageChannel: "the data channel did not open",
}

// A ConnectError says why a peer could not be reached. errors.Is and As find its cause.
type ConnectError struct {
	Peer  string
	Stage Stage
	Err   error // context.DeadlineExceeded when the time was up
}

func (e *ConnectError) Error() string {
	if errors.Is(e.Err, ErrRefused) {
		return fmt.Sprintf("peer %s: %v", e.Peer, e.Err)
	}
	return fmt.Sprintf("peer %s: %s (stage %q: %v)", e.Peer, hints[e.Stage], string(e.Stage), e.Err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Why connections end or do not come about.
var (
	// ErrPeerLost ends a connection whose peer has not been heard of for some seconds.
	ErrPeerLost = errors.New("peeradapter: the connection to the peer is lost")
	// ErrPeerClosed ends a connection that the peer has closed.
	ErrPeerClosed = errors.New("peeradapter: the peer closed the connection")
	// ErrReplaced ends a connection in whose place the peer has opened a new one.
	ErrReplaced = errors.New("peeradapter: the peer opened a new connection")
	// ErrCrowded ends a connection that others have made whose place was needed: see [share.Doorkeeper].
	ErrCrowded = errors.New("peeradapter: made room for others")
	// ErrRefused means that the peer does not want the connection, or gave it up.
	ErrRefused = errors.New("refused by the peer")
	// ErrFlood ends a connection whose peer sends more than it may.
	ErrFlood = errors.New("peeradapter: the peer sends more than it may")
)
