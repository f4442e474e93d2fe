package sqlite

import (
	"context"
	"errors"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// backupStep is how many pages are copied between two looks at the context.
const backupStep = 500

// BackupTo copies the database as it is at the beginning into the file at path,
// which must exist and be empty. Others write meanwhile, but their write-ahead
// log is not emptied. The copy is not yet on disk for good.
//
// https://www.sqlite.org/backup.html
func (c *Conn) BackupTo(ctx context.Context, path string) (err error) {
	to, err := Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	// Nobody waits for the copy before it is complete.
	if err := to.Exec("PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF"); err != nil {
		return err
	}
	// The backup would begin anew with every write of others, if it were not
	// for this transaction, whose state of the database it copies.
	if err := c.Exec("BEGIN; SELECT 1 FROM sqlite_schema"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Exec("COMMIT")) }()
	return c.copyTo(ctx, to)
}

func (c *Conn) copyTo(ctx context.Context, to *Conn) error {
	main, err := libc.CString("main")
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, main)
	b := lib.Xsqlite3_backup_init(to.tls, to.db, main, c.db, main)
	if b == 0 {
		return to.error(lib.Xsqlite3_errcode(to.tls, to.db))
	}
	rc := int32(lib.SQLITE_OK)
	for rc == lib.SQLITE_OK && ctx.Err() == nil {
		rc = lib.Xsqlite3_backup_step(to.tls, b, backupStep)
	}
	if end := lib.Xsqlite3_backup_finish(to.tls, b); end != lib.SQLITE_OK {
		return to.error(end)
	}
	if rc != lib.SQLITE_DONE {
		return ctx.Err()
	}
	return nil
}
