package replicate

import (
	"context"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// Run copies from source to target, once or live until ctx ends. Any two kivik databases
// will do: local ones, those of a hub, opened shares, a real CouchDB's.
//
// The error is an [*Error] that says which end failed at what, or ctx's. The
// Result is what was done until then, and what is recorded in the checkpoint;
// documents that the target refused are in Result.Errors and are no error of the run.
func Run(ctx context.Context, source, target *kivik.DB, o Options) (Result, error) {
	return RunDB(ctx, couchkivik.From(source), couchkivik.From(target), o)
}

// Sync copies both ways between a and b, at the same time. When one direction of a live
// sync fails for good the other one is cancelled; otherwise each does what it can.
// What one direction has just written is known to the other and not compared again.
func Sync(ctx context.Context, a, b *kivik.DB, o Options) (SyncResult, error) {
	return SyncDB(ctx, couchkivik.From(a), couchkivik.From(b), o)
}
