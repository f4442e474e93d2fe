// Package signed makes the signed documents of peers, for tests and benchmarks
// of a hub that do without WebRTC.
package signed

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// A Peer is a device key.
type Peer struct {
	key ed25519.PrivateKey
	ID  string
}

// New makes a peer.
func New() (*Peer, error) {
	pub, key, err := ed25519.GenerateKey(nil)
	return &Peer{key, hubdoc.PeerID(pub)}, err
}

func (p *Peer) keys() hubdoc.Keys {
	return hubdoc.Keys{Sign: p.key.Public().(ed25519.PublicKey), Seal: make([]byte, 32)}
}

// sign makes the body of a document with its signature.
func (p *Peer) sign(id string, document any) ([]byte, error) {
	unsigned, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	text, err := hubdoc.Canonical(id, unsigned, "signature")
	if err != nil {
		return nil, err
	}
	signature, err := json.Marshal(ed25519.Sign(p.key, text))
	return fmt.Appendf(unsigned[:len(unsigned)-1], `,"signature":%s}`, signature), err
}

// Signal makes the n-th signal to another peer, sent now, with a payload as long as that of an offer.
func (p *Peer) Signal(to *Peer, n int) (id string, body []byte, err error) {
	now := time.Now()
	id = hubdoc.SignalID(now, fmt.Sprintf("%016x", n))
	body, err = p.sign(id, hubdoc.Signal{Type: "signal", Version: hubdoc.Version, To: hubdoc.Address(to.ID, "i"), From: hubdoc.Address(p.ID, "i"), Keys: p.keys(),
		Session: "session", Kind: "offer", Time: hubdoc.FormatTime(now), Expires: hubdoc.FormatTime(now.Add(time.Minute)), Payload: make([]byte, 600)})
	return id, body, err
}

// Share makes the peer's n-th share, published now.
func (p *Peer) Share(n int) (id string, body []byte, err error) {
	return p.ShareWith(n, func(*hubdoc.Share) {})
}

// ShareWith is Share of a document that is changed before it is signed.
func (p *Peer) ShareWith(n int, change func(*hubdoc.Share)) (id string, body []byte, err error) {
	now := time.Now()
	s := hubdoc.Share{Type: "share", Version: hubdoc.Version, Name: "notes", DB: "notes", Peer: p.ID, Instance: "i", Keys: p.keys(), Nonce: fmt.Sprint(n),
		Access: hubdoc.ReadWrite, Published: hubdoc.FormatTime(now), Expires: hubdoc.FormatTime(now.Add(time.Minute))}
	change(&s)
	id = hubdoc.SharePrefix + hubdoc.ShareID(p.ID, s.Nonce)
	body, err = p.sign(id, s)
	return id, body, err
}

// Prove is a proof for one request: the value of the header Loveseat-Peer. hub is the URL by which the hub is reached,
// like "http://127.0.0.1:5984".
func (p *Peer) Prove(hub, database, method string, purpose hubdoc.Purpose) string {
	proof := hubdoc.Proof{Database: database, Method: method, Purpose: purpose}
	if u, _ := url.Parse(hub); u != nil {
		proof.Origin = hubdoc.Origin(u)
	}
	return proof.Sign(p.key, time.Now())
}

// Proof is Prove as a line of a request; a method that writes is taken to write what the peer has signed.
func (p *Peer) Proof(hub, database, method string) string {
	purpose := hubdoc.ToClaim
	if method == http.MethodGet {
		purpose = hubdoc.ToRead
	}
	return hubdoc.ProofHeader + ": " + p.Prove(hub, database, method, purpose)
}
