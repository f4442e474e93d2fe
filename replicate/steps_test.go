package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

// A fuse ends a replication at its nth call to either end, before or after the
// call has done what was asked, as the death of the process or of that end does.
type fuse struct {
	mu    sync.Mutex
	left  int
	after bool
	blown bool
	end   context.CancelFunc
}

var errDead = errors.New("dead")

func (f *fuse) do(call func() error) error {
	f.mu.Lock()
	f.left--
	last := f.left == 0
	if f.blown || last && !f.after {
		f.blow()
		f.mu.Unlock()
		return errDead
	}
	f.mu.Unlock()
	err := call()
	f.mu.Lock()
	defer f.mu.Unlock()
	if last || f.blown {
		f.blow()
		return errDead
	}
	return err
}

func (f *fuse) blow() {
	f.blown = true
	f.end()
}

// mortal is an end whose calls all go through a fuse, and that watches what is read of it.
type mortal struct {
	couch.DB
	f    *fuse
	read func(couch.DocRef)
}

func (m *mortal) Info(ctx context.Context) (i *couch.Info, err error) {
	err = m.f.do(func() error { i, err = m.DB.Info(ctx); return err })
	return i, err
}

func (m *mortal) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (res couch.ChangesResult, err error) {
	err = m.f.do(func() error { res, err = m.DB.Changes(ctx, o, fn); return err })
	return res, err
}

func (m *mortal) RevsDiff(ctx context.Context, docs []couch.DocRevs) (out []couch.RevsDiff, err error) {
	err = m.f.do(func() error { out, err = m.DB.RevsDiff(ctx, docs); return err })
	return out, err
}

func (m *mortal) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for _, ref := range refs {
		m.read(ref)
	}
	return m.f.do(func() error { return m.DB.BulkGet(ctx, refs, o, fn) })
}

func (m *mortal) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (a *couch.Attachment, err error) {
	err = m.f.do(func() error { a, err = m.DB.Attachment(ctx, id, name, rev, offset); return err })
	return a, err
}

func (m *mortal) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) (out []couch.WriteResult, err error) {
	err = m.f.do(func() error { out, err = m.DB.BulkDocs(ctx, docs, o); return err })
	return out, err
}

func (m *mortal) GetLocal(ctx context.Context, id string) (d *couch.Doc, err error) {
	err = m.f.do(func() error { d, err = m.DB.GetLocal(ctx, id); return err })
	return d, err
}

func (m *mortal) PutLocal(ctx context.Context, d *couch.Doc) (rev couch.Rev, err error) {
	err = m.f.do(func() error { rev, err = m.DB.PutLocal(ctx, d); return err })
	return rev, err
}

// The property: whichever call of a two-way replication was its last, done or
// not, the next one finishes the work, reads nothing that the other end has, and leaves nothing to do.
func TestEveryStepMayBeTheLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		a, b := newMemory("a"), newMemory("b")
		o := quick
		o.BatchSize, o.InlineAttachments, o.InFlight = rapid.IntRange(1, 5).Draw(t, "batch"), 8, rapid.IntRange(1, 3).Draw(t, "in flight")
		if rapid.Bool().Draw(t, "resolve") {
			o.Resolver = union
		}
		if rapid.Bool().Draw(t, "modify") {
			same := func(d *replicate.Document) (*replicate.Document, error) { return d, nil }
			o.Push, o.Pull, o.FuncsVersion = same, same, "same"
		}
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			for range rapid.IntRange(1, 15).Draw(t, "edits") {
				randomEdit(rng, []*memory{a, b}[rng.IntN(2)])
			}
			// The run dies at every step in turn, each time with what the one before has left.
			for step := 1; ; step += rapid.IntRange(1, 4).Draw(t, "steps") {
				ctx, cancel := context.WithCancel(context.Background())
				f := &fuse{left: step, after: rng.IntN(2) == 0, end: cancel}
				_, err := replicate.SyncDB(ctx, mortalOf(t, a, b, f, o), mortalOf(t, b, a, f, o), o)
				cancel()
				if !f.blown {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				if rng.IntN(4) == 0 { // one end loses its checkpoints
					clear([]*memory{a, b}[rng.IntN(2)].log)
				}
			}
			wantEqual(t, a, b)
			res, err := replicate.SyncDB(context.Background(), a, b, o)
			if n := res.Pushed.MissingChecked + res.Pulled.MissingChecked; err != nil || n > 0 {
				t.Fatalf("%d revisions compared that the checkpoint covers: %+v %v", n, res, err)
			}
		}
	})
}

// mortalOf is m, of which nothing is read that other has. (A resolver reads leaves without naming them.)
func mortalOf(t *rapid.T, m, other *memory, f *fuse, _ replicate.Options) couch.DB {
	had := other.state()
	return &mortal{DB: m, f: f, read: func(ref couch.DocRef) {
		if _, ok := had[ref.ID+" "+ref.Rev.String()]; ok {
			t.Errorf("%s %s is read, which the other end has", ref.ID, ref.Rev)
		}
	}}
}

// editWhereItIs edits a document in the first database that has it.
func editWhereItIs(dbs []*memory, id string) {
	for _, db := range dbs {
		if d := db.docs[id]; d != nil {
			db.edit(id, d.leaves()[0].Rev, `{"after":"purge"}`, false)
			return
		}
	}
}

// The property: a partition of the databases, in which each part goes on by itself, heals. A document that one of
// them purges meanwhile comes back to it, whole, with the next edit anywhere.
func TestPartitionsHeal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		dbs := make([]*memory, 5)
		for i := range dbs {
			dbs[i] = newMemory(fmt.Sprint("db", i))
		}
		o := quick
		o.BatchSize, o.InlineAttachments = 3, 8
		if rapid.Bool().Draw(t, "filter") { // what passes, passes everywhere
			o.FuncsVersion = "not d0"
			o.Filter = func(id string, _ *replicate.Document) bool { return id != "d0" }
		}
		sync := func(i, j int) {
			if _, err := replicate.SyncDB(context.Background(), unreliable(dbs[i], rng, 6), unreliable(dbs[j], rng, 6), o); err != nil {
				t.Fatal(err)
			}
		}
		purged := map[string]bool{}
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			part := make([]int, len(dbs))
			for i := range part {
				part[i] = rng.IntN(2)
			}
			for range rapid.IntRange(0, 20).Draw(t, "edits") {
				randomEdit(rng, dbs[rng.IntN(len(dbs))])
				if i, j := rng.IntN(len(dbs)), rng.IntN(len(dbs)); i != j && part[i] == part[j] && rng.IntN(4) == 0 {
					sync(i, j)
				}
				if id := fmt.Sprint("d", 1+rng.IntN(7)); rng.IntN(8) == 0 {
					dbs[rng.IntN(len(dbs))].purge(id)
					purged[id] = true
				}
			}
		}
		for id := range purged {
			editWhereItIs(dbs, id)
		}
		for range 2 {
			for i := range len(dbs) - 1 { // a line; the second time around everything is everywhere
				sync(i, i+1)
			}
			for i := len(dbs) - 1; i > 0; i-- {
				sync(i-1, i)
			}
		}
		for _, db := range dbs {
			if o.Filter != nil {
				delete(db.docs, "d0")
			}
			wantEqual(t, dbs[0], db)
		}
	})
}
