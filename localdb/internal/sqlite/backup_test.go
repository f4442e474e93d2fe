package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestBackupIsOneMoment copies a database that is written to between the steps of the copy.
func TestBackupIsOneMoment(t *testing.T) {
	c, path := open(t)
	run(t, c, "PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, x)")
	const rows = 4 * backupStep
	run(t, c, fmt.Sprintf("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n < %d) INSERT INTO t SELECT n, zeroblob(4000) FROM r", rows))
	writer, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(to, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The context is looked at between steps.
	writes := 0
	ctx := &eventful{Context: context.Background(), event: func() {
		writes++
		run(t, writer, "UPDATE t SET x=1; DELETE FROM t WHERE n % 7 = 0")
	}}
	if err := c.BackupTo(ctx, to); err != nil || writes < 3 {
		t.Fatal(err, writes)
	}
	copied, err := Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if n, err := copied.Int("SELECT count(*) FROM t WHERE length(x) = 4000"); n != rows || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	if n, err := c.Int("SELECT count(*) FROM t WHERE length(x) = 4000"); n != 0 || err != nil || !c.Autocommit() {
		t.Errorf("the original still has %d, %v", n, err)
	}
}

type eventful struct {
	context.Context
	event func()
}

func (c *eventful) Err() error { c.event(); return nil }

func TestBackupFails(t *testing.T) {
	c, _ := open(t)
	run(t, c, "CREATE TABLE t (n)")
	if err := c.BackupTo(context.Background(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("copied to a file that is not there")
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(to, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.BackupTo(ctx, to); !errors.Is(err, context.Canceled) || !c.Autocommit() {
		t.Error(err)
	}
	run(t, c, "INSERT INTO t VALUES (1)")
}
