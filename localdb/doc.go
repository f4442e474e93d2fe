// Package localdb keeps CouchDB databases in SQLite files.
//
// [OpenStore] opens a directory; it is a [couch.Store], and its databases are
// [couch.DB]s with CouchDB's semantics: revision trees with a deterministic
// winner, conflicts, tombstones, attachments, _local documents and a changes
// feed that wakes on writes. A write is on disk before it returns.
//
// # Files
//
// The database "notes" is the file notes.sqlite, with a write-ahead log and an
// index of it beside while it is open, and notes.attachments/ for attachments
// above [Options.InlineAttachments]. A "/" in a name is written "%2F".
//
// Any number of processes may use one directory at the same time. Nothing but
// SQLite may open the .sqlite files of a running process: closing such a file
// drops the process's POSIX locks on it.
//
// # Inside
//
// One goroutine per database writes; whatever waits for it goes into one
// transaction and is acknowledged after its commit (writer.go). Reads use a
// small pool of connections in short transactions, a page at a time, so that a
// slow consumer never stops the write-ahead log from being checkpointed
// (pool.go). A document is one row with its packed revision tree, and bodies
// are appended beside it (schema.go).
package localdb
