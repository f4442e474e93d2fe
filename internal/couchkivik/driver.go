// Package couchkivik joins kivik, the Go API of CouchDB, and the couch package:
// one kivik driver over any [couch.Store] (a directory of local databases, a
// share opened over WebRTC), and, the other way, a [couch.DB] over any
// *kivik.DB, whatever its driver.
//
// Where both ends are ours nothing is converted: [From] finds the couch.DB
// behind a *kivik.DB.
package couchkivik

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	kivik "github.com/go-kivik/kivik/v4"
	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// ours are the names of the drivers registered here.
var ours sync.Map

// Register makes a kivik driver. Open gives the store for a data source name;
// if the store has a Close() error method, closing the kivik client calls it.
// It panics if the name is taken, as kivik.Register does.
func Register(name string, open func(dsn string) (couch.Store, error)) {
	kivik.Register(name, &storeDriver{open})
	ours.Store(name, true)
}

// Client gives a store that is open already as a kivik client of a registered
// driver. Closing the client does not close the store.
func Client(driver string, store couch.Store) *kivik.Client {
	c, err := kivik.New(driver, "", &storeOption{store})
	if err != nil { // only for a name that was never registered: a fault in the program
		panic(err)
	}
	return c
}

// DB gives one database of a store that is open already.
func DB(driver string, store couch.Store, name string) *kivik.DB {
	return Client(driver, store).DB(name)
}

// A storeOption carries a store to NewClient.
type storeOption struct{ store couch.Store }

// Apply implements kivik.Option.
func (o *storeOption) Apply(target any) {
	if c, ok := target.(*client); ok {
		c.store = o.store
	}
}

type storeDriver struct {
	open func(dsn string) (couch.Store, error)
}

// NewClient implements driver.Driver.
func (d *storeDriver) NewClient(dsn string, options driver.Options) (driver.Client, error) {
	c := &client{}
	options.Apply(c)
	if c.store != nil {
		return c, nil
	}
	var err error
	if c.store, err = d.open(dsn); err != nil {
		return nil, err
	}
	c.closer, _ = c.store.(io.Closer)
	return c, nil
}

// client implements driver.Client and what is optional beside it.
type client struct {
	store  couch.Store
	closer io.Closer // nil: the store is somebody else's
}

var (
	_ driver.Client        = (*client)(nil)
	_ driver.ClientCloser  = (*client)(nil)
	_ driver.Pinger        = (*client)(nil)
	_ driver.DBsStatser    = (*client)(nil)
	_ driver.AllDBsStatser = (*client)(nil)
)

// apiVersion is the CouchDB whose API is spoken.
const apiVersion = "3.5.0"

func (c *client) Version(context.Context) (*driver.Version, error) {
	raw := fmt.Appendf(nil, `{"couchdb":"Welcome","version":%q,"vendor":{"name":"Loveseat"}}`, apiVersion)
	return &driver.Version{Version: apiVersion, Vendor: "Loveseat", RawResponse: raw}, nil
}

// Ping asks the store for its databases; a refusal shows that it is there, too.
func (c *client) Ping(ctx context.Context) (bool, error) {
	_, err := c.store.Databases(ctx)
	if errors.Is(err, couch.ErrUnauthorized) || errors.Is(err, couch.ErrForbidden) {
		return true, nil
	}
	return err == nil, err
}

func (c *client) AllDBs(ctx context.Context, options driver.Options) ([]string, error) {
	p := parseOptions(options)
	window := p.window()
	if p.err != nil {
		return nil, p.err
	}
	names, err := c.store.Databases(ctx)
	if err != nil {
		return nil, err
	}
	return window.slice(names), nil
}

func (c *client) DBExists(ctx context.Context, name string, _ driver.Options) (bool, error) {
	_, err := c.store.Open(ctx, name)
	if errors.Is(err, couch.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (c *client) CreateDB(ctx context.Context, name string, _ driver.Options) error {
	return c.store.Create(ctx, name)
}

func (c *client) DestroyDB(ctx context.Context, name string, _ driver.Options) error {
	return c.store.Destroy(ctx, name)
}

// DB gives a handle, also of a database that does not exist yet: errors come when it is used.
func (c *client) DB(name string, _ driver.Options) (driver.DB, error) {
	return &database{&handle{store: c.store, name: name}}, nil
}

// DBsStats gives nil for a database that does not exist.
func (c *client) DBsStats(ctx context.Context, names []string) ([]*driver.DBStats, error) {
	all := make([]*driver.DBStats, len(names))
	for i, name := range names {
		h := handle{store: c.store, name: name}
		info, err := h.Info(ctx)
		if errors.Is(err, couch.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[i] = stats(info)
	}
	return all, nil
}

func (c *client) AllDBsStats(ctx context.Context, options driver.Options) ([]*driver.DBStats, error) {
	names, err := c.AllDBs(ctx, options)
	if err != nil {
		return nil, err
	}
	return c.DBsStats(ctx, names)
}

// Close closes the store if this client opened it.
func (c *client) Close() error {
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}
