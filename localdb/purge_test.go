package localdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

func purge(t testing.TB, d *database, id string, revs ...couch.Rev) []couch.Rev {
	t.Helper()
	purged, err := d.Purge(context.Background(), []couch.DocRevs{{ID: id, Revs: revs}})
	if err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, d)
	return purged[0].Revs
}

func compact(t testing.TB, d *database) {
	t.Helper()
	if err := d.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, d)
	checkNoOrphans(t, d)
}

func rows(t testing.TB, d *database, table string) (n int64) {
	t.Helper()
	err := d.view(context.Background(), func(c *sqlite.Conn) (err error) {
		n, err = c.Int("SELECT count(*) FROM " + table)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPurgeLeavesNothing(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	small, large := attachment("small", "small"), attachment("large", strings.Repeat("large", 100))
	rev := put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{small, large}})
	rev = put(t, d, &couch.Doc{ID: "a", Rev: rev, Attachments: []couch.Attachment{attachment("small", "other")}})
	rev = put(t, d, &couch.Doc{ID: "a", Rev: rev, Deleted: true})
	if got := purge(t, d, "a", rev); len(got) != 1 {
		t.Fatal(got)
	}
	for _, table := range []string{"docs", "bodies", "stale", "blobs", "att_refs"} {
		if n := rows(t, d, table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	if left := files(t, s); len(left) > 0 {
		t.Error(left)
	}
	if info, _ := d.Info(context.Background()); info.DelCount != 0 || info.DocCount != 0 || info.PurgeSeq != "1" || info.UpdateSeq != d.formatSeq(3) {
		t.Errorf("%+v", info)
	}
}

func TestPurgeKeepsSharedContent(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	atts := []couch.Attachment{attachment("small", "small"), attachment("large", strings.Repeat("large", 100))}
	a := put(t, d, &couch.Doc{ID: "a", Attachments: atts})
	b := put(t, d, &couch.Doc{ID: "b", Attachments: atts})
	purge(t, d, "a", a)
	if len(files(t, s)) != 1 || content(t, d, "b", "large", 0) != strings.Repeat("large", 100) || content(t, d, "b", "small", 0) != "small" {
		t.Fatal("the content of another document is gone")
	}
	purge(t, d, "b", b)
	if left := files(t, s); len(left) > 0 || rows(t, d, "blobs") != 0 {
		t.Fatal(left)
	}
}

// TestPurgeMeetsWriter purges the only document that uses a content while another is about to.
func TestPurgeMeetsWriter(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	large := attachment("large", strings.Repeat("large", 100))
	rev := put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{large}})
	e, err := d.prepare(context.Background(), &couch.Doc{ID: "b", Attachments: []couch.Attachment{large}}, couch.WriteOptions{}, new(couch.WriteResult))
	if err != nil {
		t.Fatal(err)
	}
	purge(t, d, "a", rev)
	if left := files(t, s); len(left) > 0 {
		t.Fatal(left)
	}
	if err := errors.Join(d.write(context.Background(), []*edit{e})); err != nil || e.result.Err != nil {
		t.Fatal(err, e.result.Err)
	}
	discard([]*edit{e})
	checkInvariants(t, d)
	checkNoOrphans(t, d)
	if got := content(t, d, "b", "large", 0); got != strings.Repeat("large", 100) {
		t.Fatal(got)
	}
}

func TestAttachmentPurgedWhileRead(t *testing.T) {
	_, d := openTest(t, Options{InlineAttachments: 10})
	rev := put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{attachment("large", strings.Repeat("large", 100))}})
	doc := get(t, d, "a", couch.GetOptions{Attachments: true})
	purge(t, d, "a", rev)
	_, err := doc.Attachments[0].Reader(context.Background())
	wantStatus(t, err, 404, "not_found")
}

func TestCompactInSteps(t *testing.T) {
	_, d := openTest(t, Options{})
	revs := make(map[string]couch.Rev)
	large := strings.Repeat("x", 1<<20)
	for i := range 12 { // more than one step's worth of one document
		revs["big"] = put(t, d, &couch.Doc{ID: "big", Rev: revs["big"], Body: body(`{"n":%d,"x":"%s"}`, i, large)})
	}
	for round := range 3 { // and of documents
		docs := make([]*couch.Doc, 2*compactDocs+1)
		for i := range docs {
			id := fmt.Sprint("doc", i)
			docs[i] = &couch.Doc{ID: id, Rev: revs[id], Body: body(`{"n":%d}`, round), Attachments: []couch.Attachment{attachment("a", fmt.Sprint("content of ", id, round))}}
		}
		results, err := d.BulkDocs(context.Background(), docs, couch.WriteOptions{})
		if err = errors.Join(err, asError(results)); err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			revs[r.ID] = r.Rev
		}
	}
	checkInvariants(t, d)
	before, _ := d.Info(context.Background())
	compact(t, d)
	after, _ := d.Info(context.Background())
	docs := int64(2*compactDocs + 2)
	if n := rows(t, d, "bodies"); n != docs || rows(t, d, "stale") != 0 || rows(t, d, "blobs") != docs-1 {
		t.Errorf("%d bodies of %d documents, %d stale, %d contents", n, docs, rows(t, d, "stale"), rows(t, d, "blobs"))
	}
	if after.UpdateSeq != before.UpdateSeq || after.FileSize != after.ActiveSize {
		t.Errorf("%+v, then %+v", before, after)
	}
	if info, err := os.Stat(d.path); err != nil || info.Size() > 4<<20 {
		t.Errorf("the file has %d bytes (%v)", info.Size(), err)
	}
	for id, rev := range revs {
		if doc := get(t, d, id, couch.GetOptions{Revs: true}); doc.Rev != rev || len(doc.Revisions) != int(rev.Gen) {
			t.Fatalf("%s is %s with %v, want %s", id, doc.Rev, doc.Revisions, rev)
		}
	}
	if got := content(t, d, "doc7", "a", 0); got != "content of doc72" {
		t.Error(got)
	}
}

func TestCompactRemovesWhatWasNeverWritten(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	large := attachment("large", strings.Repeat("large", 100))
	if _, err := tryPut(t, d, &couch.Doc{ID: "a", Rev: couch.Rev{Gen: 1, Hash: "none"}, Attachments: []couch.Attachment{large}}); err == nil {
		t.Fatal("written")
	}
	if n := len(files(t, s)); n != 1 {
		t.Fatalf("%d files", n)
	}
	compact(t, d)
	put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{large}})
	compact(t, d)
	if got := content(t, d, "a", "large", 0); got != strings.Repeat("large", 100) {
		t.Fatal(got)
	}
}

func TestCompactEndsWithContext(t *testing.T) {
	_, d := openTest(t, Options{})
	d.tidying <- struct{}{} // somebody else does it
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := d.Compact(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if info, _ := d.Info(context.Background()); !info.Compacting {
		t.Error("nobody compacts")
	}
	<-d.tidying
}

// TestOldFile opens a file of the first version, which knew nothing of dead bodies and did not shrink.
func TestOldFile(t *testing.T) {
	s, d := openTest(t, Options{})
	rev := put(t, d, &couch.Doc{ID: "a", Body: body(`{"n":1}`)})
	rev = put(t, d, &couch.Doc{ID: "a", Rev: rev, Body: body(`{"n":2}`)})
	put(t, d, &couch.Doc{ID: "b"})
	err := s.Close()
	if err != nil {
		t.Fatal(err)
	}
	c, err := openConn(d.path, readerCache)
	if err == nil {
		err = c.Exec(`DROP TABLE stale; DROP INDEX att_refs_blob; DELETE FROM meta WHERE key IN ('dead', 'purges'); UPDATE docs SET flags = flags & 3;
			ALTER TABLE blobs RENAME COLUMN sha256 TO digest;
			PRAGMA user_version=1; PRAGMA auto_vacuum=NONE; VACUUM`)
	}
	if err = errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenStore(s.dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	old := reopen(t, s, "test")
	if got := pragma(t, old, "auto_vacuum") + pragma(t, old, "user_version"); got != fmt.Sprint("2", len(migrations)) {
		t.Errorf("auto_vacuum and user_version are %s", got)
	}
	compact(t, old)
	if n := rows(t, old, "bodies"); n != 2 || string(get(t, old, "a", couch.GetOptions{}).Body) != `{"n":2}` {
		t.Errorf("%d bodies", n)
	}
	purge(t, old, "a", rev)
}
