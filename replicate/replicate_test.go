package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quick = replicate.Options{Retry: replicate.Retry{Min: time.Microsecond, Max: time.Microsecond, Attempts: 1000}}

func mustRun(t testing.TB, source, target couch.DB, o replicate.Options) replicate.Result {
	t.Helper()
	res, err := replicate.RunDB(context.Background(), source, target, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func wantEqual(t interface {
	Helper()
	Fatalf(string, ...any)
}, a, b *memory) {
	t.Helper()
	x, y := a.state(), b.state()
	maps.DeleteFunc(x, func(k, v string) bool {
		same := y[k] == v
		if same {
			delete(y, k)
		}
		return same
	})
	if len(x)+len(y) > 0 {
		t.Fatalf("%s and %s differ:\n%.2000v\n%.2000v", a.name, b.name, x, y)
	}
}

func fill(m *memory, n int) {
	for i := range n {
		m.edit(fmt.Sprintf("doc-%05d", i), couch.Rev{}, fmt.Sprintf(`{"n":%d}`, i), false)
	}
}

// The property: however databases are edited and however often replication

// breaks off, syncing them in a circle makes them equal, and then nothing is left to do.

func TestDatabasesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dbs := make([]*memory, rapid.IntRange(2, 4).Draw(t, "databases"))
		for i := range dbs {
			dbs[i] = newMemory(fmt.Sprint("db", i))
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			for range rapid.IntRange(0, 30).Draw(t, "edits") {
				randomEdit(rng, dbs[rng.IntN(len(dbs))])
			}
			i := rng.IntN(len(dbs))
			source, target := unreliable(dbs[i], rng, 3), unreliable(dbs[(i+1)%len(dbs)], rng, 3)
			o := quick
			o.BatchSize, o.Retry.Attempts = 3, 3 // some runs give up
			_, _ = replicate.RunDB(context.Background(), source, target, o)
		}
		o := quick
		o.BatchSize, o.InlineAttachments = 4, 8
		for range dbs {
			for i := range dbs {
				if _, err := replicate.SyncDB(context.Background(), unreliable(dbs[i], rng, 5), dbs[(i+1)%len(dbs)], o); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range dbs {
			wantEqual(t, dbs[0], dbs[i])
		}
		for i := range dbs {
			res, err := replicate.SyncDB(context.Background(), dbs[i], dbs[(i+1)%len(dbs)], quick)
			if err != nil || res.Pushed.DocsRead+res.Pulled.DocsRead != 0 {
				t.Fatalf("a second run read documents: %+v %v", res, err)
			}
		}
	})
}

// randomEdit makes, extends, forks or deletes a document, with attachments now and then.

func randomEdit(rng *rand.Rand, m *memory) {
	id := fmt.Sprint("d", rng.IntN(8))
	var parent couch.Rev
	m.mu.Lock()
	if d := m.docs[id]; d != nil && rng.IntN(5) > 0 {
		leaves := d.leaves()
		parent = leaves[rng.IntN(len(leaves))].Rev
	}
	m.mu.Unlock()
	var atts []couch.Attachment
	if rng.IntN(3) == 0 {
		atts = append(atts, attach(fmt.Sprint("f", rng.IntN(3)), fmt.Append(nil, strings.Repeat("x", rng.IntN(20)), rng.IntN(5))))
	}
	m.edit(id, parent, fmt.Sprintf(`{"v":%d}`, rng.IntN(1000)), rng.IntN(6) == 0, atts...)
}

// flaky fails one in every calls, before or after it has done what was asked, or in the middle.

type flaky struct {
	couch.DB
	mu    sync.Mutex
	rng   *rand.Rand
	every int
}

func unreliable(db couch.DB, rng *rand.Rand, every int) couch.DB {
	return &flaky{DB: db, rng: rand.New(rand.NewPCG(rng.Uint64(), 0)), every: every}
}

var errFlaky = errors.New("connection reset")

func (f *flaky) fails() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rng.IntN(f.every) == 0
}

func (f *flaky) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	res, err := f.DB.Changes(ctx, o, func(c *couch.Change) error {
		if f.fails() {
			return errFlaky
		}
		return fn(c)
	})
	return res, err
}

func (f *flaky) RevsDiff(ctx context.Context, docs []couch.DocRevs) ([]couch.RevsDiff, error) {
	if f.fails() {
		return nil, errFlaky
	}
	return f.DB.RevsDiff(ctx, docs)
}

func (f *flaky) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	return f.DB.BulkGet(ctx, refs, o, func(r couch.BulkGetResult) error {
		if f.fails() {
			return errFlaky
		}
		return fn(r)
	})
}

func (f *flaky) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	if f.fails() {
		return nil, errFlaky
	}
	res, err := f.DB.BulkDocs(ctx, docs, o)
	if f.fails() {
		return nil, errFlaky // written, but the answer is lost
	}
	return res, err
}

func (f *flaky) PutLocal(ctx context.Context, doc *couch.Doc) (couch.Rev, error) {
	if f.fails() {
		return couch.Rev{}, errFlaky
	}
	return f.DB.PutLocal(ctx, doc)
}

func (f *flaky) GetLocal(ctx context.Context, id string) (*couch.Doc, error) {
	if f.fails() {
		return nil, errFlaky
	}
	return f.DB.GetLocal(ctx, id)
}

// hanging never gets done with the batch that has the document id.

// picky refuses a whole call for one document, as CouchDB does in places.

// breaking gives attachments that break off every 100 KB.

// script fails calls to Info in a given way.

// slow writes as a slow link does: bytes move all the time, but a call takes long.

// measuring finds how many documents have been read and not written at most.

// asked counts how often a target is asked what it lacks.
type asked struct {
	couch.DB
	n atomic.Int32
}

func (a *asked) RevsDiff(ctx context.Context, docs []couch.DocRevs) ([]couch.RevsDiff, error) {
	a.n.Add(1)
	return a.DB.RevsDiff(ctx, docs)
}

// A target that has nothing is not asked what it lacks; one that has or had something is, and so is that of a live run.
func TestABlankTargetIsNotAsked(t *testing.T) {
	for name, prepare := range map[string]func(b *memory){
		"blank":    func(*memory) {},
		"filled":   func(b *memory) { b.edit("other", couch.Rev{}, `{}`, false) },
		"deleted":  func(b *memory) { b.edit("other", couch.Rev{}, `{}`, true) },
		"purged":   func(b *memory) { b.edit("other", couch.Rev{}, `{}`, false); b.purge("other") },
		"the same": func(b *memory) { fill(b, 10) },
	} {
		a, b := newMemory("a"), newMemory("b")
		fill(a, 100)
		a.edit("doc-00001", couch.Rev{}, `{"conflict":true}`, false)
		prepare(b)
		want := 101 - len(b.docs)
		if b.docs["other"] != nil {
			want++
		}
		target := &asked{DB: b}
		res := mustRun(t, a, target, replicate.Options{BatchSize: 10})
		if n := target.n.Load(); (n == 0) != (name == "blank") || res.MissingChecked != 101 || res.MissingFound != int64(want) || res.DocsWritten != int64(want) {
			t.Errorf("%s: asked %d times, %+v", name, n, res)
		}
		a.edit("later", couch.Rev{}, `{}`, false)
		if res := mustRun(t, a, target, replicate.Options{}); target.n.Load() == 0 || res.MissingChecked != 1 {
			t.Errorf("%s: the next run asks %d times, %+v", name, target.n.Load(), res)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		a, b := newMemory("a"), &asked{DB: newMemory("b")}
		fill(a, 10)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Minute, cancel)
		if res, err := replicate.RunDB(ctx, a, b, replicate.Options{Live: true}); !errors.Is(err, context.Canceled) || res.DocsWritten != 10 || b.n.Load() == 0 {
			t.Errorf("live: asked %d times, %+v %v", b.n.Load(), res, err)
		}
	})
}
