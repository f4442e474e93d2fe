package localdb_test

import (
	"context"
	"net/http/httptest"
	"net/url"
	"testing"

	kivik "github.com/go-kivik/kivik/v4"
	_ "github.com/go-kivik/kivik/v4/couchdb" // driver "couch"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/internal/couchtest"
	"github.com/loveseat-db/loveseat/localdb"
)

func openStore(t *testing.T) *localdb.Store {
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// serve serves a store as a hub or a share does, and gives its address.
func serve(t *testing.T, store couch.Store) string {
	api := couchhttp.NewServer(couchhttp.ServerOptions{Store: store, UUID: "0123456789abcdef0123456789abcdef"})
	server := httptest.NewServer(api)
	t.Cleanup(func() {
		_ = api.Close()
		server.Close()
	})
	return server.URL
}

func TestConformance(t *testing.T) {
	t.Parallel()
	couchtest.Run(t, func(t *testing.T) couch.Store { return openStore(t) })
}

func TestConformanceOverHTTP(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]couchhttp.ClientOptions{"Plain": {}, "Compressed": {Compress: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			couchtest.Run(t, func(t *testing.T) couch.Store {
				base, err := url.Parse(serve(t, openStore(t)))
				if err != nil {
					t.Fatal(err)
				}
				client := couchhttp.NewClient(base, nil, o)
				t.Cleanup(func() { _ = client.Close() })
				return client
			})
		})
	}
}

// kivikStore is the databases of a kivik client as a couch.Store.
type kivikStore struct{ client *kivik.Client }

func (s kivikStore) Databases(ctx context.Context) ([]string, error) { return s.client.AllDBs(ctx) }
func (s kivikStore) Create(ctx context.Context, name string) error {
	return couchkivik.Error(s.client.CreateDB(ctx, name))
}

func (s kivikStore) Destroy(ctx context.Context, name string) error {
	return couchkivik.Error(s.client.DestroyDB(ctx, name))
}

func (s kivikStore) Open(ctx context.Context, name string) (couch.DB, error) {
	db := couchkivik.From(s.client.DB(name))
	_, err := db.Info(ctx)
	return db, err
}

// The adapter over a kivik driver of someone else passes what kivik lets it:
// kivik drops the codes of errors, the unknown members of _security, and
// database names with a slash.
func TestConformanceOverKivik(t *testing.T) {
	t.Parallel()
	o := couchtest.Options{StatusOnly: true, Skip: []string{"Store/LegalNames", "Store/Security", "Attachment/MissingStub"}}
	couchtest.RunWith(t, o, func(t *testing.T) couch.Store {
		client, err := kivik.New("couch", serve(t, openStore(t)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return kivikStore{client}
	})
}
