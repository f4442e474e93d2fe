package share

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/json"
	"time"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// canonical is the form of a document that is signed, without the named members.
func canonical(docID string, body json.RawMessage, without ...string) ([]byte, error) {
	return hubdoc.Canonical(docID, body, without...)
}

// signBody adds the member "signature" to a document's body.
func (i *Identity) signBody(docID string, body json.RawMessage) (json.RawMessage, error) {
	text, err := canonical(docID, body, "signature")
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, err
	}
	if members["signature"], err = json.Marshal(ed25519.Sign(i.sign, text)); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// verifyBody checks the signature of a document by the peer that it says it is from.
func verifyBody(docID string, body json.RawMessage, peer string, keys Keys, signature []byte) error {
	return hubdoc.Verify(docID, body, peer, keys, signature)
}

// HPKE's suite (RFC 9180): X25519, HKDF-SHA256, AES-128-GCM, which browsers have too.

// sealTo encrypts for the owner of an X25519 key; info must be the same at openSealed.
func sealTo(key, info, plaintext []byte) ([]byte, error) {
	pub, err := ecdh.X25519().NewPublicKey(key)
	if err != nil {
		return nil, err
	}
	to, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES128GCM(), info, plaintext)
}

func (i *Identity) openSealed(info, sealed []byte) ([]byte, error) {
	key, err := hpke.NewDHKEMPrivateKey(i.seal)
	if err != nil {
		return nil, err
	}
	return hpke.Open(key, hpke.HKDFSHA256(), hpke.AES128GCM(), info, sealed)
}

func formatTime(t time.Time) string { return hubdoc.FormatTime(t) }
