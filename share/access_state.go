package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// accessLists is the content of "_local/loveseat-access-<share id>".
type accessLists struct {
	Always  map[string]time.Time  `json:"always,omitempty"`  // peers admitted for good, and since when
	Revoked map[string]revocation `json:"revoked,omitempty"` // peers that are kept out
	Invites []*Invite             `json:"invites,omitempty"`
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

	mu    sync.Mutex
	lists accessLists
	rev   couch.Rev
}

func loadAccess(ctx context.Context, db couch.Locals, share string) (*accessState, error) {
	a := &accessState{db: db, id: "loveseat-access-" + share}
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
	a.rev, a.lists = d.Rev, lists
	return nil
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
	next := accessLists{maps.Clone(a.lists.Always), maps.Clone(a.lists.Revoked), nil}
	for _, i := range a.lists.Invites {
		c := *i
		next.Invites = append(next.Invites, &c)
	}
	if next.Always == nil {
		next.Always = map[string]time.Time{}
	}
	if next.Revoked == nil {
		next.Revoked = map[string]revocation{}
	}
	if err := fn(&next); err != nil {
		return err
	}
	if len(next.Always) > maxListed || len(next.Revoked) > maxListed || len(next.Invites) > maxInvites {
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
	a.rev, a.lists = rev, next
	return nil
}

func (a *accessState) always(peer string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.lists.Always[peer]
	return ok
}

// revoked is why a peer is kept out, nil if it is not.
func (a *accessState) revoked(peer string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.lists.Revoked[peer]
	switch {
	case !ok:
		return nil
	case r.Reason != "":
		return couch.Forbidden(errRevoked.Reason + " " + r.Reason)
	}
	return errRevoked
}

// admit lets a peer in for good.
func (a *accessState) admit(ctx context.Context, peer string) error {
	return a.change(ctx, func(l *accessLists) error {
		l.Always[peer] = time.Now().UTC()
		delete(l.Revoked, peer)
		return nil
	})
}

func (a *accessState) revoke(ctx context.Context, peer, reason string) error {
	return a.change(ctx, func(l *accessLists) error {
		l.Revoked[peer] = revocation{time.Now().UTC(), reason}
		delete(l.Always, peer)
		return nil
	})
}

// each calls fn with every peer on the lists.
func (a *accessState) each(fn func(peer string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for peer := range a.lists.Always {
		fn(peer)
	}
	for _, i := range a.lists.Invites {
		fn(i.Peer)
	}
}
