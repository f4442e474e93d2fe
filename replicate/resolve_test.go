package replicate_test

import (
	"context"
	"encoding/json"
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

// union keeps the members and attachments of all leaves; of equal names those of the earlier leaf.
func union(c replicate.Conflict) (*replicate.Document, error) {
	body, out := map[string]json.RawMessage{}, &replicate.Document{}
	for _, leaf := range slices.Backward(c.Leaves) {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(leaf.Body, &members); err != nil {
			return nil, err
		}
		maps.Copy(body, members)
		for _, a := range leaf.Attachments {
			out.Attachments = slices.DeleteFunc(out.Attachments, func(b couch.Attachment) bool { return a.Name == b.Name })
			out.Attachments = append(out.Attachments, a)
		}
	}
	out.Body, _ = json.Marshal(body)
	return out, nil
}

func winner(c replicate.Conflict) (*replicate.Document, error) { return c.Leaves[0], nil }

func conflicts(t interface{ Fatal(...any) }, db couch.Source) (found []replicate.Conflict) {
	if err := replicate.ConflictsDB(context.Background(), db, func(c replicate.Conflict) error { found = append(found, c); return nil }); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestConflictsAreListed(t *testing.T) {
	s := openStore(t)
	db := newDB(t, s, "a")
	m := newMemory("m")
	for i := range 300 {
		id := fmt.Sprintf("d%03d", i)
		m.edit(id, couch.Rev{}, `{"by":1}`, false)
		if i%3 == 0 {
			m.edit(id, couch.Rev{}, `{"by":2}`, i%2 == 0) // half of them deleted
		}
	}
	mustRun(t, m, db, replicate.Options{})
	for name, db := range map[string]couch.DB{"memory": m, "local": db, "remote": serveStore(t, s, false).DB("a")} {
		found := conflicts(t, db)
		if len(found) != 50 {
			t.Errorf("%s: %d conflicts", name, len(found))
		}
		for _, c := range found {
			if len(c.Leaves) != 2 || c.Leaves[0].Rev.Compare(c.Leaves[1].Rev) <= 0 || c.Leaves[0].Body == nil {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
}

// The property: several databases that sync in changing pairs, each with the resolver,
// come to the same leaves, without conflicts, and to rest. Nothing that a resolver kept is lost.
func TestResolversConverge(t *testing.T) {
	for name, resolver := range map[string]replicate.Resolver{"union": union, "winner": winner} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				dbs := make([]*memory, rapid.IntRange(2, 4).Draw(t, "databases"))
				for i := range dbs {
					dbs[i] = newMemory(fmt.Sprint("db", i))
				}
				rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
				o := quick
				o.Resolver, o.BatchSize = resolver, 4
				sync := func(i, j int, every int) {
					_, err := replicate.SyncDB(context.Background(), unreliable(dbs[i], rng, every), dbs[j], o)
					if err != nil {
						t.Fatal(err)
					}
				}
				for range rapid.IntRange(1, 4).Draw(t, "rounds") {
					for range rapid.IntRange(0, 20).Draw(t, "edits") {
						randomEdit(rng, dbs[rng.IntN(len(dbs))])
					}
					if i, j := rng.IntN(len(dbs)), rng.IntN(len(dbs)); i != j {
						sync(i, j, 5)
					}
				}
				for range len(dbs) + 1 {
					for i := range dbs {
						if j := (i + 1) % len(dbs); i != j {
							sync(i, j, 8)
						}
					}
				}
				for _, db := range dbs {
					wantEqual(t, dbs[0], db)
					if found := conflicts(t, db); len(found) > 0 {
						t.Fatalf("%s has conflicts: %v", db.name, found)
					}
				}
			})
		})
	}
}

// Both sides of a live sync run the resolver in a process of their own: they agree.
func TestBothSidesMayResolve(t *testing.T) {
	near, far := openStore(t), openStore(t)
	a, b := newDB(t, near, "a"), newDB(t, far, "b")
	atB, atA := serveStore(t, far, true).DB("b"), serveStore(t, near, true).DB("a")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := replicate.Options{Live: true, Resolver: union}
	one, other := replicate.StartSyncDB(ctx, a, atB, o), replicate.StartSyncDB(ctx, b, atA, o)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 150 {
		editEngine(t, rng, a)
		editEngine(t, rng, b)
	}
	eventually(t, func() error {
		x, y := leafSet(t, a), leafSet(t, b)
		if n := len(conflicts(t, a)) + len(conflicts(t, b)); n > 0 || !maps.Equal(x, y) {
			return fmt.Errorf("%d conflicts, %d and %d leaves", n, len(x), len(y))
		}
		return nil
	})
	resolved := one.State().Total.Counts.Resolved + other.State().Total.Counts.Resolved
	one.Cancel()
	other.Cancel()
	if resolved == 0 {
		t.Error("nothing was resolved")
	}
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// An end that takes no writes is not where conflicts can be resolved: the other one is.
func TestConflictsOfAReadOnlyEndAreResolvedAtTheOther(t *testing.T) {
	for i := range 2 {
		dbs := [2]*memory{newMemory("a"), newMemory("b")}
		dbs[i].edit("x", couch.Rev{}, `{"p":1}`, false)
		dbs[i].edit("x", couch.Rev{}, `{"q":2}`, false)
		dbs[i].refuse = func(*couch.Doc) *couch.Error { return couch.Forbidden("read only") }
		o := quick
		o.Resolver = union
		if _, err := replicate.SyncDB(context.Background(), dbs[0], dbs[1], o); err != nil {
			t.Fatal(err)
		}
		if found := conflicts(t, dbs[1-i]); len(found) > 0 || len(conflicts(t, dbs[i])) != 1 {
			t.Errorf("%d: %v", i, found)
		}
	}
}

func TestResolve(t *testing.T) {
	db := newDB(t, openStore(t), "a")
	m := newMemory("m")
	m.edit("x", couch.Rev{}, `{"p":1}`, false, attach("one", []byte("1")), attach("both", []byte("p")))
	m.edit("x", couch.Rev{}, `{"q":2}`, false, attach("two", []byte("2")), attach("both", []byte("q")))
	m.edit("y", couch.Rev{}, `{"p":1}`, false)
	m.edit("y", couch.Rev{}, `{"q":1}`, false)
	mustRun(t, m, db, replicate.Options{})
	ctx := context.Background()
	n, err := replicate.ResolveDB(ctx, db, func(c replicate.Conflict) (*replicate.Document, error) {
		if c.ID == "y" {
			return &replicate.Document{Deleted: true}, nil
		}
		return union(c)
	})
	if err != nil || n != 2 || len(conflicts(t, db)) != 0 {
		t.Fatal(n, err)
	}
	x, err := db.Get(ctx, "x", couch.GetOptions{Attachments: true})
	if err != nil || string(x.Body) != `{"p":1,"q":2}` || len(x.Attachments) != 3 || x.Rev.Gen != 2 {
		t.Fatalf("%v %s", err, x.AppendJSON(nil))
	}
	if _, err := db.Get(ctx, "y", couch.GetOptions{}); couch.AsError(err).Reason != "deleted" {
		t.Error(err)
	}
}

// Once is enough: a conflict that comes about by a sync is ended at both ends by the same sync.
func TestOneSyncEndsItsConflicts(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	for _, id := range []string{"x", "y"} {
		root := a.edit(id, couch.Rev{}, `{}`, false)
		mustRun(t, a, b, replicate.Options{})
		a.edit(id, root, `{"p":1}`, false)
		b.edit(id, root, `{"q":2}`, false)
	}
	res, err := replicate.SyncDB(context.Background(), a, b, replicate.Options{Resolver: union})
	if err != nil || res.Pushed.Resolved+res.Pulled.Resolved != 2 {
		t.Fatal(res, err)
	}
	wantEqual(t, a, b)
	if found := conflicts(t, a); len(found) > 0 {
		t.Error(found)
	}
	res, err = replicate.SyncDB(context.Background(), a, b, replicate.Options{Resolver: union})
	if n := res.Pushed.MissingChecked + res.Pulled.MissingChecked; err != nil || n > 0 {
		t.Error(n, "revisions are left to compare:", err)
	}
}

// KeepResolved ends the conflicts there are and those that come, and nothing else.
func TestKeepResolved(t *testing.T) {
	store := openStore(t)
	db, kdb := newDB(t, store, "a"), store.DB("a")
	m := newMemory("m")
	clash := func(id string) {
		m.edit(id, couch.Rev{}, `{"p":1}`, false)
		m.edit(id, couch.Rev{}, `{"q":2}`, false)
	}
	clash("x")
	m.edit("plain", couch.Rev{}, `{}`, false)
	mustRun(t, m, db, replicate.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- replicate.KeepResolved(ctx, kdb, union) }()
	resolved := func(id string) {
		t.Helper()
		eventually(t, func() error {
			doc, err := db.Get(ctx, id, couch.GetOptions{})
			if err == nil && string(doc.Body) != `{"p":1,"q":2}` {
				err = fmt.Errorf("%s: %s", id, doc.Body)
			}
			return err
		})
	}
	resolved("x")
	clash("y")
	mustRun(t, m, db, replicate.Options{})
	resolved("y")
	if found := conflicts(t, db); len(found) > 0 {
		t.Error(found)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	broken := errors.New("undecided")
	clash("z")
	mustRun(t, m, db, replicate.Options{})
	if err := replicate.KeepResolved(context.Background(), kdb, func(replicate.Conflict) (*replicate.Document, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}
