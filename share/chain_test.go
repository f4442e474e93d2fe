package share

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// fork is a successor of an identity that a thief of its key could make.
func fork(t testing.TB, id *Identity) *Identity {
	t.Helper()
	next, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	next.succeeds = append(slices.Clone(id.succeeds), hubdoc.NewSuccession(id.sign, next.id, time.Now()))
	return next
}

// quiet is an identity that says nothing of whom it succeeds.
func quiet(id *Identity) *Identity { c := *id; c.succeeds = nil; return &c }

// tries opens a share as somebody, and returns the status of the refusal, 0 if there is none.
func (w *world) tries(id *Identity, ref string) int {
	w.t.Helper()
	p := w.join(func(c *Config) { c.Identity = id })
	defer func() { _ = p.Close() }()
	r, err := p.Open(w.ctx, ref)
	if err != nil {
		return status(err)
	}
	_ = r.Close()
	return 0
}

// Whichever key of a peer is revoked, none opens the share again: neither at once, nor after a restart.
func TestRevocationOfAChain(t *testing.T) {
	first := newTestIdentity(t)
	second := rotated(t, first)
	third := rotated(t, second)
	beside := fork(t, first)
	later := rotated(t, beside)
	all := map[string]*Identity{
		"the first": first, "the second": second, "the third": third, "a fork": beside, "its successor": later,
		"the first again": quiet(first), "the second, silent": quiet(second), "the third, silent": quiet(third),
		"a fork, silent": quiet(beside), "its successor, silent": quiet(later),
	}
	for name, o := range map[string]ShareOptions{
		"open": {}, "listed": {Allow: []string{first.ID()}},
		"approved": {Approve: func(context.Context, RemoteInfo) (Approval, error) { return Always, nil }},
	} {
		for which, revoked := range map[string]*Identity{"first": first, "second": second, "third": third, "fork": beside} {
			t.Run(name+"/"+which, func(t *testing.T) {
				w := newWorld(t)
				owner := newTestIdentity(t)
				alice := w.join(func(c *Config) { c.Identity = owner })
				s := w.share(alice, "notes", o)
				for _, id := range []*Identity{first, second, third, beside} { // it has seen these
					if got := w.tries(id, s.ID()); got != 0 {
						t.Fatal(got)
					}
				}
				w.must(s.Revoke(w.ctx, revoked.ID(), "Lost."))
				// Who shows the link first, and then hides it, is still who it is.
				if got := w.tries(later, s.ID()); got != 403 {
					t.Errorf("a fork's successor, which shows it: %d", got)
				}
				for who, id := range all {
					if got := w.tries(id, s.ID()); got != 403 {
						t.Errorf("%s: %d", who, got)
					}
				}
				w.must(alice.Close())
				s, err := w.join(func(c *Config) { c.Identity = owner }).Share(w.ctx, kivikDB(w, "notes"), o)
				w.must(err)
				for who, id := range all {
					if got := w.tries(id, s.ID()); got != 403 {
						t.Errorf("after a restart, %s: %d", who, got)
					}
				}
				if name != "listed" {
					if got := w.tries(newTestIdentity(t), s.ID()); got != 0 {
						t.Errorf("another peer: %d", got)
					}
				}
				w.must(s.Admit(w.ctx, third.ID()))
				if got := w.tries(third, s.ID()); got != 0 {
					t.Errorf("admitted again: %d", got)
				}
			})
		}
	}
}

// Revoking one key ends what is open with the others, also where a link between them is learnt later.
func TestRevocationEndsAllSessions(t *testing.T) {
	w := newWorld(t)
	first := newTestIdentity(t)
	second := rotated(t, first)
	beside := fork(t, first)
	s := w.share(w.join(nil), "notes", ShareOptions{})
	open := func(id *Identity) *Remote { return w.open(w.join(func(c *Config) { c.Identity = id }), s.ID()) }
	one, two, hidden := open(first), open(second), open(quiet(beside))
	feed := func(r *Remote) <-chan struct{} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range r.Messages(w.ctx) {
			}
		}()
		return ended
	}
	ends := []<-chan struct{}{feed(one), feed(two)}
	ended := feed(hidden)
	w.eventually("three listen", func() bool {
		s.messages.mu.Lock()
		defer s.messages.mu.Unlock()
		return len(s.messages.hearers) == 3
	})
	w.must(s.Revoke(w.ctx, second.ID(), ""))
	mustEnd := func(e <-chan struct{}) {
		t.Helper()
		select {
		case <-e:
		case <-time.After(30 * time.Second):
			t.Fatal("a session goes on")
		}
	}
	for _, e := range ends {
		mustEnd(e)
	}
	select {
	case <-ended:
		t.Fatal("a peer that is not known to be the same was cut off")
	default:
	}
	if got := w.tries(beside, s.ID()); got != 403 {
		t.Errorf("a fork that shows itself: %d", got)
	}
	mustEnd(ended)
	// The key that is revoked need not be there itself.
	old := newTestIdentity(t)
	newer := rotated(t, old)
	if got := w.tries(newer, s.ID()); got != 0 {
		t.Fatal(got)
	}
	rest := feed(open(old))
	w.eventually("one listens", func() bool {
		s.messages.mu.Lock()
		defer s.messages.mu.Unlock()
		return len(s.messages.hearers) == 1
	})
	w.must(s.Revoke(w.ctx, newer.ID(), ""))
	mustEnd(rest)
}

// A share document in the hub links keys, too.
func TestRevocationKnowsSharers(t *testing.T) {
	w := newWorld(t)
	first := newTestIdentity(t)
	second := rotated(t, first)
	s := w.share(w.join(nil), "notes", ShareOptions{})
	sharer := w.join(func(c *Config) { c.Identity = second })
	w.share(sharer, "theirs", ShareOptions{})
	w.eventually("the sharer is known", func() bool { return len(s.peer.dir.links(first.ID())) > 0 })
	w.must(s.Revoke(w.ctx, second.ID(), ""))
	w.must(sharer.Close())
	if got := w.tries(first, s.ID()); got != 403 {
		t.Errorf("%d", got)
	}
}

// What is revoked while nobody serves is revoked for all keys.
func TestRevokeStoredChain(t *testing.T) {
	w := newWorld(t)
	owner, first := newTestIdentity(t), newTestIdentity(t)
	second := rotated(t, first)
	alice := w.join(func(c *Config) { c.Identity = owner })
	s := w.share(alice, "notes", ShareOptions{})
	if got := w.tries(second, s.ID()); got != 0 {
		t.Fatal(got)
	}
	w.must(alice.Close())
	if _, err := RevokeStored(w.ctx, kivikDB(w, "notes"), owner, second.ID(), ""); err != nil {
		t.Fatal(err)
	}
	s, err := w.join(func(c *Config) { c.Identity = owner }).Share(w.ctx, kivikDB(w, "notes"), ShareOptions{})
	w.must(err)
	for who, id := range map[string]*Identity{"the older key": first, "the newer": second, "a third": rotated(t, second), "a fork": fork(t, first)} {
		if got := w.tries(id, s.ID()); got != 403 {
			t.Errorf("%s: %d", who, got)
		}
	}
}

// A key that is taken off the allowlist, and what succeeds it, is not let in for an older one that stays.
func TestTakenOffTheAllowlist(t *testing.T) {
	w := newWorld(t)
	owner, first := newTestIdentity(t), newTestIdentity(t)
	second := rotated(t, first)
	third := rotated(t, second)
	serve := func(allow ...string) (*Peer, *Share) {
		p := w.join(func(c *Config) { c.Identity = owner })
		s, err := p.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Allow: append(allow, newTestIdentity(t).ID())})
		w.must(err)
		return p, s
	}
	w.create("notes")
	for _, tt := range []struct {
		allow                []string
		first, second, third int
	}{
		{[]string{first.ID(), second.ID()}, 0, 0, 0},
		{[]string{first.ID()[:19]}, 0, 403, 403},
		{[]string{first.ID()}, 0, 403, 403},
		{[]string{second.ID()}, 403, 0, 0},
		{nil, 403, 403, 403},
	} {
		p, s := serve(tt.allow...)
		for i, id := range []*Identity{first, second, third} {
			if got, want := w.tries(id, s.ID()), []int{tt.first, tt.second, tt.third}[i]; got != want {
				t.Errorf("%v: key %d: %d, not %d", tt.allow, i+1, got, want)
			}
		}
		w.must(p.Close())
	}
}

// A one-time invite stays its user's when that one changes its keys, and nobody else's.
func TestInviteFollowsRotation(t *testing.T) {
	w := newWorld(t)
	s := w.share(w.join(nil), "notes", ShareOptions{Invited: true})
	link, _, err := s.Invite(w.ctx, InviteOptions{Once: true})
	w.must(err)
	first := newTestIdentity(t)
	for _, tt := range []struct {
		id   *Identity
		want int
	}{{first, 0}, {newTestIdentity(t), 403}, {rotated(t, first), 0}} {
		if got := w.tries(tt.id, link); got != tt.want {
			t.Errorf("%d, not %d", got, tt.want)
		}
	}
}

// However many links strangers show, those that matter stay, and the lists stay small.
func TestLinksAreBounded(t *testing.T) {
	id := func(kind string, i int) string { return fmt.Sprintf("%s-%d", kind, i) }
	l := &accessLists{Revoked: map[string]revocation{"bad-1": {}}, Allow: []string{"good-1"}}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.link([]keyLink{{"bad-0", "bad-1"}, {"good-1", "good-2"}}))
	for i := range 2 * maxLoose {
		must(l.link([]keyLink{{id("a", i), id("b", i)}}))
	}
	if len(l.Links) != maxLoose+2 || !slices.Contains(l.Links, keyLink{"bad-0", "bad-1"}) || !slices.Contains(l.Links, keyLink{"good-1", "good-2"}) {
		t.Errorf("%d links", len(l.Links))
	}
	var err error
	for i := 1; i < 2*maxChain && err == nil; i++ {
		err = l.link([]keyLink{{"bad-1", id("more", i)}})
	}
	if err == nil || len(newKinship(l.Links).of("bad-0")) != maxChain {
		t.Error(err, len(newKinship(l.Links).of("bad-0")))
	}
}
