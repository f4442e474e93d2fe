package peeradapter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/share"
)

// TestPeerBars measures shares beside pion alone, in one run:
//
//	LOVESEAT_BARS=1 go test -run PeerBars -v ./peeradapter ./e2e
//
// demands the bars, which hold on a machine that does nothing else; otherwise it only does
// a little of everything.
func TestPeerBars(t *testing.T) {
	b := &bars{T: t, demand: os.Getenv("LOVESEAT_BARS") != ""}
	b.start()
	t.Run("connect", b.connects)
	t.Run("attachment", b.attachments)
	t.Run("small requests", b.smallRequests)
	t.Run("beside a transfer", b.besideTransfer)
}

type bars struct {
	*testing.T
	demand bool
	hub    string // URL of the hub database
	store  *localdb.Store
	share  *share.Share
	remote *share.Remote
}

// most and least log a measure, and demand its bar.
func (b *bars) most(t *testing.T, what string, got, bar time.Duration) {
	t.Helper()
	t.Logf("%s: %v, at most %v", what, got.Round(time.Microsecond), bar.Round(time.Microsecond))
	if b.demand && got > bar {
		t.Errorf("%s: %v", what, got)
	}
}

func (b *bars) least(t *testing.T, what string, got, bar float64) {
	t.Helper()
	t.Logf("%s: %.2f, at least %.2f", what, got, bar)
	if b.demand && got < bar {
		t.Errorf("%s: %.2f", what, got)
	}
}

// some is how much is done: n for bars, otherwise few.
func (b *bars) some(n, few int) int {
	if b.demand {
		return n
	}
	return few
}

// start starts a hub, and a peer that shares a database with a document and an attachment.
func (b *bars) start() {
	hubStore, err := localdb.OpenStore(b.TempDir(), localdb.Options{})
	must(b, err)
	h, err := hub.New(b.Context(), hub.Config{Store: hubStore, Logger: discard})
	must(b, err)
	srv := httptest.NewServer(h)
	b.hub = srv.URL + "/hub"
	b.store, err = localdb.OpenStore(b.TempDir(), localdb.Options{})
	must(b, err)
	b.Cleanup(func() {
		_ = h.Close()
		srv.CloseClientConnections()
		srv.Close()
		must(b, b.store.Close())
		must(b, hubStore.Close())
	})
	must(b, b.store.Create(b.Context(), "notes"))
	db := b.store.DB("notes")
	_, err = db.Put(b.Context(), "hello", map[string]string{"text": "world"})
	must(b, err)
	content := io.NopCloser(bytes.NewReader(make([]byte, b.some(100<<20, 1<<20))))
	_, err = db.PutAttachment(b.Context(), "big", &kivik.Attachment{Filename: "a", ContentType: "application/octet-stream", Content: content})
	must(b, err)
	b.share, err = joined(b.T, b.hub).Share(b.Context(), db, share.ShareOptions{})
	must(b, err)
	b.remote, err = joined(b.T, b.hub).Open(b.Context(), b.share.ID())
	must(b, err)
}

// connects opens a share by ever new peers: at most 60 ms, and three times what pion alone takes,
// besides the hub's part: see hubTrips.
func (b *bars) connects(t *testing.T) {
	var ours, raw, trips []time.Duration
	hubTrip := b.hubTrips(t)
	for range b.some(50, 3) {
		peer := joined(t, b.hub)
		start := time.Now()
		r, err := peer.Open(t.Context(), b.share.ID())
		must(t, err)
		ours = append(ours, time.Since(start))
		must(t, r.Close())
		must(t, peer.Close())
		start = time.Now()
		x, y, stop := rawPair(t, nil)
		_, err = x.Write([]byte("ping"))
		must(t, err)
		go func() { _, _ = io.ReadFull(y, make([]byte, 4)); _, _ = y.Write([]byte("pong")) }()
		_, err = io.ReadFull(x, make([]byte, 4))
		must(t, err)
		raw = append(raw, time.Since(start))
		stop()
		trips = append(trips, hubTrip())
	}
	hubTime := median(trips)
	t.Logf("pion alone %v, the hub's part %v", median(raw), hubTime)
	b.most(t, "Open, p50", median(ours), 60*time.Millisecond)
	b.most(t, "Open, p50, beside pion and the hub", median(ours), 3*median(raw)+hubTime)
}

// hubTrips measures the hub's part of an Open: the time to read a share's document, and for
// an offer and its answer to arrive, as signed, sealed signals.
func (b *bars) hubTrips(t *testing.T) func() time.Duration {
	t.Helper()
	opener, _ := b.signals(t)
	sharer, peer := b.signals(t)
	s, err := peer.Share(t.Context(), b.store.DB("notes"), share.ShareOptions{})
	must(t, err)
	address := <-sharer.self
	db := hubDB(t, b.hub)
	return func() time.Duration {
		start := time.Now()
		must(t, db.Get(t.Context(), "share:"+s.ID()).Err())
		offer := opener.send(t, sharer, share.Signal{To: address, Kind: kindOffer})
		sharer.send(t, opener, share.Signal{To: offer.From, Kind: kindAnswer})
		return time.Since(start)
	}
}

// signals joins the hub with a transport that only signals.
func (b *bars) signals(t *testing.T) (*signalsOnly, *share.Peer) {
	t.Helper()
	s := &signalsOnly{self: make(chan string, 1), heard: make(chan share.Signal, 1)}
	peer, err := share.Join(t.Context(), hubDB(t, b.hub), share.Config{Logger: discard, NewTransport: func(sig share.Signaler) (share.Transport, error) {
		s.Signaler = sig
		return s, nil
	}})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var receiver sync.WaitGroup
	receiver.Go(func() { _ = s.Receive(ctx, func(in share.Signal) { put(s.heard, in) }) })
	t.Cleanup(func() {
		cancel()
		receiver.Wait()
		must(t, peer.Close())
	})
	return s, peer
}

type signalsOnly struct {
	share.Signaler
	self  chan string
	heard chan share.Signal
}

// send returns the signal as to has received it.
func (s *signalsOnly) send(t *testing.T, to *signalsOnly, out share.Signal) share.Signal {
	t.Helper()
	out.Session, out.Payload = "0123456789abcdef", make([]byte, 1500) // as long as an SDP
	must(t, s.Send(t.Context(), out))
	select {
	case in := <-to.heard:
		return in
	case <-time.After(30 * time.Second):
		t.Fatal("the signal does not arrive")
		return share.Signal{}
	}
}

func (s *signalsOnly) Listen(_ context.Context, self string) (net.Listener, error) {
	s.self <- self
	return net.Listen("tcp", "127.0.0.1:0") // where nobody calls
}

func (s *signalsOnly) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, net.ErrClosed
}

func (s *signalsOnly) Close() error { return nil }

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// attachments reads and writes a large attachment: at least 0.8 of a raw data channel.
func (b *bars) attachments(t *testing.T) {
	size := b.some(100<<20, 1<<20)
	var raw, read, written []time.Duration
	for i := range b.some(5, 1) {
		raw = append(raw, b.raw(t, size))
		read = append(read, b.read(t, size))
		written = append(written, b.write(t, size, fmt.Sprintf("written-%d", i)))
	}
	mbs := func(d []time.Duration) float64 { return float64(size) / 1e6 / median(d).Seconds() }
	t.Logf("raw %.0f, read %.0f, written %.0f MB/s", mbs(raw), mbs(read), mbs(written))
	b.least(t, "read, of a raw data channel", mbs(read)/mbs(raw), 0.8)
	b.least(t, "written, of a raw data channel", mbs(written)/mbs(raw), 0.8)
}

// read is how long it takes to read the attachment.
func (b *bars) read(t *testing.T, size int) time.Duration {
	t.Helper()
	start := time.Now()
	resp, err := b.remote.HTTPClient().Get(b.remote.URL().String() + "/big/a")
	must(t, err)
	n, err := io.Copy(io.Discard, resp.Body)
	must(t, err)
	_ = resp.Body.Close()
	if n != int64(size) {
		t.Fatalf("%d bytes", n)
	}
	return time.Since(start)
}

// write is how long it takes to write one to a new document.
func (b *bars) write(t *testing.T, size int, id string) time.Duration {
	t.Helper()
	start := time.Now()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, b.remote.URL().String()+"/"+id+"/a", bytes.NewReader(make([]byte, size)))
	must(t, err)
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := b.remote.HTTPClient().Do(req)
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	return time.Since(start)
}

// raw is how long a data channel takes for so many bytes.
func (b *bars) raw(t *testing.T, size int) time.Duration {
	t.Helper()
	x, y, stop := rawPair(t, nil)
	defer stop()
	go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{x}) }()
	start := time.Now()
	go func() {
		chunk := make([]byte, 256<<10)
		for range size / len(chunk) {
			_, _ = x.Write(chunk)
		}
	}()
	_, err := io.CopyN(io.Discard, struct{ io.Reader }{y}, int64(size))
	must(t, err)
	return time.Since(start)
}

// get asks for the small document.
func (b *bars) get(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.remote.URL().String()+"/hello", nil)
	if err != nil {
		return err
	}
	resp, err := b.remote.HTTPClient().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	return nil
}

// smallRequests are made by 32 callers at once.
func (b *bars) smallRequests(t *testing.T) {
	var left atomic.Int64
	n := b.some(40_000, 200)
	left.Store(int64(n))
	start := time.Now()
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := b.get(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.least(t, "small requests per second", float64(n)/time.Since(start).Seconds(), 8000)
}

// besideTransfer makes small requests, one after the other, while the attachment is read over and over.
func (b *bars) besideTransfer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var transfer sync.WaitGroup
	defer transfer.Wait()
	defer cancel()
	var moved atomic.Int64
	transfer.Go(func() {
		for ctx.Err() == nil {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, b.remote.URL().String()+"/big/a", nil)
			if resp, err := b.remote.HTTPClient().Do(req); err == nil {
				n, _ := io.Copy(io.Discard, resp.Body)
				moved.Add(n)
				_ = resp.Body.Close()
			}
		}
	})
	var took []time.Duration
	for range b.some(1000, 20) {
		start := time.Now()
		must(t, b.get(t.Context()))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("p50 %v, max %v, %d MB moved", took[len(took)/2], took[len(took)-1], moved.Load()>>20)
	b.most(t, "a small request beside a transfer, p99", took[len(took)*99/100], 50*time.Millisecond)
}
