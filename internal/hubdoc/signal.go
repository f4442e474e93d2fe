package hubdoc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Signal is the document "signal:<time-sortable id>". Everything but the
// payload can be read by whoever reads the hub; all of it is signed.
type Signal struct {
	Type      string `json:"type"` // "signal"
	Version   int    `json:"v"`
	To        string `json:"to"` // addresses
	From      string `json:"from"`
	Keys      Keys   `json:"keys"` // the sender's
	Session   string `json:"session"`
	Seq       uint64 `json:"seq"` // 0, 1, … in a session and direction
	Kind      string `json:"kind"`
	Time      string `json:"time"`
	Expires   string `json:"expires"`
	Payload   []byte `json:"payload,omitempty"` // HPKE: encapsulated key and ciphertext
	Signature []byte `json:"signature,omitempty"`
}

// The kinds of signals. A hub takes no others: it asks for the right that each leads to.
const (
	KindOffer     = "offer"     // an opener begins a connection
	KindAnswer    = "answer"    // a sharer agrees
	KindCandidate = "candidate" // more about the path, of either side
	KindBye       = "bye"       // either side gives up
	KindRestart   = "restart"   // either side renews the path of a connection that there is
	KindRelay     = "relay"     // an opener waits at the hub's relay
	KindRevoke    = "revoke"    // from one process of a peer to another one that serves a share: end an access
	KindRevoked   = "revoked"   // it has ended
	KindEcho      = "echo"      // from a process to itself: does the hub deliver?
)

// SignalID makes an id that sorts by time: milliseconds in 12 hex digits, and
// random, 16 hex digits.
func SignalID(t time.Time, random string) string {
	return fmt.Sprintf("%s%012x-%s", SignalPrefix, t.UnixMilli(), random)
}

// SignalTime returns the time that a signal's id tells.
func SignalTime(docID string) (time.Time, error) {
	id, ok := strings.CutPrefix(docID, SignalPrefix)
	if !ok || len(id) != 12+1+16 || id[12] != '-' {
		return time.Time{}, errors.New("not the id of a signal")
	}
	ms, err := strconv.ParseUint(id[:12], 16, 63)
	if err != nil {
		return time.Time{}, errors.New("not the id of a signal")
	}
	if _, err := strconv.ParseUint(id[13:], 16, 64); err != nil || strings.ToLower(id) != id {
		return time.Time{}, errors.New("not the id of a signal")
	}
	return time.UnixMilli(int64(ms)), nil
}

// ParseSignal reads a signal document's header and its time, without verifying it.
func ParseSignal(d *couch.Doc) (*Signal, time.Time, error) {
	if len(d.Body) > MaxSignal {
		return nil, time.Time{}, errors.New("too long")
	}
	s := &Signal{}
	if err := json.Unmarshal(d.Body, s); err != nil {
		return nil, time.Time{}, err
	}
	if s.Type != "signal" || s.Version != Version || !strings.HasPrefix(d.ID, SignalPrefix) {
		return nil, time.Time{}, fmt.Errorf("unknown format %q version %d", s.Type, s.Version)
	}
	if err := s.check(); err != nil {
		return nil, time.Time{}, err
	}
	t, err := ParseTime(s.Time)
	return s, t, err
}

func (s *Signal) check() error {
	if len(s.Keys.Seal) != 32 || len(s.Expires) > 64 {
		return errors.New("malformed signal")
	}
	return CheckHeader(s.To, s.From, s.Session, s.Kind)
}

// CheckHeader checks the texts of a signal.
func CheckHeader(to, from, session, kind string) error {
	if !short(to, 256) || !short(from, 256) || !short(session, 128) || !short(kind, 32) {
		return errors.New("malformed signal")
	}
	return nil
}

func short(s string, limit int) bool { return s != "" && len(s) <= limit && utf8.ValidString(s) }

// Verify checks that the signal in document d is signed by its sender.
func (s *Signal) Verify(d *couch.Doc) error {
	return Verify(d.ID, d.Body, PeerOf(s.From), s.Keys, s.Signature)
}
