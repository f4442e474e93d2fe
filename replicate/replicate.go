// Package replicate copies documents between any two databases by CouchDB's
// replication protocol: local databases, databases of a hub, opened shares.
// https://docs.couchdb.org/en/stable/replication/protocol.html
//
// [Run] copies one way, [Sync] both ways; once, or live until the context ends. [Start]
// and [StartSync] do so in the background. [Verify] proves that two databases
// hold the same, [Conflicts] and [Resolve] find and end conflicts.
//
// Everything moves: all leaf revisions with their histories, conflicts,
// tombstones, attachments, as far as [Options] does not select among them. Checkpoints on both ends (_local documents) make a
// second run copy nothing and an interrupted one go on where it was.
//
// A run is a changes reader and several batches under way at a time. Each batch asks the target what
// it lacks (_revs_diff; a target that had nothing at the start of a one-shot run need not be asked), reads that from the source (_bulk_get) and writes it
// (_bulk_docs with new_edits=false); a slow stage holds up the reader, so memory is
// bounded by [Options].BatchBytes. Whatever hangs is named and tried again.
package replicate

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Result is what a replication did. The counts are named as CouchDB names them.
type Result struct {
	DocsRead         int64 `json:"docs_read"`
	DocsWritten      int64 `json:"docs_written"`
	DocWriteFailures int64 `json:"doc_write_failures"`      // documents refused, or unreadable
	DocsFiltered     int64 `json:"docs_filtered,omitempty"` // read, and dropped by Options.Filter or a modifier
	Resolved         int64 `json:"resolved,omitempty"`      // conflicts resolved by Options.Resolver
	MissingChecked   int64 `json:"missing_checked"`         // revisions compared
	MissingFound     int64 `json:"missing_found"`           // revisions the target lacked
	Bytes            int64 `json:"bytes"`                   // written: documents and attachments, without framing
	BytesRead        int64 `json:"bytes_read"`              // from the source, again if they had to come again
	Batches          int64 `json:"batches"`

	LastSeq string     `json:"last_seq"` // of the source: everything up to it is on the target
	Errors  []DocError `json:"errors,omitempty"`
	Start   time.Time  `json:"start_time"`
	End     time.Time  `json:"end_time"`
}

// maxErrors bounds Result.Errors; DocWriteFailures counts them all.
const maxErrors = 100

// And is what r and a later replication did together: counts added up, the time from the start of
// the first to the end of the last, and of the later one, if it came that far, the sequence.
func (r Result) And(later Result) Result {
	sum := later
	sum.DocsRead += r.DocsRead
	sum.DocsWritten += r.DocsWritten
	sum.DocWriteFailures += r.DocWriteFailures
	sum.DocsFiltered += r.DocsFiltered
	sum.Resolved += r.Resolved
	sum.MissingChecked += r.MissingChecked
	sum.MissingFound += r.MissingFound
	sum.Bytes += r.Bytes
	sum.BytesRead += r.BytesRead
	sum.Batches += r.Batches
	sum.LastSeq = cmp.Or(later.LastSeq, r.LastSeq)
	sum.Errors = append(slices.Clone(r.Errors), later.Errors...)
	sum.Errors = sum.Errors[:min(len(sum.Errors), maxErrors)]
	if !r.Start.IsZero() {
		sum.Start = r.Start
	}
	if later.End.IsZero() {
		sum.End = r.End
	}
	return sum
}

// DocError is a revision that was not copied.
type DocError struct {
	ID     string `json:"id"`
	Rev    string `json:"rev"`
	Error  string `json:"error"` // CouchDB's code: "forbidden", "unauthorized", …
	Reason string `json:"reason"`
}

// RunDB copies from source to target. See [Run].
func RunDB(ctx context.Context, source couch.Source, target couch.Target, o Options) (Result, error) {
	return newRun(source, target, o).do(ctx)
}

func (r *run) do(ctx context.Context) (Result, error) {
	err := r.setUp(ctx)
	if err == nil {
		err = r.prepare(ctx)
	}
	if err == nil {
		err = r.copy(ctx)
	}
	return r.finish(ctx, err)
}
