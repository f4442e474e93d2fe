package localdb

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// Two contents with one MD5, by Wang, Feng, Lai and Yu (https://eprint.iacr.org/2004/199).
const (
	collidingOne = "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b" +
		"d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
	collidingTwo = "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b" +
		"d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
)

// colliding returns two contents that differ and have one MD5.
func colliding(t testing.TB) (one, two string) {
	t.Helper()
	a, err := hex.DecodeString(collidingOne)
	b, err2 := hex.DecodeString(collidingTwo)
	if err != nil || err2 != nil || string(a) == string(b) || md5.Sum(a) != md5.Sum(b) {
		t.Fatal("these two do not collide")
	}
	return string(a), string(b)
}

// TestCollidingContents: of two contents with one MD5 each is read as it was
// written, in SQLite and as a file, and their edits have revisions of their own.
func TestCollidingContents(t *testing.T) {
	one, two := colliding(t)
	for _, inline := range []int64{10, 1000} {
		s, d := openTest(t, Options{InlineAttachments: inline})
		put(t, d, &couch.Doc{ID: "one", Attachments: []couch.Attachment{attachment("a", one)}})
		rev := put(t, d, &couch.Doc{ID: "two", Attachments: []couch.Attachment{attachment("a", two)}})
		if content(t, d, "one", "a", 0) != one || content(t, d, "two", "a", 0) != two {
			t.Errorf("inline up to %d: a document has the content of another", inline)
		}
		a, b := get(t, d, "one", couch.GetOptions{}).Attachments[0], get(t, d, "two", couch.GetOptions{}).Attachments[0]
		if a.Digest != b.Digest || a.Sum == b.Sum {
			t.Errorf("told as %s and %s", a.Digest, b.Digest)
		}
		// The same edit but for the content is another revision.
		if got := put(t, d, &couch.Doc{ID: "three", Attachments: []couch.Attachment{attachment("a", one)}}); got == rev {
			t.Errorf("both are %s", rev)
		}
		// A stub means what its parent has.
		put(t, d, &couch.Doc{ID: "two", Rev: rev, Attachments: []couch.Attachment{{Name: "a", Digest: a.Digest}}})
		if content(t, d, "two", "a", 0) != two {
			t.Error("a stub brought the other content")
		}
		copied := filepath.Join(t.TempDir(), "backup")
		if err := s.Backup(context.Background(), copied); err != nil {
			t.Fatal(err)
		}
		c := reopen(t, restore(t, copied), "test")
		if content(t, c, "one", "a", 0) != one || content(t, c, "two", "a", 0) != two {
			t.Error("not in the backup")
		}
		purge(t, d, "one", get(t, d, "one", couch.GetOptions{}).Rev)
		purge(t, d, "three", get(t, d, "three", couch.GetOptions{}).Rev)
		compact(t, d)
		checkInvariants(t, d)
		checkNoOrphans(t, d)
		if content(t, d, "two", "a", 0) != two {
			t.Error("gone with the other")
		}
	}
}

// TestStubsOfOthers: a digest gives nobody a content that another document, or
// another branch of the same one, has.
func TestStubsOfOthers(t *testing.T) {
	_, d := openTest(t, Options{})
	graft(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{attachment("x", "secret")}}, "secret", "root")
	graft(t, d, &couch.Doc{ID: "a", Body: body(`{"n":1}`)}, "open", "root")
	put(t, d, &couch.Doc{ID: "b"})
	digest := get(t, d, "a", couch.GetOptions{Rev: couch.Rev{Gen: 2, Hash: "secret"}}).Attachments[0].Digest
	stub := []couch.Attachment{{Name: "x", ContentType: "image/png", Digest: digest, Length: 6, RevPos: 1}}
	for _, tt := range []struct {
		doc     *couch.Doc
		history []string // not nil: replicated
	}{
		{&couch.Doc{ID: "b", Rev: get(t, d, "b", couch.GetOptions{}).Rev}, nil},
		{&couch.Doc{ID: "a", Rev: couch.Rev{Gen: 2, Hash: "open"}}, nil},
		{&couch.Doc{ID: "b"}, []string{"new"}},
		{&couch.Doc{ID: "c"}, []string{"new"}},
		{&couch.Doc{ID: "a"}, []string{"new", "open", "root"}},
		{&couch.Doc{ID: "a"}, []string{"new", "root"}},
		{&couch.Doc{ID: "a"}, []string{"strange"}},
	} {
		doc := tt.doc
		if doc.Attachments = stub; tt.history != nil {
			doc.Revisions, doc.Rev = tt.history, couch.Rev{Gen: int64(len(tt.history)), Hash: tt.history[0]}
		}
		results, err := d.BulkDocs(context.Background(), []*couch.Doc{doc}, couch.WriteOptions{Replicated: tt.history != nil})
		if err != nil {
			t.Fatal(err)
		}
		if results[0].Err == nil || results[0].Err.Code != "missing_stub" {
			t.Errorf("%s %v: %+v", doc.ID, tt.history, results[0])
		}
	}
}

// unpack puts a store of testdata into a directory.
func unpack(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err == nil && h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else if err == nil {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOldStore opens a store that the last release has made, in which one file of
// an attachment is lost and one cut off.
func TestOldStore(t *testing.T) {
	one, two := colliding(t)
	s := restore(t, unpack(t, "store-v2.tar.gz"))
	d := reopen(t, s, "test")
	large := strings.Repeat("large", 100)
	for _, want := range [][3]string{{"collision", "a", one}, {"a", "large", large}, {"a", "small", "small"}, {"b", "other", strings.Repeat("conflict", 50)}} {
		if got := content(t, d, want[0], want[1], 0); got != want[2] {
			t.Errorf("%s of %s is %.50q", want[1], want[0], got)
		}
	}
	loser := get(t, d, "b", couch.GetOptions{Conflicts: true}).Conflicts[0]
	if b := get(t, d, "b", couch.GetOptions{Rev: loser, Attachments: true}); len(b.Attachments) != 2 || b.Attachments[0].Length != 0 || b.Attachments[1].Digest != "md5-OTKjmWA0vaC/mIXnNlkDdw==" {
		t.Errorf("%+v", b.Attachments)
	} else if a, err := d.Attachment(context.Background(), "b", "same", loser, 0); err != nil || a.Length != 500 {
		t.Errorf("%+v, %v", a, err)
	}
	for _, f := range files(t, s) {
		if name := filepath.Base(f); len(name) != 64 {
			t.Errorf("still called %s", name)
		}
	}
	// What was damaged is so still, and does not stand in the way of the same content.
	lost := get(t, d, "lost", couch.GetOptions{})
	if len(lost.Attachments) != 2 {
		t.Fatalf("%+v", lost)
	}
	put(t, d, &couch.Doc{ID: "again", Attachments: []couch.Attachment{attachment("gone", strings.Repeat("gone", 100)), attachment("cut", strings.Repeat("cut off", 100))}})
	if got := content(t, d, "again", "cut", 0) + content(t, d, "again", "gone", 0); got != strings.Repeat("cut off", 100)+strings.Repeat("gone", 100) {
		t.Errorf("%d bytes", len(got))
	}
	put(t, d, &couch.Doc{ID: "two", Attachments: []couch.Attachment{attachment("a", two)}})
	if content(t, d, "collision", "a", 0) != one || content(t, d, "two", "a", 0) != two {
		t.Error("one stands for the other")
	}
	purge(t, d, "lost", lost.Rev)
	compact(t, d)
	checkInvariants(t, d)
	checkNoOrphans(t, d)
	if n := rows(t, d, "sqlite_schema WHERE name='rehashed'") + rows(t, d, "meta WHERE key='rehashed'"); n != 0 {
		t.Error("the migration left something")
	}
}

// oldVersion is that of the files of the last release.
const oldVersion = 2

// makeOld makes a database what the last release would have written.
func makeOld(t testing.TB, path string) {
	t.Helper()
	c, err := openConn(path, readerCache)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = each(c, "SELECT bid, atts FROM bodies WHERE atts IS NOT NULL", func(s *sqlite.Stmt) {
		atts, err := parseAtts(s.Bytes(1))
		for i, a := range atts {
			if from := attachmentPath(path, a.SHA256); exists(from) {
				err = errors.Join(err, os.MkdirAll(filepath.Dir(attachmentPath(path, a.MD5)), 0o700), os.Rename(from, attachmentPath(path, a.MD5)))
			}
			u := c.Prepare("UPDATE blobs SET sha256=? WHERE sha256=?")
			u.BindBlob(1, a.MD5)
			u.BindBlob(2, a.SHA256)
			err = errors.Join(err, u.Exec())
			u = c.Prepare(fmt.Sprintf("UPDATE bodies SET atts=json_remove(atts, '$[%d].s') WHERE bid=?", i))
			u.BindInt(1, s.Int(0))
			err = errors.Join(err, u.Exec())
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if err = errors.Join(err, c.Exec(fmt.Sprintf("ALTER TABLE blobs RENAME COLUMN sha256 TO digest; PRAGMA user_version=%d", oldVersion))); err != nil {
		t.Fatal(err)
	}
}

// oldDatabase makes one with many contents, in SQLite and as files.
func oldDatabase(t testing.TB) (path string, n int) {
	t.Helper()
	s, d := openTest(t, Options{InlineAttachments: 10})
	n = rehashContents + 50
	docs := make([]*couch.Doc, n)
	for i := range docs {
		docs[i] = &couch.Doc{ID: fmt.Sprint("doc", i), Attachments: []couch.Attachment{attachment("a", oldText(i))}}
	}
	results, err := d.BulkDocs(context.Background(), docs, couch.WriteOptions{})
	if err = errors.Join(err, asError(results), s.Close()); err != nil {
		t.Fatal(err)
	}
	makeOld(t, d.path)
	return d.path, n
}

func oldText(i int) string {
	if i%20 > 0 {
		return fmt.Sprint("s", i)
	}
	return fmt.Sprint("a content that is a file ", i)
}

func checkOldDatabase(t testing.TB, path string, n int) {
	t.Helper()
	d := reopen(t, restore(t, filepath.Dir(path)), "test")
	checkInvariants(t, d)
	checkNoOrphans(t, d)
	for i := range n {
		if got := content(t, d, fmt.Sprint("doc", i), "a", 0); got != oldText(i) {
			t.Fatalf("%d has %q", i, got)
		}
	}
}

// TestInterruptedMigration: wherever a process dies, the next one goes on.
func TestInterruptedMigration(t *testing.T) {
	begin := func(r rehash) error { return inTransaction(r.c, func() error { return migrate(r.c) }) }
	someFiles := func(r rehash) error {
		i := 0
		return r.eachName(func(old oldContent) error {
			from, to := attachmentPath(r.path, old.md5), attachmentPath(r.path, old.sha256)
			if i++; i%2 > 0 || !exists(from) {
				return nil
			}
			return errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.Rename(from, to))
		})
	}
	someContents := func(r rehash) error {
		batch, err := r.hashSome(100)
		if err != nil {
			return err
		}
		return inTransaction(r.c, func() error { return errors.Join(r.rename(&batch[0]), r.rename(&batch[1])) })
	}
	someBodies := func(r rehash) error {
		return inTransaction(r.c, func() error { _, err := r.nameSome(); return err })
	}
	steps := map[string][]func(rehash) error{
		"begun":         {begin},
		"some contents": {begin, someContents},
		"contents":      {begin, rehash.contents},
		"some files":    {begin, rehash.contents, someFiles},
		"files":         {begin, rehash.contents, rehash.files},
		"some bodies":   {begin, rehash.contents, rehash.files, someBodies},
		"bodies":        {begin, rehash.contents, rehash.files, rehash.bodies},
		"all":           {begin, rehash.run},
	}
	for name, done := range steps {
		t.Run(name, func(t *testing.T) {
			path, n := oldDatabase(t)
			c, err := openConn(path, readerCache)
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range done {
				if err := step(rehash{c, path}); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			checkOldDatabase(t, path, n)
		})
	}
}

// TestMigrationByMany: stores that open the same old database at once.
func TestMigrationByMany(t *testing.T) {
	path, n := oldDatabase(t)
	var wg sync.WaitGroup
	for range 4 {
		s := restore(t, filepath.Dir(path))
		wg.Go(func() {
			if _, err := s.Open(context.Background(), "test"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	checkOldDatabase(t, path, n)
}

// TestLastReleaseStops: a process of the last release that has the file open
// fails where it would know contents by their MD5, and cannot open it any more.
func TestLastReleaseStops(t *testing.T) {
	path, n := oldDatabase(t)
	c, err := openConn(path, readerCache)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	old := c.Prepare("INSERT INTO blobs (digest, length, data) VALUES (x'00', 0, x'') ON CONFLICT (digest) DO NOTHING")
	checkOldDatabase(t, path, n)
	if err := old.Exec(); err == nil {
		t.Error("it writes on")
	}
	if v, err := c.Int("PRAGMA user_version"); err != nil || v <= oldVersion {
		t.Errorf("version %d (%v)", v, err)
	}
}
