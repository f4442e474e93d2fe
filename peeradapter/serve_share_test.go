package peeradapter

import (
	"context"
	"net"
	"testing"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/share"
)

// nowhere is a transport that leads nowhere, of a peer whose share is served by other ways alone.
type nowhere struct{ Memory }

func (n *nowhere) Listen(_ context.Context, self string) (net.Listener, error) {
	return n.Memory.Listen(self)
}
func (n *nowhere) Close() error { return nil }

// sharedAlone shares the database "notes" in a hub that nobody else sees.
func sharedAlone(t *testing.T, o share.ShareOptions) *share.Share {
	t.Helper()
	store := localStore(t, "hub", "notes")
	peer, err := share.Join(t.Context(), store.DB("hub"), share.Config{
		Logger: discard, NewTransport: func(share.Signaler) (share.Transport, error) { return new(nowhere), nil },
	})
	must(t, err)
	t.Cleanup(func() { must(t, peer.Close()) })
	s, err := peer.Share(t.Context(), store.DB("notes"), o)
	must(t, err)
	return s
}

// servingShare serves a share until the test ends, and returns the listener and the URL without a secret.
func servingShare(t *testing.T, s *share.Share, scheme string) (net.Listener, string) {
	t.Helper()
	address := ""
	o := ServeOptions{Secret: goodSecret, OnListen: func(a string) { address = a }}
	o.Logger = discard
	l, err := o.listen(scheme+"://127.0.0.1:0", s.DB())
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.ServeOn(ctx, l, o.Secret) }()
	t.Cleanup(func() { cancel(); must(t, <-ended) })
	return l, address
}

// welcomed counts the connections of a listener whose peers were let in, and the others.
func welcomed(w *wires) (in, out int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		if l.welcome.Load() {
			in++
		} else {
			out++
		}
	}
	return in, out
}

// A share that is served beside its hub asks for the secret where it lets in all peers of the hub, and always for a
// device key. Connections of those it lets in are kept, those of others are not.
func TestServeShare(t *testing.T) {
	s := sharedAlone(t, share.ShareOptions{})
	l, address := servingShare(t, s, "ws")
	wires := l.(*WebSocketListener).wires
	for name, bad := range map[string]string{
		"no secret": address, "a wrong secret": address + "#" + goodSecret + "x", "no device key": withoutPeer(t, address) + "#" + goodSecret,
	} {
		r, err := newRemote(bad, WireOptions{Logger: discard})
		must(t, err)
		if _, err := r.DB("").GetRev(t.Context(), "doc"); kivik.HTTPStatus(err) != 403 {
			t.Errorf("%s: %v", name, err)
		}
		if in, out := welcomed(wires); in != 0 || out != 1 {
			t.Errorf("%s: %d are let in, %d not", name, in, out)
		}
		must(t, r.Close())
		waitFor(t, func() bool { _, out := welcomed(wires); return out == 0 })
	}
	who := identity(t)
	for n := 1; n <= 2; n++ { // the second connection of a peer that is there already, too
		r := opening(t, address+"#"+goodSecret, WireOptions{Identity: who})
		_, err := r.DB("").GetRev(t.Context(), "doc")
		must(t, err)
		if in, out := welcomed(wires); in != n || out != 0 {
			t.Errorf("%d are let in, %d not", in, out)
		}
	}
	if err := ServeShare(t.Context(), "ws://127.0.0.1:0", ServeOptions{}, s); err == nil {
		t.Error("served without a secret")
	}
}

// The owner who is asked about a peer has as long as it takes: its connection has a place among the peers'. The
// owner is told what the peer says of itself.
func TestServeShareAsks(t *testing.T) {
	asked, answer := make(chan share.RemoteInfo, 1), make(chan share.Approval)
	s := sharedAlone(t, share.ShareOptions{Approve: func(ctx context.Context, i share.RemoteInfo) (share.Approval, error) {
		asked <- i
		select {
		case a := <-answer:
			return a, nil
		case <-ctx.Done():
			return share.Refuse, ctx.Err()
		}
	}})
	l, address := servingShare(t, s, "tcp")
	r, err := newRemote(address, WireOptions{Logger: discard, Opening: share.OpenOptions{Info: "phone"}})
	must(t, err)
	defer r.Close()
	opened := make(chan error, 1)
	go func() { _, err := r.DB("").GetRev(t.Context(), "doc"); opened <- err }()
	i := <-asked
	if string(i.Info) != `"phone"` || i.Route != "tcp" || i.Peer != r.options.Identity.ID() {
		t.Errorf("%+v", i)
	}
	if w := l.(*wires); w.peers.Held() != 1 || w.strangers.Held() != 0 {
		t.Error("its connection would be cut")
	}
	answer <- share.Once
	must(t, <-opened)
}
