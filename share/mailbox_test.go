package share

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// inbox collects what a peer's mailbox receives, as "kind payload".
func (w *world) inbox(p *Peer) func() []string {
	var mu sync.Mutex
	var got []string
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	w.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		_ = p.mailbox.Receive(ctx, func(s Signal) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, s.Kind+" "+string(s.Payload))
		})
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

func TestMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
		w.share(alice, "notes", ShareOptions{})
		a, b, c, a2 := w.inbox(alice), w.inbox(bob), w.inbox(carol), w.inbox(alice)
		// Bob knows Alice by her share, Alice knows Bob by his signal.
		w.must(bob.mailbox.Send(w.ctx, Signal{To: alice.address(), Session: "s", Kind: "hello", Payload: []byte("1")}))
		synctest.Wait()
		w.must(alice.mailbox.Send(w.ctx, Signal{To: bob.address(), Session: "s", Kind: "reply", Payload: []byte("2")}))
		synctest.Wait()
		for i := range 10 {
			w.must(bob.mailbox.Send(w.ctx, Signal{To: alice.address(), Session: "s", Kind: "candidate", Payload: fmt.Append(nil, i)}))
		}
		synctest.Wait()
		want := []string{"hello 1"}
		for i := range 10 {
			want = append(want, fmt.Sprint("candidate ", i))
		}
		if got := a(); !slices.Equal(got, want) {
			t.Errorf("alice got %q", got)
		}
		if got := a2(); !slices.Equal(got, want) {
			t.Errorf("her second receiver got %q", got)
		}
		if got := b(); !slices.Equal(got, []string{"reply 2"}) {
			t.Errorf("bob got %q", got)
		}
		if got := c(); len(got) != 0 {
			t.Errorf("carol got %q", got)
		}
		if err := alice.mailbox.Send(w.ctx, Signal{To: carol.address(), Session: "x", Kind: "hello"}); status(err) != 404 {
			t.Errorf("to a peer that nobody knows: %v", err)
		}
		time.Sleep(2 * trashLinger)
		if ids := w.hubDocs(signalDocPrefix); len(ids) != 0 {
			t.Errorf("left in the hub: %v", ids)
		}
	})
}

// Signals that come before there is a receiver wait for it.
func TestEarlySignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := Config{NewTransport: func(Signaler) (Transport, error) { return deafTransport{}, nil }}
		alice, err := Join(w.ctx, w.hub, c)
		w.must(err)
		t.Cleanup(func() { _ = alice.Close() })
		w.share(alice, "notes", ShareOptions{})
		w.must(w.join(nil).mailbox.Send(w.ctx, Signal{To: alice.address(), Session: "s", Kind: "hello", Payload: []byte("1")}))
		synctest.Wait()
		got := w.inbox(alice)
		synctest.Wait()
		if !slices.Equal(got(), []string{"hello 1"}) {
			t.Errorf("%q", got())
		}
	})
}

type deafTransport struct{ Transport }

func (deafTransport) Listen(ctx context.Context, self string) (l net.Listener, err error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (deafTransport) Close() error { return nil }

func TestRefusedSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice := w.join(nil)
		w.share(alice, "notes", ShareOptions{})
		got := w.inbox(alice)
		bob, mallory := newTestIdentity(t), newTestIdentity(t)
		signal := func(from *Identity, to, session string, seq uint64, at time.Time) *couch.Doc {
			t.Helper()
			d, err := from.newSignalDoc(Signal{To: to, From: address(bob.ID(), "i"), Session: session, Kind: "hello", Payload: []byte(session)}, seq, alice.id.Keys().Seal, at)
			w.must(err)
			return d
		}
		put := func(d *couch.Doc) {
			t.Helper()
			_, err := write(w.ctx, alice.hub, d)
			w.must(err)
			synctest.Wait()
		}
		now := time.Now()
		good := signal(bob, alice.address(), "good", 0, now)
		put(good)
		put(signal(mallory, alice.address(), "forged", 0, now))
		put(signal(bob, alice.address(), "stale", 0, now.Add(-signalAge-time.Second)))
		put(signal(bob, alice.address(), "early", 0, now.Add(signalAge+time.Second)))
		put(signal(bob, address(alice.ID(), "other"), "other process", 0, now))
		put(signal(bob, alice.address(), "good", 0, now)) // the number was used
		time.Sleep(2 * trashLinger)
		put(good) // again, after it has been deleted
		if !slices.Equal(got(), []string{"hello good"}) {
			t.Errorf("%q", got())
		}
		time.Sleep(2 * trashLinger)
		if ids := w.hubDocs(signalDocPrefix); len(ids) != 1 { // that to the other process
			t.Errorf("in the hub: %v", ids)
		}
		// The other process has died; the peer's next one tidies up after it.
		time.Sleep(3 * signalAge)
		w.join(func(c *Config) { c.Identity = alice.id })
		time.Sleep(2 * trashLinger)
		if ids := w.hubDocs(signalDocPrefix); len(ids) != 0 {
			t.Errorf("left in the hub: %v", ids)
		}
	})
}
