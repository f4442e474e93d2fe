// Package sqlite is a thin layer over modernc.org/sqlite/lib: connections and
// prepared statements without database/sql, whose locks, reflection and copies
// cost more than SQLite itself on small reads.
//
// A [Conn] and its statements are for one goroutine at a time; only the
// function that [Conn.Watch] starts may touch a busy connection.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// ptr makes a pointer of an address that SQLite gave. SQLite's memory is not
// Go's, so the garbage collector neither moves nor frees it.
func ptr(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// Error is a failed call: Code is SQLite's extended result code.
type Error struct {
	Code int32
	Msg  string
}

func (e *Error) Error() string { return fmt.Sprintf("sqlite: %s (%d)", e.Msg, e.Code) }

// IsBusy reports whether err means that another connection held a lock for too long.
func IsBusy(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code&0xff == lib.SQLITE_BUSY || e.Code&0xff == lib.SQLITE_LOCKED)
}

// IsInterrupt reports whether err comes from an ended context, see [Conn.Watch].
func IsInterrupt(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code&0xff == lib.SQLITE_INTERRUPT
}

// A Conn is one connection to one database file.
type Conn struct {
	tls   *libc.TLS
	db    uintptr
	stmts map[string]*Stmt
	out   uintptr // two words that SQLite's out parameters point to
	pages uintptr // int32: pages in the WAL after the last commit
}

var patch = sync.OnceFunc(lib.PatchIssue199)

// Open opens a database file for reading and writing; the file must exist.
func Open(path string) (*Conn, error) {
	patch()
	c := &Conn{tls: libc.NewTLS(), stmts: make(map[string]*Stmt)}
	c.out = libc.Xmalloc(c.tls, 32)
	c.pages = c.out + 24
	*(*int32)(ptr(c.pages)) = 0
	name, err := libc.CString(path)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, name)
	rc := lib.Xsqlite3_open_v2(c.tls, name, c.out, lib.SQLITE_OPEN_READWRITE|lib.SQLITE_OPEN_NOMUTEX|lib.SQLITE_OPEN_EXRESCODE, 0)
	c.db = *(*uintptr)(ptr(c.out))
	if rc != lib.SQLITE_OK {
		err := c.error(rc)
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection and its statements. It is idempotent.
func (c *Conn) Close() error {
	if c.tls == nil {
		return nil
	}
	for _, s := range c.stmts {
		s.finalize()
	}
	c.stmts = nil
	var err error
	if c.db != 0 {
		if rc := lib.Xsqlite3_close_v2(c.tls, c.db); rc != lib.SQLITE_OK {
			err = c.error(rc)
		}
	}
	libc.Xfree(c.tls, c.out)
	c.tls.Close()
	c.tls, c.db = nil, 0
	return err
}

func (c *Conn) error(rc int32) error {
	msg := lib.Xsqlite3_errstr(c.tls, rc)
	if c.db != 0 {
		msg = lib.Xsqlite3_errmsg(c.tls, c.db)
	}
	return &Error{rc, libc.GoString(msg)}
}

// BusyTimeout makes statements wait for locks of other connections.
func (c *Conn) BusyTimeout(d time.Duration) {
	lib.Xsqlite3_busy_timeout(c.tls, c.db, int32(d.Milliseconds()))
}

// Exec runs one or more statements without parameters and drops their rows.
func (c *Conn) Exec(sql string) error {
	text, err := libc.CString(sql)
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, text)
	for at := text; *(*byte)(ptr(at)) != 0; {
		rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, at, -1, 0, c.out, c.out+8)
		if rc != lib.SQLITE_OK {
			return c.error(rc)
		}
		stmt := *(*uintptr)(ptr(c.out))
		at = *(*uintptr)(ptr(c.out + 8))
		if stmt == 0 {
			continue // white space or a comment
		}
		for rc = lib.SQLITE_ROW; rc == lib.SQLITE_ROW; {
			rc = lib.Xsqlite3_step(c.tls, stmt)
		}
		if rc != lib.SQLITE_DONE {
			err = c.error(rc)
		}
		lib.Xsqlite3_finalize(c.tls, stmt)
		if err != nil {
			return err
		}
	}
	return nil
}

// Prepare returns the statement for sql, reset and kept with the connection:
// preparing the same text again is a map look-up. A fault shows in its first Step.
func (c *Conn) Prepare(sql string) *Stmt {
	if s := c.stmts[sql]; s != nil {
		return s
	}
	s := &Stmt{c: c}
	text, err := libc.CString(sql)
	if err != nil {
		s.broken = err
		return s
	}
	defer libc.Xfree(c.tls, text)
	if rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, text, -1, lib.SQLITE_PREPARE_PERSISTENT, c.out, 0); rc != lib.SQLITE_OK {
		s.broken = c.error(rc)
		return s
	}
	s.stmt = *(*uintptr)(ptr(c.out))
	c.stmts[sql] = s
	return s
}

// Int runs a query and returns the first column of its first row, 0 without rows.
func (c *Conn) Int(sql string) (int64, error) {
	s := c.Prepare(sql)
	defer s.Reset()
	if row, err := s.Step(); err != nil || !row {
		return 0, err
	}
	return s.Int(0), nil
}

// Changes is the number of rows the last insert, update or delete changed.
func (c *Conn) Changes() int64 { return lib.Xsqlite3_changes64(c.tls, c.db) }

// Autocommit reports whether no transaction is open.
func (c *Conn) Autocommit() bool { return lib.Xsqlite3_get_autocommit(c.tls, c.db) != 0 }

// CountWAL makes [Conn.WALPages] count, and turns off SQLite's own checkpoints on this connection.
func (c *Conn) CountWAL() {
	hook := struct {
		f func(*libc.TLS, uintptr, uintptr, uintptr, int32) int32
	}{walHook}
	lib.Xsqlite3_wal_hook(c.tls, c.db, *(*uintptr)(unsafe.Pointer(&hook)), c.pages)
}

func walHook(_ *libc.TLS, cell, _, _ uintptr, pages int32) int32 {
	*(*int32)(ptr(cell)) = pages
	return lib.SQLITE_OK
}

// WALPages is the length of the write-ahead log after this connection's last commit.
func (c *Conn) WALPages() int { return int(*(*int32)(ptr(c.pages))) }

// Checkpoint copies what it can of the write-ahead log into the database file
// without waiting for anybody (PASSIVE), and returns the log's pages and how
// many of them are copied. It is busy, with no error, if another connection does the same.
func (c *Conn) Checkpoint() (pages, done int, err error) {
	rc := lib.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, lib.SQLITE_CHECKPOINT_PASSIVE, c.out, c.out+8)
	if rc != lib.SQLITE_OK && rc&0xff != lib.SQLITE_BUSY {
		return 0, 0, c.error(rc)
	}
	return int(*(*int32)(ptr(c.out))), int(*(*int32)(ptr(c.out + 8))), nil
}

// Watch interrupts the connection's statements when ctx ends. The caller calls
// stop when its statements are done; no interrupt comes after stop returns.
func (c *Conn) Watch(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	done := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(done)
		tls := libc.NewTLS() // c.tls is in use
		defer tls.Close()
		lib.Xsqlite3_interrupt(tls, c.db)
	})
	return func() {
		if !unregister() {
			<-done
		}
	}
}

func (c *Conn) malloc(n int) uintptr { return libc.Xmalloc(c.tls, types.Size_t(n)) }
func (c *Conn) free(p uintptr)       { libc.Xfree(c.tls, p) }
