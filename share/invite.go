package share

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// An Invite lets whoever has its secret open a share. The share keeps the
// secret's hash only.
type Invite struct {
	ID      string    `json:"id"`              // names it in lists: not secret
	Label   string    `json:"label,omitempty"` // the owner's
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires,omitzero"` // zero: it does not
	Once    bool      `json:"once,omitempty"`   // for one peer: the first who uses it
	Peer    string    `json:"peer,omitempty"`   // who has used it last
	Hash    []byte    `json:"hash"`             // SHA-256 of the secret
}

// InviteOptions says what an invite is good for. The zero value admits anybody
// who has it, until it is revoked.
type InviteOptions struct {
	Label   string    // for the owner, at most 256 bytes
	Once    bool      // only the first peer that uses it
	Expires time.Time // zero: it does not expire
}

// Invite makes an invite and returns its link, whose fragment is the secret, or,
// in a hub that has no URL, the secret alone. It cannot be had again. An invite
// outlives the process, and lets peers in whatever else the share asks of them.
func (s *Share) Invite(ctx context.Context, o InviteOptions) (link string, invite Invite, err error) {
	if len(o.Label) > 256 {
		return "", invite, couch.BadRequest("An invite's label is limited to 256 bytes.")
	}
	var random [32]byte
	_, _ = rand.Read(random[:])                                         // never fails
	secret := hubdoc.Hash("loveseat invite v1", string(random[:]))[:26] // 130 bits
	hash := inviteHash(secret)
	i := &Invite{ID: randomHex(4), Label: o.Label, Made: time.Now().UTC().Truncate(time.Second), Expires: o.Expires.UTC(), Once: o.Once, Hash: hash}
	if err := s.admission.state.change(ctx, func(l *accessLists) error {
		l.Invites = append(slices.DeleteFunc(l.Invites, (*Invite).over), i)
		return nil
	}); err != nil {
		return "", invite, err
	}
	if s.peer.hubURL == "" {
		return secret, *i, nil
	}
	return Link{Hub: s.peer.hubURL, Share: s.id, Secret: secret}.String(), *i, nil
}

func inviteHash(secret string) []byte {
	h := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(secret))))
	return h[:]
}

func (i *Invite) over() bool { return !i.Expires.IsZero() && !time.Now().Before(i.Expires) }

// Invites returns the invites that are good, the newest last.
func (s *Share) Invites() []Invite {
	all := []Invite{}
	for _, i := range s.admission.state.now.Load().Invites {
		if !i.over() {
			all = append(all, *i)
		}
	}
	return all
}

// RevokeInvite ends an invite, given by its id, and cuts off the peers that it
// let in. Errors: not_found (404).
func (s *Share) RevokeInvite(ctx context.Context, id string) error {
	err := s.admission.state.change(ctx, func(l *accessLists) error {
		n := len(l.Invites)
		l.Invites = slices.DeleteFunc(l.Invites, func(i *Invite) bool { return i.ID == id })
		if len(l.Invites) == n {
			return couch.NotFound("No invite " + id + ".")
		}
		return nil
	})
	if err == nil {
		s.cut(errRevoked, func(rm *remote) bool { return rm.info.Invite == id })
	}
	return err
}

var errUnchanged = errors.New("nothing changes")

// redeem finds the invite with a secret that admits a peer, of which all ids are given, the present
// one last, and returns its id.
// All are compared, each in constant time, so that how long it takes tells nothing.
// Errors: forbidden (403).
func (a *accessState) redeem(ctx context.Context, secret string, peers []string) (id string, err error) {
	hash := inviteHash(secret)
	err = a.change(ctx, func(l *accessLists) error {
		var found *Invite
		for _, i := range l.Invites {
			if subtle.ConstantTimeCompare(i.Hash, hash) == 1 {
				found = i
			}
		}
		if found == nil || found.over() || found.Once && found.Peer != "" && !slices.Contains(peers, found.Peer) {
			return errBadInvite
		}
		id = found.ID
		peer := peers[len(peers)-1]
		if found.Peer == peer {
			return errUnchanged
		}
		found.Peer = peer
		return nil
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return id, err
}
