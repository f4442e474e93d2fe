package replicate

import (
	"context"
	"net/http"

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
	return RunDB(ctx, couchkivik.From(source), couchkivik.From(target), o.creating(target))
}

// Sync copies both ways between a and b, at the same time. When one direction of a live
// sync fails for good the other one is cancelled; otherwise each does what it can.
// What one direction has just written is known to the other and not compared again.
func Sync(ctx context.Context, a, b *kivik.DB, o Options) (SyncResult, error) {
	return SyncDB(ctx, couchkivik.From(a), couchkivik.From(b), o.creating(b))
}

// creating gives o the means to make db, if it asks for that.
func (o Options) creating(db *kivik.DB) Options {
	if !o.CreateTarget {
		return o
	}
	o.create = func(ctx context.Context) error {
		exists, err := db.Client().DBExists(ctx, db.Name())
		if err != nil || exists {
			return couchkivik.Error(err)
		}
		if err = db.Client().CreateDB(ctx, db.Name()); kivik.HTTPStatus(err) == http.StatusPreconditionFailed {
			return nil // somebody else was quicker
		}
		return couchkivik.Error(err)
	}
	return o
}

// Verify compares two databases without reading their documents: over the plain
// changes feeds of both (style=all_docs), which name every document's leaf revisions, tombstones
// included. 100,000 documents take about a second, in bounded memory.
//
// Equal says that both hold the same leaves: the same ids with the same
// leaf revision ids. Those are digests of the content, its attachments' digests and the
// revision before, if whoever made the edit makes them so (CouchDB, Loveseat, PouchDB 7 and later do),
// so equal leaves say the same and have the same histories. It does not prove that the stored
// bytes are undamaged, that each end still has the same of the older revisions (compaction, _revs_limit), or anything
// of _local documents and _security; and documents that a [Modifier] transformed are equal though their spelling differs.
//
// Of databases that change meanwhile, differences are listed that were there when
// looked at twice. The error is an [*Error] whose End is "a" or "b", or ctx's.
func Verify(ctx context.Context, a, b *kivik.DB, o VerifyOptions) (Verification, error) {
	return VerifyDB(ctx, couchkivik.From(a), couchkivik.From(b), o)
}

// Conflicts calls fn with each document of db that has several leaf revisions that are
// not deleted, in the order of the changes feed, until fn returns an error.
func Conflicts(ctx context.Context, db *kivik.DB, fn func(Conflict) error) error {
	return ConflictsDB(ctx, couchkivik.From(db), fn)
}

// Resolve ends the conflicts that db has now by what resolve decides, and
// returns how many. What it writes replicates like any edit. [Options].Resolver does so while a [Sync] goes on.
func Resolve(ctx context.Context, db *kivik.DB, resolve Resolver) (n int, err error) {
	return ResolveDB(ctx, couchkivik.From(db), resolve)
}

// KeepResolved is [Resolve] for the conflicts that db has and all that come, by edits or
// replication, until ctx ends, which is the error, or resolve or db fails.
func KeepResolved(ctx context.Context, db *kivik.DB, resolve Resolver) error {
	return KeepResolvedDB(ctx, couchkivik.From(db), resolve)
}
