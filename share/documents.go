package share

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// The documents of the hub database, whose format is package hubdoc's.
const (
	shareDocPrefix  = hubdoc.SharePrefix
	signalDocPrefix = hubdoc.SignalPrefix
	maxShareDoc     = hubdoc.MaxShare
	maxSignalDoc    = hubdoc.MaxSignal
	maxInfo         = hubdoc.MaxInfo
	maxLease        = hubdoc.MaxLease
)

// Access says what openers of a share may do.
type Access = hubdoc.Access

// The access modes of a share.
const (
	ReadWrite = hubdoc.ReadWrite // read, write and replicate documents
	ReadOnly  = hubdoc.ReadOnly  // read and pull
)

// Admission says who may open a share.
type Admission = hubdoc.Admission

// How openers of a share are admitted.
const (
	OpenAdmission = hubdoc.Open     // all peers of the hub
	Listed        = hubdoc.Listed   // those of [ShareOptions].Allow
	ByApproval    = hubdoc.Approval // [ShareOptions].Approve is asked
	ByInvite      = hubdoc.Invited  // who has an invite
)

// shareDoc is the document "share:<id>".
type shareDoc struct {
	hubdoc.Share
	id                 string
	published, expires time.Time
	until              time.Time // zero: the share does not end by itself
	predecessors       []string  // peer ids that the sharer had before
	rev                couch.Rev // of the document in the hub, as far as that was told
	size               int       // bytes of the document
	arrived            int       // when it was taken in: the first 1, and so on
}

func shareID(peer, nonce string) string { return hubdoc.ShareID(peer, nonce) }

// shareNonce is the same for the same database, so that a restarted sharer keeps its ids.
func shareNonce(database string) string { return hubdoc.Hash("loveseat share nonce v1", database)[:26] }

func validShareID(id string) bool { return hubdoc.ValidShareID(id) }

// newShareDoc encodes and signs the document.
func (i *Identity) newShareDoc(s shareDoc) (*couch.Doc, error) {
	s.Type, s.Version, s.Signature = "share", hubdoc.Version, nil
	s.Peer, s.Keys, s.Succeeds = i.id, i.Keys(), i.succeeds
	s.Published, s.Expires = formatTime(s.published), formatTime(s.expires)
	if s.Until = ""; !s.until.IsZero() {
		s.Until = formatTime(s.until)
	}
	body, err := json.Marshal(s.Share)
	if err != nil {
		return nil, err
	}
	docID := shareDocPrefix + shareID(i.id, s.Nonce)
	if body, err = i.signBody(docID, body); err != nil {
		return nil, err
	}
	return &couch.Doc{ID: docID, Body: body}, nil
}

// parseShare reads and verifies a share document.
func parseShare(d *couch.Doc) (*shareDoc, error) {
	s, err := hubdoc.ParseShare(d)
	if err != nil {
		return nil, err
	}
	out := &shareDoc{Share: *s, id: strings.TrimPrefix(d.ID, shareDocPrefix), size: len(d.Body), rev: d.Rev}
	if out.published, out.expires, err = s.Lease(); err != nil {
		return nil, err
	}
	if s.Until != "" {
		if out.until, err = hubdoc.ParseTime(s.Until); err != nil {
			return nil, err
		}
	}
	out.predecessors, err = hubdoc.Predecessors(s.Peer, s.Succeeds)
	return out, err
}

func checkName(name string) error { return hubdoc.CheckName(name) }

func (s *shareDoc) address() string { return address(s.Peer, s.Instance) }

// gone reports when readers take the share for dead.
func (s *shareDoc) gone() time.Time { return s.expires.Add(hubdoc.ClockSkew) }

// Info is what a share document tells about a share. Its JSON is what
// `loveseat ls --json` prints.
type Info struct {
	ID           string          `json:"id"`
	Name         string          `json:"name"`
	Info         json.RawMessage `json:"info"`                   // any JSON, the sharer's; null if none
	Peer         string          `json:"peer"`                   // the sharer's peer id
	Predecessors []string        `json:"predecessors,omitempty"` // the peer ids it had before, verified, the oldest first
	DB           string          `json:"db"`                     // the database's name at the sharer
	Access       Access          `json:"access"`
	Admission    Admission       `json:"admission"`          // who may open it
	Filtered     bool            `json:"filtered,omitempty"` // only a part of the database is seen
	Until        *time.Time      `json:"until,omitempty"`    // when the share itself ends
	DocCount     int64           `json:"doc_count"`          // when it was last published
	UpdateSeq    string          `json:"update_seq"`         // when it was last published
	Published    time.Time       `json:"published"`          // when the sharer last renewed it
	Expires      time.Time       `json:"expires"`            // when it ends unless it is renewed
	Own          bool            `json:"own,omitempty"`
	Link         string          `json:"link,omitempty"` // see [Link]; "" if the hub has no URL
}

func (s *shareDoc) public() Info {
	i := Info{
		ID: s.id, Name: s.Name, Info: s.Info, Peer: s.Peer, Predecessors: s.predecessors, DB: s.DB, Access: s.Access,
		Admission: cmp.Or(s.Admission, OpenAdmission), Filtered: s.Filtered,
		DocCount: s.DocCount, UpdateSeq: s.UpdateSeq, Published: s.published, Expires: s.expires,
	}
	if !s.until.IsZero() {
		i.Until = &s.until
	}
	return i
}
