package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

// leafKeys is what Verify has to compare, found in another way.
func leafKeys(m *memory) map[string]bool {
	out := map[string]bool{}
	for key := range m.state() {
		out[key] = true
	}
	return out
}

// The property: Verify lists exactly the leaves that only one side has.
func TestVerifyListsTheDifferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newMemory("a"), newMemory("b")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range rapid.IntRange(0, 30).Draw(t, "edits") {
			randomEdit(rng, a)
		}
		if rapid.Bool().Draw(t, "synced") {
			if _, err := replicate.SyncDB(context.Background(), a, b, quick); err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "more edits") {
			randomEdit(rng, []*memory{a, b}[rng.IntN(2)])
		}
		got, err := replicate.VerifyDB(context.Background(), a, b, replicate.VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		x, y := leafKeys(a), leafKeys(b)
		if got.A.Leaves != int64(len(x)) || got.B.Leaves != int64(len(y)) || got.Equal != maps.Equal(x, y) || got.More {
			t.Fatalf("%+v", got)
		}
		for _, d := range got.Diffs {
			for _, rev := range d.OnlyA {
				if key := d.ID + " " + rev.String(); !x[key] || y[key] {
					t.Fatal(key, "is not only in a")
				}
				delete(x, d.ID+" "+rev.String())
			}
			for _, rev := range d.OnlyB {
				if key := d.ID + " " + rev.String(); x[key] || !y[key] {
					t.Fatal(key, "is not only in b")
				}
				delete(y, d.ID+" "+rev.String())
			}
		}
		if !maps.Equal(x, y) {
			t.Fatalf("not all differences are listed: %+v\n%v\n%v", got, x, y)
		}
	})
}

func TestVerifyLimitAndSelection(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 500)
	ctx := context.Background()
	got, err := replicate.VerifyDB(ctx, a, b, replicate.VerifyOptions{Limit: 10})
	if err != nil || got.Equal || len(got.Diffs) != 10 || !got.More || got.A.Docs != 500 || got.B.Docs != 0 {
		t.Errorf("%+v %v", got, err)
	}
	if !slices.IsSortedFunc(got.Diffs, func(a, b replicate.Difference) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) }) {
		t.Error("not sorted")
	}
	o := replicate.Options{DocIDs: []string{"doc-00001", "doc-00002"}}
	mustRun(t, a, b, o)
	got, err = replicate.VerifyDB(ctx, a, b, replicate.VerifyOptions{DocIDs: o.DocIDs})
	if err != nil || !got.Equal || got.A.Docs != 2 {
		t.Errorf("%+v %v", got, err)
	}
	_, err = replicate.VerifyDB(ctx, a, b, replicate.VerifyOptions{DocIDs: o.DocIDs, Selector: []byte(`{}`)})
	if couch.AsError(err).Status != 400 {
		t.Error(err)
	}
}

// A document that is written while Verify reads may be missing in a feed that has passed where it was: it is no difference.
func TestVerifyLooksAgainAtWhatChanges(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 50)
	fill(b, 50)
	for _, m := range []*memory{a, b} { // a conflict, whose leaves have no order
		m.edit("two", couch.Rev{}, `{"n":1}`, false)
		m.edit("two", couch.Rev{}, `{"n":2}`, false)
	}
	a.edit("late", couch.Rev{}, `{}`, false)
	b.edit("late", couch.Rev{}, `{}`, false)
	got, err := replicate.VerifyDB(context.Background(), a, &passing{b}, replicate.VerifyOptions{})
	if err != nil || !got.Equal {
		t.Errorf("%+v %v", got, err)
	}
	a.edit("real", couch.Rev{}, `{}`, false)
	got, err = replicate.VerifyDB(context.Background(), a, &passing{b}, replicate.VerifyOptions{})
	if err != nil || got.Equal || len(got.Diffs) != 1 || got.Diffs[0].ID != "real" {
		t.Errorf("%+v %v", got, err)
	}
}

// passing's feeds of everything miss a document; and its revisions come in another order.
type passing struct{ couch.DB }

func (p *passing) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	res, err := p.DB.Changes(ctx, o, func(c *couch.Change) error {
		if slices.Reverse(c.Revs); c.ID == "late" && o.DocIDs == nil {
			return nil
		}
		return fn(c)
	})
	res.LastSeq = "1"
	return res, err
}

func TestVerifyNamesTheEndThatFails(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 10)
	fill(b, 10)
	_, err := replicate.VerifyDB(context.Background(), a, &flaky{DB: b, rng: rand.New(rand.NewPCG(1, 1)), every: 1}, replicate.VerifyOptions{})
	var e *replicate.Error
	if !errors.As(err, &e) || e.End != "b" || !errors.Is(err, errFlaky) {
		t.Error(err)
	}
}

// 100,000 documents are compared in a second or two; the bound is far above.
func TestVerifyIsQuick(t *testing.T) {
	n := 100_000
	if testing.Short() || raceEnabled {
		n = 10_000
	}
	near, far := openStore(t), openStore(t)
	a, b := newDB(t, near, "a"), newDB(t, far, "b")
	docs := small(n)
	load(t, a, docs)
	load(t, b, docs)
	remote := serveStore(t, far, true).DB("b")
	for name, end := range map[string]couch.DB{"local": b, "http": remote} {
		began := time.Now()
		got, err := replicate.VerifyDB(context.Background(), a, end, replicate.VerifyOptions{})
		if err != nil || !got.Equal || got.A.Docs != int64(n) {
			t.Fatalf("%+v %v", got, err)
		}
		t.Logf("%s: %v", name, time.Since(began))
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("%s: %v", name, d)
		}
	}
	c := newDB(t, near, "c")
	for i := range 10 {
		docs[i].Rev.Hash = fmt.Sprintf("f%031x", i)
		docs[i].Revisions = []string{docs[i].Rev.Hash}
	}
	load(t, c, docs)
	got, err := replicate.VerifyDB(context.Background(), c, remote, replicate.VerifyOptions{})
	if err != nil || len(got.Diffs) != 10 || got.Diffs[0].ID != docs[0].ID {
		t.Errorf("%+v %v", got, err)
	}
}

// small makes small replicated documents.
func small(n int) []*couch.Doc {
	docs := make([]*couch.Doc, n)
	for i := range docs {
		hash := fmt.Sprintf("%032x", i*7919)
		docs[i] = &couch.Doc{ID: fmt.Sprintf("s%07d", i), Rev: couch.Rev{Gen: 1, Hash: hash}, Revisions: []string{hash}, Body: []byte(`{"n":1}`)}
	}
	return docs
}

func write(tb testing.TB, db couch.DB, docs ...*couch.Doc) []couch.WriteResult {
	tb.Helper()
	res, err := db.BulkDocs(context.Background(), docs, couch.WriteOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range res {
		if r.Err != nil {
			tb.Fatal(r.Err)
		}
	}
	return res
}
