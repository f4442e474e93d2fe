package share

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// ask sends a raw request, with more headers ("Name: value"), to the share's host and reads the answer.
func (r *Remote) ask(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	path = strings.NewReplacer(`"`, "%22", "[", "%5B", "]", "%5D").Replace(path)
	req, err := http.NewRequest(method, "http://"+r.id+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if method == "COPY" {
		req.Header.Set("Destination", "copy")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := r.HTTPClient().Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp, string(b)
}

// as makes a peer with an identity.
func (w *world) as(id *Identity) *Peer {
	return w.join(func(c *Config) { c.Identity = id })
}

func (w *world) identity() *Identity {
	w.t.Helper()
	id, err := NewIdentity()
	w.must(err)
	return id
}

// refusedBy checks that a share is refused with a reason.
func (w *world) refusedBy(p *Peer, ref string, o OpenOptions, reason string) {
	w.t.Helper()
	r, err := p.OpenWith(w.ctx, ref, o)
	if err == nil {
		_ = r.Close()
	}
	if status(err) != 403 || !strings.Contains(err.Error(), reason) {
		w.t.Errorf("%v, want 403 %s", err, reason)
	}
}

func (w *world) opens(p *Peer, ref string, o OpenOptions) *Remote {
	w.t.Helper()
	r, err := p.OpenWith(w.ctx, ref, o)
	w.must(err)
	w.t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestAllow(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol, dave := w.join(nil), w.join(nil), w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Allow: []string{bob.ID(), carol.ID()[:19]}})
	w.open(bob, s.ID())
	w.open(carol, s.ID())
	w.refusedBy(dave, s.ID(), OpenOptions{}, errListed.Reason)
	if i := w.open(bob, s.ID()).Info(); i.Admission != Listed {
		t.Errorf("the hub says %q", i.Admission)
	}
	// What too many keys have in common tells nobody.
	for _, id := range []string{ShortID(bob.ID()), bob.ID()[:14], "bob", "", bob.ID() + "-aaaa", bob.ID()[:18]} {
		if _, err := alice.Share(w.ctx, w.create("x"+randomHex(3)), ShareOptions{Allow: []string{id}}); status(err) != 400 {
			t.Errorf("%q: %v", id, err)
		}
	}
	w.must(s.Admit(w.ctx, dave.ID()))
	w.open(dave, s.ID())
}

func TestApprove(t *testing.T) {
	w := newWorld(t)
	id := w.identity()
	alice, bob, carol, dave := w.as(id), w.join(nil), w.join(nil), w.join(nil)
	var asked []RemoteInfo
	approve := func(_ context.Context, i RemoteInfo) (Approval, error) {
		asked = append(asked, i)
		switch i.Peer {
		case bob.ID():
			return Once, nil
		case carol.ID():
			return Always, nil
		}
		return Refuse, errors.New("not today")
	}
	s := w.share(alice, "notes", ShareOptions{Approve: approve})
	w.must(w.opens(bob, s.ID(), OpenOptions{Info: map[string]string{"device": "phone"}}).Close())
	if len(asked) != 1 || string(asked[0].Info) != `{"device":"phone"}` || asked[0].Peer != bob.ID() || asked[0].Name != "notes" {
		t.Errorf("asked about %+v", asked)
	}
	w.must(w.open(carol, s.ID()).Close())
	w.refusedBy(dave, s.ID(), OpenOptions{}, "not today")
	n := len(asked)
	w.refusedBy(dave, s.ID(), OpenOptions{}, errNotNow.Reason)
	if len(asked) != n {
		t.Error("asked again at once about a peer that was refused")
	}
	// After a restart the one is asked about again, the other is not.
	w.must(alice.Close())
	alice = w.as(id)
	again, err := alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Approve: approve})
	w.must(err)
	asked = nil
	w.open(carol, again.ID())
	w.open(bob, again.ID())
	if len(asked) != 1 || asked[0].Peer != bob.ID() {
		t.Errorf("asked about %+v", asked)
	}
	// The zero answer refuses.
	s2 := w.share(alice, "more", ShareOptions{Approve: func(context.Context, RemoteInfo) (Approval, error) { return 0, nil }})
	w.refusedBy(bob, s2.ID(), OpenOptions{}, errNotNow.Reason)
	for _, o := range []OpenOptions{{Info: strings.Repeat("x", maxOpenInfo)}, {Info: func() {}}, {Invite: "a b"}} {
		if _, err := bob.OpenWith(w.ctx, s2.ID(), o); status(err) != 400 {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// A question that nobody answers ends with the one who asks, and with the share.
func TestApproveThatWaits(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	asked, over := make(chan struct{}, 10), make(chan struct{}, 10)
	s := w.share(alice, "notes", ShareOptions{Approve: func(ctx context.Context, _ RemoteInfo) (Approval, error) {
		asked <- struct{}{}
		<-ctx.Done()
		over <- struct{}{}
		return Once, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(w.ctx)
	opened := make(chan error, 2)
	go func() { _, err := bob.Open(ctx, s.ID()); opened <- err }()
	<-asked
	cancel()
	<-over
	if err := <-opened; err == nil {
		t.Error("opened")
	}
	go func() { _, err := bob.Open(w.ctx, s.ID()); opened <- err }()
	<-asked
	w.must(s.Unshare(w.ctx))
	<-over
	if err := <-opened; err == nil {
		t.Error("opened")
	}
}

func TestInvites(t *testing.T) {
	w := newWorld(t)
	id := w.identity()
	alice, bob, carol := w.as(id), w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Invited: true})
	w.refusedBy(bob, s.ID(), OpenOptions{}, errInvite.Reason)
	link, many, err := s.Invite(w.ctx, InviteOptions{Label: "all"})
	w.must(err)
	once, one, err := s.Invite(w.ctx, InviteOptions{Once: true})
	w.must(err)
	late, _, err := s.Invite(w.ctx, InviteOptions{Expires: time.Now().Add(-time.Second)})
	w.must(err)
	l, err := ParseLink(link)
	w.must(err)
	if len(l.Secret) != 26 || l.Share != s.ID() {
		t.Errorf("%s", link)
	}
	r := w.open(bob, link)
	w.must(r.Close())
	w.must(w.opens(carol, s.ID(), OpenOptions{Invite: l.Secret}).Close())
	w.refusedBy(bob, late, OpenOptions{}, errBadInvite.Reason)
	w.refusedBy(bob, s.ID(), OpenOptions{Invite: l.Secret[1:] + "a"}, errBadInvite.Reason)
	w.must(w.open(bob, once).Close())
	w.must(w.open(bob, once).Close()) // the same peer may come again
	w.refusedBy(carol, once, OpenOptions{}, errBadInvite.Reason)
	if all := s.Invites(); len(all) != 2 || all[0].ID != many.ID || all[1].ID != one.ID || all[1].Peer != bob.ID() {
		t.Errorf("%+v", all)
	}
	if d, err := couchkivik.From(kivikDB(w, "notes")).GetLocal(w.ctx, "loveseat-access-"+s.ID()); err != nil || strings.Contains(string(d.Body), l.Secret) {
		t.Errorf("kept: %s, %v", d.Body, err)
	}
	// They outlive the process; a revoked one lets nobody in and cuts off whom it has let in.
	w.must(alice.Close())
	alice = w.as(id)
	s, err = alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Invited: true})
	w.must(err)
	r = w.open(bob, link)
	w.must(s.RevokeInvite(w.ctx, many.ID))
	if _, err := r.DB().Stats(w.ctx); status(err) != 403 {
		t.Errorf("after the invite was revoked: %v", err)
	}
	w.refusedBy(carol, link, OpenOptions{}, errBadInvite.Reason)
	if err := s.RevokeInvite(w.ctx, many.ID); status(err) != 404 {
		t.Error(err)
	}
}

// Who guesses is told nothing and soon refused altogether.
func TestAttackGuessedInvites(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Invited: true})
	link, _, err := s.Invite(w.ctx, InviteOptions{})
	w.must(err)
	for range maxGuesses {
		w.refusedBy(bob, s.ID(), OpenOptions{Invite: randomHex(13)}, errBadInvite.Reason)
	}
	for _, ref := range []string{s.ID() + "", link} {
		_, err := bob.OpenWith(w.ctx, ref, OpenOptions{Invite: map[bool]string{true: "", false: randomHex(13)}[ref == link]})
		if status(err) != 429 || couch.RetryAfter(err) == 0 {
			t.Errorf("after %d guesses: %v", maxGuesses, err)
		}
	}
	w.open(carol, link) // others are not held up
}

// endpoints asks every endpoint of a share and hands on the answers.
func (r *Remote) endpoints(t *testing.T, hc *http.Client, s *Share, fn func(e couchhttp.Endpoint, resp *http.Response, body string, err error)) {
	t.Helper()
	paths := strings.NewReplacer(":db", r.dbName, ":doc", "first", ":ddoc", "d", ":local", "l", "*", "att")
	for _, e := range append(s.api.Endpoints(), couchhttp.Endpoint{Method: "POST", Path: "/_request/x"}, couchhttp.Endpoint{Method: "GET", Path: "/_broadcast"}, couchhttp.Endpoint{Method: "GET", Path: "/no/such/endpoint/at/all"}) {
		ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second) // some would wait for ever
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, e.Method, "http://"+r.id+paths.Replace(e.Path), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := hc.Do(req)
		var body []byte
		if err == nil {
			body, _ = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		fn(e, resp, string(body), err)
	}
}

// closedTo checks that every endpoint refuses with a reason.
func (r *Remote) closedTo(t *testing.T, hc *http.Client, s *Share, reason string) {
	t.Helper()
	r.endpoints(t, hc, s, func(e couchhttp.Endpoint, resp *http.Response, body string, err error) {
		switch {
		case err != nil:
			t.Errorf("%s %s: %v", e.Method, e.Path, err)
		case resp.StatusCode != 403 || e.Method != "HEAD" && !strings.Contains(body, reason):
			t.Errorf("%s %s: %s %s", e.Method, e.Path, resp.Status, body)
		}
	})
}

func TestAttackRefusedPeerOnEveryEndpoint(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	var open atomic.Bool
	open.Store(true)
	s := w.share(alice, "notes", ShareOptions{OnRemote: func(RemoteInfo) error {
		if open.Load() {
			return nil
		}
		return errors.New("friends only")
	}})
	r := w.open(bob, s.ID())
	open.Store(false)
	s.cut(errUnshared, everybody) // it has to come again
	r.closedTo(t, r.HTTPClient(), s, "friends only")
}

func TestAttackRevokedPeerOnEveryEndpoint(t *testing.T) {
	w := newWorld(t)
	id := w.identity()
	alice, bob, carol := w.as(id), w.join(nil), w.join(nil)
	events := make(chan ShareEvent, 100)
	s := w.share(alice, "notes", ShareOptions{OnEvent: func(e ShareEvent) {
		if e.Kind == Revoked {
			events <- e
		}
	}})
	r, c := w.open(bob, s.ID()), w.open(carol, s.ID())
	w.must(s.Revoke(w.ctx, bob.ID(), "You left the team."))
	r.closedTo(t, r.HTTPClient(), s, errRevoked.Reason+" You left the team.")
	if e := <-events; e.Remote.Peer != bob.ID() {
		t.Errorf("%+v", e)
	}
	if _, err := c.DB().Stats(w.ctx); err != nil {
		t.Errorf("another peer: %v", err)
	}
	for _, peer := range []string{"", "bob", ShortID(bob.ID()), bob.ID()[:19]} {
		if err := s.Revoke(w.ctx, peer, ""); status(err) != 400 {
			t.Errorf("%q: %v", peer, err)
		}
	}
	// It holds after a restart, until it is taken back.
	w.must(alice.Close())
	alice = w.as(id)
	s, err := alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{})
	w.must(err)
	w.refusedBy(bob, s.ID(), OpenOptions{}, errRevoked.Reason)
	if at := s.Revoked(); len(at) != 1 || at[bob.ID()].IsZero() {
		t.Errorf("%v", at)
	}
	w.must(s.Admit(w.ctx, bob.ID()))
	w.open(bob, s.ID())
}

// A peer that changes its keys does not come in again by that.
func TestAttackRevokedPeerRotates(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Allow: []string{bob.ID()}})
	i := RemoteInfo{Peer: w.identity().ID(), Predecessors: []string{bob.ID()}}
	if err := s.admission.decide(w.ctx, &i, ""); err != nil {
		t.Errorf("a listed peer with a new key: %v", err)
	}
	w.must(s.Revoke(w.ctx, bob.ID(), ""))
	if err := s.admission.decide(w.ctx, &i, ""); status(err) != 403 {
		t.Errorf("a revoked peer with a new key: %v", err)
	}
}

// Transfers in both directions and feeds that wait are cut when access ends.
func TestAttackTransfersAreCut(t *testing.T) {
	for name, end := range map[string]func(w *world, s *Share, bob *Peer){
		"revoked": func(w *world, s *Share, bob *Peer) { w.must(s.Revoke(w.ctx, bob.ID(), "")) },
		"ended":   func(w *world, s *Share, _ *Peer) { s.end(errExpired) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.join(nil), w.join(nil)
			s := w.share(alice, "notes", ShareOptions{})
			w.put(kivikDB(w, "notes"), "big", `{"x":"`+randomHex(3<<20)+`"}`)
			r := w.open(bob, s.ID())
			cut, feedEnd := make(chan error, 2), make(chan error, 1)
			begun, ended := make(chan struct{}, 2), make(chan struct{})
			get := func(path string, over chan<- error) {
				resp, err := r.HTTPClient().Get(r.URL().String() + path)
				if err == nil {
					_, err = resp.Body.Read(make([]byte, 1))
					begun <- struct{}{}
					<-ended
					if err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
					}
					resp.Body.Close()
				}
				over <- err
			}
			go get("/big", cut)
			go get("/_changes?feed=continuous&heartbeat=60000&since=now", feedEnd)
			up, feed := io.Pipe()
			go func() {
				req, _ := http.NewRequest("PUT", r.URL().String()+"/up/att", up)
				resp, err := r.HTTPClient().Do(req)
				if err == nil {
					if resp.StatusCode < 400 {
						t.Errorf("the upload: %s", resp.Status)
					}
					resp.Body.Close()
					err = errors.New(resp.Status)
				}
				cut <- err
			}()
			_, _ = feed.Write(make([]byte, 64<<10))
			<-begun
			<-begun
			end(w, s, bob)
			close(ended)
			go func() { _, _ = feed.Write(make([]byte, 64<<10)); _ = feed.CloseWithError(io.ErrUnexpectedEOF) }()
			for range 3 {
				select {
				case <-feedEnd: // as if its time were over, or cut
				case err := <-cut:
					if err == nil {
						t.Error("a transfer came to its end")
					}
				case <-time.After(20 * time.Second):
					t.Fatal("a transfer goes on")
				}
			}
			if _, err := couchkivik.From(kivikDB(w, "notes")).Get(w.ctx, "up", couch.GetOptions{}); status(err) != 404 {
				t.Errorf("the upload was taken: %v", err)
			}
			if _, err := r.DB().Stats(w.ctx); status(err) != 403 && !errors.Is(err, errGone) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// direct is a client of a sharer's process that does not ask the hub.
func (w *world) direct(from, to *Peer) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return from.transport.DialContext(ctx, network, to.address())
	}}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// A share ends when its time has come, wherever an opener is, whatever the hub says.
func TestAttackExpiredShareOnEveryEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
		events := make(chan ShareEvent, 10)
		other := w.share(alice, "other", ShareOptions{})
		until := time.Now().Add(time.Minute) // less than a lease
		s := w.share(alice, "notes", ShareOptions{Expires: until, OnEvent: func(e ShareEvent) {
			if e.Kind == Ended {
				events <- e
			}
		}})
		r := w.open(bob, s.ID())
		if i := r.Info(); i.Until == nil || i.Until.After(until) || i.Expires.After(until) {
			t.Errorf("the hub says %+v", i)
		}
		w.open(bob, other.ID())
		if e := <-events; !errors.Is(e.Err, ErrExpired) || time.Now().Before(until) {
			t.Errorf("%+v", e)
		}
		<-s.Done()
		if _, err := r.DB().Stats(w.ctx); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), errExpired.Reason) {
			t.Errorf("afterwards: %v", err)
		}
		r.closedTo(t, w.direct(bob, alice), s, errExpired.Reason)
		r.closedTo(t, w.direct(carol, alice), s, errExpired.Reason)
		if ids := w.hubDocs(shareDocPrefix); len(ids) != 1 {
			t.Errorf("in the hub: %v", ids)
		}
		if _, err := alice.Share(w.ctx, w.create("late"), ShareOptions{Expires: time.Now().Add(-time.Second)}); status(err) != 400 {
			t.Errorf("over before it begins: %v", err)
		}
		again, err := alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{})
		w.must(err)
		w.open(bob, again.ID())
	})
}

// The owner ends a share, or a peer's access, from another process.
func TestRevokeFromAnotherProcess(t *testing.T) {
	w := newWorld(t)
	id := w.identity()
	alice, other, bob := w.as(id), w.as(id), w.join(nil)
	events := make(chan ShareEvent, 10)
	s := w.share(alice, "notes", ShareOptions{OnEvent: func(e ShareEvent) {
		if e.Kind == Ended {
			events <- e
		}
	}})
	r := w.open(bob, s.ID())
	if err := bob.Revoke(w.ctx, s.ID(), "", ""); status(err) != 403 {
		t.Errorf("by another peer: %v", err)
	}
	w.must(other.Revoke(w.ctx, s.ID(), bob.ID(), "Enough."))
	if _, err := r.DB().Stats(w.ctx); status(err) != 403 || !strings.Contains(err.Error(), "Enough.") {
		t.Errorf("revoked: %v", err)
	}
	if err := other.Revoke(w.ctx, s.ID(), "bobb-aaaa", ""); status(err) != 404 {
		t.Errorf("no peer: %v", err)
	}
	carol := w.join(nil)
	c := w.open(carol, s.ID())
	w.must(other.Revoke(w.ctx, s.ID(), ShortID(carol.ID()), ""))
	if _, err := c.DB().Stats(w.ctx); status(err) != 403 {
		t.Errorf("revoked by the short id: %v", err)
	}
	w.must(other.Revoke(w.ctx, "notes", "", ""))
	if e := <-events; !errors.Is(e.Err, ErrRevoked) {
		t.Errorf("%+v", e)
	}
	if err := other.Revoke(w.ctx, s.ID(), "", ""); status(err) != 404 {
		t.Errorf("once more: %v", err)
	}
	if ids := w.hubDocs(shareDocPrefix); len(ids) != 0 {
		t.Errorf("in the hub: %v", ids)
	}
	// Another peer's order is not obeyed, whatever it says.
	s = w.share(alice, "more", ShareOptions{})
	ctx, cancel := context.WithTimeout(w.ctx, time.Second)
	defer cancel()
	if err := bob.command(ctx, alice.address(), revokeOrder{Share: s.ID()}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a forged order: %v", err)
	}
	w.open(bob, s.ID())
	// In the same process.
	w.must(alice.Revoke(w.ctx, s.ID(), "", ""))
	<-s.Done()
}

func testLogger(w *world) *slog.Logger { return slog.New(slog.NewTextHandler(testLog{w.t}, nil)) }

// In a hub that keeps no rules anybody could say whose a peer is: it is not believed.
func TestAttackForgedUser(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Allow: []string{"user:bob"}})
	w.put(w.hub, "_local/"+hubdoc.UserLocal+bob.ID(), `{"user":"bob"}`)
	w.refusedBy(bob, s.ID(), OpenOptions{}, errListed.Reason)
	for _, entry := range []string{"user:", "User:bob"} {
		if _, err := alice.Share(w.ctx, w.create("x"+randomHex(3)), ShareOptions{Allow: []string{entry}}); status(err) != 400 {
			t.Errorf("%q: %v", entry, err)
		}
	}
	i := RemoteInfo{Peer: bob.ID(), User: "bob"}
	if err := s.admission.decide(w.ctx, &i, ""); err != nil {
		t.Errorf("the user: %v", err)
	}
}
