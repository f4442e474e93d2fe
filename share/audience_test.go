package share

import (
	"context"
	"slices"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// When a database is shared again and somebody is left out, those have no id of it any
// more; who was revoked stays so, and all the others keep their links.
func TestIDOfAnotherAudience(t *testing.T) {
	w := newWorld(t)
	id, db := newTestIdentity(t), w.create("notes")
	ann, bob := newTestIdentity(t).ID(), newTestIdentity(t).ID()
	share := func(o ShareOptions) (is string) {
		t.Helper()
		p := w.join(func(c *Config) { c.Identity = id })
		s, err := p.Share(w.ctx, db, o)
		w.must(err)
		defer p.Close()
		if _, err := p.Share(w.ctx, db, ShareOptions{Allow: []string{newTestIdentity(t).ID()}}); couch.AsError(err).Code != "already_shared" {
			t.Errorf("it is shared to others at the same time: %v", err)
		}
		if stored, err := ShareID(w.ctx, db, id); err != nil || stored != s.ID() {
			t.Errorf("ShareID is %s, %v, not %s", stored, err, s.ID())
		}
		return s.ID()
	}
	ask := func(context.Context, RemoteInfo) (Approval, error) { return Refuse, nil }
	var seen []string
	for i, tt := range []struct {
		name string
		o    ShareOptions
		same bool
	}{
		{"ann", ShareOptions{Allow: []string{ann}}, false},
		{"ann again", ShareOptions{Allow: []string{ann}, Name: "other", ReadOnly: true}, true},
		{"and bob", ShareOptions{Allow: []string{bob, ann}}, true},
		{"in another order", ShareOptions{Allow: []string{ann, bob}}, true},
		{"bob alone", ShareOptions{Allow: []string{bob}}, false},
		{"ann alone", ShareOptions{Allow: []string{ann}}, false},
		{"a user", ShareOptions{Allow: []string{"user:ann"}}, false},
		{"with invites", ShareOptions{Allow: []string{"user:ann"}, Invited: true}, true},
		{"without", ShareOptions{Allow: []string{"user:ann"}}, false},
		{"asked", ShareOptions{Approve: ask}, false},
		{"everybody", ShareOptions{}, true},
		{"everybody again", ShareOptions{}, true},
		{"asked again", ShareOptions{Approve: ask}, false},
	} {
		is := share(tt.o)
		switch {
		case i == 0:
		case tt.same && is != seen[len(seen)-1]:
			t.Errorf("%s: another id", tt.name)
		case !tt.same && slices.Contains(seen, is):
			t.Errorf("%s: the id of somebody else", tt.name)
		}
		seen = append(seen, is)
	}
	info, err := couchkivik.From(db).Info(w.ctx)
	w.must(err)
	if seen[0] != baseID(id, info) {
		t.Error("the first id is not the one of earlier releases")
	}
	_, err = RevokeStored(w.ctx, db, id, ann, "")
	w.must(err)
	p := w.join(func(c *Config) { c.Identity = id })
	s, err := p.Share(w.ctx, db, ShareOptions{Allow: []string{ann}})
	w.must(err)
	if s.admission.state.revoked(ann) == nil {
		t.Error("a new id forgets who was revoked")
	}
	if ids := docIDs(w, "hub"); !slices.Equal(ids, []string{"share:" + s.ID()}) {
		t.Errorf("the hub has %v", ids)
	}
}

// A process that shares a database to others ends the sharing by another process of the peer.
func TestAudienceIsTakenOver(t *testing.T) {
	w := newWorld(t)
	id := newTestIdentity(t)
	first := w.join(func(c *Config) { c.Identity = id })
	s := w.share(first, "notes", ShareOptions{})
	second := w.join(func(c *Config) { c.Identity = id })
	_, err := second.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Allow: []string{newTestIdentity(t).ID()}})
	w.must(err)
	if err := s.publish(w.ctx); err != ErrTakenOver {
		t.Errorf("it goes on sharing to everybody: %v", err)
	}
}
