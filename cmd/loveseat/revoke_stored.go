package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/share"
)

// An absent is a share for which no process answers.
type absent struct {
	m        *Main
	r        *reporter
	peer     *joined
	identity string // directory of the device key: the shared database's store
	ref      string
	why      error // what shows that nobody answers
}

// withdraw takes the share out of the hub, if it is still there.
func (a *absent) withdraw(ctx context.Context) error {
	err := a.peer.Withdraw(ctx, a.ref)
	if errors.Is(err, couch.ErrNotFound) {
		return fmt.Errorf("%w; it is not shared, so that there is nothing to end (loveseat ls HUB lists what is)", a.why)
	}
	if err != nil {
		return errors.Join(a.why, err)
	}
	a.r.Event("withdrawn", map[string]any{"share": a.ref},
		"No process answers for the share. It is not listed in the hub any more, unless one that only seems dead goes on: then end that.")
	return nil
}

// revoke takes a peer's access away where the share keeps it, for when it is served again.
func (a *absent) revoke(ctx context.Context, who, reason string) error {
	store, db, err := a.database(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	peer, err := share.RevokeStored(ctx, db, a.peer.id, who, reason)
	if err != nil {
		return err
	}
	a.r.Event("revoked_stored", map[string]any{"share": a.ref, "db": db.Name(), "peer": peer},
		cli.Sprintf("No process answers for the share, so nobody was cut off now. %s has no access from when %s is shared again; if a 'loveseat share' that does not answer still runs, start it anew.",
			peer, db.Name()))
	return nil
}

// database finds the database of the share, by its id or name, in the store of the device key. The caller closes the store.
func (a *absent) database(ctx context.Context) (*localdb.Store, *kivik.DB, error) {
	nowhere := fmt.Errorf("%w, and there is no such database in %s to note it in: give the store of the shared database as --identity DIR, and SHARE as the share's id or the database's name", a.why, a.identity)
	if files, _ := filepath.Glob(filepath.Join(a.identity, "*.sqlite")); len(files) == 0 {
		return nil, nil, nowhere // opening it would make a store there
	}
	store, err := localdb.OpenStore(a.identity, localdb.Options{})
	if err != nil {
		return nil, nil, err
	}
	names, err := store.Databases(ctx)
	wanted := a.shareID(ctx)
	for _, name := range names {
		is, err := share.ShareID(ctx, store.DB(name), a.peer.id)
		if err == nil && (is == wanted || is == a.ref || wanted == "" && name == a.ref) {
			return store, store.DB(name), nil
		}
	}
	_ = store.Close()
	if err == nil {
		err = nowhere
	}
	return nil, nil, err
}

// shareID is the id that ref means, "" if it is a name that the hub does not know.
func (a *absent) shareID(ctx context.Context) string {
	if link, err := share.ParseLink(a.ref); err == nil {
		return link.Share
	}
	shares, err := a.peer.Shares(ctx)
	if err != nil {
		return ""
	}
	for _, s := range shares {
		if s.Own && (s.Name == a.ref || s.ID == a.ref) {
			return s.ID
		}
	}
	return ""
}
