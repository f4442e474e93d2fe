package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// accessLists is the content of "_local/loveseat-access-<share id>".
type accessLists struct {
	Always  map[string]time.Time  `json:"always,omitempty"`  // peers admitted for good, and since when
	Revoked map[string]revocation `json:"revoked,omitempty"` // peers that are kept out
	Invites []*Invite             `json:"invites,omitempty"`
	Links   []keyLink             `json:"links,omitempty"`   // which of the keys are one peer's: see chain.go
	Allow   []string              `json:"allow,omitempty"`   // whom the owner listed at the last start
	Dropped map[string]time.Time  `json:"dropped,omitempty"` // and whom no longer
}

// An accessNow is the lists as they hold; it does not change.
type accessNow struct {
	accessLists
	kin kinship
}

type revocation struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// Limits on the lists.
const (
	maxListed  = 10_000
	maxInvites = 1000
)

// accessState is the lists of a share as they are kept in its database: a
// change is durable before it holds.
type accessState struct {
	db couch.Locals
	id string // of the document, without _local/

	mu  sync.Mutex // held while the lists are written
	rev couch.Rev
	now atomic.Pointer[accessNow]
}

func loadAccess(ctx context.Context, db couch.Locals, share string) (*accessState, error) {
	a := &accessState{db: db, id: "loveseat-access-" + share}
	a.set(couch.Rev{}, accessLists{})
	return a, a.load(ctx)
}

// load reads the lists. a.mu is held, or nobody else has a.
func (a *accessState) load(ctx context.Context) error {
	d, err := a.db.GetLocal(ctx, a.id)
	if errors.Is(err, couch.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var lists accessLists
	if err := json.Unmarshal(d.Body, &lists); err != nil {
		return fmt.Errorf("_local/%s: %w", a.id, err) // who was revoked must not come in again
	}
	a.set(d.Rev, lists)
	return nil
}

func (a *accessState) set(rev couch.Rev, lists accessLists) {
	a.rev = rev
	a.now.Store(&accessNow{lists, newKinship(lists.Links)})
}

// change makes a change and keeps it: fn works on a copy, which holds if it could be written.
func (a *accessState) change(ctx context.Context, fn func(*accessLists) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for attempt := 0; ; attempt++ {
		err := a.try(ctx, fn)
		if !errors.Is(err, couch.ErrConflict) || attempt == 3 {
			return err
		}
		if err := a.load(ctx); err != nil { // another process has changed them: see [RevokeStored]
			return err
		}
	}
}

func (a *accessState) try(ctx context.Context, fn func(*accessLists) error) error {
	now := a.now.Load()
	next := accessLists{
		Always: maps.Clone(now.Always), Revoked: maps.Clone(now.Revoked),
		Links: slices.Clone(now.Links), Allow: now.Allow, Dropped: maps.Clone(now.Dropped),
	}
	for _, i := range now.Invites {
		c := *i
		next.Invites = append(next.Invites, &c)
	}
	if next.Always == nil {
		next.Always = map[string]time.Time{}
	}
	if next.Revoked == nil {
		next.Revoked = map[string]revocation{}
	}
	if next.Dropped == nil {
		next.Dropped = map[string]time.Time{}
	}
	if err := fn(&next); err != nil {
		return err
	}
	if len(next.Always) > maxListed || len(next.Revoked) > maxListed || len(next.Invites) > maxInvites || len(next.Dropped) > maxListed {
		return couch.TooLarge("too_large", "The access lists of this share are full.")
	}
	body, err := json.Marshal(next)
	if err != nil {
		return err
	}
	rev, err := a.db.PutLocal(ctx, &couch.Doc{ID: a.id, Rev: a.rev, Body: body})
	if err != nil {
		return fmt.Errorf("keep the access lists: %w", err)
	}
	a.set(rev, next)
	return nil
}

func (a *accessState) always(peer string) bool {
	_, ok := a.now.Load().Always[peer]
	return ok
}

// revoked is why a peer is kept out, nil if it is not: one of its keys is revoked.
func (a *accessState) revoked(peer string) error {
	now := a.now.Load()
	return now.revoked(now.kin.of(peer))
}

func (n *accessNow) revoked(chain []string) error {
	for _, key := range chain {
		switch r, ok := n.Revoked[key]; {
		case !ok:
		case r.Reason != "":
			return couch.Forbidden(errRevoked.Reason + " " + r.Reason)
		default:
			return errRevoked
		}
	}
	return nil
}

// admit lets a peer in for good; no key of it is revoked any more.
func (a *accessState) admit(ctx context.Context, peer string) error {
	return a.change(ctx, func(l *accessLists) error {
		for _, key := range newKinship(l.Links).of(peer) {
			delete(l.Revoked, key)
		}
		l.Always[peer] = time.Now().UTC()
		return nil
	})
}

// revoke keeps a peer out, whichever of its keys it shows. links are what is known of them besides.
func (a *accessState) revoke(ctx context.Context, peer, reason string, links ...keyLink) error {
	return a.change(ctx, func(l *accessLists) error {
		l.Revoked[peer] = revocation{time.Now().UTC(), reason}
		_ = l.link(links) // of a chain that is too long the peer itself is kept out at any rate
		for _, key := range newKinship(l.Links).of(peer) {
			delete(l.Always, key)
		}
		return nil
	})
}

// each calls fn with every peer on the lists.
func (a *accessState) each(fn func(peer string)) {
	now := a.now.Load()
	for peer := range now.Always {
		fn(peer)
	}
	for _, i := range now.Invites {
		fn(i.Peer)
	}
	for peer := range now.kin {
		fn(peer)
	}
}
