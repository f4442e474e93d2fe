package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

const (
	sweepEvery  = 30 * time.Second
	sweepBatch  = 1000
	tombstone   = 5 * time.Minute // how long feeds that were away may learn that a share was removed
	compactEach = 100_000         // documents purged between compactions
	compactTime = time.Hour
)

// A sweeper keeps one hub database small: what has expired is purged, and so are
// tombstones, at once those of signals.
type sweeper struct {
	name   string
	store  couch.Store
	lease  *lease // nil: no other hub uses the store
	log    *slog.Logger
	counts *Counts

	swept     couch.Seq            // the database's sequence after the last sweep
	next      time.Time            // when something expires; zero: nothing is there that does
	dead      map[string]time.Time // removed shares, since when they are known to be
	purged    int                  // since the last compaction
	compacted time.Time
	noPurge   bool // the server refuses it
}

// run sweeps until ctx ends.
func (s *sweeper) run(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if err := s.turn(ctx, every); err != nil && ctx.Err() == nil && !errors.Is(err, couch.ErrNotFound) {
			s.log.Warn("the hub database was not swept", "db", s.name, "err", err)
		}
	}
}

// turn sweeps if it is this hub's turn.
func (s *sweeper) turn(ctx context.Context, every time.Duration) error {
	db, err := s.store.Open(ctx, s.name)
	if err != nil {
		return err
	}
	if s.lease != nil {
		mine, err := s.lease.take(ctx, db, 2*every)
		if err != nil || !mine {
			return err
		}
	}
	return s.sweep(ctx, db, time.Now())
}

// sweep purges what has expired by now. While the database is as it was and
// nothing in it is due, nothing is read.
func (s *sweeper) sweep(ctx context.Context, db couch.DB, now time.Time) error {
	info, err := db.Info(ctx)
	if err != nil {
		return err
	}
	if info.UpdateSeq == s.swept && (s.next.IsZero() || now.Before(s.next)) {
		return nil
	}
	w := &sweep{s: s, db: db, now: now, dead: map[string]time.Time{}}
	if _, err := db.Changes(ctx, couch.ChangesOptions{AllLeaves: true}, func(c *couch.Change) error { return w.change(ctx, c) }); err != nil {
		return err
	}
	if err := errors.Join(w.leased(ctx, hubdoc.SharePrefix), w.leased(ctx, peerPrefix), w.leased(ctx, withdrawnPrefix), w.purge(ctx)); err != nil {
		return err
	}
	s.dead, s.next = w.dead, w.next
	s.swept = info.UpdateSeq
	if w.purged > 0 {
		s.swept = "" // purging may have moved the sequence, or something may have been written meanwhile
	}
	s.purged += w.purged
	s.counts.Purged.Add(int64(w.purged))
	return s.compact(ctx, db, now)
}

// compact gives space back: that of the purged, and of the earlier revisions of
// shares that are renewed again and again. Other servers do so by themselves.
func (s *sweeper) compact(ctx context.Context, db couch.DB, now time.Time) error {
	if s.compacted.IsZero() {
		s.compacted = now
	}
	if s.lease != nil || s.purged < compactEach && now.Sub(s.compacted) < compactTime {
		return nil
	}
	s.purged, s.compacted = 0, now
	return db.Compact(ctx)
}

// A sweep is one pass over a hub database.
type sweep struct {
	s      *sweeper
	db     couch.DB
	now    time.Time
	next   time.Time
	dead   map[string]time.Time
	due    []couch.DocRevs // live documents, and tombstones, to purge
	live   []bool          // which of due are live
	purged int
	revs   map[string][]couch.Rev // of documents with a lease
}

// change looks at one document. Bodies are not read: a signal's id tells its time.
func (w *sweep) change(ctx context.Context, c *couch.Change) error {
	doc := couch.DocRevs{ID: c.ID, Revs: c.Revs}
	switch signal, leased := strings.HasPrefix(c.ID, hubdoc.SignalPrefix), leasedID(c.ID); {
	case c.Deleted && w.s.noPurge, !signal && !leased:
		return nil
	case signal && c.Deleted:
		return w.add(ctx, doc, false)
	case signal:
		sent, err := hubdoc.SignalTime(c.ID)
		return w.until(ctx, doc, sent.Add(2*hubdoc.SignalAge), err)
	case c.Deleted:
		since, known := w.s.dead[c.ID]
		if !known {
			since = w.now
		}
		w.dead[c.ID] = since
		if w.now.Sub(since) < tombstone {
			w.soon(since.Add(tombstone))
			return nil
		}
		delete(w.dead, c.ID)
		return w.add(ctx, doc, false)
	}
	if w.revs == nil {
		w.revs = map[string][]couch.Rev{}
	}
	w.revs[c.ID] = c.Revs
	return nil
}

// leasedID reports whether a document says itself when it expires.
func leasedID(id string) bool {
	return strings.HasPrefix(id, hubdoc.SharePrefix) || strings.HasPrefix(id, peerPrefix) || strings.HasPrefix(id, withdrawnPrefix)
}

// leased looks at the documents whose bodies say when they expire.
func (w *sweep) leased(ctx context.Context, prefix string) error {
	end := prefix + "\ufff0"
	_, err := w.db.AllDocs(ctx, couch.AllDocsOptions{StartKey: &prefix, EndKey: &end, IncludeDocs: true}, func(r *couch.Row) error {
		revs, ok := w.revs[r.ID]
		if r.Doc == nil || !ok {
			return nil
		}
		var d struct {
			Expires string `json:"expires"`
		}
		_ = json.Unmarshal(r.Doc.Body, &d)
		expires, err := hubdoc.ParseTime(d.Expires)
		return w.until(ctx, couch.DocRevs{ID: r.ID, Revs: revs}, expires.Add(2*hubdoc.ClockSkew), err)
	})
	return err
}

// until purges a document when its time is over; one that tells none (bad) has none.
func (w *sweep) until(ctx context.Context, doc couch.DocRevs, end time.Time, bad error) error {
	if bad != nil || !w.now.Before(end) {
		return w.add(ctx, doc, true)
	}
	w.soon(end)
	return nil
}

func (w *sweep) soon(t time.Time) {
	if w.next.IsZero() || t.Before(w.next) {
		w.next = t
	}
}

func (w *sweep) add(ctx context.Context, doc couch.DocRevs, live bool) error {
	w.due, w.live = append(w.due, doc), append(w.live, live)
	if len(w.due) < sweepBatch {
		return nil
	}
	return w.purge(ctx)
}

// purge forgets what is due. A server that cannot, or does not let us, is told to delete it.
func (w *sweep) purge(ctx context.Context) error {
	due, live := w.due, w.live
	w.due, w.live = nil, nil
	if len(due) == 0 {
		return nil
	}
	if !w.s.noPurge {
		_, err := w.db.Purge(ctx, due)
		if err == nil {
			w.purged += len(due)
			return nil
		}
		if !refused(err) {
			return err
		}
	}
	w.s.noPurge = true
	return w.remove(ctx, due, live)
}

// refused reports whether a server will not purge, today or tomorrow.
func refused(err error) bool {
	switch couch.AsError(err).Status {
	case 400, 401, 403, 404, 405, 501:
		return true
	}
	return false
}

func (w *sweep) remove(ctx context.Context, due []couch.DocRevs, live []bool) error {
	var docs []*couch.Doc
	for i, d := range due {
		for _, rev := range d.Revs {
			if live[i] {
				docs = append(docs, &couch.Doc{ID: d.ID, Rev: rev, Deleted: true})
			}
		}
	}
	if len(docs) == 0 {
		return nil
	}
	results, err := w.db.BulkDocs(ctx, docs, couch.WriteOptions{})
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil && r.Err.Status >= 500 {
			return fmt.Errorf("removing %s: %w", r.ID, r.Err)
		}
		if r.Err == nil {
			w.purged++
		}
	}
	return nil
}
