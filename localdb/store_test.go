package localdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// TestMain runs the tests, or, in the processes that tests start, a part of one.
func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		children[part](os.Getenv(dirEnv))
		return
	}
	goleak.VerifyTestMain(m)
}

// openTest opens a store with one database, closed with the test.
func openTest(t testing.TB, o Options) (*Store, *database) {
	t.Helper()
	s, err := OpenStore(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Create(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	return s, reopen(t, s, "test")
}

func reopen(t testing.TB, s *Store, name string) *database {
	t.Helper()
	db, err := s.Open(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return db.(*database)
}

// put writes one document interactively.
func put(t testing.TB, d *database, doc *couch.Doc) couch.Rev {
	t.Helper()
	rev, err := tryPut(t, d, doc)
	if err != nil {
		t.Fatalf("put %s: %v", doc.ID, err)
	}
	return rev
}

func tryPut(t testing.TB, d *database, doc *couch.Doc) (couch.Rev, error) {
	t.Helper()
	results, err := d.BulkDocs(context.Background(), []*couch.Doc{doc}, couch.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Err != nil {
		return couch.Rev{}, results[0].Err
	}
	return results[0].Rev, nil
}

// graft writes one revision with its history, newest first.
func graft(t testing.TB, d *database, doc *couch.Doc, history ...string) {
	t.Helper()
	doc.Revisions = history
	doc.Rev = couch.Rev{Gen: int64(len(history)), Hash: history[0]}
	results, err := d.BulkDocs(context.Background(), []*couch.Doc{doc}, couch.WriteOptions{Replicated: true})
	if err = errors.Join(err, asError(results)); err != nil {
		t.Fatal(err)
	}
}

func asError(results []couch.WriteResult) error {
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

func get(t testing.TB, d *database, id string, o couch.GetOptions) *couch.Doc {
	t.Helper()
	doc, err := d.Get(context.Background(), id, o)
	if err != nil {
		t.Fatalf("get %s: %v", id, err)
	}
	return doc
}

func changes(t testing.TB, d *database, o couch.ChangesOptions) (list []*couch.Change, r couch.ChangesResult) {
	t.Helper()
	r, err := d.Changes(context.Background(), o, func(c *couch.Change) error {
		list = append(list, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list, r
}

func body(format string, args ...any) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(format, args...))
}

func wantStatus(t testing.TB, err error, status int, code string) {
	t.Helper()
	if e := couch.AsError(err); e == nil || e.Status != status || e.Code != code {
		t.Fatalf("got error %v, want %d %s", err, status, code)
	}
}

func TestSmoke(t *testing.T) {
	s, d := openTest(t, Options{})
	rev := put(t, d, &couch.Doc{ID: "a", Body: body(`{"n":1}`)})
	rev2 := put(t, d, &couch.Doc{ID: "a", Rev: rev, Body: body(`{"n":2}`)})
	if doc := get(t, d, "a", couch.GetOptions{Revs: true}); doc.Rev != rev2 || string(doc.Body) != `{"n":2}` || len(doc.Revisions) != 2 {
		t.Fatalf("got %+v", doc)
	}
	if doc := get(t, d, "a", couch.GetOptions{Rev: rev}); string(doc.Body) != `{"n":1}` {
		t.Fatalf("got %+v", doc)
	}
	_, err := tryPut(t, d, &couch.Doc{ID: "a", Rev: rev})
	wantStatus(t, err, 409, "conflict")
	list, r := changes(t, d, couch.ChangesOptions{})
	if len(list) != 1 || list[0].Revs[0] != rev2 || r.Pending != 0 || r.LastSeq != list[0].Seq {
		t.Fatalf("got %+v %+v", list, r)
	}
	if err := s.Destroy(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	_, err = d.Get(context.Background(), "a", couch.GetOptions{})
	wantStatus(t, err, 404, "not_found")
	if names, _ := s.Databases(context.Background()); len(names) != 0 {
		t.Fatal(names)
	}
}

func pragma(t testing.TB, d *database, name string) string {
	t.Helper()
	c, err := d.openReader()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := c.Prepare("PRAGMA " + name)
	defer s.Reset()
	if _, err := s.Step(); err != nil {
		t.Fatal(err)
	}
	return s.Text(0)
}
