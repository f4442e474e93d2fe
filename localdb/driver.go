package localdb

import (
	kivik "github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// driverName is what kivik knows this package by: kivik.New("localdb", dir)
// opens a store with default options, and closing that client closes the store.
const driverName = "localdb"

func init() {
	couchkivik.Register(driverName, func(dir string) (couch.Store, error) { return OpenStore(dir, Options{}) })
}

// DB is a database of the store as a kivik database. That it does not exist
// shows in its first use. The store stays the caller's to close.
func (s *Store) DB(name string) *kivik.DB { return couchkivik.DB(driverName, s, name) }
