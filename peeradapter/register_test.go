package peeradapter

import (
	"net/http/httptest"
	"testing"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/share"
)

// startHub serves a hub database and returns its URL.
func startHub(t *testing.T) string {
	t.Helper()
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	must(t, err)
	must(t, store.Create(t.Context(), "hub"))
	api := couchhttp.NewServer(couchhttp.ServerOptions{Store: store, UUID: "test", Logger: discard})
	srv := httptest.NewServer(api)
	t.Cleanup(func() {
		_ = api.Close()
		srv.Close()
		_ = store.Close()
	})
	return srv.URL + "/hub"
}

// shareNotes joins the hub and shares a database with one document.
func shareNotes(t *testing.T, hub string) *share.Share {
	t.Helper()
	peer := joined(t, hub)
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	must(t, err)
	t.Cleanup(func() {
		must(t, peer.Close())
		must(t, store.Close())
	})
	must(t, store.Create(t.Context(), "notes"))
	db := store.DB("notes")
	_, err = db.Put(t.Context(), "hello", map[string]string{"text": "world"})
	must(t, err)
	s, err := peer.Share(t.Context(), db, share.ShareOptions{Name: "My notes"})
	must(t, err)
	return s
}

// The shares of a hub are the databases of a kivik client.
func TestPeerDriver(t *testing.T) {
	hub := startHub(t)
	s := shareNotes(t, hub)
	id, link := s.ID(), s.Link()
	for name, c := range map[string]struct{ dsn, db string }{
		"by name": {hub, "My notes"}, "by id": {hub, id}, "by link": {link, id},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := kivik.New(Driver, c.dsn)
			must(t, err)
			defer func() { must(t, client.Close()) }()
			dbs, err := client.AllDBs(t.Context())
			must(t, err)
			if len(dbs) != 1 || dbs[0] != id {
				t.Errorf("databases: %q", dbs)
			}
			var doc struct{ Text string }
			must(t, client.DB(c.db).Get(t.Context(), "hello").ScanDoc(&doc))
			if doc.Text != "world" {
				t.Errorf("%+v", doc)
			}
			_, err = client.DB(c.db).Put(t.Context(), name, map[string]int{"n": 1})
			must(t, err)
			if err := client.DB("nothing").Get(t.Context(), "x").Err(); kivik.HTTPStatus(err) != 404 {
				t.Errorf("no such share: %v", err)
			}
			if err := client.CreateDB(t.Context(), "new"); kivik.HTTPStatus(err) != 403 {
				t.Errorf("create: %v", err)
			}
			if err := client.DestroyDB(t.Context(), id); kivik.HTTPStatus(err) != 403 {
				t.Errorf("destroy: %v", err)
			}
		})
	}
}

func TestDataSourceNames(t *testing.T) {
	for _, bad := range []string{"", "x", "http://", "http://host", "http://host/", "ftp://host/hub", "http://host/%zz", "::"} {
		if _, err := kivik.New(Driver, bad); kivik.HTTPStatus(err) != 400 {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for dsn, want := range map[string][2]string{
		"http://host/hub":             {"http://host/", "hub"},
		"https://u:p%20w@h:1/hub/":    {"https://u:p%20w@h:1/", "hub"},
		"http://host/couch/db/a%2Fb+": {"http://host/couch/db/", "a/b+"},
	} {
		if server, db, err := SplitHub(dsn); err != nil || server != want[0] || db != want[1] {
			t.Errorf("%q: %q, %q, %v", dsn, server, db, err)
		}
	}
}
