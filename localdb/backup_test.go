package localdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// restore opens a backup.
func restore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := OpenStore(dir, Options{InlineAttachments: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestBackup(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	large := strings.Repeat("large", 100)
	rev := put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{attachment("large", large), attachment("small", "small")}})
	if err := s.Create(context.Background(), "other/one"); err != nil {
		t.Fatal(err)
	}
	put(t, reopen(t, s, "other/one"), &couch.Doc{ID: "b"})
	if _, err := d.PutLocal(context.Background(), &couch.Doc{ID: "checkpoint", Body: body(`{"n":1}`)}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made", "backup")
	if err := s.Backup(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	lost := put(t, d, &couch.Doc{ID: "lost"})
	_, future := changes(t, d, couch.ChangesOptions{})

	copied := restore(t, dir)
	if names, _ := copied.Databases(context.Background()); fmt.Sprint(names) != "[other/one test]" || copied.UUID() != s.UUID() {
		t.Fatalf("databases %v of %s, want those of %s", names, copied.UUID(), s.UUID())
	}
	c := reopen(t, copied, "test")
	checkInvariants(t, c)
	checkNoOrphans(t, c)
	get(t, reopen(t, copied, "other/one"), "b", couch.GetOptions{})
	if got := content(t, c, "a", "large", 0) + content(t, c, "a", "small", 0); got != large+"small" || get(t, c, "a", couch.GetOptions{}).Rev != rev {
		t.Errorf("got %s", got)
	}
	if doc, err := c.GetLocal(context.Background(), "checkpoint"); err != nil || string(doc.Body) != `{"n":1}` {
		t.Errorf("%+v, %v", doc, err)
	}
	_, err := c.Get(context.Background(), "lost", couch.GetOptions{Rev: lost})
	wantStatus(t, err, 404, "not_found")
	// Who has read the lost change is told of new ones.
	put(t, c, &couch.Doc{ID: "new"})
	if list, _ := changes(t, c, couch.ChangesOptions{Since: future.LastSeq}); len(list) != 1 || list[0].ID != "new" {
		t.Errorf("after %s: %v", future.LastSeq, list)
	}
	// And who has read changes of the copy is told everything by the original.
	_, ahead := changes(t, c, couch.ChangesOptions{})
	if list, _ := changes(t, d, couch.ChangesOptions{Since: ahead.LastSeq}); len(list) != 2 {
		t.Errorf("after %s: %v", ahead.LastSeq, list)
	}
	// The two go their own ways.
	purge(t, d, "a", rev)
	if got := content(t, c, "a", "large", 0); got != large {
		t.Errorf("got %s", got)
	}
}

func TestBackupNeedsAnEmptyPlace(t *testing.T) {
	s, _ := openTest(t, Options{})
	if err := s.Backup(context.Background(), s.dir); err == nil {
		t.Error("a store was overwritten")
	}
	empty := t.TempDir()
	if err := s.Backup(context.Background(), empty); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := filepath.Join(t.TempDir(), "backup")
	if err := s.Backup(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestBackupWhileWriting: every copy holds what one moment held. Writers keep
// two documents of a transaction equal, and what is purged takes its file along.
func TestBackupWhileWriting(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		var left, right couch.Rev
		for i := 0; ctx.Err() == nil; i++ {
			b := body(`{"n":%d,"x":"%s"}`, i, strings.Repeat("x", i*7919%20000))
			results, err := d.BulkDocs(ctx, []*couch.Doc{{ID: "left", Rev: left, Body: b}, {ID: "right", Rev: right, Body: b}}, couch.WriteOptions{})
			if ctx.Err() != nil {
				return
			}
			if err = errors.Join(err, asError(results)); err != nil {
				t.Error(err)
				return
			}
			left, right = results[0].Rev, results[1].Rev
		}
	})
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			doc := &couch.Doc{ID: fmt.Sprint("doc", i), Attachments: []couch.Attachment{attachment("x", fmt.Sprint("a content of its own ", i))}}
			results, err := d.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{})
			if err == nil && i%2 == 0 {
				_, err = d.Purge(ctx, []couch.DocRevs{{ID: doc.ID, Revs: []couch.Rev{results[0].Rev}}})
			}
			if err = errors.Join(err, asError(results)); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 5 {
		for from := d.seq.Load(); d.seq.Load() < from+10 && !t.Failed(); { // something is written
			time.Sleep(time.Millisecond)
		}
		dir := filepath.Join(t.TempDir(), fmt.Sprint("backup", i))
		if err := s.Backup(ctx, dir); err != nil {
			t.Fatal(err)
		}
		c := reopen(t, restore(t, dir), "test")
		checkInvariants(t, c)
		checkNoOrphans(t, c)
		list, _ := changes(t, c, couch.ChangesOptions{IncludeDocs: true})
		both := map[string]string{}
		for _, change := range list {
			both[change.ID] = string(change.Doc.Body)
			for _, a := range get(t, c, change.ID, couch.GetOptions{Attachments: true}).Attachments {
				r, err := a.Reader(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(r); err != nil || string(b) != "a content of its own "+strings.TrimPrefix(change.ID, "doc") {
					t.Fatalf("%s has %q, %v", change.ID, b, err)
				}
				r.Close()
			}
		}
		if both["left"] != both["right"] {
			t.Fatalf("left is %.20s, right %.20s", both["left"], both["right"])
		}
	}
	cancel()
	wg.Wait()
	compact(t, d)
	if n := rows(t, d, "meta WHERE key GLOB 'keep:*'"); n != 0 {
		t.Errorf("files are still kept for %d backups", n)
	}
}

func TestBackupKeepsFiles(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	rev := put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{attachment("large", strings.Repeat("large", 100))}})
	done, err := d.keepFiles(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	purge(t, d, "a", rev)
	if n := len(files(t, s)); n != 1 {
		t.Fatalf("%d files", n)
	}
	done()
	compact(t, d)
	if n := len(files(t, s)); n != 0 {
		t.Fatalf("%d files", n)
	}
}

func TestDamagedDatabaseIsNoBackup(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{attachment("large", strings.Repeat("large", 100))}})
	if err := os.Truncate(files(t, s)[0], 10); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	if err := s.Backup(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("there is a backup")
	}
}
