package hubdoc

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// ProofHeader is the request header in which a peer that is not signed in shows
// a hub that it has its device key, so that it is given its own signals.
const ProofHeader = "Loveseat-Peer"

// proofAge is for how long, and how far ahead, a proof is believed.
const proofAge = 5 * time.Minute

const proofLabel = "loveseat proof v1\n"

var (
	errProof = errors.New("not the proof of a peer")
	// ErrOldProof is the error of a proof that is out of date, or of a clock that is wrong.
	ErrOldProof = errors.New("the proof is out of date")
)

// Proof is the header's value, "<key>.<time>.<signature>": the public signing
// key, seconds since 1970, and the signature of the label "loveseat proof v1\n" and
// the time; key and signature in unpadded base64url.
func Proof(key ed25519.PrivateKey, now time.Time) string {
	b64 := base64.RawURLEncoding
	at := strconv.FormatInt(now.Unix(), 10)
	return b64.EncodeToString(key.Public().(ed25519.PublicKey)) + "." + at + "." + b64.EncodeToString(ed25519.Sign(key, []byte(proofLabel+at)))
}

// VerifyProof returns the id of the peer that a proof is of.
func VerifyProof(s string) (peer string, err error) {
	parts := strings.Split(s, ".")
	if len(s) > 512 || len(parts) != 3 {
		return "", errProof
	}
	key, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || len(key) != ed25519.PublicKeySize {
		return "", errProof
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !ed25519.Verify(key, []byte(proofLabel+parts[1]), signature) {
		return "", errProof
	}
	at, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return "", errProof
	}
	if age := time.Since(time.Unix(at, 0)); age > proofAge || age < -proofAge {
		return "", ErrOldProof
	}
	return PeerID(key), nil
}
