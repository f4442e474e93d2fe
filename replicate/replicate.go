// Package replicate copies documents between any two databases by CouchDB's
// replication protocol: local databases, databases of a hub, opened shares.
// https://docs.couchdb.org/en/stable/replication/protocol.html
//
// [Run] copies one way, [Sync] both ways; once, or live until the context ends.
// Everything moves: all leaf revisions with their histories, conflicts,
// tombstones, attachments. Checkpoints on both ends (_local documents) make a
// second run copy nothing and an interrupted one go on where it was.
//
// A run is a changes reader and several batches under way at a time. Each batch asks the target what
// it lacks (_revs_diff), reads that from the source (_bulk_get) and writes it
// (_bulk_docs with new_edits=false); a slow stage holds up the reader, so memory is
// bounded by [Options].BatchBytes. Whatever hangs is named and tried again.
package replicate

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Options adjusts a replication. The zero value copies everything once.
type Options struct {
	// Live goes on with changes as they are made, until the context ends.
	Live bool
	// BatchSize is the number of changes taken together; 0: 1000.
	BatchSize int
	// BatchBytes is about how much of documents one batch holds in memory; 0: 4 MiB.
	BatchBytes int64
	// InFlight is the number of batches under way at a time; 0: 4.
	InFlight int
	// DocIDs, if not nil, are the only documents to copy.
	DocIDs []string
	// Selector, if not nil, is a Mango selector that documents must match.
	Selector json.RawMessage
	// Since is the source's update sequence to start from; "": the beginning, or the checkpoint.
	Since string
	// NoCheckpoint neither reads nor writes checkpoints.
	NoCheckpoint bool
	// CheckpointInterval is how often progress is recorded; 0: 5 s. It is also recorded at the end.
	CheckpointInterval time.Duration
	// InlineAttachments is the length up to which attachments travel inside
	// their documents; longer ones are streamed, and go on where they were after an interruption. 0: 64 KiB.
	InlineAttachments int64
	// Retry says how failed calls are repeated.
	Retry Retry
	// StallTimeout is after how long without any progress a call is given up and
	// tried again, with more time after each such end, up to eight times as much; 0: 30 s.
	StallTimeout time.Duration
	// OnProgress is told how things go: at once when the state changes, otherwise
	// a few times a second. Calls come one at a time and should return quickly.
	OnProgress func(Progress)
	// Logger gets retries (warn) and refused documents (info); nil: none.
	Logger *slog.Logger

	direction  string
	known      *revSet // revisions that the target is known to have
	discovered *revSet // revisions that both ends have been seen to have, for the opposite direction
}

func (o Options) withDefaults() Options {
	o.BatchSize = cmp.Or(max(0, o.BatchSize), 1000)
	o.BatchBytes = cmp.Or(max(0, o.BatchBytes), 4<<20)
	o.InFlight = cmp.Or(max(0, o.InFlight), 4)
	o.CheckpointInterval = cmp.Or(max(0, o.CheckpointInterval), 5*time.Second)
	o.InlineAttachments = cmp.Or(max(0, o.InlineAttachments), 64<<10)
	o.StallTimeout = cmp.Or(max(0, o.StallTimeout), 30*time.Second)
	o.Retry = o.Retry.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Result is what a replication did. The counts are named as CouchDB names them.
type Result struct {
	DocsRead         int64 `json:"docs_read"`
	DocsWritten      int64 `json:"docs_written"`
	DocWriteFailures int64 `json:"doc_write_failures"` // documents refused, or unreadable
	MissingChecked   int64 `json:"missing_checked"`    // revisions compared
	MissingFound     int64 `json:"missing_found"`      // revisions the target lacked
	Bytes            int64 `json:"bytes"`              // written: documents and attachments, without framing
	Batches          int64 `json:"batches"`

	LastSeq string     `json:"last_seq"` // of the source: everything up to it is on the target
	Errors  []DocError `json:"errors,omitempty"`
	Start   time.Time  `json:"start_time"`
	End     time.Time  `json:"end_time"`
}

// maxErrors bounds Result.Errors; DocWriteFailures counts them all.
const maxErrors = 100

// DocError is a revision that was not copied.
type DocError struct {
	ID     string `json:"id"`
	Rev    string `json:"rev"`
	Error  string `json:"error"` // CouchDB's code: "forbidden", "unauthorized", …
	Reason string `json:"reason"`
}

// RunDB copies from source to target. See [Run].
func RunDB(ctx context.Context, source couch.Source, target couch.Target, o Options) (Result, error) {
	r := newRun(source, target, o)
	err := r.prepare(ctx)
	if err == nil {
		err = r.copy(ctx)
	}
	return r.finish(ctx, err)
}
