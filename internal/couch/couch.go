// Package couch is Loveseat's vocabulary: CouchDB's revisions, documents,
// changes and errors as Go values, and the interfaces that a database
// implements. It has no behaviour of its own beyond JSON and revision ids, and
// it imports nothing but the standard library, so that every layer can speak it.
//
// A [DB] is implemented by the SQLite engine (localdb) and by the client of
// CouchDB's HTTP API (internal/couchhttp), and it is served over that same API,
// so a local and a remote database are the same thing to their callers.
package couch

import (
	"context"
	"encoding/json"
	"time"
)

// A Store is a set of named databases: a directory of SQLite files, or a server.
//
// The store owns the databases it opens: they live until the store is closed or
// the database is destroyed, and opening the same name twice is cheap.
type Store interface {
	// Databases returns the names of all databases, sorted.
	Databases(ctx context.Context) ([]string, error)
	// Create makes an empty database. Errors: file_exists (412),
	// illegal_database_name (400).
	Create(ctx context.Context, name string) error
	// Destroy removes a database and everything in it. Waiting changes feeds
	// of the database end with not_found (404), as later calls on it do.
	Destroy(ctx context.Context, name string) error
	// Open returns the named database, which must exist: not_found (404).
	Open(ctx context.Context, name string) (DB, error)
}

// A Source is what replication reads from.
type Source interface {
	// Info returns the database's name, counts and update sequence.
	Info(ctx context.Context) (*Info, error)
	// Changes calls fn for each change after o.Since, oldest first (newest
	// first if o.Descending), and returns how far it came. It stops early
	// with fn's error if that is not nil.
	Changes(ctx context.Context, o ChangesOptions, fn func(*Change) error) (ChangesResult, error)
	// BulkGet calls fn for every revision asked for, in the order of refs. A
	// ref without a Rev stands for all leaves of the document. A revision that
	// cannot be had is reported as a result with Err; it does not end the call.
	BulkGet(ctx context.Context, refs []DocRef, o GetOptions, fn func(BulkGetResult) error) error
	// Attachment opens one attachment of a revision (of the winner if rev is
	// zero), from byte offset to its end. The caller closes Attachment.Open's
	// reader. Errors: not_found (404), 416 if offset is past the end.
	Attachment(ctx context.Context, id, name string, rev Rev, offset int64) (*Attachment, error)
	Locals
}

// A Target is what replication writes to.
type Target interface {
	Info(ctx context.Context) (*Info, error)
	// RevsDiff tells which of the given leaf revisions the database lacks.
	// Documents of which nothing is missing are left out of the answer.
	RevsDiff(ctx context.Context, docs []DocRevs) ([]RevsDiff, error)
	// BulkDocs writes documents and returns one result per document, in the
	// order of docs. All that succeeded is durable when it returns. The error
	// is for the call as a whole (for example: database gone, disk full).
	BulkDocs(ctx context.Context, docs []*Doc, o WriteOptions) ([]WriteResult, error)
	Locals
}

// Locals is access to _local documents, which carry checkpoints and never
// replicate. Ids are given without the "_local/" prefix.
type Locals interface {
	// GetLocal returns a local document: not_found (404) if there is none.
	GetLocal(ctx context.Context, id string) (*Doc, error)
	// PutLocal writes (or, with doc.Deleted, removes) a local document whose
	// current revision is doc.Rev (zero for a new one) and returns the new
	// revision, "0-N". Errors: conflict (409).
	PutLocal(ctx context.Context, doc *Doc) (Rev, error)
}

// A DB is one database.
type DB interface {
	Source
	Target
	// Get returns one revision of a document, by default the winner.
	// Errors: not_found (404) with the reason "missing" or "deleted".
	Get(ctx context.Context, id string, o GetOptions) (*Doc, error)
	// AllDocs calls fn for each document that is not deleted in the order of
	// ids (bytewise), or for each of o.Keys in their order.
	AllDocs(ctx context.Context, o AllDocsOptions, fn func(*Row) error) (AllDocsResult, error)
	// Find runs a Mango query, given as the JSON body of POST /{db}/_find,
	// and calls fn with each matching document or projection of one.
	Find(ctx context.Context, query json.RawMessage, fn func(json.RawMessage) error) (FindResult, error)
	// Security returns the database's _security object, "{}" if never set.
	Security(ctx context.Context) (json.RawMessage, error)
	SetSecurity(ctx context.Context, security json.RawMessage) error
	// Purge removes leaf revisions as if they had never been, with the
	// ancestors that no other leaf has; a document without leaves is gone and
	// leaves no tombstone. It returns, for each of docs in their order, which
	// of its revisions were purged: those that were not leaves are ignored.
	//
	// https://docs.couchdb.org/en/stable/api/database/misc.html#db-purge
	Purge(ctx context.Context, docs []DocRevs) ([]DocRevs, error)
	// Compact drops the bodies of revisions that are not leaves and
	// attachments that no leaf has, gives the space back, and returns when
	// that is done. Others can read and write meanwhile.
	//
	// https://docs.couchdb.org/en/stable/api/database/compact.html#db-compact
	Compact(ctx context.Context) error
}

// Info is what GET /{db} tells.
type Info struct {
	Name       string
	UUID       string // identifies the database across names and addresses; "" if the server does not tell
	DocCount   int64  // documents that are not deleted, design documents included
	DelCount   int64  // tombstones
	UpdateSeq  Seq
	PurgeSeq   Seq   // changes with every purge; "" if the server does not tell
	FileSize   int64 // bytes on disk
	ActiveSize int64 // bytes of live data, an estimate
	Compacting bool  // a compaction is running
}

// Seq is an update sequence: opaque outside the database that made it, ordered
// only by the changes feed. "" and "0" are the beginning, "now" the present.
type Seq string

// Now is the update sequence of the moment a call is made.
const Now Seq = "now"

// MaxQuery is how many bytes of JSON a query or selector may have.
const MaxQuery = 1 << 20

// UnmarshalJSON reads a string (CouchDB 2 and later) or a number (CouchDB 1, PouchDB Server).
func (s *Seq) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(s))
	}
	if string(b) == "null" {
		*s = ""
		return nil
	}
	*s = Seq(b) // numbers, and the arrays of early clusters, go back to the server as they came
	return nil
}

// DocRef names a revision for [Source.BulkGet].
type DocRef struct {
	ID        string
	Rev       Rev   // zero: all leaves
	AttsSince []Rev // revisions the asker has: their attachments come as stubs even with GetOptions.Attachments
}

// GetOptions is what to tell of a revision beyond its body.
type GetOptions struct {
	Rev           Rev  // Get only: this revision instead of the winner
	Latest        bool // if Rev has descendants, give its leaf instead
	Revs          bool // fill Doc.Revisions
	RevsInfo      bool // fill Doc.RevsInfo
	Conflicts     bool // fill Doc.Conflicts and Doc.DeletedConflicts
	LocalSeq      bool // fill Doc.LocalSeq
	Attachments   bool // give attachments with their data; otherwise as stubs
	AttsSince     []Rev
	MaxInlineSize int64 // with Attachments: longer ones come as stubs all the same; 0: no limit
}

// BulkGetResult is one revision asked for, or why it cannot be had.
type BulkGetResult struct {
	ID  string
	Rev Rev // as asked
	Doc *Doc
	Err *Error
}

// DocRevs names leaf revisions of one document.
type DocRevs struct {
	ID   string
	Revs []Rev
}

// RevsDiff is what a database lacks of one document, and the revisions it has
// that may be ancestors of what it lacks.
type RevsDiff struct {
	ID                string
	Missing           []Rev
	PossibleAncestors []Rev
}

// WriteOptions says how documents are written.
type WriteOptions struct {
	// Replicated (new_edits=false) stores the revisions as they are given,
	// with their histories, and makes conflicts where they do not extend a
	// leaf. Otherwise each document is an edit of the leaf named by Doc.Rev
	// and gets a new revision id.
	Replicated bool
}

// WriteResult is what became of one document.
type WriteResult struct {
	ID  string
	Rev Rev // the new revision, when Err is nil
	Err *Error
}

// Feed is the kind of a changes feed.
type Feed string

// The feeds of https://docs.couchdb.org/en/stable/api/database/changes.html#changes-feeds.
const (
	FeedNormal     Feed = "normal"     // what there is, then end
	FeedLongpoll   Feed = "longpoll"   // what there is; if nothing, wait for the next changes, then end
	FeedContinuous Feed = "continuous" // what there is and what will come, until the context ends
)

// ChangesOptions selects changes. The zero value asks for all there is.
type ChangesOptions struct {
	Since       Seq
	Limit       int // 0: no limit
	Feed        Feed
	Timeout     time.Duration // longpoll and continuous: end after so long without a change; 0: only with the context
	Heartbeat   time.Duration // longpoll and continuous over HTTP: how often the server shows it is alive
	Descending  bool
	AllLeaves   bool // style=all_docs: every leaf in Change.Revs; otherwise the winner alone
	IncludeDocs bool
	Conflicts   bool            // with IncludeDocs
	Attachments bool            // with IncludeDocs: with data
	DocIDs      []string        // not nil: only these documents
	Selector    json.RawMessage // not nil: only documents whose winner matches
	// Filter, if not "", is a filter function of a design document, "design/name",
	// with its parameters in FilterParams. Our own databases refuse it: see [NoFilter].
	Filter       string
	FilterParams map[string]string
}

// Change is one row of a changes feed.
type Change struct {
	Seq     Seq
	ID      string
	Revs    []Rev
	Deleted bool // the winner is a tombstone
	Doc     *Doc // the winner, with ChangesOptions.IncludeDocs
}

// ChangesResult is where a feed ended.
type ChangesResult struct {
	LastSeq Seq
	Pending int64 // changes after LastSeq; -1 if the server does not tell
}

// AllDocsOptions selects rows of _all_docs. The zero value asks for all.
type AllDocsOptions struct {
	Keys         []string // not nil: exactly these
	StartKey     *string
	EndKey       *string
	ExclusiveEnd bool // inclusive_end=false
	Descending   bool
	Skip         int
	Limit        *int
	IncludeDocs  bool
	Conflicts    bool // with IncludeDocs
	Attachments  bool // with IncludeDocs: with data
	UpdateSeq    bool
	Offset       bool // tell AllDocsResult.Offset of a range too: the rows before it are counted
}

// Row is one row of _all_docs.
type Row struct {
	ID      string // the key; for a missing one of AllDocsOptions.Keys the key asked for
	Rev     Rev
	Deleted bool   // only by key
	Doc     *Doc   // with IncludeDocs
	Err     string // only by key: "not_found"
}

// AllDocsResult is what surrounds the rows.
type AllDocsResult struct {
	Total     int64
	Offset    int64 // rows before these; -1: not told, as with Keys
	UpdateSeq Seq
}

// FindResult is what surrounds the documents of a query.
type FindResult struct {
	Bookmark string
	Warning  string
}
