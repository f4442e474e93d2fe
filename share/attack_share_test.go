package share

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func isShare(d *couch.Doc) bool {
	var s shareDoc
	return json.Unmarshal(d.Body, &s) == nil && s.Type == "share"
}

// A hub that edits a share document, or puts another's into its place, is not
// believed by who has the share's link, whether he knew the share before or not: nothing
// goes to mallory, who shares a database of the same name and answers to whatever comes.
func TestAttackShareSwapped(t *testing.T) {
	attacks := map[string]func(d *couch.Doc, mallory *Identity) *couch.Doc{
		"another's share under its id": func(d *couch.Doc, mallory *Identity) *couch.Doc {
			return reID(someShareNow(mallory), d.ID)
		},
		"another's share, signed for its id": func(d *couch.Doc, mallory *Identity) *couch.Doc {
			body, _ := mallory.signBody(d.ID, someShareNow(mallory).Body)
			return &couch.Doc{ID: d.ID, Body: body}
		},
		"another's key": func(d *couch.Doc, mallory *Identity) *couch.Doc {
			body, _ := mallory.signBody(d.ID, edited(d, map[string]any{"keys": mallory.Keys()}).Body)
			return &couch.Doc{ID: d.ID, Body: body}
		},
		"another's sealing key": func(d *couch.Doc, mallory *Identity) *couch.Doc {
			var s shareDoc
			_ = json.Unmarshal(d.Body, &s)
			return edited(d, map[string]any{"keys": Keys{Sign: s.Keys.Sign, Seal: mallory.Keys().Seal}})
		},
		"another peer": func(d *couch.Doc, mallory *Identity) *couch.Doc {
			return edited(d, map[string]any{"peer": mallory.ID()})
		},
		"another process": func(d *couch.Doc, _ *Identity) *couch.Doc { return edited(d, map[string]any{"instance": "x"}) },
		"another name":    func(d *couch.Doc, _ *Identity) *couch.Doc { return edited(d, map[string]any{"name": "x"}) },
		"more rights":     func(d *couch.Doc, _ *Identity) *couch.Doc { return edited(d, map[string]any{"access": ReadWrite}) },
		"a longer lease": func(d *couch.Doc, _ *Identity) *couch.Doc {
			return edited(d, map[string]any{"expires": formatTime(time.Now().Add(time.Hour))})
		},
		"a successor": func(d *couch.Doc, mallory *Identity) *couch.Doc {
			next, _ := mallory.Rotate()
			return edited(d, map[string]any{"succeeds": next.succeeds})
		},
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		honest := w.hub
		hub, db := w.hostileHub()
		w.hub = db
		early := w.join(nil)
		w.hub = honest
		alice, mallory := w.join(nil), newTestIdentity(t)
		s := w.share(alice, "notes", ShareOptions{ReadOnly: true})
		r := w.open(early, s.ID()) // knows the share already
		for name, change := range attacks {
			hub.attack(func(d *couch.Doc) []*couch.Doc {
				if isShare(d) {
					return []*couch.Doc{change(d, mallory)}
				}
				return []*couch.Doc{d}
			})
			w.must(s.publish(w.ctx)) // a renewal
			synctest.Wait()
			if i := r.Info(); i.Peer != alice.ID() || i.Name != "notes" || i.Access != ReadOnly || len(i.Predecessors) > 0 {
				t.Errorf("%s: who knew it believes %+v", name, i)
			}
			w.hub = db
			late := w.join(nil)
			w.hub = honest
			ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
			if r, err := late.Open(ctx, s.Link()); err == nil || status(err) != 404 {
				t.Errorf("%s: who did not know it: %v, %+v", name, err, r)
			}
			cancel()
			if infos := mustShares(w, late); len(infos) != 0 {
				t.Errorf("%s: is listed: %+v", name, infos)
			}
			if hub.attack(nil) == 0 {
				t.Fatalf("%s: the attack did not take place", name)
			}
			w.must(late.Close())
			w.must(s.publish(w.ctx)) // is told as it is
			synctest.Wait()
		}
	})
}

func someShareNow(id *Identity) *couch.Doc {
	s := shareDoc{published: time.Now(), expires: time.Now().Add(time.Minute)}
	s.Name, s.DB, s.Instance, s.Nonce, s.Access = "notes", "notes", "i", shareNonce("x"), ReadWrite
	d, _ := id.newShareDoc(s)
	return d
}

// A hub that goes on telling an old document of a share, as its sharer signed it,
// brings nothing back: not to who has seen a later one, and to nobody once its lease is over.
func TestAttackShareReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		honest := w.hub
		hub, db := w.hostileHub()
		w.hub = db
		id := newTestIdentity(t)
		bob := w.join(nil)
		w.hub = honest
		first := w.join(func(c *Config) { c.Identity = id })
		s := w.share(first, "notes", ShareOptions{Name: "old"})
		old, err := first.hub.Get(w.ctx, shareDocPrefix+s.ID(), couch.GetOptions{})
		w.must(err)
		w.must(first.Close())
		second := w.join(func(c *Config) { c.Identity = id })
		_, err = second.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Name: "new", ReadOnly: true})
		w.must(err)
		synctest.Wait()
		if infos := mustShares(w, bob); len(infos) != 1 || infos[0].Name != "new" {
			t.Fatalf("%+v", infos)
		}
		hub.attack(func(d *couch.Doc) []*couch.Doc {
			if isShare(d) {
				return []*couch.Doc{old}
			}
			return []*couch.Doc{d}
		})
		time.Sleep(time.Minute) // renewals, each told as the old document
		if infos := mustShares(w, bob); len(infos) != 1 || infos[0].Name != "new" || infos[0].Access != ReadOnly {
			t.Errorf("who knew better: %+v", infos)
		}
		time.Sleep(2 * defaultLease)
		w.hub = db
		if infos := mustShares(w, w.join(nil)); len(infos) != 0 {
			t.Errorf("after its lease: %+v", infos)
		}
	})
}

// A hub that says a share is gone, or tells nothing of it, ends nobody's work.
func TestAttackShareHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		honest := w.hub
		hub, db := w.hostileHub()
		w.hub = db
		bob := w.join(nil)
		w.hub = honest
		s := w.share(w.join(nil), "notes", ShareOptions{})
		r := w.open(bob, s.ID())
		hub.attack(func(d *couch.Doc) []*couch.Doc {
			if isShare(d) {
				return nil
			}
			return []*couch.Doc{d}
		})
		time.Sleep(2 * defaultLease)
		w.put(r.DB(), "still", `{}`) // over the connection there is
	})
}
