package peeradapter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pion/webrtc/v4"

	"github.com/loveseat-db/loveseat/share"
)

// The kinds of signals. A session is one offer, at most one answer to it, any
// number of candidates both ways, and a bye from whoever gives up.
const (
	kindOffer     = "offer"
	kindAnswer    = "answer"
	kindCandidate = "candidate"
	kindBye       = "bye"
	kindRestart   = "restart" // an offer that renews the path of a connection, or without SDP: please make one
)

// What a stranger may send.
const (
	maxPayload    = 64 << 10
	maxSession    = 128
	maxCandidates = 64 // in one session
)

// A message is the payload of a signal: JSON.
type message struct {
	Version int `json:"v"` // 1
	// Time orders the offers of one peer: milliseconds since 1970 by its clock.
	Time int64 `json:"time,omitempty"`
	// SDP is the session description of an offer or answer (RFC 8829), with the candidates found so far.
	SDP string `json:"sdp,omitempty"`
	// Candidates are those found since (RTCIceCandidateInit, "trickle ICE", RFC 8838).
	Candidates []webrtc.ICECandidateInit `json:"candidates,omitempty"`
	// Of is the session of the connection that a restart is for.
	Of string `json:"of,omitempty"`
	// Restarts, in an offer or answer, says that its sender knows restarts.
	Restarts bool `json:"restarts,omitempty"`
	// Reason says why a bye was sent.
	Reason string `json:"reason,omitempty"`
}

// An inbound is a signal whose payload has been read and checked.
type inbound struct {
	share.Signal
	message
}

func readSignal(s share.Signal) (inbound, error) {
	in := inbound{Signal: s}
	if len(s.Payload) > maxPayload || len(s.Session) > maxSession || s.Session == "" {
		return in, errors.New("too long, or without a session")
	}
	if err := json.Unmarshal(s.Payload, &in.message); err != nil {
		return in, err
	}
	m := &in.message
	switch {
	case m.Version != 1:
		return in, fmt.Errorf("version %d", m.Version)
	case len(m.Reason) > 1024:
		return in, errors.New("reason too long")
	case len(m.Candidates) > maxCandidates:
		return in, errors.New("too many candidates")
	case len(m.Of) > maxSession:
		return in, errors.New("session too long")
	case s.Kind == kindOffer || s.Kind == kindAnswer || s.Kind == kindRestart && m.SDP != "":
		return in, checkSDP(m.SDP)
	}
	return in, nil
}

// checkSDP refuses descriptions of anything but one data channel transport, so
// that a stranger cannot make us set up audio and video.
func checkSDP(sdp string) error {
	media := strings.Count("\n"+sdp, "\nm=")
	if media != 1 || !strings.Contains(sdp, "\nm=application ") {
		return fmt.Errorf("a description of %d media, not of one data channel", media)
	}
	if n := strings.Count(sdp, "\na=candidate:"); n > maxCandidates {
		return fmt.Errorf("%d candidates", n)
	}
	return nil
}

func signal(to, session, kind string, m message) share.Signal {
	return share.Signal{To: to, Session: session, Kind: kind, Payload: m.payload()}
}

func (m message) payload() []byte {
	m.Version = 1
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}
