package hubdoc

import (
	"crypto/ed25519"
	"errors"
	"time"
)

// A Succession is a peer's statement that another peer id is its own from now
// on: it has changed its keys. The old key signs it; the new peer agrees by carrying it,
// in its share documents ("succeeds") and before those it asks (SuccessionHeader).
type Succession struct {
	From      []byte `json:"from"` // the old public signing key, Ed25519
	To        string `json:"to"`   // the new peer id
	Time      string `json:"time"`
	Signature []byte `json:"signature"` // of the label "loveseat succession v1\n", To, "\n" and Time
}

// SuccessionHeader is the header in which an opener that has changed its keys
// tells a sharer whom it succeeds: JSON, an array of Succession, in unpadded base64url.
const SuccessionHeader = "Loveseat-Succession"

// MaxSuccessions is how many changes of keys a peer can tell of.
const MaxSuccessions = 8

const successionLabel = "loveseat succession v1\n"

var errSuccession = errors.New("succession does not verify")

// NewSuccession names the successor of the peer with a key.
func NewSuccession(old ed25519.PrivateKey, to string, now time.Time) Succession {
	at := FormatTime(now)
	return Succession{
		From: old.Public().(ed25519.PublicKey), To: to, Time: at,
		Signature: ed25519.Sign(old, []byte(successionLabel+to+"\n"+at)),
	}
}

// Predecessors verifies what a peer says of whom it succeeds, the oldest first,
// and returns their peer ids in that order. One statement that does not hold makes all worthless.
func Predecessors(peer string, chain []Succession) ([]string, error) {
	if len(chain) > MaxSuccessions {
		return nil, errors.New("too many successions")
	}
	peers := make([]string, len(chain))
	for i := len(chain) - 1; i >= 0; i-- {
		s := chain[i]
		if s.To != peer || len(s.From) != ed25519.PublicKeySize || !ed25519.Verify(s.From, []byte(successionLabel+s.To+"\n"+s.Time), s.Signature) {
			return nil, errSuccession
		}
		peer = PeerID(s.From)
		peers[i] = peer
	}
	return peers, nil
}
