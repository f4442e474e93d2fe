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
//
// What it selects (DocIDs, Selector, DesignFilter and QueryParams, Filter,
// WinnersOnly, Push and Pull, Since) is part of the replication's id: a replication
// that selects otherwise, be it only more, is another one with checkpoints of its own.
// It begins at the beginning, since documents that were passed over are before any
// checkpoint; it compares revisions there and copies only what the target lacks.
type Options struct {
	// Live goes on with changes as they are made, until the context ends.
	Live bool
	// CreateTarget makes the target database (of a Sync, b) if there is none, as far
	// as [Run], [Sync] and their like can: those over a couch.DB, which exists, pass over it.
	CreateTarget bool

	// At most one of DocIDs, Selector and DesignFilter may be set, as in CouchDB.
	// They select documents by their winners; of a selected document all leaves are
	// copied. A document that ceases to match stays at the target as it was.

	// DocIDs, if not nil, are the only documents to copy.
	DocIDs []string
	// Selector, if not nil, is a Mango selector that documents must match.
	Selector json.RawMessage
	// DesignFilter is a filter function of a design document of the source, "design/name", which the
	// source runs: CouchDB does. Loveseat's databases refuse it (400 bad_request): they run no JavaScript.
	DesignFilter string
	// QueryParams are the parameters of DesignFilter.
	QueryParams map[string]string
	// Filter, if not nil, says which of the revisions that the target lacks are copied.
	Filter Filter
	// WinnersOnly copies of each document the winning revision alone, with its history.
	WinnersOnly bool
	// Push and Pull, if not nil, transform documents on their way: from a to b and
	// from b to a in a [Sync]. What a [Run] copies is pushed.
	Push, Pull Modifier
	// FuncsVersion names what Filter, Push and Pull do, for the replication's id: change
	// it when they change. "": a replication with any of them keeps no checkpoint.
	FuncsVersion string
	// Since is the source's update sequence to start from; "": the beginning, or the checkpoint.
	Since string

	// Resolver, if not nil, ends conflicts while a [Sync] finds them. A [Run] does not use it; see [Resolve].
	Resolver Resolver

	// BatchSize is the most changes taken together; 0: 1000. It is fewer while batches take long.
	BatchSize int
	// BatchBytes is about how much of documents one batch holds in memory; 0: 4 MiB.
	BatchBytes int64
	// InFlight is the number of batches under way at a time; 0: 6.
	InFlight int
	// InlineAttachments is the length up to which attachments travel inside
	// their documents; longer ones are streamed, and go on where they were after an interruption. 0: 64 KiB.
	InlineAttachments int64

	// NoCheckpoint neither reads nor writes checkpoints.
	NoCheckpoint bool
	// CheckpointInterval is how often progress is recorded; 0: 5 s. It is also recorded at the end.
	CheckpointInterval time.Duration
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
	create     func(context.Context) error // makes the target
	resolve    bool                        // this direction's source is where conflicts are resolved
	known      *revSet                     // revisions that the target is known to have
	discovered *revSet                     // revisions that both ends have been seen to have, for the opposite direction
}

func (o Options) withDefaults() Options {
	o.BatchSize = cmp.Or(max(0, o.BatchSize), 1000)
	o.BatchBytes = cmp.Or(max(0, o.BatchBytes), 4<<20)
	o.InFlight = cmp.Or(max(0, o.InFlight), 6)
	o.CheckpointInterval = cmp.Or(max(0, o.CheckpointInterval), 5*time.Second)
	o.InlineAttachments = cmp.Or(max(0, o.InlineAttachments), 64<<10)
	o.StallTimeout = cmp.Or(max(0, o.StallTimeout), 30*time.Second)
	o.Retry = o.Retry.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// check refuses what cannot be meant. Errors: bad_request (400).
func (o *Options) check() error {
	filters := 0
	for _, on := range []bool{o.DocIDs != nil, o.Selector != nil, o.DesignFilter != ""} {
		if on {
			filters++
		}
	}
	switch {
	case filters > 1:
		return couch.BadRequest("`doc_ids`, `filter`, `selector` are mutually exclusive")
	case o.Selector != nil && !json.Valid(o.Selector):
		return couch.BadRequest("`selector` is not JSON")
	case len(o.QueryParams) > 0 && o.DesignFilter == "":
		return couch.BadRequest("`query_params` are of no use without `filter`")
	}
	for name := range o.QueryParams {
		if changesParams[name] {
			return couch.BadRequest("`query_params` must not have `" + name + "`, which is of the changes feed itself")
		}
	}
	return nil
}

// changesParams are the parameters of a changes feed, which those of a filter must not take the place of.
// https://docs.couchdb.org/en/stable/api/database/changes.html
var changesParams = map[string]bool{
	"doc_ids": true, "conflicts": true, "descending": true, "feed": true, "filter": true, "heartbeat": true, "include_docs": true, "attachments": true,
	"att_encoding_info": true, "last-event-id": true, "limit": true, "since": true, "style": true, "timeout": true, "seq_interval": true,
}

// modifier is what transforms the documents of this direction.
func (o *Options) modifier() Modifier {
	if o.direction == pull {
		return o.Pull
	}
	return o.Push
}

// nameless reports whether functions select documents of which it is not known
// whether they are those of the last run.
func (o *Options) nameless() bool {
	return o.FuncsVersion == "" && (o.Filter != nil || o.modifier() != nil)
}
