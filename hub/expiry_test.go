package hub

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
	"github.com/loveseat-db/loveseat/localdb"
)

func openStore(t testing.TB) *localdb.Store {
	t.Helper()
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func hubDB(t testing.TB, store couch.Store) couch.DB {
	t.Helper()
	if err := store.Create(t.Context(), "hub"); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), "hub")
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func newSweeper(t testing.TB) *sweeper {
	return &sweeper{name: "hub", log: slog.New(slog.NewTextHandler(t.Output(), nil)), counts: &Counts{}}
}

// write writes documents and returns their revisions.
func write(t testing.TB, db couch.DB, docs ...*couch.Doc) []couch.Rev {
	t.Helper()
	results, err := db.BulkDocs(t.Context(), docs, couch.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	revs := make([]couch.Rev, len(docs))
	for i, r := range results {
		if r.Err != nil {
			t.Fatal(r.ID, r.Err)
		}
		revs[i] = r.Rev
	}
	return revs
}

// left is the ids in a database's changes feed, tombstones included.
func left(t testing.TB, db couch.DB) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	_, err := db.Changes(t.Context(), couch.ChangesOptions{}, func(c *couch.Change) error {
		ids[c.ID] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func expiring(id string, at time.Time) *couch.Doc {
	return &couch.Doc{ID: id, Body: fmt.Appendf(nil, `{"expires":%q}`, hubdoc.FormatTime(at))}
}

func signalAt(at time.Time, n int) *couch.Doc {
	return &couch.Doc{ID: hubdoc.SignalID(at, fmt.Sprintf("%016x", n)), Body: []byte(`{"payload":"xxxxxxxx"}`)}
}

func TestSweep(t *testing.T) {
	store := openStore(t)
	db, s := hubDB(t, store), newSweeper(t)
	now := time.Now()
	old, fresh := signalAt(now.Add(-10*time.Minute), 1), signalAt(now, 2)
	removedSignal, removedShare := signalAt(now, 3), expiring("share:removed", now.Add(time.Hour))
	design := &couch.Doc{ID: "_design/x", Body: []byte(`{}`)}
	write(t, db, old, fresh, design, expiring("share:live", now.Add(time.Minute)), expiring("share:dead", now.Add(-3*time.Minute)),
		expiring("peer:live", now.Add(time.Minute)), expiring("peer:dead", now.Add(-3*time.Minute)), &couch.Doc{ID: "share:junk"}, &couch.Doc{ID: "else"})
	revs := write(t, db, removedSignal, removedShare)
	write(t, db, &couch.Doc{ID: removedSignal.ID, Rev: revs[0], Deleted: true}, &couch.Doc{ID: removedShare.ID, Rev: revs[1], Deleted: true})

	step := func(at time.Duration, want ...string) {
		t.Helper()
		if err := s.sweep(t.Context(), db, now.Add(at)); err != nil {
			t.Fatal(err)
		}
		got := left(t, db)
		for _, id := range want {
			if !got[id] {
				t.Errorf("after %v %s is gone", at, id)
			}
			delete(got, id)
		}
		for id := range got {
			t.Errorf("after %v %s is still there", at, id)
		}
	}
	step(0, fresh.ID, design.ID, "share:live", "share:removed", "peer:live", "else")
	step(time.Second, fresh.ID, design.ID, "share:live", "share:removed", "peer:live", "else")
	step(4*time.Minute+time.Second, design.ID, "share:removed", "else")
	step(tombstone+time.Second, design.ID, "else")
	if n := s.counts.Purged.Load(); n != 9 {
		t.Errorf("%d purged", n)
	}
	if s.next.IsZero() == false {
		t.Errorf("something is due at %v", s.next)
	}
}

type noPurge struct{ couch.DB }

func (noPurge) Purge(context.Context, []couch.DocRevs) ([]couch.DocRevs, error) {
	return nil, &couch.Error{Status: 501, Code: "not_implemented"}
}

// A database that cannot purge, such as another server's, deletes.
func TestSweepWithoutPurge(t *testing.T) {
	store := openStore(t)
	db, s := noPurge{hubDB(t, store)}, newSweeper(t)
	now := time.Now()
	old, fresh := signalAt(now.Add(-time.Hour), 1), signalAt(now, 2)
	write(t, db, old, fresh, expiring("share:dead", now.Add(-time.Hour)))
	for range 3 {
		if err := s.sweep(t.Context(), db, now); err != nil {
			t.Fatal(err)
		}
	}
	info, err := db.Info(t.Context())
	if err != nil || info.DocCount != 1 || info.DelCount != 2 || s.counts.Purged.Load() != 2 {
		t.Errorf("%+v, %d purged, %v", info, s.counts.Purged.Load(), err)
	}
}

// Of several hubs one at a time has the lease, and another takes over when it is not renewed.
func TestLease(t *testing.T) {
	db := hubDB(t, openStore(t))
	a, b := &lease{"l", "a"}, &lease{"l", "b"}
	take := func(l *lease, length time.Duration, want bool) {
		t.Helper()
		if got, err := l.take(t.Context(), db, length); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", l.owner, got, err, want)
		}
	}
	take(a, time.Hour, true)
	take(b, time.Hour, false)
	take(a, -time.Second, true) // renewed, until a moment that has passed
	take(b, time.Hour, true)
	take(a, time.Hour, false)
}

// A hub leaves a database alone while it is another one's turn.
func TestTurns(t *testing.T) {
	store := openStore(t)
	db, s := hubDB(t, store), newSweeper(t)
	s.store, s.lease = store, &lease{"l", "this"}
	write(t, db, expiring("share:dead", time.Now().Add(-time.Hour)))
	other := &lease{"l", "other"}
	for _, step := range []struct {
		length time.Duration
		left   int
	}{{time.Hour, 1}, {-time.Second, 0}} {
		if mine, err := other.take(t.Context(), db, step.length); err != nil || !mine {
			t.Fatal(mine, err)
		}
		if err := s.turn(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if ids := left(t, db); len(ids) != step.left {
			t.Errorf("the other's lease lasts %v: %v is left", step.length, ids)
		}
	}
}

// The hub sweeps by itself.
func TestHubSweeps(t *testing.T) {
	s := start(t, Config{Service: Service{SweepEvery: 10 * time.Millisecond, Shared: true}})
	s.do("PUT", "/hub/peer:x", `{"expires":"2020-01-01T00:00:00.000Z"}`, asJSON)
	for deadline := time.Now().Add(30 * time.Second); ; {
		if s.do("GET", "/hub/peer:x", "").StatusCode == 404 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not purged")
		}
	}
}

// TestSmallForEver: after many signals the hub database has its old size: 20,000
// here, a million with LOVESEAT_SOAK=1.
func TestSmallForEver(t *testing.T) {
	rounds, each := 10, 2000
	if os.Getenv("LOVESEAT_SOAK") != "" {
		rounds = 500
	}
	store := openStore(t)
	db, s := hubDB(t, store), newSweeper(t)
	fresh, err := db.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	const ceiling = 64 << 20 // the write-ahead log included, whatever the number of rounds
	for round := range rounds {
		now = now.Add(time.Hour)
		signals(t, db, now, each)
		if err := s.sweep(t.Context(), db, now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		info, err := db.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.DocCount+info.DelCount != 0 || info.FileSize > ceiling {
			t.Fatalf("round %d: %+v", round, info)
		}
	}
	before, err := db.Info(t.Context())
	if err == nil {
		err = db.Compact(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	after, err := db.Info(t.Context())
	t.Logf("%d signals: %d bytes, %d after compaction, %d when it was new (%v)", rounds*each, before.FileSize, after.FileSize, fresh.FileSize, err)
	if after.FileSize > fresh.FileSize+256<<10 {
		t.Errorf("%d bytes are left, %d were there at first", after.FileSize, fresh.FileSize)
	}
}

// signals writes n signals; half of them are deleted by who they are for.
func signals(t testing.TB, db couch.DB, at time.Time, n int) {
	t.Helper()
	docs := make([]*couch.Doc, n)
	payload := make([]byte, 800)
	for i := range payload {
		payload[i] = 'x'
	}
	for i := range docs {
		docs[i] = signalAt(at.Add(time.Duration(i)*time.Millisecond), i)
		docs[i].Body = fmt.Appendf(nil, `{"payload":"%s"}`, payload)
	}
	revs := write(t, db, docs...)
	var gone []*couch.Doc
	for i := 0; i < n; i += 2 {
		gone = append(gone, &couch.Doc{ID: docs[i].ID, Rev: revs[i], Deleted: true})
	}
	write(t, db, gone...)
}
