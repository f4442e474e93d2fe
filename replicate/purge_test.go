package replicate_test

import (
	"context"
	"maps"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

// What is purged at one end does not come back by a checkpoint that covers it, in either
// direction; it comes back with its next edit, or without checkpoints. Purged at both ends it is gone.
func TestPurgedDocumentsStayAway(t *testing.T) {
	ctx := context.Background()
	s := openStore(t)
	a, b := newDB(t, s, "a"), newDB(t, s, "b")
	x := write(t, a, &couch.Doc{ID: "x"}, &couch.Doc{ID: "y"})[0].Rev
	sync := func(o replicate.Options) {
		t.Helper()
		if _, err := replicate.SyncDB(ctx, a, b, o); err != nil {
			t.Fatal(err)
		}
	}
	has := func(db couch.DB) bool {
		_, err := db.Get(ctx, "x", couch.GetOptions{})
		return err == nil
	}
	purge := func(db couch.DB, rev couch.Rev) {
		t.Helper()
		if _, err := db.Purge(ctx, []couch.DocRevs{{ID: "x", Revs: []couch.Rev{rev}}}); err != nil {
			t.Fatal(err)
		}
	}
	sync(replicate.Options{})
	purge(b, x)
	sync(replicate.Options{})
	if !has(a) || has(b) {
		t.Error("the purge was undone, or it spread")
	}
	sync(replicate.Options{NoCheckpoint: true})
	if !has(b) {
		t.Error("without checkpoints it does not come back")
	}
	purge(b, x)
	x = write(t, a, &couch.Doc{ID: "x", Rev: x, Body: []byte(`{"again":1}`)})[0].Rev
	sync(replicate.Options{})
	if !has(b) || !maps.Equal(leafSet(t, a), leafSet(t, b)) {
		t.Error("an edit of a purged document did not come")
	}
	purge(a, x)
	purge(b, x)
	write(t, a, &couch.Doc{ID: "z"})
	sync(replicate.Options{})
	if has(a) || has(b) || !maps.Equal(leafSet(t, a), leafSet(t, b)) {
		t.Error("what was purged at both ends is there")
	}
}
