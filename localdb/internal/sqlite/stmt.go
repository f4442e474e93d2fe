package sqlite

import (
	"unsafe"

	lib "modernc.org/sqlite/lib"
)

// A Stmt is a prepared statement. Parameters count from 1, columns from 0. A
// fault in binding shows in the next Step.
type Stmt struct {
	c      *Conn
	stmt   uintptr
	err    error // from binding, until Reset
	broken error // from preparing, for ever

	// Bound text and blobs live here until Reset: one copy, and no allocation
	// once the buffer has grown to the size of a row.
	buf       uintptr
	used, cap int
	old       []uintptr // smaller buffers still bound
}

// maxKept is how much buffer a statement keeps for its next run.
const maxKept = 64 << 10

// hold copies n bytes at p to memory that stays until Reset.
func (s *Stmt) hold(p unsafe.Pointer, n int) uintptr {
	if s.used+n > s.cap || s.buf == 0 {
		if s.buf != 0 {
			s.old = append(s.old, s.buf)
		}
		s.cap, s.used = max(2*s.cap, n, 512), 0
		s.buf = s.c.malloc(s.cap)
	}
	at := s.buf + uintptr(s.used)
	copy(unsafe.Slice((*byte)(ptr(at)), n), unsafe.Slice((*byte)(p), n))
	s.used += n
	return at
}

func (s *Stmt) check(rc int32) {
	if rc != lib.SQLITE_OK && s.err == nil && s.broken == nil {
		s.err = s.c.error(rc)
	}
}

// BindInt sets parameter i to an integer.
func (s *Stmt) BindInt(i int, v int64) {
	s.check(lib.Xsqlite3_bind_int64(s.c.tls, s.stmt, int32(i), v))
}

// BindNull sets parameter i to NULL.
func (s *Stmt) BindNull(i int) { s.check(lib.Xsqlite3_bind_null(s.c.tls, s.stmt, int32(i))) }

// BindText sets parameter i to a text.
func (s *Stmt) BindText(i int, v string) {
	p := s.hold(unsafe.Pointer(unsafe.StringData(v)), len(v))
	s.check(lib.Xsqlite3_bind_text(s.c.tls, s.stmt, int32(i), p, int32(len(v)), lib.SQLITE_STATIC))
}

// BindTextBytes sets parameter i to a text given as bytes, NULL if v is nil.
func (s *Stmt) BindTextBytes(i int, v []byte) {
	if v == nil {
		s.BindNull(i)
		return
	}
	p := s.hold(unsafe.Pointer(unsafe.SliceData(v)), len(v))
	s.check(lib.Xsqlite3_bind_text(s.c.tls, s.stmt, int32(i), p, int32(len(v)), lib.SQLITE_STATIC))
}

// BindBlob sets parameter i to a blob, NULL if v is nil.
func (s *Stmt) BindBlob(i int, v []byte) {
	if v == nil {
		s.BindNull(i)
		return
	}
	p := s.hold(unsafe.Pointer(unsafe.SliceData(v)), len(v))
	s.check(lib.Xsqlite3_bind_blob(s.c.tls, s.stmt, int32(i), p, int32(len(v)), lib.SQLITE_STATIC))
}

// Step runs to the next row and reports whether there is one. After false or
// an error the statement is reset.
func (s *Stmt) Step() (bool, error) {
	if s.broken != nil {
		return false, s.broken
	}
	if s.err == nil {
		switch rc := lib.Xsqlite3_step(s.c.tls, s.stmt); rc {
		case lib.SQLITE_ROW:
			return true, nil
		case lib.SQLITE_DONE:
			s.Reset()
			return false, nil
		default:
			s.err = s.c.error(rc)
		}
	}
	err := s.err
	s.Reset()
	return false, err
}

// Exec runs a statement that gives no rows, and resets it.
func (s *Stmt) Exec() error {
	for {
		if row, err := s.Step(); !row {
			return err
		}
	}
}

// Reset ends a run. Parameters must be bound anew.
func (s *Stmt) Reset() {
	lib.Xsqlite3_reset(s.c.tls, s.stmt) // harmless for 0, what a broken statement has
	s.err, s.used = nil, 0
	for _, p := range s.old {
		s.c.free(p)
	}
	s.old = s.old[:0]
	if s.cap > maxKept || s.broken != nil {
		if s.stmt != 0 {
			lib.Xsqlite3_clear_bindings(s.c.tls, s.stmt)
		}
		s.c.free(s.buf)
		s.buf, s.cap = 0, 0
	}
}

func (s *Stmt) finalize() {
	s.Reset()
	lib.Xsqlite3_finalize(s.c.tls, s.stmt)
	if s.buf != 0 {
		s.c.free(s.buf)
	}
	s.buf, s.stmt = 0, 0
}

// Int is an integer column, 0 if NULL.
func (s *Stmt) Int(i int) int64 { return lib.Xsqlite3_column_int64(s.c.tls, s.stmt, int32(i)) }

// IsNull reports whether a column is NULL.
func (s *Stmt) IsNull(i int) bool {
	return lib.Xsqlite3_column_type(s.c.tls, s.stmt, int32(i)) == lib.SQLITE_NULL
}

// View is a text or blob column without a copy: it is SQLite's memory, to be
// read before the next Step or Reset. It is nil if NULL or empty.
func (s *Stmt) View(i int) []byte {
	p := lib.Xsqlite3_column_blob(s.c.tls, s.stmt, int32(i))
	if p == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(ptr(p)), lib.Xsqlite3_column_bytes(s.c.tls, s.stmt, int32(i)))
}

// Bytes is a copy of a text or blob column, nil if NULL or empty.
func (s *Stmt) Bytes(i int) []byte {
	v := s.View(i)
	if v == nil {
		return nil
	}
	return append(make([]byte, 0, len(v)), v...)
}

// Text is a text column.
func (s *Stmt) Text(i int) string { return string(s.View(i)) }
