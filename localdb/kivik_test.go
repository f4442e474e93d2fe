package localdb_test

import (
	"testing"

	kivik "github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couchtest"
)

func TestKivik(t *testing.T) {
	t.Parallel()
	client, err := kivik.New("localdb", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	couchtest.RunKivik(t, client)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
}

// kivik's own driver is a CouchDB client that we did not write.
func TestKivikOverHTTP(t *testing.T) {
	t.Parallel()
	client, err := kivik.New("couch", serve(t, openStore(t)))
	if err != nil {
		t.Fatal(err)
	}
	couchtest.RunKivik(t, client)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
}
