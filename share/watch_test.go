package share

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// expect waits for the next event of a watch.
func expect(t *testing.T, events <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-events:
			if got != w {
				t.Fatalf("%q, not %q", got, w)
			}
		case <-time.After(time.Hour):
			t.Fatalf("no %q", w)
		}
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob := w.join(nil), w.join(nil)
		w.share(alice, "first", ShareOptions{})
		synctest.Wait()
		events := w.watch(bob)
		expect(t, events, "new first")
		s := w.share(alice, "second", ShareOptions{})
		expect(t, events, "new second")
		w.put(kivikDB(w, "second"), "another", `{}`)
		expect(t, events, "changed second") // when it is renewed
		w.must(s.Unshare(w.ctx))
		expect(t, events, "gone second")
		w.must(alice.Close())
		expect(t, events, "gone first")
	})
}

// A sharer that dies is gone after its lease and the margin for clocks, for
// watchers and for listings.
func TestLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		bob := w.join(nil)
		events := w.watch(bob)
		dead := newTestIdentity(t)
		published := time.Now()
		doc := someShare(t, dead, func(s *shareDoc) { s.expires = published.Add(2 * time.Minute) })
		_, err := write(w.ctx, bob.hub, doc)
		w.must(err)
		expect(t, events, "new notes")
		expect(t, events, "gone notes")
		if lived := time.Since(published); lived != 3*time.Minute {
			t.Errorf("gone after %v", lived)
		}
		if infos, err := bob.Shares(w.ctx); err != nil || len(infos) != 0 {
			t.Errorf("%v, %v", infos, err)
		}
		if _, err := bob.Open(w.ctx, "notes"); status(err) != 404 {
			t.Error(err)
		}
	})
}

func TestLeaseIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob := w.join(func(c *Config) { c.Lease = 30 * time.Second }), w.join(nil)
		w.share(alice, "notes", ShareOptions{})
		events := w.watch(bob)
		expect(t, events, "new notes")
		for range 20 {
			time.Sleep(10 * time.Second)
			infos, err := bob.Shares(w.ctx)
			w.must(err)
			if len(infos) != 1 || time.Until(infos[0].Expires) < 10*time.Second {
				t.Fatalf("%+v at %v", infos, time.Now())
			}
		}
		select {
		case e := <-events:
			t.Errorf("%q of a share that did not change", e)
		default:
		}
	})
}

// Documents that are not what they say are as if they were not there.
func TestForgedDocumentsInTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob := w.join(nil), w.join(nil)
		s := w.share(alice, "notes", ShareOptions{})
		events := w.watch(bob)
		expect(t, events, "new notes")

		mallory := newTestIdentity(t)
		forged := reID(someShare(t, mallory, nil), "share:"+shareID(alice.ID(), "x"))
		_, err := write(w.ctx, bob.hub, forged)
		w.must(err)
		// and over the good one
		good, err := bob.hub.Get(w.ctx, "share:"+s.ID(), couch.GetOptions{})
		w.must(err)
		over := reID(someShare(t, mallory, nil), good.ID)
		over.Rev = good.Rev
		_, err = write(w.ctx, bob.hub, over)
		w.must(err)
		for _, junk := range []string{`{}`, `{"type":"share"}`, `{"type":"share","v":1,"name":[]}`} {
			for _, prefix := range []string{"share:", "signal:", "other:"} {
				_, err = write(w.ctx, bob.hub, &couch.Doc{ID: prefix + randomHex(4), Body: []byte(junk)})
				w.must(err)
			}
		}
		synctest.Wait()
		select {
		case e := <-events:
			t.Errorf("%q", e)
		default:
		}
		infos, err := bob.Shares(w.ctx)
		w.must(err)
		if len(infos) != 1 || infos[0].Peer != alice.ID() {
			t.Errorf("%+v", infos)
		}
		if late := w.join(nil); len(mustShares(w, late)) != 0 {
			t.Error("a late comer believes forged documents")
		}
		time.Sleep(defaultLease) // the sharer's renewal repairs it
		if late := w.join(nil); len(mustShares(w, late)) != 1 {
			t.Error("not repaired")
		}
	})
}

func mustShares(w *world, p *Peer) []Info {
	w.t.Helper()
	infos, err := p.Shares(w.ctx)
	w.must(err)
	return infos
}

// An older document that its author has signed does not come back.
func TestOldDocumentReplayed(t *testing.T) {
	w := newWorld(t)
	id := newTestIdentity(t)
	d := newDirectory("", w.join(nil).log)
	now := time.Now()
	old := someShare(t, id, func(s *shareDoc) { s.Name = "old"; s.published = now.Add(-time.Second) })
	d.apply(old.ID, someShare(t, id, func(s *shareDoc) { s.Name = "current"; s.published = now }))
	d.apply(old.ID, old)
	if live, _, _ := d.snapshot(); len(live) != 1 || live[0].Name != "current" {
		t.Errorf("%+v", live)
	}
}

// What the feed tells while a listing is under way is newer than the listing.
func TestListingBesideTheFeed(t *testing.T) {
	w := newWorld(t)
	d := newDirectory("", w.join(nil).log)
	doc := func(nonce string) *couch.Doc {
		return someShare(t, newTestIdentity(t), func(s *shareDoc) { s.Nonce = nonce; s.Name = nonce })
	}
	kept, deleted, added, stale := doc("kept"), doc("deleted"), doc("added"), doc("stale")
	d.apply(deleted.ID, deleted)
	d.apply(stale.ID, stale)
	l := d.beginListing()
	l.add(kept)
	l.add(deleted)
	d.apply(deleted.ID, nil)
	d.apply(added.ID, added)
	l.endAll()
	live, _, _ := d.snapshot()
	var names []string
	for _, s := range live {
		names = append(names, s.Name)
	}
	if len(names) != 2 || names[0] != "added" || names[1] != "kept" {
		t.Error(names)
	}
}

// A share document that someone deletes comes back by itself.
func TestDeletedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob := w.join(nil), w.join(nil)
		s := w.share(alice, "notes", ShareOptions{})
		events := w.watch(bob)
		expect(t, events, "new notes")
		time.Sleep(10 * time.Second)
		doc, err := bob.hub.Get(w.ctx, "share:"+s.ID(), couch.GetOptions{})
		w.must(err)
		_, err = write(w.ctx, bob.hub, &couch.Doc{ID: doc.ID, Rev: doc.Rev, Deleted: true})
		w.must(err)
		time.Sleep(time.Second)
		if infos := mustShares(w, bob); len(infos) != 1 || infos[0].ID != s.ID() {
			t.Errorf("%+v", infos)
		}
	})
}

// A sharer that was killed keeps its share's id when it starts again, and its
// openers go on with the new process.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := newTestIdentity(t)
		first := w.join(func(c *Config) { c.Identity = id })
		bob := w.join(nil)
		ended := make(chan ShareEvent, 10)
		s := w.share(first, "notes", ShareOptions{OnEvent: func(e ShareEvent) { ended <- e }})
		r := w.open(bob, s.ID())

		// The first process hangs: its connections are silent, its document stays.
		first.transport.(*memTransport).hang()
		time.Sleep(time.Millisecond / 2) // documents tell milliseconds only, and the second one must be newer
		second := w.join(func(c *Config) { c.Identity = id })
		again, err := second.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Name: "renamed"})
		w.must(err)
		if again.ID() != s.ID() {
			t.Fatalf("%s, then %s", s.ID(), again.ID())
		}
		stuck, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := r.DB().Stats(stuck); err != nil || time.Since(began) > handOver+time.Second {
			t.Errorf("a request to the process that hangs: %v after %v", err, time.Since(began))
		}
		began = time.Now()
		w.put(r.DB(), "after", `{}`)
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
		if r.Info().Name != "renamed" {
			t.Errorf("%+v", r.Info())
		}
		// If it comes to life again, it gives way.
		for e := range ended {
			if e.Kind == Ended {
				if !errors.Is(e.Err, ErrTakenOver) {
					t.Error(e.Err)
				}
				break
			}
		}
		w.must(first.Close())
		if infos := mustShares(w, bob); len(infos) != 1 || infos[0].Name != "renamed" {
			t.Errorf("%+v", infos)
		}
	})
}

// While no connection can be made, requests wait, until the share is gone.
func TestRequestsAwaitRedial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob := w.join(nil), w.join(nil)
		s := w.share(alice, "notes", ShareOptions{})
		r := w.open(bob, s.ID())
		m := alice.transport.(*memTransport)
		listen := func(on bool) {
			m.mu.Lock()
			m.listens = on
			m.mu.Unlock()
		}
		listen(false)
		m.cut()
		synctest.Wait()
		r.http.CloseIdleConnections() // what is sent on a broken connection may have arrived: it is not repeated
		time.AfterFunc(time.Minute, func() { listen(true) })
		began := time.Now()
		body := &onceBody{Reader: strings.NewReader(`{}`)} // is sent once there is a connection
		req, err := http.NewRequest("PUT", r.URL().String()+"/late", body)
		w.must(err)
		resp, err := r.HTTPClient().Do(req)
		w.must(err)
		resp.Body.Close()
		if resp.StatusCode != 201 || !body.closed {
			t.Errorf("%s, body closed: %v", resp.Status, body.closed)
		}
		if took := time.Since(began); took < time.Minute || took > 2*time.Minute {
			t.Errorf("took %v", took)
		}

		listen(false)
		m.cut()
		ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
		defer cancel()
		began = time.Now()
		if _, err := r.DB().Stats(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := bob.Open(w.ctx, s.ID()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connect to the sharer") {
			t.Error(err)
		}
		other := &Remote{}
		time.AfterFunc(10*time.Second, func() { _ = other.Close() })
		listen(true)
		other = w.open(bob, s.ID())
		listen(false)
		m.cut()
		if _, err := other.DB().Stats(w.ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("a request that waits when the share is closed: %v", err)
		}
		time.AfterFunc(10*time.Second, func() { _ = s.Unshare(w.ctx) })
		began = time.Now()
		if _, err := r.DB().Stats(w.ctx); status(err) != 404 || time.Since(began) > 11*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// onceBody is a body that cannot be read once it is closed.
type onceBody struct {
	io.Reader
	closed bool
}

func (b *onceBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.Reader.Read(p)
}

func (b *onceBody) Close() error {
	b.closed = true
	return nil
}
