package localdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

func TestFileNames(t *testing.T) {
	for _, name := range []string{"a", "a/b", "a_0$()+-/", "_users", "_replicator"} {
		file, err := fileName(name)
		if err != nil || strings.ContainsAny(file, `/\.`) {
			t.Errorf("%q: file %q, %v", name, file, err)
		}
		if back, ok := databaseName(file + fileSuffix); !ok || back != name {
			t.Errorf("%q came back as %q", name, back)
		}
	}
	for _, name := range []string{"", "A", "1a", "_other", "a.b", "../a", "a%2F", "a\x00", "ä", "a b", strings.Repeat("a", maxName+1)} {
		if file, err := fileName(name); err == nil {
			t.Errorf("%q is stored as %q", name, file)
		}
	}
	for _, file := range []string{"a", "A.sqlite", ".sqlite", "a.sqlite-wal", "a%2f.sqlite"} {
		if name, ok := databaseName(file); ok {
			t.Errorf("file %q is database %q", file, name)
		}
	}
}

func TestSettings(t *testing.T) {
	_, d := openTest(t, Options{})
	for name, want := range map[string]string{"page_size": "8192", "auto_vacuum": "2", "journal_mode": "wal", "synchronous": "2"} {
		if got := pragma(t, d, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestStoreSurvivesReopening(t *testing.T) {
	s, d := openTest(t, Options{})
	rev := put(t, d, &couch.Doc{ID: "a", Body: body(`{"n":1}`)})
	uuid, seq := d.uuid, d.formatSeq(1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal("Close is not idempotent:", err)
	}
	if _, err := s.Open(context.Background(), "test"); err == nil {
		t.Fatal("a closed store opens databases")
	}
	if _, err := d.Get(context.Background(), "a", couch.GetOptions{}); !errors.Is(err, errClosed) {
		t.Fatalf("a database of a closed store answers with %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*-wal")); len(left) > 0 {
		t.Errorf("closing left %v", left)
	}
	again, err := OpenStore(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	d = reopen(t, again, "test")
	if again.UUID() != s.UUID() || len(s.UUID()) != 32 || d.uuid != uuid {
		t.Errorf("identities changed: %s %s, %s %s", s.UUID(), again.UUID(), uuid, d.uuid)
	}
	if doc := get(t, d, "a", couch.GetOptions{}); doc.Rev != rev {
		t.Errorf("got %s, want %s", doc.Rev, rev)
	}
	if list, _ := changes(t, d, couch.ChangesOptions{Since: seq}); len(list) != 0 {
		t.Errorf("the sequence was forgotten: %v", list)
	}
}

func TestCloseEndsWaitingFeeds(t *testing.T) {
	s, d := openTest(t, Options{})
	feed := make(chan error, 1)
	started := make(chan struct{})
	put(t, d, &couch.Doc{ID: "a"})
	go func() {
		_, err := d.Changes(context.Background(), couch.ChangesOptions{Feed: couch.FeedContinuous}, func(*couch.Change) error {
			close(started)
			return nil
		})
		feed <- err
	}()
	<-started
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-feed; !errors.Is(err, errClosed) {
		t.Fatalf("the feed ended with %v", err)
	}
}

func TestTwoStoresInOneProcess(t *testing.T) {
	s, d := openTest(t, Options{})
	other, err := OpenStore(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	d2 := reopen(t, other, "test")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	heard := errors.New("heard")
	feed := make(chan error, 1)
	go func() {
		_, err := d2.Changes(ctx, couch.ChangesOptions{Feed: couch.FeedContinuous}, func(c *couch.Change) error { return heard })
		feed <- err
	}()
	rev := put(t, d, &couch.Doc{ID: "a"})
	if err := <-feed; err != heard {
		t.Fatal(err)
	}
	put(t, d2, &couch.Doc{ID: "a", Rev: rev})
	if list, _ := changes(t, d, couch.ChangesOptions{}); list[0].Seq != d.formatSeq(2) {
		t.Fatal(list[0])
	}
}

func TestHalfDestroyedDatabaseIsGone(t *testing.T) {
	s, d := openTest(t, Options{})
	put(t, d, &couch.Doc{ID: "a"})
	err := d.submit(context.Background(), 1, func(x *tx) error { return x.c.Exec("UPDATE meta SET value='' WHERE key='uuid'") })
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err = OpenStore(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Open(context.Background(), "test")
	wantStatus(t, err, 404, "not_found")
	if err := s.Create(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
}

func TestNewerFilesAreRefused(t *testing.T) {
	s, d := openTest(t, Options{})
	err := d.submit(context.Background(), 1, func(x *tx) error { return x.c.Exec("PRAGMA user_version=99") })
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s, _ = OpenStore(s.dir, Options{})
	defer s.Close()
	if _, err := s.Open(context.Background(), "test"); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Fatal(err)
	}
}

func TestFileThatIsNoDatabase(t *testing.T) {
	s, _ := openTest(t, Options{})
	if err := os.WriteFile(filepath.Join(s.dir, "bad.sqlite"), []byte(strings.Repeat("not SQLite ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(context.Background(), "bad"); err == nil {
		t.Fatal("opened")
	}
}

func TestSequences(t *testing.T) {
	_, d := openTest(t, Options{})
	ours := "-" + d.uuid[:8]
	for since, want := range map[string]int64{
		"": 0, "0": 0, "now": 9, "7": 7, "7" + ours: 7, "0" + ours: 0,
		"7-00000000": 0,          // of another incarnation
		"12" + ours:  0, "12": 9, // of a future that was undone
	} {
		if n, err := d.parseSeq(couch.Seq(since), 9); err != nil || n != want {
			t.Errorf("%q is %d, %v; want %d", since, n, err, want)
		}
	}
	for _, since := range []couch.Seq{"x", "-1", "1.5", `["a"]`, "99999999999999999999"} {
		_, err := d.parseSeq(since, 9)
		wantStatus(t, err, 400, "bad_request")
	}
}

func TestLimits(t *testing.T) {
	_, d := openTest(t, Options{MaxDocumentSize: 100, MaxAttachmentSize: 50, InlineAttachments: 10})
	_, err := tryPut(t, d, &couch.Doc{ID: "a", Body: body(`{"a":"%0100d"}`, 1)})
	wantStatus(t, err, 413, "document_too_large")
	for _, size := range []int{51, 1000} {
		_, err = tryPut(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{{Name: "x", Length: -1, Data: make([]byte, size)}}})
		wantStatus(t, err, 413, "attachment_too_large")
	}
	for _, bad := range []string{`[]`, `1`, `{`, `}`} {
		_, err = tryPut(t, d, &couch.Doc{ID: "a", Body: body("%s", bad)})
		wantStatus(t, err, 400, "bad_request")
	}
	_, err = tryPut(t, d, &couch.Doc{ID: "_local/a"})
	wantStatus(t, err, 400, "bad_request")
	for _, rev := range []couch.Rev{{Gen: 0, Hash: "a"}, {Gen: 1}, {Gen: couch.MaxGeneration + 1, Hash: "a"}, {Gen: 1, Hash: strings.Repeat("a", 257)}} {
		_, err = tryPut(t, d, &couch.Doc{ID: "a", Rev: rev})
		wantStatus(t, err, 400, "bad_request")
		for _, history := range [][]string{nil, {rev.Hash}, {rev.Hash, "b", "c"}} {
			results, err := d.BulkDocs(context.Background(), []*couch.Doc{{ID: "a", Rev: rev, Revisions: history}}, couch.WriteOptions{Replicated: true})
			if err != nil {
				t.Fatal(err)
			}
			wantStatus(t, results[0].Err, 400, "bad_request")
		}
	}
	if info, _ := d.Info(context.Background()); info.UpdateSeq != d.formatSeq(0) {
		t.Errorf("something was written: %+v", info)
	}
}

func TestRevsLimit(t *testing.T) {
	_, d := openTest(t, Options{RevsLimit: 9, RevsLimits: map[string]int{"test": 3, "other": 5}})
	var revs []couch.Rev
	rev := couch.Rev{}
	for i := range 6 {
		rev = put(t, d, &couch.Doc{ID: "a", Rev: rev, Body: body(`{"n":%d}`, i)})
		revs = append(revs, rev)
	}
	doc := get(t, d, "a", couch.GetOptions{Revs: true})
	if !slices.Equal(doc.Revisions, []string{revs[5].Hash, revs[4].Hash, revs[3].Hash}) {
		t.Errorf("history %v", doc.Revisions)
	}
	_, err := d.Get(context.Background(), "a", couch.GetOptions{Rev: revs[2]})
	wantStatus(t, err, 404, "not_found")
	_ = d.view(context.Background(), func(c *sqlite.Conn) error {
		if n, err := c.Int("SELECT count(*) FROM bodies"); n != 3 || err != nil {
			t.Errorf("%d bodies, %v", n, err)
		}
		return nil
	})
	graft(t, d, &couch.Doc{ID: "b"}, "f", "e", "d", "c", "b", "a")
	if doc := get(t, d, "b", couch.GetOptions{Revs: true}); len(doc.Revisions) != 3 || doc.Rev.Gen != 6 {
		t.Errorf("history %v of %s", doc.Revisions, doc.Rev)
	}
}

// TestOneFailureIsNotAnothers holds the writer so that two requests share a transaction, one of which breaks it.
func TestOneFailureIsNotAnothers(t *testing.T) {
	_, d := openTest(t, Options{})
	ctx := context.Background()
	holding, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	hold := func() { close(holding); <-release }
	go func() {
		first <- d.submit(ctx, 1, func(*tx) error {
			if hold != nil {
				hold()
				hold = nil // it runs again
			}
			return nil
		})
	}()
	<-holding
	broken := errors.New("broken")
	bad, good := make(chan error, 1), make(chan error, 1)
	go func() { bad <- d.submit(ctx, 1, func(*tx) error { return broken }) }()
	go func() {
		results, err := d.BulkDocs(ctx, []*couch.Doc{{ID: "a"}}, couch.WriteOptions{})
		good <- errors.Join(err, asError(results))
	}()
	close(release)
	if err := errors.Join(<-first, <-good); err != nil {
		t.Error(err)
	}
	if err := <-bad; !errors.Is(err, broken) {
		t.Errorf("the broken request got %v", err)
	}
	get(t, d, "a", couch.GetOptions{})
}

func TestPending(t *testing.T) {
	_, d := openTest(t, Options{})
	const total = 3 * exactPending
	for at := 0; at < total; at += 1000 {
		if results, err := d.BulkDocs(context.Background(), benchDocs(at, 1000), couch.WriteOptions{}); err != nil || asError(results) != nil {
			t.Fatal(err, asError(results))
		}
	}
	since, left := couch.Seq(""), int64(total)
	for left > 0 {
		list, r := changes(t, d, couch.ChangesOptions{Since: since, Limit: 500})
		left -= int64(len(list))
		if r.Pending != left {
			t.Fatalf("pending %d, want %d", r.Pending, left)
		}
		since = r.LastSeq
	}
	// Every document once more: no more changes than before, in twice the range.
	list, _ := changes(t, d, couch.ChangesOptions{})
	docs := make([]*couch.Doc, len(list))
	for i, c := range list {
		docs[i] = &couch.Doc{ID: c.ID, Rev: c.Revs[0]}
	}
	if results, err := d.BulkDocs(context.Background(), docs, couch.WriteOptions{}); err != nil || asError(results) != nil {
		t.Fatal(err, asError(results))
	}
	if _, r := changes(t, d, couch.ChangesOptions{Limit: 500}); r.Pending != total-500 {
		t.Errorf("pending %d, want %d", r.Pending, total-500)
	}
}

// TestNormalFeedEnds writes while the feed reads its first page.
func TestNormalFeedEnds(t *testing.T) {
	_, d := openTest(t, Options{})
	if results, err := d.BulkDocs(context.Background(), benchDocs(0, pageRows), couch.WriteOptions{}); err != nil || asError(results) != nil {
		t.Fatal(err, asError(results))
	}
	n := 0
	r, err := d.Changes(context.Background(), couch.ChangesOptions{}, func(*couch.Change) error {
		if n++; n == 1 {
			put(t, d, &couch.Doc{ID: "new"})
		}
		return nil
	})
	if err != nil || n != pageRows || r.LastSeq != d.formatSeq(pageRows) || r.Pending != 1 {
		t.Fatalf("%d changes, %+v, %v", n, r, err)
	}
}

func TestInfoCountsFiles(t *testing.T) {
	_, d := openTest(t, Options{InlineAttachments: 10})
	before, _ := d.Info(context.Background())
	for _, id := range []string{"a", "b"} {
		put(t, d, &couch.Doc{ID: id, Attachments: []couch.Attachment{{Name: "x", Data: make([]byte, 1_000_000)}}})
	}
	after, _ := d.Info(context.Background())
	if grown := after.ActiveSize - before.ActiveSize; grown < 1_000_000 || grown > 1_100_000 {
		t.Errorf("grown by %d bytes; the two are the same content", grown)
	}
}

// However many databases are written to, only some writers have a large page cache; those who are idle leave it to others.
func TestFewLargeCaches(t *testing.T) {
	t.Parallel()
	s, _ := openTest(t, Options{})
	large := func(name string) bool {
		db, err := s.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		var size int64
		err = db.(*database).submit(t.Context(), 1, func(t *tx) (err error) {
			size, err = t.c.Int("PRAGMA cache_size")
			return err
		})
		if err != nil || size != -writerCache && size != -readerCache {
			t.Fatalf("%s: a cache of %d, %v", name, size, err)
		}
		return size == -writerCache
	}
	for i := range 3 * writerCaches {
		name := fmt.Sprint("db", i)
		if err := s.Create(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if got, want := large(name), i < writerCaches; got != want {
			t.Errorf("database %d has a large cache: %v", i, got)
		}
	}
	last := fmt.Sprint("db", 3*writerCaches-1)
	for end := time.Now().Add(10 * idleAfter); !large(last); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("idle databases keep their caches")
		}
	}
	if err := s.Destroy(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if !large("db0") || !large("db1") {
		t.Error("a database that was destroyed keeps its cache")
	}
}

func TestIdleDatabaseEmptiesItsLog(t *testing.T) {
	t.Parallel()
	_, d := openTest(t, Options{})
	put(t, d, &couch.Doc{ID: "a"})
	for end := time.Now().Add(4 * idleAfter); ; time.Sleep(10 * time.Millisecond) {
		info, err := os.Stat(d.path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the log still has %d bytes", info.Size())
		}
	}
	put(t, d, &couch.Doc{ID: "b"})
	get(t, d, "a", couch.GetOptions{})
}
