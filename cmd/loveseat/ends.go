package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// splitPath reads a local database's path: ./data/notes is "notes" in the store ./data.
func splitPath(path string) (dir, name string, err error) {
	clean := filepath.Clean(path)
	dir, name = filepath.Dir(clean), filepath.Base(clean)
	if path == "" || strings.HasSuffix(path, "/") || name == "." || name == ".." || cli.Hides(path) {
		return "", "", usageError{fmt.Errorf("%q names no local database: give STORE/NAME, such as ./data/notes", cli.Public(path))}
	}
	return dir, name, nil
}

// openLocal opens a local database by its path, after making it if create is set.
// The caller closes the store.
func openLocal(ctx context.Context, path string, create bool) (*localdb.Store, couch.DB, error) {
	dir, name, err := splitPath(path)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(dir); err != nil && !create {
		return nil, nil, fmt.Errorf("there is no local database %s (loveseat import %s FILE makes one)", path, path)
	}
	store, err := localdb.OpenStore(dir, localdb.Options{})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	if create {
		if err := store.Create(ctx, name); err != nil && couch.AsError(err).Code != "file_exists" {
			store.Close()
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	db, err := store.Open(ctx, name)
	if err != nil {
		store.Close()
		if errors.Is(err, couch.ErrNotFound) {
			err = fmt.Errorf("there is no database %q in %s (loveseat import %s FILE makes one)", name, dir, path)
		}
		return nil, nil, err
	}
	return store, db, nil
}

// newID makes a document id as CouchDB does.
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// An end is a database that a command works on, whatever it is.
type end struct {
	db    *kivik.DB
	route func() string // of an opened share; nil elsewhere
	io.Closer
}

// openEnd opens DB, the URL of a database or a share link. identity is the
// directory of the device key with which a share is opened.
func (m *Main) openEnd(ctx context.Context, arg, identity string, create bool) (*end, error) {
	switch {
	case share.IsLink(arg):
		return m.openShareEnd(ctx, arg, identity)
	case peeradapter.IsAddress(arg):
		return m.openAddressEnd(ctx, arg, identity)
	case isURL(arg):
		return openURL(ctx, arg, create)
	}
	store, _, err := openLocal(ctx, arg, create)
	if err != nil {
		return nil, err
	}
	_, name, _ := splitPath(arg)
	return &end{db: store.DB(name), Closer: store}, nil
}

// label is how a DB argument is shown: without secrets.
func label(arg string) string {
	if link, err := share.ParseLink(arg); err == nil {
		link.Secret = ""
		return link.String()
	}
	if isURL(arg) {
		return cli.Public(arg)
	}
	return arg
}

func isURL(arg string) bool {
	return strings.HasPrefix(arg, "http://") || strings.HasPrefix(arg, "https://") || peeradapter.IsAddress(arg)
}

// openURL opens a database on a CouchDB-compatible server, making it if create is set and it is missing.
func openURL(ctx context.Context, arg string, create bool) (*end, error) {
	server, name, err := splitURL(arg)
	if err != nil {
		return nil, err
	}
	client, err := kivik.New(peeradapter.HTTPDriver, server)
	if err != nil {
		return nil, err
	}
	e := &end{db: client.DB(name), Closer: client}
	exists, err := client.DBExists(ctx, name)
	if err == nil && !exists {
		if create {
			err = client.CreateDB(ctx, name)
		} else {
			err = couch.NotFound("Database does not exist.")
		}
	}
	if err != nil {
		_ = e.Close()
		return nil, fmt.Errorf("%s: %w", cli.Public(arg), advise(err))
	}
	return e, nil
}

// advise adds to an error of a server what to try.
func advise(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: is the server running? (hubserver starts one)", err)
	case kivik.HTTPStatus(err) == http.StatusUnauthorized:
		return fmt.Errorf("%w (a name and a password go into the URL, http://NAME:PASSWORD@HOST/…, or with the hub's URL into LOVESEAT_HUB)", err)
	}
	return err
}

// splitURL takes the database's name off its URL.
func splitURL(arg string) (server, name string, err error) {
	u, err := cli.ParseURL(arg)
	if err != nil {
		return "", "", usageError{err}
	}
	if server, name, err = peeradapter.SplitHub(u.String()); err != nil {
		err = usageError{fmt.Errorf("%s names no database: give its URL, such as http://127.0.0.1:5984/hub", cli.Public(arg))}
	}
	return server, name, err
}

// openShareEnd opens a share by its link.
func (m *Main) openShareEnd(ctx context.Context, arg, identity string) (*end, error) {
	link, err := share.ParseLink(arg)
	if err != nil {
		return nil, usageError{err}
	}
	peer, err := m.join(ctx, link.Hub, identity)
	if err != nil {
		return nil, err
	}
	var closer io.Closer = peer
	if m.events != nil {
		stop := showConnections(peer.Peer, m.events)
		closer = closing(func() error { stop(); return peer.Close() })
	}
	remote, err := peer.OpenWith(ctx, arg, m.opening)
	if err != nil {
		_ = closer.Close()
		return nil, err
	}
	return &end{db: remote.DB(), route: remote.Route, Closer: closer}, nil
}

// A joined is a peer with its device key and its connection to the hub.
type joined struct {
	*share.Peer
	id  *share.Identity
	hub io.Closer
}

// Close closes both.
func (j *joined) Close() error { return errors.Join(j.Peer.Close(), j.hub.Close()) }

// A closing is an io.Closer by a function.
type closing func() error

// Close implements [io.Closer].
func (c closing) Close() error { return c() }

// join joins the hub with the device key in the directory identity.
func (m *Main) join(ctx context.Context, hub, identity string) (*joined, error) {
	end, err := openURL(ctx, m.withCredentials(hub), false)
	if err != nil {
		return nil, fmt.Errorf("hub %w", err)
	}
	id, err := share.LoadIdentity(identity)
	var peer *share.Peer
	if err == nil {
		peer, err = peeradapter.Join(ctx, end.db, peeradapter.Options{Identity: id, WebRTC: m.network, Logger: m.logger()})
	}
	if err != nil {
		_ = end.Close()
		return nil, err
	}
	return &joined{peer, id, end}, nil
}

// joinWith opens a local database, making it if create is set, and joins the hub
// with the device key of its store. The caller closes both, the peer first.
func (m *Main) joinWith(ctx context.Context, hub, path string, create bool) (*end, *joined, error) {
	identity, err := m.identityDir(path)
	if err != nil {
		return nil, nil, err
	}
	local, err := m.openEnd(ctx, path, identity, create)
	if err != nil {
		return nil, nil, err
	}
	peer, err := m.join(ctx, hub, identity)
	if err != nil {
		_ = local.Close()
		return nil, nil, err
	}
	return local, peer, nil
}
