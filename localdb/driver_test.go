package localdb

import (
	"context"
	"testing"

	kivik "github.com/go-kivik/kivik/v4"
)

func TestKivikDriver(t *testing.T) {
	ctx := context.Background()
	client, err := kivik.New("localdb", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.CreateDB(ctx, "notes"); err != nil {
		t.Fatal(err)
	}
	rev, err := client.DB("notes").Put(ctx, "a", map[string]any{"n": 1})
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Rev string `json:"_rev"`
		N   int    `json:"n"`
	}
	if err := client.DB("notes").Get(ctx, "a").ScanDoc(&doc); err != nil || doc.Rev != rev || doc.N != 1 {
		t.Fatal(doc, err)
	}
}

func TestStoreDB(t *testing.T) {
	s, _ := openTest(t, Options{})
	if _, err := s.DB("test").Put(context.Background(), "a", map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if status := kivik.HTTPStatus(s.DB("missing").Get(context.Background(), "a").Err()); status != 404 {
		t.Fatal(status)
	}
}
