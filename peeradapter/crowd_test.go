package peeradapter

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"
	"github.com/pion/webrtc/v4"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/share"
)

// A crowdedHub is a hub, over HTTP, with accounts or without.
type crowdedHub struct {
	tb        testing.TB
	url, deaf *url.URL // at deaf no changes are heard of: an attacker need not listen
}

func newCrowdedHub(tb testing.TB, users ...string) *crowdedHub {
	tb.Helper()
	store, err := localdb.OpenStore(tb.TempDir(), localdb.Options{})
	must(tb, err)
	c := hub.Config{Store: store, Logger: discard}
	if len(users) > 0 {
		c.Admin = &hub.Admin{Name: "admin", Password: "secret"}
	}
	h, err := hub.New(tb.Context(), c)
	must(tb, err)
	srv := httptest.NewServer(h)
	tb.Cleanup(func() {
		_ = h.Close()
		srv.CloseClientConnections()
		srv.Close()
		_ = store.Close()
	})
	u, err := url.Parse(srv.URL)
	must(tb, err)
	deaf := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/_changes") {
			<-r.Context().Done()
			return
		}
		h.ServeHTTP(rw, r)
	}))
	tb.Cleanup(func() { deaf.CloseClientConnections(); deaf.Close() })
	du, err := url.Parse(deaf.URL)
	must(tb, err)
	w := &crowdedHub{tb, u, du}
	for _, name := range users {
		body := fmt.Sprintf(`{"name":%q,"password":"secret-%s","type":"user","roles":[]}`, name, name)
		req, err := http.NewRequest(http.MethodPut, srv.URL+"/_users/org.couchdb.user:"+name, strings.NewReader(body))
		must(tb, err)
		req.SetBasicAuth("admin", "secret")
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		must(tb, err)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			tb.Fatal(resp.Status)
		}
	}
	return w
}

// join makes a peer of a user, "" for nobody.
func (w *crowdedHub) join(user string, id *share.Identity, transport func(share.Signaler) (share.Transport, error)) *share.Peer {
	w.tb.Helper()
	u := *w.url
	if transport != nil {
		u = *w.deaf
	}
	if user != "" {
		u.User = url.UserPassword(user, "secret-"+user)
	}
	client, err := kivik.New(HTTPDriver, u.String())
	must(w.tb, err)
	if transport == nil {
		transport = func(s share.Signaler) (share.Transport, error) {
			return New(Config{Logger: discard, Relay: Relay{Hub: hubURL(client.DB("hub"))}}, s)
		}
	}
	p, err := share.Join(w.tb.Context(), client.DB("hub"), share.Config{Identity: id, Logger: discard, NewTransport: transport})
	must(w.tb, err)
	w.tb.Cleanup(func() { _ = p.Close(); _ = client.Close() })
	return p
}

// An evilTransport sends what it likes.
type evilTransport struct{ share.Signaler }

func (evilTransport) Listen(context.Context, string) (net.Listener, error) { return nil, net.ErrClosed }
func (evilTransport) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, net.ErrClosed
}
func (evilTransport) Close() error { return nil }

// someOffer is the SDP of an offer that leads nowhere.
func someOffer(tb testing.TB) string {
	tb.Helper()
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	must(tb, err)
	defer pc.Close()
	_, err = pc.CreateDataChannel(channelLabel, nil)
	must(tb, err)
	d, err := pc.CreateOffer(nil)
	must(tb, err)
	return d.SDP
}

// Whoever sends a sharer offers that come to nothing, from as many processes or under as many device keys as it
// likes, keeps out nobody else: not at all under one user of the hub or one key, and where nobody knows whose keys
// are whose, no peer that has opened a share before.
func TestHalfOpenFlood(t *testing.T) {
	same := identity(t)
	for name, tt := range map[string]struct {
		users    []string
		attacker func() *share.Identity
		known    bool
	}{
		"by one user with many keys":     {[]string{"owner", "mallory", "ann"}, func() *share.Identity { return identity(t) }, false},
		"by one key with many processes": {nil, func() *share.Identity { return same }, false},
		"by many keys of nobody":         {nil, func() *share.Identity { return identity(t) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newCrowdedHub(t, tt.users...)
			user := func(i int) string {
				if tt.users == nil {
					return ""
				}
				return tt.users[i]
			}
			store := localStore(t, "notes")
			sharer := w.join(user(0), nil, nil)
			s, err := sharer.Share(t.Context(), store.DB("notes"), share.ShareOptions{})
			must(t, err)
			// Another sharer, whom nobody attacks, shows how long it takes on this machine now.
			calm, err := w.join(user(0), nil, nil).Share(t.Context(), localStore(t, "calm").DB("calm"), share.ShareOptions{})
			must(t, err)
			honest := identity(t)
			if tt.known {
				p := w.join("", honest, nil)
				r, err := p.Open(t.Context(), s.ID())
				must(t, err)
				must(t, r.Close())
				must(t, p.Close())
			}
			sharing := transportOf(t, sharer)
			flood := startFlood(t, w, user(1), tt.attacker, sharing.relay.keys.Address())
			defer flood.stop()
			waitFor(t, func() bool { return flood.sent.Load() >= 90 && sharing.crowd.halfOpen.Held() >= halfOpenEach })
			for range 5 {
				if !tt.known {
					honest = identity(t)
				}
				p := w.join(user(2%max(1, len(tt.users))), honest, nil)
				open := func(id string) time.Duration {
					began := time.Now()
					r, err := p.Open(t.Context(), id)
					must(t, err)
					took := time.Since(began)
					must(t, r.Close())
					return took
				}
				usual := open(calm.ID())
				if took := open(s.ID()); took > 2*time.Second+2*usual {
					t.Errorf("another peer waited %v, elsewhere %v", took, usual)
				}
				must(t, p.Close())
			}
		})
	}
}

func transportOf(tb testing.TB, p *share.Peer) *Transport {
	tb.Helper()
	t, ok := p.Transport().(*Transport)
	if !ok {
		tb.Fatal("another transport")
	}
	return t
}

type flood struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sent   atomic.Int64
}

func (f *flood) stop() { f.cancel(); f.wg.Wait() }

// startFlood has 90 peers send offers to an address, each one in three seconds.
func startFlood(t *testing.T, w *crowdedHub, user string, id func() *share.Identity, to string) *flood {
	t.Helper()
	sdp := someOffer(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := &flood{cancel: cancel}
	const attackers = 90
	signalers := make(chan share.Signaler, attackers)
	for range attackers {
		w.join(user, id(), func(s share.Signaler) (share.Transport, error) { signalers <- s; return evilTransport{s}, nil })
	}
	for range attackers {
		s := <-signalers
		f.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				offer := signal(to, fmt.Sprint("session-", i), kindOffer, message{SDP: sdp, Time: time.Now().UnixMilli()})
				if s.Send(ctx, offer) == nil {
					f.sent.Add(1)
				}
				select {
				case <-time.After(3 * time.Second):
				case <-ctx.Done():
				}
			}
		})
	}
	return f
}
