package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/internal/fair"
)

// A keeper writes _local documents of a share as its peers do.
type keeper struct {
	*world
	db couch.DB
	v  *view
}

func newKeeper(w *world, claim func(string) fair.Claim) *keeper {
	db := couchkivik.From(kivikDB(w, "notes"))
	l := newLocals(db, "x", slog.New(slog.DiscardHandler))
	l.claim = claim
	return &keeper{w, db, &view{db: db, owner: db, access: ReadOnly, locals: l}}
}

func (k *keeper) as(peer string) context.Context {
	return context.WithValue(k.ctx, streamKey, &stream{peer: peer})
}

func (k *keeper) put(peer, id string, size int) {
	k.t.Helper()
	body := fmt.Appendf(nil, `{"x":%q}`, bytes.Repeat([]byte("x"), size))
	_, err := k.v.PutLocal(k.as(peer), &couch.Doc{ID: id, Body: body})
	k.must(err)
}

func (k *keeper) has(peer, id string) bool {
	k.t.Helper()
	_, err := k.v.GetLocal(k.as(peer), id)
	if err != nil && !errors.Is(err, couch.ErrNotFound) {
		k.t.Fatal(err)
	}
	return err == nil
}

// Readers under as many keys as they like fill no disk, by number or by bytes; the checkpoints of
// others stay, of peers of other users always, and of those who are known for longer than the attacker.
func TestLocalsAreBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		n, size int
		user    string
	}{
		"many documents of a user's keys": {allLocals + 600, 10, "user:mallory"},
		"many bytes of a user's keys":     {allLocalBytes/60_000 + 200, 60_000, "user:mallory"},
		"many documents of nobody's keys": {allLocals + 600, 10, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.create("notes")
			k := newKeeper(w, func(peer string) fair.Claim {
				if strings.HasPrefix(peer, "mallory") && tt.user != "" {
					peer = tt.user
				}
				return fair.Claim{Group: peer}
			})
			k.put("ann", "checkpoint", 2000)
			ann := k.v.locals.peers["ann"]
			ann.first = ann.first.Add(-localKnown - time.Minute) // since yesterday
			for i := range 50 {
				k.put(fmt.Sprint("bob", i), "checkpoint", 2000)
			}
			for i := range tt.n {
				k.put(fmt.Sprint("mallory", i), "x", tt.size)
			}
			l := k.v.locals
			if len(l.all) > allLocals || l.bytes > allLocalBytes || len(l.peers) != len(l.all) {
				t.Errorf("%d documents, %d bytes", len(l.all), l.bytes)
			}
			there := 0
			for i := range tt.n {
				if k.has(fmt.Sprint("mallory", i), "x") {
					there++
				}
			}
			if there+51 < len(l.all) || there > len(l.all) {
				t.Errorf("%d of %d documents are there", there, len(l.all))
			}
			if !k.has("ann", "checkpoint") {
				t.Error("one who has been here for long lost its checkpoint")
			}
			for i := range 50 {
				if tt.user != "" && !k.has(fmt.Sprint("bob", i), "checkpoint") {
					t.Error("another user's peer lost its checkpoint")
				}
			}
			k.put("late", "checkpoint", 2000)
			if !k.has("late", "checkpoint") {
				t.Error("a late one cannot keep any")
			}
		})
	}
}

// One peer keeps so many and so much; its own that were used least lately go. What there is, is known after a restart.
func TestLocalsOfOnePeer(t *testing.T) {
	w := newWorld(t)
	w.create("notes")
	k := newKeeper(w, nil)
	k.put("ann", "hers", 100)
	k.put("bob", "kept", 100)
	for i := range maxLocals + 50 {
		if i%50 == 0 && !k.has("bob", "kept") {
			t.Fatal("what is used is gone")
		}
		k.put("bob", fmt.Sprint("x", i), 100)
	}
	if n := k.v.locals.peers["bob"].docs; n > maxLocals || k.has("bob", "x0") || !k.has("bob", fmt.Sprint("x", maxLocals+49)) || !k.has("ann", "hers") {
		t.Errorf("%d documents", n)
	}
	k.v.locals.flush(w.ctx)
	before := k.v.locals
	k = newKeeper(w, nil)
	k.put("ann", "second", 100)
	if l := k.v.locals; len(l.all) != len(before.all)+1 || l.peers["bob"].docs != before.peers["bob"].docs {
		t.Errorf("%d known after a restart, of %d", len(l.all), len(before.all))
	}
	for i := range 100 {
		k.put("bob", fmt.Sprint("large", i), 60_000)
	}
	if b := k.v.locals.peers["bob"].bytes; b > maxLocalBytes {
		t.Errorf("%d bytes", b)
	}
	d, err := k.v.GetLocal(k.as("ann"), "hers")
	w.must(err)
	_, err = k.v.PutLocal(k.as("ann"), &couch.Doc{ID: "hers", Rev: d.Rev, Deleted: true})
	w.must(err)
	if k.has("ann", "hers") || k.v.locals.peers["ann"].docs != 1 {
		t.Error("a deleted one counts")
	}
}
