package hubdoc

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ProofHeader is the request header in which a peer shows a hub that it has its
// device key. A hub asks for it before it takes a share or a signal, and gives
// a peer that is not signed in its own signals for it.
const ProofHeader = "Loveseat-Peer"

// A Purpose is what the holder of a device key wants of a hub.
type Purpose string

// The purposes of a [Proof].
const (
	ToRead  Purpose = "read"  // what only this peer may see
	ToClaim Purpose = "claim" // to write or delete documents as this peer
	ToRelay Purpose = "relay" // a ticket of the hub's relay
)

// A Proof is for one request: it names the hub as the peer dialled it, so that
// this hub cannot pass it on to another one, and everything that makes the
// request what it is. A hub takes a nonce once.
type Proof struct {
	Origin   string // of the hub: see [Origin]
	Database string // the hub database's name
	Method   string // of the request
	Purpose  Purpose
	Time     time.Time
	Nonce    string // 16 random bytes in hexadecimal

	Peer string // the id of the peer that signed it; set by [ParseProof]
}

// ProofAge is how old a proof may be, and how far ahead.
const ProofAge = SignalAge

const (
	proofLabel   = "loveseat proof v2\n"
	proofVersion = "v2"
	nonceSize    = 16
	maxProof     = 1024
)

var (
	errProof = errors.New("not the proof of a peer")
	// ErrEarlierProof is the error of a proof in the form of earlier releases.
	ErrEarlierProof = errors.New("the proof has the form of an earlier release, which this hub no longer takes: update the peer")
	// ErrOldProof is the error of a proof that is out of date, or of a clock that is wrong.
	ErrOldProof = errors.New("the proof is out of date; is the clock right?")
)

// Origin returns the scheme, host and port of a URL as browsers write them: in
// lower case, without the port if it is the scheme's own.
func Origin(u *url.URL) string {
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port, ok := map[string]string{"http": ":80", "https": ":443"}[scheme]; ok {
		host = strings.TrimSuffix(host, port)
	}
	return scheme + "://" + host
}

// text is what is signed.
func (p *Proof) text(at string) []byte {
	return []byte(proofLabel + strings.Join([]string{p.Origin, p.Database, p.Method, string(p.Purpose), at, p.Nonce}, "\n"))
}

// Sign makes the header's value of origin, database, method and purpose, seven words:
//
//	v2 <key> <time> <nonce> <purpose> <origin> <signature>
//
// with the public signing key, milliseconds since 1970, and the signature of the label
// "loveseat proof v2\n" and, with line feeds between them, origin, database,
// method, purpose, time and nonce. Key and signature are in base64.
func (p Proof) Sign(key ed25519.PrivateKey, now time.Time) string {
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails
	p.Nonce = hex.EncodeToString(nonce)
	at, b64 := strconv.FormatInt(now.UnixMilli(), 10), base64.StdEncoding.EncodeToString
	return strings.Join([]string{proofVersion, b64(key.Public().(ed25519.PublicKey)), at, p.Nonce, string(p.Purpose), p.Origin, b64(ed25519.Sign(key, p.text(at)))}, " ")
}

// ParseProof reads the header's value in a request that uses a method on a database,
// and verifies its signature. Whether origin and purpose are right and the nonce is new is the
// hub's to judge. Errors: [ErrEarlierProof]; [ErrOldProof] with the proof; others.
func ParseProof(s, database, method string) (*Proof, error) {
	parts := strings.Split(s, " ")
	switch {
	case len(s) > maxProof:
		return nil, errProof
	case len(parts) == 1 && strings.Count(s, ".") == 2:
		return nil, ErrEarlierProof
	case len(parts) != 7 || parts[0] != proofVersion:
		return nil, errProof
	}
	b64 := base64.StdEncoding.Strict()
	key, err1 := b64.DecodeString(parts[1])
	nonce, err2 := hex.DecodeString(parts[3])
	signature, err3 := b64.DecodeString(parts[6])
	ms, err4 := strconv.ParseInt(parts[2], 10, 64)
	if errors.Join(err1, err2, err3, err4) != nil || len(key) != ed25519.PublicKeySize || len(nonce) != nonceSize {
		return nil, errProof
	}
	p := &Proof{Origin: parts[5], Database: database, Method: method, Purpose: Purpose(parts[4]), Time: time.UnixMilli(ms), Nonce: parts[3], Peer: PeerID(key)}
	if !ed25519.Verify(key, p.text(parts[2]), signature) {
		return nil, errors.New("the proof is not for this request, or not the peer's")
	}
	if time.Since(p.Time).Abs() > ProofAge {
		return p, ErrOldProof
	}
	return p, nil
}
