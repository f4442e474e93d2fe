package hub

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"
	_ "github.com/go-kivik/kivik/v4/couchdb" // the driver "couch"
)

// TestKivik: a foreign CouchDB client, with a session cookie, finds what it expects.
func TestKivik(t *testing.T) {
	s := start(t, Config{Admin: admin})
	client, err := kivik.New("couch", strings.Replace(s.url, "http://", "http://ann:s3cret%3Aword@", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	v, err := client.Version(ctx)
	check("version", err)
	if v.Vendor != "Loveseat" || v.Version != "3.5.2" {
		t.Errorf("%+v", v)
	}
	check("create", client.CreateDB(ctx, "kivik/db"))
	if err := client.CreateDB(ctx, "kivik/db"); kivik.HTTPStatus(err) != http.StatusPreconditionFailed {
		t.Errorf("%v", err)
	}
	db := client.DB("kivik/db")

	rev, err := db.Put(ctx, "a/b +c", map[string]any{"x": 1})
	check("put", err)
	if _, err := db.Put(ctx, "a/b +c", map[string]any{"x": 2}); kivik.HTTPStatus(err) != http.StatusConflict {
		t.Errorf("%v", err)
	}
	var doc struct {
		Rev string `json:"_rev"`
		X   int
	}
	check("get", db.Get(ctx, "a/b +c").ScanDoc(&doc))
	if doc.X != 1 || doc.Rev != rev {
		t.Errorf("%+v", doc)
	}
	got, err := db.GetRev(ctx, "a/b +c")
	check("rev", err)
	if got != rev {
		t.Errorf("HEAD says %s", got)
	}
	kivikAttachments(t, db)

	results, err := db.BulkDocs(ctx, []any{map[string]any{"_id": "one"}, map[string]any{"_id": "a/b +c"}})
	check("bulk", err)
	if results[0].Error != nil || kivik.HTTPStatus(results[1].Error) != http.StatusConflict {
		t.Errorf("%+v", results)
	}
	rows := db.AllDocs(ctx, kivik.IncludeDocs())
	n := 0
	for rows.Next() {
		n++
	}
	check("all docs", rows.Err())
	meta, err := rows.Metadata()
	check("metadata", err)
	if n != 3 || meta.TotalRows != 3 {
		t.Errorf("%d rows of %d", n, meta.TotalRows)
	}
	found := db.Find(ctx, map[string]any{"selector": map[string]any{"x": 1}})
	if !found.Next() {
		t.Errorf("nothing found: %v", found.Err())
	}
	found.Close()
	diff := db.RevsDiff(ctx, map[string][]string{"one": {"9-z"}})
	if !diff.Next() {
		t.Errorf("no difference: %v", diff.Err())
	}
	diff.Close()
	check("security", db.SetSecurity(ctx, &kivik.Security{Members: kivik.Members{Names: []string{"ann"}}}))
	sec, err := db.Security(ctx)
	check("security", err)
	if len(sec.Members.Names) != 1 {
		t.Errorf("%+v", sec)
	}
	kivikChanges(t, db)
	stats, err := db.Stats(ctx)
	check("stats", err)
	if stats.DocCount != 4 || stats.Name != "kivik/db" {
		t.Errorf("%+v", stats)
	}
	check("destroy", client.DestroyDB(ctx, "kivik/db"))
	if _, err := db.Stats(ctx); kivik.HTTPStatus(err) != http.StatusNotFound {
		t.Errorf("%v", err)
	}
}

// kivikAttachments writes attachments both ways kivik has: alone, and with the document as multipart/related.
func kivikAttachments(t *testing.T, db *kivik.DB) {
	t.Helper()
	ctx := t.Context()
	rev, err := db.Put(ctx, "att", map[string]any{"_attachments": &kivik.Attachments{
		"multi.txt": {Filename: "multi.txt", ContentType: "text/plain", Content: io.NopCloser(strings.NewReader("multi"))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.PutAttachment(ctx, "att", &kivik.Attachment{Filename: "dir/one.txt", ContentType: "text/plain", Content: io.NopCloser(strings.NewReader("one"))}, kivik.Rev(rev)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"multi.txt": "multi", "dir/one.txt": "one"} {
		a, err := db.GetAttachment(ctx, "att", name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(a.Content)
		if err != nil || string(b) != want || a.ContentType != "text/plain" {
			t.Errorf("%s: %q %s %v", name, b, a.ContentType, err)
		}
		a.Content.Close()
	}
	atts, err := db.Get(ctx, "att", kivik.IncludeDocs(), kivik.Param("attachments", true)).Attachments()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		a, err := atts.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, a.Content); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d attachments by multipart", n)
	}
}

func kivikChanges(t *testing.T, db *kivik.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	changes := db.Changes(ctx)
	n := 0
	for changes.Next() {
		n++
	}
	if changes.Err() != nil || n != 3 {
		t.Errorf("%d changes, %v", n, changes.Err())
	}
	meta, err := changes.Metadata()
	if err != nil || meta.LastSeq == "" {
		t.Fatalf("%+v %v", meta, err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := db.Put(ctx, "later", map[string]any{})
		wrote <- err
	}()
	changes = db.Changes(ctx, kivik.Param("feed", "longpoll"), kivik.Param("since", meta.LastSeq))
	if !changes.Next() || changes.ID() != "later" {
		t.Errorf("longpoll: %v", changes.Err())
	}
	changes.Close()
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}
