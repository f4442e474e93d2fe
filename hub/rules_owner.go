package hub

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// peerPrefix begins the ids of the documents in which a hub keeps which user a
// peer belongs to. Nobody but administrators sees them.
const peerPrefix = "peer:"

// An ownerDoc is the document "peer:<peer id>": the first user who writes
// something signed by a peer's key, and proves to have the key, owns the peer until it has been idle for a while.
type ownerDoc struct {
	Type    string `json:"type"` // "peer"
	Version int    `json:"v"`
	User    string `json:"user"`
	Expires string `json:"expires"`
}

const (
	ownerIdle  = 10 * time.Minute // what a peer's owner outlasts at least
	ownerLease = time.Hour        // what is added to it, so that few are written
)

// owners knows which users peers belong to. What it remembers of the database
// may be old by ownerMemory: other hubs write there too.
type owners struct {
	mu    sync.Mutex
	known map[string]owner // by peer id
}

type owner struct {
	user string // "": nobody's
	rev  couch.Rev
	till time.Time
	read time.Time
}

const (
	ownerMemory = 20 * time.Second
	maxOwners   = 20_000
)

// of returns the owner of a peer.
func (o *owners) of(ctx context.Context, db couch.DB, peer string) (owner, error) {
	o.mu.Lock()
	w, ok := o.known[peer]
	o.mu.Unlock()
	if ok && time.Since(w.read) < ownerMemory {
		return w, nil
	}
	w, err := readOwner(ctx, db, peer)
	if err == nil {
		o.remember(peer, w)
	}
	return w, err
}

func (o *owners) remember(peer string, w owner) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil || len(o.known) >= maxOwners {
		o.known = map[string]owner{}
	}
	w.read = time.Now()
	o.known[peer] = w
}

func readOwner(ctx context.Context, db couch.DB, peer string) (owner, error) {
	d, err := db.Get(ctx, peerPrefix+peer, couch.GetOptions{})
	if errors.Is(err, couch.ErrNotFound) {
		return owner{}, nil
	}
	if err != nil {
		return owner{}, err
	}
	var doc ownerDoc
	if json.Unmarshal(d.Body, &doc) != nil {
		return owner{rev: d.Rev}, nil //nolint:nilerr // an unreadable claim is none
	}
	w := owner{user: doc.User, rev: d.Rev}
	w.till, _ = hubdoc.ParseTime(doc.Expires) // zero if it is none: expired
	if time.Now().After(w.till) {
		w.user = ""
	}
	return w, nil
}

var errOtherUser = couch.Forbidden("This peer belongs to another user.")

// free reports, as an error, that a peer belongs to another user.
func (o *owners) free(ctx context.Context, db couch.DB, peer, user string) error {
	w, err := o.of(ctx, db, peer)
	if err == nil && w.user != "" && w.user != user {
		err = errOtherUser
	}
	return err
}

// claim makes a user the owner of a peer until at least a time, or reports that another one is.
// Nobody ("") may write for peers that nobody owns.
func (o *owners) claim(ctx context.Context, db couch.DB, peer, user string, till time.Time) error {
	if least := time.Now().Add(ownerIdle); till.Before(least) {
		till = least
	}
	for attempt := 0; ; attempt++ {
		if err := o.free(ctx, db, peer, user); err != nil {
			return err
		}
		w, err := o.of(ctx, db, peer)
		if err != nil || user == "" || w.user == user && !till.After(w.till) {
			return err
		}
		next := owner{user: user, till: till.Add(ownerLease)}
		if next.rev, err = writeOwner(ctx, db, peer, w.rev, next); err == nil {
			o.remember(peer, next)
			return nil
		}
		if !errors.Is(err, couch.ErrConflict) || attempt == 2 {
			return err
		}
		o.forget(peer)
	}
}

func (o *owners) forget(peer string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.known, peer)
}

func writeOwner(ctx context.Context, db couch.DB, peer string, rev couch.Rev, w owner) (couch.Rev, error) {
	body, err := json.Marshal(ownerDoc{"peer", hubdoc.Version, w.user, hubdoc.FormatTime(w.till)})
	if err != nil {
		return rev, err
	}
	results, err := db.BulkDocs(ctx, []*couch.Doc{{ID: peerPrefix + peer, Rev: rev, Body: body}}, couch.WriteOptions{})
	if err != nil {
		return rev, err
	}
	if results[0].Err != nil {
		return rev, results[0].Err
	}
	return results[0].Rev, nil
}

// is reports whether a caller is a peer: by proof, or because the peer is the user's.
func (o *owners) is(ctx context.Context, db couch.DB, c *caller, peer string) (bool, error) {
	if c.peer == peer && peer != "" {
		return true, nil
	}
	if c.nobody || c.Name == "" {
		return false, nil
	}
	w, err := o.of(ctx, db, peer)
	return w.user == c.Name && err == nil, err
}
