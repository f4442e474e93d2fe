package replicate_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

// bars demands the speeds that are promised, of a machine that does nothing else, with numbers to match:
// LOVESEAT_BARS=1 go test -run 'OnePercent|Histories|VerifyIsQuick' -v -timeout 30m ./replicate
var bars = os.Getenv("LOVESEAT_BARS") != ""

// raceEnabled is set when the race detector, which is slow, is in the test.
var raceEnabled bool

// counting counts what is read from a source.
type counting struct {
	couch.DB
	rows, read int
}

func (c *counting) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	return c.DB.Changes(ctx, o, func(row *couch.Change) error { c.rows++; return fn(row) })
}

func (c *counting) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	c.read += len(refs)
	return c.DB.BulkGet(ctx, refs, o, fn)
}

// An update of one percent copies, reads and compares that and nothing else.
func TestOnePercent(t *testing.T) {
	n := 100_000
	switch {
	case bars:
		n = 1_000_000
	case testing.Short() || raceEnabled:
		n = 2000
	}
	near, far := openStore(t), openStore(t)
	a := newDB(t, near, "a")
	newDB(t, far, "b")
	for from := 0; from < n; from += 1000 {
		docs := make([]*couch.Doc, 1000)
		for i := range docs {
			docs[i] = record(from + i)
		}
		load(t, a, docs)
	}
	remote := serveStore(t, far, true).DB("b")
	began := time.Now()
	mustRun(t, a, remote, replicate.Options{InFlight: 1}) // in order, so that the counts below are exact
	whole := time.Since(began)
	var changed []*couch.Doc
	for i := 0; i < n; i += 100 {
		old := record(i)
		changed = append(changed, &couch.Doc{ID: old.ID, Rev: old.Rev, Body: []byte(`{"changed":true}`)})
	}
	for part := range slices.Chunk(changed, 1000) {
		write(t, a, part...)
	}
	source := &counting{DB: a}
	began = time.Now()
	res := mustRun(t, source, remote, replicate.Options{})
	part := time.Since(began)
	t.Logf("%d documents in %v, %d of them in %v: %.1f %% of the time", n, whole, len(changed), part, 100*part.Seconds()/whole.Seconds())
	if m := int64(len(changed)); res.DocsWritten != m || res.MissingChecked != m || source.rows != int(m) || source.read != int(m) {
		t.Errorf("%d changed, %d rows and %d revisions read: %+v", m, source.rows, source.read, res)
	}
	if bars && part > whole/20 {
		t.Error("one percent takes more than five percent of the time")
	}
}

// Histories and conflicts cost less than twice the time of plain documents.
func TestHistoriesAndConflicts(t *testing.T) {
	n := 10_000
	switch {
	case bars:
		n = 100_000
	case raceEnabled:
		n = 1000
	}
	near, far := openStore(t), openStore(t)
	plain, rich := newDB(t, near, "plain"), newDB(t, near, "rich")
	leaves := 0
	for from := 0; from < n; from += 1000 {
		var some, many []*couch.Doc
		for i := from; i < from+1000; i++ {
			doc := record(i)
			some = append(some, doc)
			many = append(many, aged(doc, "a"))
			if i%20 == 0 {
				many = append(many, aged(doc, "b"))
			}
		}
		load(t, plain, some)
		for part := range slices.Chunk(many, 1000) {
			if _, err := rich.BulkDocs(context.Background(), part, couch.WriteOptions{Replicated: true}); err != nil {
				t.Fatal(err)
			}
		}
		leaves += len(many)
	}
	took := map[string]time.Duration{}
	for round := range 3 { // the best of some: other things run on the machine
		for name, db := range map[string]couch.DB{"plain": plain, "rich": rich} {
			target := newDB(t, far, fmt.Sprint(name, round))
			began := time.Now()
			res := mustRun(t, db, target, replicate.Options{})
			d := time.Since(began)
			if want := map[string]int{"plain": n, "rich": leaves}[name]; res.DocsWritten != int64(want) {
				t.Fatalf("%s: %+v", name, res)
			}
			if best, ok := took[name]; !ok || d < best {
				took[name] = d
			}
		}
	}
	ratio := took["plain"].Seconds() / took["rich"].Seconds()
	t.Logf("%d documents: plain %.0f/s, with 5 revisions and 5 %% conflicts %.0f/s, ratio %.2f",
		n, float64(n)/took["plain"].Seconds(), float64(n)/took["rich"].Seconds(), ratio)
	if bars && ratio < 0.5 {
		t.Error("less than half the speed")
	}
}

// aged is doc as the fifth revision of a branch, the first two of which all branches have.
func aged(doc *couch.Doc, branch string) *couch.Doc {
	old := *doc
	hash := func(gen int) string {
		if gen > 2 {
			return fmt.Sprintf("%s%031x", branch, gen)
		}
		return fmt.Sprintf("0%031x", gen)
	}
	old.Rev, old.Revisions = couch.Rev{Gen: 5, Hash: hash(5)}, nil
	for gen := 5; gen > 0; gen-- {
		old.Revisions = append(old.Revisions, hash(gen))
	}
	return &old
}
