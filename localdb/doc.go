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
// above [Options.InlineAttachments], each under the SHA-256 of its content. A "/" in a name is written "%2F". To copy
// files that are in use, there is [Store.Backup].
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
//
// Of what is not needed any more nothing stays: purged documents go at once
// (purge.go); bodies of old revisions are dead (dead.go) until a compaction drops
// them (compact.go); free pages are given back (tidy.go). The latter two happen
// by themselves when there is enough of it, in short transactions between those
// of writers. The file of an attachment is removed under the write lock, after
// the transaction that took its last document; who is about to use the same
// content keeps a name of its own for it until then (content.go). Files of
// earlier versions, which knew contents by their MD5, are brought up to date when
// they are opened, in steps that can be interrupted (rehash.go).
//
// Databases that are not in use sleep, without connections, when more than
// [Options.MaxOpen] are open; callers do not notice (session.go).
package localdb
