package sqlite

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB) (*Conn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.sqlite")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	return c, path
}

func run(t testing.TB, c *Conn, sql string) {
	t.Helper()
	if err := c.Exec(sql); err != nil {
		t.Fatal(err)
	}
}

func TestOpenNeedsAFile(t *testing.T) {
	if c, err := Open(filepath.Join(t.TempDir(), "none")); err == nil {
		c.Close()
		t.Fatal("opened a file that is not there")
	}
}

// TestValuesComeBack binds several values per statement, so that buffers grow
// while earlier parameters are bound already.
func TestValuesComeBack(t *testing.T) {
	c, _ := open(t)
	run(t, c, "CREATE TABLE t (n INTEGER PRIMARY KEY, a TEXT, b BLOB, c TEXT); -- and a comment\n")
	values := []string{"", "x", strings.Repeat("a", 400), "nul\x00inside", strings.Repeat("b", 600), strings.Repeat("c", 100_000), "ü"}
	for i, v := range values {
		s := c.Prepare("INSERT INTO t VALUES (?, ?, ?, ?)")
		s.BindInt(1, int64(i))
		s.BindText(2, v)
		s.BindBlob(3, []byte(v))
		s.BindTextBytes(4, []byte(v))
		if err := s.Exec(); err != nil || c.Changes() != 1 {
			t.Fatal(err, c.Changes())
		}
	}
	s := c.Prepare("SELECT n, a, b, c, NULL FROM t ORDER BY n")
	for i, v := range values {
		if row, err := s.Step(); !row || err != nil {
			t.Fatal(row, err)
		}
		if s.Int(0) != int64(i) || s.Text(1) != v || !bytes.Equal(s.Bytes(2), []byte(v)) || string(s.View(3)) != v || !s.IsNull(4) || s.Bytes(4) != nil {
			t.Errorf("row %d does not come back", i)
		}
	}
	if row, err := s.Step(); row || err != nil {
		t.Fatal(row, err)
	}
	for i := range 2 {
		s := c.Prepare("SELECT ?1 IS NULL, ?2 IS NULL")
		s.BindBlob(1, nil)
		s.BindTextBytes(2, nil)
		if _, err := s.Step(); err != nil || s.Int(0) != 1 || s.Int(1) != 1 {
			t.Fatal("nil is not NULL", i, err)
		}
		s.Reset()
	}
}

func TestErrors(t *testing.T) {
	c, _ := open(t)
	run(t, c, "CREATE TABLE t (a UNIQUE)")
	for _, sql := range []string{"SELEC", "INSERT INTO none VALUES (1)", "SELECT 1; SELEC"} {
		if err := c.Exec(sql); err == nil {
			t.Errorf("%s: no error", sql)
		}
	}
	s := c.Prepare("SELEC ?")
	s.BindText(1, "x")
	for range 2 {
		if row, err := s.Step(); row || err == nil || !strings.Contains(err.Error(), "SELEC") {
			t.Errorf("%t, %v", row, err)
		}
	}
	s = c.Prepare("INSERT INTO t VALUES (?)")
	s.BindInt(2, 1) // there is no second
	if err := s.Exec(); err == nil {
		t.Error("bound a parameter that is not there")
	}
	s.BindInt(1, 1)
	if err := s.Exec(); err != nil {
		t.Error("a fault stays after Reset:", err)
	}
	s.BindInt(1, 1)
	if err := s.Exec(); err == nil || IsBusy(err) || IsInterrupt(err) {
		t.Error(err)
	}
	if n, err := c.Int("SELECT count(*) FROM t"); n != 1 || err != nil {
		t.Error(n, err)
	}
	if n, err := c.Int("SELECT a FROM t WHERE a = 2"); n != 0 || err != nil {
		t.Error(n, err)
	}
}

func TestBusy(t *testing.T) {
	c, path := open(t)
	run(t, c, "PRAGMA journal_mode=WAL; CREATE TABLE t (a); BEGIN IMMEDIATE")
	if c.Autocommit() {
		t.Error("no transaction")
	}
	other, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.BusyTimeout(time.Millisecond)
	if err := other.Exec("BEGIN IMMEDIATE"); !IsBusy(err) {
		t.Fatal(err)
	}
	run(t, c, "COMMIT")
	run(t, other, "BEGIN IMMEDIATE; COMMIT")
}

func TestWatchInterrupts(t *testing.T) {
	c, _ := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	stop := c.Watch(ctx)
	s := c.Prepare("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r) SELECT max(n) FROM r")
	if _, err := s.Step(); !IsInterrupt(err) {
		t.Fatal(err)
	}
	stop()
	run(t, c, "SELECT 1")
	c.Watch(context.Background())()
}

func TestWALPagesAndCheckpoint(t *testing.T) {
	c, _ := open(t)
	run(t, c, "PRAGMA journal_mode=WAL; CREATE TABLE t (a)")
	c.CountWAL()
	for range 10 {
		run(t, c, "INSERT INTO t VALUES (randomblob(10000))")
	}
	n := c.WALPages()
	if n < 20 {
		t.Errorf("%d pages", n)
	}
	if pages, done, err := c.Checkpoint(); pages != n || done != n || err != nil {
		t.Error(pages, done, err)
	}
	run(t, c, "INSERT INTO t VALUES (1)")
	if after := c.WALPages(); after >= n {
		t.Errorf("the log did not start again: %d pages", after)
	}
}
