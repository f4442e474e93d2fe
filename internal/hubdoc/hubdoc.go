// Package hubdoc is the format of the documents in a hub database, which both
// the peers (package share) and the hub (package hub) read and check:
//
//	share:<id>     a database that a peer shares ([Share])
//	signal:<time>  a message between two peers that negotiate a connection ([Signal])
//
// Both have "type", the format version "v", "expires" and the signature of
// their author; a reader passes over versions it does not know.
//
// A signed document says who made it, not for which hub: anyone who may read it
// can write it again. So a Loveseat hub takes a document only with a [Proof] of
// its author's key, which is for one request to one database of one hub, and
// only within [SignalAge] of its being signed. Nothing in the documents needs to
// name a hub, and what is copied elsewhere does no harm at its readers: a share
// leads to its peer's process, and a signal is for one process that has joined one hub
// database (see [Address]), which takes it once. A [Succession] may be copied, since only
// the peer that it names can use it.
package hubdoc

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// The prefixes of document ids, and the format version "v".
const (
	SharePrefix  = "share:"
	SignalPrefix = "signal:"
	Version      = 1
	// UserLocal begins the id of a _local document by which a Loveseat hub tells
	// its users who a peer belongs to, {"user":NAME}; the peer id follows. It cannot be written.
	UserLocal = "loveseat-user-"
)

// Limits on what a stranger can put into the hub.
const (
	MaxShare   = 64 << 10 // bytes of a share document
	MaxSignal  = 128 << 10
	MaxInfo    = 32 << 10
	MaxName    = 256 // bytes; also of a database name
	MaxPayload = 64 << 10
	MaxLease   = 24 * time.Hour
)

const (
	// SignalAge is how old a signal may be when it arrives, and by how much its
	// sender's clock may be ahead.
	SignalAge = 2 * time.Minute
	// ClockSkew is by how much peers' clocks may differ: a share is alive so much longer than it says.
	ClockSkew = time.Minute
)

// Keys are the public keys of a peer. The peer id is the hash of Sign; Seal is
// vouched for by the signature of the document it comes in.
type Keys struct {
	Sign []byte `json:"sign"` // Ed25519, 32 bytes (RFC 8032)
	Seal []byte `json:"seal"` // X25519, 32 bytes (RFC 7748)
}

// base32Lower is RFC 4648's alphabet in lower case: no 0, 1, 8 or 9 to mistake for a letter.
var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const peerGroups = 8 // of four letters, five bits each: 160 bits

// PeerID returns the id of the peer with a public signing key: the first 160
// bits of the key's SHA-256 (after a label) in base32, in groups of four:
// "k7qm-x2vd-…", 39 characters.
func PeerID(signKey ed25519.PublicKey) string {
	code := Hash("loveseat peer v1", string(signKey))[:peerGroups*4]
	groups := make([]string, peerGroups)
	for i := range groups {
		groups[i] = code[4*i : 4*i+4]
	}
	return strings.Join(groups, "-")
}

// Hash is the SHA-256 of length-prefixed parts in base32, 52 characters.
func Hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return base32Lower.EncodeToString(h.Sum(nil))
}

// Address names one process of a peer: "<peer id>.<instance>".
func Address(peer, instance string) string { return peer + "." + instance }

// PeerOf returns the peer id of an address.
func PeerOf(address string) string {
	peer, _, _ := strings.Cut(address, ".")
	return peer
}

// What is signed is a document without its "_rev" and "signature", in RFC 8785's
// canonical JSON, after the label below. JSON servers may reorder members and
// respell numbers; this form survives that, and JavaScript makes it in ten lines.
const signLabel = "loveseat v1\n"

var errSignature = errors.New("signature does not verify")

// Canonical is the form of a document that is signed, without the named members.
func Canonical(docID string, body json.RawMessage, without ...string) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, err
	}
	for _, name := range without {
		delete(members, name)
	}
	id, err := json.Marshal(docID)
	if err != nil {
		return nil, err
	}
	if members == nil {
		members = map[string]json.RawMessage{}
	}
	members["_id"] = id
	text, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	v := jsontext.Value(text)
	if err := v.Canonicalize(); err != nil {
		return nil, err
	}
	return append([]byte(signLabel), v...), nil
}

// Verify checks the signature of a document by the peer that it says it is from.
func Verify(docID string, body json.RawMessage, peer string, keys Keys, signature []byte) error {
	if len(keys.Sign) != ed25519.PublicKeySize || PeerID(keys.Sign) != peer {
		return errors.New("peer id does not belong to the key")
	}
	text, err := Canonical(docID, body, "signature")
	if err != nil {
		return err
	}
	if !ed25519.Verify(keys.Sign, text, signature) {
		return errSignature
	}
	return nil
}

// Times in documents are RFC 3339 in UTC with milliseconds, as JavaScript's
// toISOString writes them: readable, and ordered as text.
const timeFormat = "2006-01-02T15:04:05.000Z"

// FormatTime writes a time as documents have it.
func FormatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// ParseTime reads a time of a document.
func ParseTime(s string) (time.Time, error) { return time.Parse(timeFormat, s) }
