package share

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// A hostileHub is a hub whose operator rewrites what it tells those who joined through it.
type hostileHub struct {
	couch.Store
	mu      sync.Mutex
	rewrite func(*couch.Doc) []*couch.Doc // nil: as it is; none: dropped
	changed int                           // documents that it was not told as they are
}

func (w *world) hostileHub() (*hostileHub, *kivik.DB) {
	h := &hostileHub{Store: w.store}
	return h, couchkivik.DB(DriverName, h, "hub")
}

// attack sets what is done to each document from now on, and returns to how many something was done until now.
func (h *hostileHub) attack(rewrite func(*couch.Doc) []*couch.Doc) (changed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed, h.changed = h.changed, 0
	h.rewrite = rewrite
	return changed
}

func (h *hostileHub) tell(d *couch.Doc) []*couch.Doc {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rewrite == nil || d == nil {
		return []*couch.Doc{d}
	}
	told := h.rewrite(d)
	if len(told) != 1 || told[0] != d {
		h.changed++
	}
	return told
}

func (h *hostileHub) Open(ctx context.Context, name string) (couch.DB, error) {
	db, err := h.Store.Open(ctx, name)
	return hostileDB{db, h}, err
}

type hostileDB struct {
	couch.DB
	h *hostileHub
}

func (d hostileDB) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	doc, err := d.DB.Get(ctx, id, o)
	if err != nil {
		return nil, err
	}
	if told := d.h.tell(doc); len(told) > 0 {
		return told[0], nil
	}
	return nil, couch.NotFound("missing")
}

func (d hostileDB) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	return d.DB.AllDocs(ctx, o, func(r *couch.Row) error {
		for _, doc := range d.h.tell(r.Doc) {
			row := *r
			if row.Doc = doc; doc != nil {
				row.ID = doc.ID
			}
			if err := fn(&row); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d hostileDB) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	return d.DB.Changes(ctx, o, func(c *couch.Change) error {
		if c.Deleted {
			return fn(c)
		}
		for _, doc := range d.h.tell(c.Doc) {
			row := *c
			if row.Doc = doc; doc != nil {
				row.ID = doc.ID
			}
			if err := fn(&row); err != nil {
				return err
			}
		}
		return nil
	})
}

// edited is a document with other members.
func edited(d *couch.Doc, members map[string]any) *couch.Doc {
	var m map[string]any
	_ = json.Unmarshal(d.Body, &m)
	maps.Copy(m, members)
	body, _ := json.Marshal(m)
	return &couch.Doc{ID: d.ID, Rev: d.Rev, Body: body}
}

func isSignal(d *couch.Doc) (signalDoc, bool) {
	var s signalDoc
	err := json.Unmarshal(d.Body, &s)
	return s, err == nil && s.Type == "signal"
}

// Whatever a hub makes of a signal (another payload, another sender, another
// recipient, another session or number, another time, the sender's own signal sent back), it is not delivered.
func TestAttackSignalsRewritten(t *testing.T) {
	mallory := newTestIdentity(t)
	attacks := map[string]func(d *couch.Doc, s signalDoc, victim *Peer) *couch.Doc{
		"payload sealed anew, the sender's signature": func(d *couch.Doc, s signalDoc, victim *Peer) *couch.Doc {
			info, _ := canonical(d.ID, d.Body, "payload", "signature")
			sealed, _ := sealTo(victim.id.Keys().Seal, info, []byte("v=0 mallory's SDP"))
			return edited(d, map[string]any{"payload": sealed})
		},
		"signed by another, in the sender's name": func(d *couch.Doc, s signalDoc, victim *Peer) *couch.Doc {
			out, _ := mallory.newSignalDoc(Signal{To: s.To, From: s.From, Session: s.Session, Kind: s.Kind, Payload: []byte("v=0")}, s.Seq, victim.id.Keys().Seal, time.Now())
			return out
		},
		"signed by another, with the sender's key": func(d *couch.Doc, s signalDoc, victim *Peer) *couch.Doc {
			body, _ := mallory.signBody(d.ID, d.Body)
			return &couch.Doc{ID: d.ID, Body: body}
		},
		"another key for the answer": func(d *couch.Doc, s signalDoc, _ *Peer) *couch.Doc {
			return edited(d, map[string]any{"keys": Keys{Sign: s.Keys.Sign, Seal: mallory.Keys().Seal}})
		},
		"another session": func(d *couch.Doc, s signalDoc, _ *Peer) *couch.Doc {
			return edited(d, map[string]any{"session": "other"})
		},
		"another number": func(d *couch.Doc, s signalDoc, _ *Peer) *couch.Doc {
			return edited(d, map[string]any{"seq": s.Seq + 1})
		},
		"another kind": func(d *couch.Doc, s signalDoc, _ *Peer) *couch.Doc {
			return edited(d, map[string]any{"kind": "bye"})
		},
		"another time": func(d *couch.Doc, s signalDoc, _ *Peer) *couch.Doc {
			return edited(d, map[string]any{"time": formatTime(time.Now().Add(time.Second))})
		},
		"under another id": func(d *couch.Doc, s signalDoc, _ *Peer) *couch.Doc {
			return reID(d, signalDocID(time.Now()))
		},
		"reflected to its sender": func(d *couch.Doc, s signalDoc, victim *Peer) *couch.Doc {
			return edited(d, map[string]any{"to": s.From, "from": s.To})
		},
		"reflected, as from itself": func(d *couch.Doc, s signalDoc, victim *Peer) *couch.Doc {
			return edited(d, map[string]any{"to": s.From})
		},
		"for another process of the peer": func(d *couch.Doc, s signalDoc, victim *Peer) *couch.Doc {
			return edited(d, map[string]any{"to": victim.address()}) // it was to another instance
		},
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		honest := w.hub
		hub, db := w.hostileHub()
		w.hub = db
		alice, bob := w.join(nil), w.join(nil)
		w.hub = honest
		w.share(alice, "notes", ShareOptions{})
		atAlice, atBob := w.inbox(alice), w.inbox(bob)
		for name, change := range attacks {
			hub.attack(func(d *couch.Doc) []*couch.Doc {
				if s, ok := isSignal(d); ok {
					return []*couch.Doc{change(d, s, alice)}
				}
				return []*couch.Doc{d}
			})
			to, before := alice.address(), len(atAlice())
			if name == "for another process of the peer" {
				to = address(alice.ID(), "other")
			}
			w.must(bob.mailbox.Send(w.ctx, Signal{To: to, Session: name, Kind: "hello", Payload: []byte("v=0")}))
			synctest.Wait()
			if hub.attack(nil) == 0 {
				t.Fatalf("%s: the attack did not take place", name)
			}
			if got := append(atAlice()[before:], atBob()...); len(got) != 0 {
				t.Errorf("%s: delivered: %q", name, got)
			}
			w.must(bob.mailbox.Send(w.ctx, Signal{To: alice.address(), Session: name + ", after", Kind: "hello", Payload: []byte("v=0")}))
			synctest.Wait()
			if got := atAlice()[before:]; len(got) != 1 {
				t.Errorf("%s: after the attack: %q", name, got)
			}
		}
	})
}

// A hub that tells every signal again and again, at once and later, changes nothing.
func TestAttackSignalsReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		honest := w.hub
		hub, db := w.hostileHub()
		w.hub = db
		id := newTestIdentity(t)
		alice := w.join(func(c *Config) { c.Identity = id })
		w.hub = honest
		bob := w.join(nil)
		w.share(alice, "notes", ShareOptions{})
		got := w.inbox(alice)
		var seen []*couch.Doc
		hub.attack(func(d *couch.Doc) []*couch.Doc {
			if _, ok := isSignal(d); !ok {
				return []*couch.Doc{d}
			}
			seen = append(seen, d)
			return append(slices.Clone(seen), seen...)
		})
		send := func(session string) {
			w.must(bob.mailbox.Send(w.ctx, Signal{To: alice.address(), Session: session, Kind: "offer", Payload: []byte(session)}))
			synctest.Wait()
		}
		send("1")
		send("2")
		time.Sleep(2*signalAge + time.Second)
		alice.mailbox.mu.Lock()
		alice.mailbox.sessions.forget(time.Now(), 2*signalAge) // as in a flood: the first sessions are forgotten
		alice.mailbox.mu.Unlock()
		send("3")
		if !slices.Equal(got(), []string{"offer 1", "offer 2", "offer 3"}) {
			t.Errorf("%q", got())
		}
		// Nor does a restarted process take its predecessor's signals.
		w.must(alice.Close())
		w.hub = db
		again := w.join(func(c *Config) { c.Identity = id })
		w.hub = honest
		late := w.inbox(again)
		s, err := again.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{})
		w.must(err)
		w.eventually("bob knows the new process", func() bool { d, _ := bob.dir.get(s.ID()); return d != nil && d.address() == again.address() })
		w.must(bob.mailbox.Send(w.ctx, Signal{To: again.address(), Session: "4", Kind: "offer", Payload: []byte("4")}))
		synctest.Wait()
		if !slices.Equal(late(), []string{"offer 4"}) {
			t.Errorf("%q", late())
		}
	})
}

// A hub that loses signals costs time, not the connection.
func TestAttackSignalsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hub, db := w.hostileHub()
		w.hub = db
		alice, bob := w.join(nil), w.join(nil)
		s := w.share(alice, "notes", ShareOptions{})
		r := w.open(bob, s.ID())
		lost := 0
		hub.attack(func(d *couch.Doc) []*couch.Doc {
			if _, ok := isSignal(d); ok && lost < 6 { // is told to both: three attempts
				lost++
				return nil
			}
			return []*couch.Doc{d}
		})
		alice.transport.(*memTransport).cut()
		synctest.Wait()
		r.http.CloseIdleConnections()
		began := time.Now()
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Minute)
		defer cancel()
		if _, err := r.DB().Stats(ctx); err != nil {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		if hub.attack(nil) < 2 {
			t.Error("the attack did not take place")
		}
		if took := time.Since(began); took > 3*(dialTime+redialMax) {
			t.Errorf("took %v", took)
		}
	})
}

// A flood of signals, properly signed and sealed, takes bounded memory, and a
// good peer gets through it.
func TestAttackSignalFlood(t *testing.T) {
	w := newWorld(t)
	honest := w.hub
	hub, db := w.hostileHub()
	w.hub = db
	quiet := func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil)) }
	alice := w.join(quiet)
	w.hub = honest
	s := w.share(alice, "notes", ShareOptions{})
	mallory := newTestIdentity(t)
	payload := make([]byte, 60<<10)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const signals = 80 // with 4.9 MB of payload
	for i := range signals {
		seq := uint64(1 + i%(maxHeld-1)) // the first of its session never comes
		d, err := mallory.newSignalDoc(Signal{To: alice.address(), From: address(mallory.ID(), "i"), Session: fmt.Sprint(i), Kind: "offer", Payload: payload}, seq, alice.id.Keys().Seal, time.Now())
		w.must(err)
		alice.mailbox.apply(d)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > maxHeldBytes+2<<20 {
		t.Errorf("%d signals keep %d bytes", signals, grown)
	}
	alice.mailbox.mu.Lock()
	if held := alice.mailbox.sessions.held; held > maxHeldBytes {
		t.Errorf("%d bytes of payloads wait", held)
	}
	alice.mailbox.mu.Unlock()
	// Junk with every real document.
	junk := &couch.Doc{ID: signalDocID(time.Now()), Body: []byte(`{"type":"signal","v":1,"to":"` + alice.address() + `"}`)}
	hub.attack(func(d *couch.Doc) []*couch.Doc {
		return append(slices.Repeat([]*couch.Doc{junk}, 200), d)
	})
	r := w.open(w.join(nil), s.ID())
	if _, err := r.DB().Stats(w.ctx); err != nil {
		t.Error(err)
	}
	alice.mailbox.trash.mu.Lock()
	defer alice.mailbox.trash.mu.Unlock()
	if n := len(alice.mailbox.trash.docs); n > maxTrash {
		t.Errorf("%d documents to be deleted are remembered", n)
	}
}
