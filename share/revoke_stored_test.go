package share

import (
	"context"
	"errors"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// What is noted in the database while nobody serves the share holds when it is served again, and a process that
// serves it without being told keeps it when it changes the lists itself.
func TestRevokeStored(t *testing.T) {
	w := newWorld(t)
	db := w.create("notes")
	id, err := NewIdentity()
	w.must(err)
	bob, carol := w.join(nil), w.join(nil)
	if _, err := RevokeStored(t.Context(), db, id, bob.ID()[:9], ""); status(err) != 404 {
		t.Errorf("a beginning that nobody knows: %v", err)
	}
	for _, bad := range []string{"", "x", bob.ID() + "x"} {
		if _, err := RevokeStored(t.Context(), db, id, bad, ""); status(err) != 400 && status(err) != 404 {
			t.Errorf("%q: %v", bad, err)
		}
	}
	peer, err := RevokeStored(t.Context(), db, id, bob.ID(), "Bye.")
	if w.must(err); peer != bob.ID() {
		t.Errorf("%s", peer)
	}
	alice := w.join(func(c *Config) { c.Identity = id })
	s, err := alice.Share(t.Context(), db, ShareOptions{})
	w.must(err)
	if is, err := ShareID(t.Context(), db, id); err != nil || is != s.ID() {
		t.Errorf("%s, %v; want %s", is, err, s.ID())
	}
	if _, err := bob.Open(t.Context(), s.ID()); status(err) != 403 {
		t.Errorf("bob: %v", err)
	}
	w.must(w.open(carol, s.ID()).Close())
	// Another process notes carol meanwhile.
	_, err = RevokeStored(t.Context(), db, id, carol.ID(), "")
	w.must(err)
	w.must(s.Admit(t.Context(), bob.ID()))
	if _, err := carol.Open(t.Context(), s.ID()); status(err) != 403 {
		t.Errorf("carol: %v", err)
	}
	w.must(w.open(bob, s.ID()).Close())
}

// The entry of a sharer that has died without a word is taken out of the hub by its owner alone;
// an order to it is answered by nobody.
func TestWithdraw(t *testing.T) {
	w := newWorld(t)
	id, err := NewIdentity()
	w.must(err)
	dead := w.join(func(c *Config) { c.Identity = id })
	s := w.share(dead, "notes", ShareOptions{})
	owner, other := w.join(func(c *Config) { c.Identity = id }), w.join(nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ordered := make(chan error, 1)
	go func() { ordered <- owner.command(ctx, address(id.ID(), "gone"), revokeOrder{Share: s.ID()}) }()
	w.eventually("the order is sent", func() bool { return len(w.hubDocs(signalDocPrefix)) > 0 })
	cancel()
	if err := <-ordered; !errors.Is(err, ErrNotServed) {
		t.Errorf("an order to nobody: %v", err)
	}
	if err := other.Withdraw(t.Context(), s.ID()); !errors.Is(err, couch.ErrForbidden) {
		t.Errorf("by another: %v", err)
	}
	w.must(owner.Withdraw(t.Context(), s.ID()))
	if left := w.hubDocs(shareDocPrefix); len(left) != 0 {
		t.Errorf("%q", left)
	}
	for _, err := range []error{owner.Withdraw(t.Context(), s.ID()), owner.Revoke(t.Context(), s.ID(), "", "")} {
		if !errors.Is(err, couch.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
	}
	if err := owner.Revoke(t.Context(), s.ID(), other.ID(), ""); !errors.Is(err, ErrNotServed) {
		t.Errorf("revoke: %v", err)
	}
}
