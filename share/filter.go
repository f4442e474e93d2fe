package share

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/mango"
)

// limits say which revisions of a database its openers see.
type limits struct {
	ids      map[string]struct{} // nil: all
	selector *mango.Selector     // nil: all
}

const maxShareIDs = 10_000

func newLimits(selector json.RawMessage, ids []string) (*limits, error) {
	if selector == nil && ids == nil {
		return nil, nil
	}
	l := &limits{}
	if len(ids) > maxShareIDs {
		return nil, couch.TooLarge("too_large", "A share is limited to 10,000 document ids.")
	}
	if ids != nil {
		l.ids = make(map[string]struct{}, len(ids))
		for _, id := range ids {
			if err := couch.ValidID(id); err != nil {
				return nil, err
			}
			l.ids[id] = struct{}{}
		}
	}
	var err error
	if selector != nil {
		l.selector, err = mango.Compile(context.Background(), selector)
	}
	return l, err
}

// has reports whether documents of this id may be seen at all.
func (l *limits) has(id string) bool {
	_, ok := l.ids[id]
	return ok || l.ids == nil
}

// fits reports whether a revision matches the selector. One on which that takes too
// much work does not: a document that cannot be judged is not shown.
func (l *limits) fits(ctx context.Context, d *couch.Doc) (bool, error) {
	ok, err := l.selector.Match(ctx, d)
	if errors.Is(err, mango.ErrWork) {
		err = nil
	}
	return ok, err
}

// A filtered is a database of which only a part is seen, in every way there is
// to ask: the revisions that are within the limits, each judged by itself. Of a
// document's leaves those are seen that are; the best of them is the winner. So
// a complete replica of the share has the same winners as the share shows.
//
// A revision that is not within the limits is as if it were not there. When a
// document leaves the limits nothing is told: a replica keeps the last revision
// it was given. (Telling that the document is deleted would make a two-way
// replication delete it here.) When it comes back the replica goes on.
//
// A tombstone is seen where the newest revision before it that is still there
// and is not deleted is within the limits, so that deletions reach replicas; what
// a tombstone says beyond that only if it is within the limits itself. If compaction
// has removed those before it, it is seen only if what it says is within the limits.
//
// What cannot be kept back: the update sequence counts all changes, a seen
// revision's ancestry names the ids of all its ancestors, and that an id is taken
// shows when a document is made under it.
//
// It does not embed its database: whoever adds a method to couch.DB decides here.
type filtered struct {
	db couch.DB
	limits
	counts counts
}

var (
	errMissing = couch.NotFound("missing")
	errOutside = couch.Forbidden("This share is limited to other documents.")
)

// show returns a revision as it is seen, nil if it is not.
func (f *filtered) show(ctx context.Context, d *couch.Doc) (*couch.Doc, error) {
	if !f.has(d.ID) {
		return nil, nil
	}
	if f.selector == nil {
		return d, nil
	}
	fits, err := f.fits(ctx, d)
	switch {
	case err != nil || !d.Deleted && !fits:
		return nil, err
	case !d.Deleted:
		return d, nil
	}
	return f.showTombstone(ctx, d, fits)
}

func (f *filtered) showTombstone(ctx context.Context, d *couch.Doc, fits bool) (*couch.Doc, error) {
	before, err := f.before(ctx, d)
	if err != nil {
		return nil, err
	}
	if before == nil {
		if fits && says(d) {
			return d, nil
		}
		return nil, nil
	}
	if ok, err := f.fits(ctx, before); !ok || err != nil {
		return nil, err
	}
	if fits {
		return d, nil
	}
	bare := *d
	bare.Body, bare.Attachments = nil, nil
	return &bare, nil
}

// says reports whether a revision has any content.
func says(d *couch.Doc) bool {
	return len(bytes.TrimSpace(d.Body)) > len("{}") || len(d.Attachments) > 0
}

// maxBefore bounds how far the past of a tombstone is looked into.
const maxBefore = 32

// before returns the newest ancestor that is there and not deleted, nil if there is none.
func (f *filtered) before(ctx context.Context, d *couch.Doc) (*couch.Doc, error) {
	full, err := f.db.Get(ctx, d.ID, couch.GetOptions{Rev: d.Rev, Revs: true})
	if err != nil {
		return nil, unlessMissing(err)
	}
	for i := 1; i < min(len(full.Revisions), maxBefore); i++ {
		a, err := f.db.Get(ctx, d.ID, couch.GetOptions{Rev: couch.Rev{Gen: d.Rev.Gen - int64(i), Hash: full.Revisions[i]}})
		if err == nil && !a.Deleted {
			return a, nil
		}
		if err := unlessMissing(err); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func unlessMissing(err error) error {
	if errors.Is(err, couch.ErrNotFound) {
		return nil
	}
	return err
}

// leaves returns the leaves that are seen, the winner first.
func (f *filtered) leaves(ctx context.Context, id string) (seen []*couch.Doc, err error) {
	err = f.db.BulkGet(ctx, []couch.DocRef{{ID: id}}, couch.GetOptions{}, func(r couch.BulkGetResult) error {
		if r.Doc == nil {
			return nil
		}
		d, err := f.show(ctx, r.Doc)
		if d != nil {
			seen = append(seen, d)
		}
		return err
	})
	slices.SortFunc(seen, better)
	return seen, err
}

// better orders leaves as CouchDB does to choose the winner, which comes first.
func better(a, b *couch.Doc) int {
	switch {
	case a.Deleted && !b.Deleted:
		return 1
	case b.Deleted && !a.Deleted:
		return -1
	}
	return b.Rev.Compare(a.Rev)
}

// winner returns the winner as it is seen, nil if there is none, given the true one,
// which has been read with GetOptions.Conflicts; o reads another one.
func (f *filtered) winner(ctx context.Context, d *couch.Doc, o couch.GetOptions) (*couch.Doc, error) {
	if len(d.Conflicts)+len(d.DeletedConflicts) == 0 {
		return f.show(ctx, d)
	}
	seen, err := f.leaves(ctx, d.ID)
	if err != nil || len(seen) == 0 {
		return nil, err
	}
	if best := seen[0].Rev; best != d.Rev {
		o.Rev, o.Latest = best, false
		if d, err = f.db.Get(ctx, d.ID, o); err != nil {
			return nil, unlessMissing(err)
		}
	}
	if d, err = f.show(ctx, d); d == nil {
		return nil, err
	}
	return withConflicts(d, seen), nil
}

// withConflicts names the leaves that are seen beside a revision, and no others.
func withConflicts(d *couch.Doc, seen []*couch.Doc) *couch.Doc {
	out := *d
	out.Conflicts, out.DeletedConflicts = nil, nil
	for _, leaf := range seen {
		switch {
		case leaf.Rev == d.Rev:
		case leaf.Deleted:
			out.DeletedConflicts = append(out.DeletedConflicts, leaf.Rev)
		default:
			out.Conflicts = append(out.Conflicts, leaf.Rev)
		}
	}
	return &out
}

// sorted returns the ids within bounds, in the order of ids.
func (l *limits) sorted(from, to *string, exclusiveEnd bool) []string {
	ids := make([]string, 0, len(l.ids))
	for id := range l.ids {
		if (from == nil || id >= *from) && (to == nil || id < *to || id == *to && !exclusiveEnd) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, strings.Compare)
	return ids
}

// Info tells of what is seen. Sizes are not told: they would be those of the whole.
func (f *filtered) Info(ctx context.Context) (*couch.Info, error) {
	info, err := f.db.Info(ctx)
	if err != nil {
		return nil, err
	}
	n, err := f.counts.at(ctx, f, info)
	if err != nil {
		return nil, err
	}
	return &couch.Info{Name: info.Name, UUID: info.UUID, DocCount: n.docs, DelCount: n.dels, UpdateSeq: cmp.Or(n.seq, info.UpdateSeq), PurgeSeq: info.PurgeSeq}, nil
}
