package couchkivik

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

var _ driver.Purger = (*database)(nil)

// Purge implements driver.Purger. There is no purge sequence in the answer, as in CouchDB 3.
func (d *database) Purge(ctx context.Context, revs map[string][]string) (*driver.PurgeResult, error) {
	docs := make([]couch.DocRevs, 0, len(revs))
	for id, list := range revs {
		doc := couch.DocRevs{ID: id}
		for _, text := range list {
			rev, err := couch.ParseRev(text)
			if err != nil {
				return nil, err
			}
			doc.Revs = append(doc.Revs, rev)
		}
		docs = append(docs, doc)
	}
	slices.SortFunc(docs, func(a, b couch.DocRevs) int { return cmp.Compare(a.ID, b.ID) })
	purged, err := d.db.Purge(ctx, docs)
	if err != nil {
		return nil, err
	}
	return &driver.PurgeResult{Purged: textRevs(purged)}, nil
}

func textRevs(docs []couch.DocRevs) map[string][]string {
	out := make(map[string][]string, len(docs))
	for _, doc := range docs {
		list := out[doc.ID]
		if list == nil {
			list = []string{} // [] in JSON
		}
		for _, rev := range doc.Revs {
			list = append(list, rev.String())
		}
		out[doc.ID] = list
	}
	return out
}

// Compact implements driver.DB. It returns when the compaction is done.
func (d *database) Compact(ctx context.Context) error { return d.db.Compact(ctx) }

func (h *handle) Purge(ctx context.Context, docs []couch.DocRevs) (purged []couch.DocRevs, err error) {
	err = h.do(ctx, func(db couch.DB) error { purged, err = db.Purge(ctx, docs); return err })
	return purged, err
}

func (h *handle) Compact(ctx context.Context) error {
	return h.do(ctx, func(db couch.DB) error { return db.Compact(ctx) })
}

// foreignPurge is how many documents go into one call: CouchDB's limit on a request.
const foreignPurge = 100

// Purge implements couch.DB.
func (f *foreign) Purge(ctx context.Context, docs []couch.DocRevs) ([]couch.DocRevs, error) {
	purged := make([]couch.DocRevs, 0, len(docs))
	for part := range slices.Chunk(docs, foreignPurge) {
		res, err := f.db.Purge(ctx, textRevs(part))
		if err != nil {
			return nil, Error(err)
		}
		for _, doc := range part {
			got := couch.DocRevs{ID: doc.ID}
			for _, rev := range doc.Revs {
				if slices.Contains(res.Purged[doc.ID], rev.String()) {
					got.Revs = append(got.Revs, rev)
				}
			}
			purged = append(purged, got)
		}
	}
	return purged, nil
}

// Compact implements couch.DB. It waits as long as the server says that it
// compacts, so far as the driver tells.
func (f *foreign) Compact(ctx context.Context) error {
	if err := f.db.Compact(ctx); err != nil {
		return Error(err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := f.db.Stats(ctx)
		if err != nil || !s.CompactRunning {
			return Error(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
