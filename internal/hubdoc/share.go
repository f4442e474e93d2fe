package hubdoc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Access says what openers of a share may do.
type Access string

// The access modes of a share.
const (
	ReadWrite Access = "read-write" // read, write and replicate documents
	ReadOnly  Access = "read"       // read and pull
)

// Admission says who may open a share. What a reader does not know it takes for
// some other condition: the sharer decides.
type Admission string

// How openers are admitted.
const (
	Open     Admission = "open"     // all peers of the hub
	Listed   Admission = "listed"   // those the sharer has listed
	Approval Admission = "approval" // the sharer is asked
	Invited  Admission = "invite"   // who has an invite
)

// Share is the document "share:<id>".
type Share struct {
	Type      string          `json:"type"` // "share"
	Version   int             `json:"v"`
	Name      string          `json:"name"`
	Info      json.RawMessage `json:"info,omitempty"`
	DB        string          `json:"db"`
	Peer      string          `json:"peer"`
	Instance  string          `json:"instance"` // the process that serves it: see Address
	Keys      Keys            `json:"keys"`
	Nonce     string          `json:"nonce"` // what makes the id, with the peer id
	Access    Access          `json:"access"`
	DocCount  int64           `json:"doc_count"`
	UpdateSeq string          `json:"update_seq"`
	Published string          `json:"published"` // of this revision
	Expires   string          `json:"expires"`
	Admission Admission       `json:"admission,omitempty"` // "": open
	Filtered  bool            `json:"filtered,omitempty"`  // a selector or document ids limit what is seen
	Until     string          `json:"until,omitempty"`     // when the share itself ends; "": it does not
	Succeeds  []Succession    `json:"succeeds,omitempty"`  // whom the peer was before: see Predecessors
	Signature []byte          `json:"signature,omitempty"`
}

// ShareID makes the id of a share: 128 bits of a hash in base32, 26 letters. It
// binds the share to its peer, so that who has a link is never given another
// peer's share, whatever the hub says.
func ShareID(peer, nonce string) string { return Hash("loveseat share v1", peer, nonce)[:26] }

// ValidShareID checks the form only: 26 letters of base32.
func ValidShareID(id string) bool {
	return len(id) == 26 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// ParseShare reads and verifies a share document, whose lease may have ended.
func ParseShare(d *couch.Doc) (*Share, error) {
	if len(d.Body) > MaxShare {
		return nil, errors.New("too long")
	}
	s := &Share{}
	if err := json.Unmarshal(d.Body, s); err != nil {
		return nil, err
	}
	if s.Type != "share" || s.Version != Version {
		return nil, fmt.Errorf("unknown format %q version %d", s.Type, s.Version)
	}
	if d.ID != SharePrefix+ShareID(s.Peer, s.Nonce) {
		return nil, errors.New("share id does not belong to the peer")
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, Verify(d.ID, d.Body, s.Peer, s.Keys, s.Signature)
}

func (s *Share) check() error {
	switch {
	case CheckName(s.Name) != nil:
		return CheckName(s.Name)
	case s.DB == "" || len(s.DB) > MaxName, len(s.Nonce) > 64, len(s.UpdateSeq) > 16<<10:
		return errors.New("malformed share document")
	case s.Instance == "" || len(s.Instance) > 64 || len(s.Keys.Seal) != 32:
		return errors.New("malformed share document")
	case len(s.Info) > MaxInfo:
		return errors.New("info is too long")
	case s.Access != ReadWrite && s.Access != ReadOnly:
		return fmt.Errorf("unknown access mode %q", s.Access)
	case len(s.Admission) > 32:
		return errors.New("malformed share document")
	}
	if s.Until != "" {
		if _, err := ParseTime(s.Until); err != nil {
			return err
		}
	}
	published, expires, err := s.Lease()
	if err == nil && expires.Sub(published) > MaxLease {
		err = errors.New("lease is too long")
	}
	return err
}

// Lease returns the times between which the share is leased.
func (s *Share) Lease() (published, expires time.Time, err error) {
	if published, err = ParseTime(s.Published); err != nil {
		return published, expires, err
	}
	expires, err = ParseTime(s.Expires)
	return published, expires, err
}

// CheckName checks a share's name: printable text of 1 to 256 bytes.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) || strings.ContainsFunc(name, isControl) {
		return couch.BadRequest("A share's name must be 1 to 256 bytes of printable text.")
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
