package localdb

import (
	"errors"
	"fmt"
	"time"

	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// migrations bring a file from user_version i to i+1. They are only ever appended to.
var migrations = []string{
	// docs.rev is the winner as a packed tree of one node; docs.tree is the
	// whole packed tree, NULL if the winner is all of it. bodies are appended and
	// never changed. blobs.data is NULL if the content is a file.
	`CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
	CREATE TABLE docs (
		num INTEGER PRIMARY KEY, seq INTEGER NOT NULL UNIQUE, id TEXT NOT NULL UNIQUE,
		flags INTEGER NOT NULL, rev BLOB NOT NULL, tree BLOB);
	CREATE TABLE bodies (bid INTEGER PRIMARY KEY, atts TEXT, body TEXT NOT NULL);
	CREATE TABLE locals (id TEXT PRIMARY KEY, rev INTEGER NOT NULL, body TEXT NOT NULL);
	CREATE TABLE blobs (blob INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, length INTEGER NOT NULL, data BLOB);
	CREATE TABLE att_refs (num INTEGER NOT NULL, blob INTEGER NOT NULL, PRIMARY KEY (num, blob)) WITHOUT ROWID;
	INSERT INTO meta VALUES ('uuid', lower(hex(randomblob(16)))), ('seq', 0), ('docs', 0), ('dels', 0), ('files', 0), ('security', '{}');`,

	// stale is the documents that have bodies no leaf owns; meta dead is the bytes of
	// those, and purges counts the documents purged. att_refs names every content
	// that a document's bodies use, and perhaps some that those it had before used.
	`CREATE TABLE stale (num INTEGER PRIMARY KEY);
	CREATE INDEX att_refs_blob ON att_refs (blob);
	INSERT INTO meta VALUES ('dead', 0), ('purges', 0);
	INSERT INTO stale SELECT num FROM docs WHERE tree IS NOT NULL;
	UPDATE docs SET flags = flags | 4 WHERE tree IS NOT NULL;`,

	// Contents are known by their SHA-256. The new name of the column stops
	// processes of the last release that have the file open: see [rehash].
	`ALTER TABLE blobs RENAME COLUMN digest TO sha256;
	CREATE TABLE rehashed (md5 BLOB PRIMARY KEY, sha256 BLOB NOT NULL) WITHOUT ROWID;
	INSERT INTO meta VALUES ('rehashed', 0);`,

	`DROP TABLE rehashed;
	DELETE FROM meta WHERE key='rehashed';`,
}

// Flags of a row of docs.
const (
	flagDeleted  = 1 << iota // the winner is a tombstone
	flagBranched             // there are other leaves
	flagStale                // it is in stale
)

// busyTimeout is how long a statement waits for another process.
const busyTimeout = 20 * time.Second

// Page caches in KiB. They fill as needed. The writer's holds the inner pages
// and much of the leaves of the index of a million random ids; it is let go when the writer is idle. Only
// so many writers of a store have one at a time, however many databases are written to: the others have a small one.
const (
	writerCache  = 64 << 10
	readerCache  = 4 << 10
	writerCaches = 2
)

// errDestroyed is what a connection finds in a file that is being removed.
var errDestroyed = errors.New("localdb: database was destroyed")

// openConn opens a connection with the settings every connection has.
func openConn(path string, cacheKiB int) (*sqlite.Conn, error) {
	c, err := sqlite.Open(path)
	if err != nil {
		return nil, err
	}
	c.BusyTimeout(busyTimeout)
	// FULL: with NORMAL a power failure can undo the last commits, and their
	// sequences would be used again for other changes.
	err = c.Exec(fmt.Sprintf("PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-%d", cacheKiB))
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// prepareFile makes an empty file a database and brings an old one up to date.
// Processes may do so at the same time.
func prepareFile(c *sqlite.Conn, path string) error {
	// The page size must be set before the first page exists, and SQLite does
	// not wait for locks when it changes the journal mode. The same goes for
	// auto_vacuum, without which a file never shrinks.
	err := retryBusy(func() error {
		return c.Exec("PRAGMA page_size=8192; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL")
	})
	if err != nil {
		return err
	}
	if err := makeShrinkable(c); err != nil {
		return err
	}
	for {
		v, err := c.Int("PRAGMA user_version")
		if err != nil || v == int64(len(migrations)) {
			return err
		}
		if err := migrateOn(c, path, v); err != nil {
			return err
		}
	}
}

// migrateOn brings a file of version v on, as far as one transaction or one [rehash] does.
func migrateOn(c *sqlite.Conn, path string, v int64) error {
	if v != rehashVersion {
		return inTransaction(c, func() error { return migrate(c) })
	}
	err := rehash{c, path}.run()
	if err == nil {
		return inTransaction(c, func() error { return migrate(c) })
	}
	if v, e := c.Int("PRAGMA user_version"); e == nil && v > rehashVersion {
		return nil // another process has finished it, and what it is done with is gone
	}
	return err
}

func inTransaction(c *sqlite.Conn, fn func() error) error {
	if err := retryBusy(func() error { return c.Exec("BEGIN IMMEDIATE") }); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return errors.Join(err, c.Exec("ROLLBACK"))
	}
	return c.Exec("COMMIT")
}

// makeShrinkable rewrites a file of the first version, which could not give space
// back. If that fails, because another process uses it or the disk is full, the
// next opening tries again.
func makeShrinkable(c *sqlite.Conn) error {
	mode, err := c.Int("PRAGMA auto_vacuum")
	if err != nil || mode != 0 {
		return err
	}
	_ = c.Exec("PRAGMA auto_vacuum=INCREMENTAL; VACUUM")
	return nil
}

// migrate runs the migrations that are left, up to the version at which there is something to hash.
func migrate(c *sqlite.Conn) error {
	v, err := c.Int("PRAGMA user_version")
	if err != nil {
		return err
	}
	if v > int64(len(migrations)) {
		return fmt.Errorf("localdb: the file has version %d, made by a newer release (this one knows %d)", v, len(migrations))
	}
	for ; v < int64(len(migrations)); v++ {
		if v == rehashVersion {
			if done, err := hashedAgain(c); err != nil || !done {
				return err
			}
		}
		if err := c.Exec(fmt.Sprintf("%s; PRAGMA user_version=%d", migrations[v], v+1)); err != nil {
			return err
		}
	}
	return nil
}

// retryBusy tries again, every millisecond, while another connection holds the
// lock. SQLite's own back-off would sleep through the short gaps that a busy writer leaves.
func retryBusy(try func() error) error {
	for end := time.Now().Add(busyTimeout); ; time.Sleep(time.Millisecond) {
		err := try()
		if err == nil || !sqlite.IsBusy(err) || time.Now().After(end) {
			return err
		}
	}
}

// counters are the numbers a database keeps in meta.
type counters struct {
	seq, docs, dels int64 // the last update sequence; documents; tombstones
	dead            int64 // bytes of bodies that no leaf owns
}

const selectCounters = `SELECT (SELECT value FROM meta WHERE key='seq'), (SELECT value FROM meta WHERE key='docs'),
	(SELECT value FROM meta WHERE key='dels'), (SELECT value FROM meta WHERE key='dead'), (SELECT value FROM meta WHERE key='uuid')`

// readCounters reads them; errDestroyed if the file is no longer the database it was opened as.
func readCounters(c *sqlite.Conn, uuid string) (counters, error) {
	s := c.Prepare(selectCounters)
	defer s.Reset()
	if row, err := s.Step(); err != nil || !row {
		return counters{}, err
	}
	if string(s.View(4)) != uuid {
		return counters{}, errDestroyed
	}
	return counters{s.Int(0), s.Int(1), s.Int(2), s.Int(3)}, nil
}
