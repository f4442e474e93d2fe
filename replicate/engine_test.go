package replicate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/replicate"
)

// leafSet is every leaf of a database with its ancestry, body and the bytes of its attachments.
func leafSet(t testing.TB, db couch.DB) map[string]string {
	t.Helper()
	ctx := context.Background()
	var refs []couch.DocRef
	_, err := db.Changes(ctx, couch.ChangesOptions{AllLeaves: true}, func(c *couch.Change) error {
		for _, rev := range c.Revs {
			refs = append(refs, couch.DocRef{ID: c.ID, Rev: rev})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	err = db.BulkGet(ctx, refs, couch.GetOptions{Revs: true, Attachments: true}, func(r couch.BulkGetResult) error {
		if r.Err != nil {
			return r.Err
		}
		doc := *r.Doc
		doc.Attachments = slices.Clone(doc.Attachments)
		for i := range doc.Attachments {
			a := &doc.Attachments[i]
			body, err := a.Reader(ctx)
			if err != nil {
				return err
			}
			a.Data, err = io.ReadAll(body)
			body.Close()
			if err != nil {
				return err
			}
			if got := digest(a.Data); got != a.Digest {
				t.Errorf("%s %s: attachment has digest %s, not %s", doc.ID, doc.Rev, got, a.Digest)
			}
		}
		out[doc.ID+" "+doc.Rev.String()] = string(doc.AppendJSON(nil))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// cutting dials connections of which each breaks after some bytes, while cuts are left.
type cutting struct {
	mu   sync.Mutex
	rng  *rand.Rand
	cuts atomic.Int32
}

type cutConn struct {
	net.Conn
	c    *cutting
	left atomic.Int64
}

func (c *cutting) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &cutConn{Conn: conn, c: c}
	out.left.Store(c.rng.Int64N(8_000))
	return out, nil
}

func (c *cutConn) use(n int) error {
	if c.left.Add(-int64(n)) < 0 && c.c.cuts.Add(-1) >= 0 {
		c.Close()
		return errors.New("cut")
	}
	return nil
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, errors.Join(err, c.use(n))
}

func (c *cutConn) Write(p []byte) (int, error) {
	if err := c.use(len(p)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func editEngine(t testing.TB, rng *rand.Rand, db couch.DB) {
	t.Helper()
	ctx := context.Background()
	doc := &couch.Doc{ID: fmt.Sprint("d", rng.IntN(40)), Body: json.RawMessage(fmt.Sprintf(`{"v":%d}`, rng.IntN(1e6)))}
	if old, err := db.Get(ctx, doc.ID, couch.GetOptions{Conflicts: true}); err == nil {
		doc.Rev, doc.Attachments = old.Rev, old.Attachments
		if n := len(old.Conflicts); n > 0 && rng.IntN(2) == 0 {
			doc.Rev, doc.Attachments = old.Conflicts[rng.IntN(n)], nil
		}
		if doc.Deleted = rng.IntN(6) == 0; doc.Deleted {
			doc.Attachments = nil
		}
	}
	if rng.IntN(3) == 0 {
		name := fmt.Sprint("f", rng.IntN(3))
		doc.Attachments = slices.DeleteFunc(doc.Attachments, func(a couch.Attachment) bool { return a.Name == name })
		size := []int{0, 10, 1000, 100_000}[rng.IntN(4)]
		doc.Attachments = append(doc.Attachments, attach(name, bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, size)))
		slices.SortFunc(doc.Attachments, func(a, b couch.Attachment) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	}
	res, err := db.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{})
	if err != nil || res[0].Err != nil && !errors.Is(res[0].Err, couch.ErrConflict) { // a replication may be quicker
		t.Fatal(err, res)
	}
}

// Over connections that break, between real engines, both ways and with
// conflicts, everything arrives, and exactly once.
func TestEnginesConvergeOverConnectionsThatBreak(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprint("compress ", compress), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			near, far := openStore(t), openStore(t)
			a, b := newDB(t, near, "a"), newDB(t, far, "b")
			server := couchhttp.NewServer(couchhttp.ServerOptions{Store: far, UUID: "far"})
			web := httptest.NewServer(server)
			defer web.Close()
			defer server.Close()
			base, _ := url.Parse(web.URL)
			cut := &cutting{rng: rng}
			transport := couchhttp.NewTransport(cut.dial)
			defer transport.CloseIdleConnections()
			remote := couchhttp.NewClient(base, &http.Client{Transport: transport}, couchhttp.ClientOptions{Compress: compress}).DB("b")
			o := quick
			o.BatchSize, o.InlineAttachments = 10, 5000
			broke := int32(0)
			for range 6 {
				for range 30 {
					editEngine(t, rng, a)
					editEngine(t, rng, b)
				}
				cut.cuts.Store(30)
				if _, err := replicate.SyncDB(context.Background(), a, remote, o); err != nil {
					t.Fatal(err)
				}
				broke += 30 - max(0, cut.cuts.Load())
				if x, y := leafSet(t, a), leafSet(t, b); !maps.Equal(x, y) {
					t.Fatalf("databases differ: %d and %d leaves", len(x), len(y))
				}
			}
			if cut.cuts.Store(0); broke < 20 {
				t.Errorf("only %d connections broke", broke)
			}
			res, err := replicate.SyncDB(context.Background(), a, remote, o)
			if err != nil || res.Pushed.MissingChecked+res.Pulled.MissingChecked != 0 {
				t.Errorf("a second run compares: %+v %v", res, err)
			}
			c := newDB(t, near, "c") // takes over whole trees, with conflicts, at once
			mustRun(t, remote, c, o)
			if x, y := leafSet(t, a), leafSet(t, c); !maps.Equal(x, y) {
				t.Fatalf("databases differ: %d and %d leaves", len(x), len(y))
			}
		})
	}
}

func TestLiveSyncOverHTTPIsQuick(t *testing.T) {
	near, far := openStore(t), openStore(t)
	a := newDB(t, near, "a")
	b := newDB(t, far, "b")
	remote := serveStore(t, far, true).DB("b")
	ctx, cancel := context.WithCancel(context.Background())
	idle := make(chan replicate.State, 1000)
	done := make(chan error, 1)
	go func() {
		_, err := replicate.SyncDB(ctx, a, remote, replicate.Options{Live: true, OnProgress: func(p replicate.Progress) { idle <- p.State }})
		done <- err
	}()
	awaitState(t, idle, replicate.Idle)
	awaitState(t, idle, replicate.Idle)
	go func() {
		for range idle {
		}
	}()
	defer close(idle)
	var times []time.Duration
	for i := range 40 {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		began := time.Now()
		id := fmt.Sprint("doc", i)
		if _, err := from.BulkDocs(ctx, []*couch.Doc{{ID: id}}, couch.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		await(t, to, id)
		times = append(times, time.Since(began))
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	slices.Sort(times)
	t.Logf("p50 %v, max %v", times[len(times)/2], times[len(times)-1])
	if p50 := times[len(times)/2]; p50 > 200*time.Millisecond { // far more than it takes, for slow machines
		t.Errorf("half of the changes took more than %v", p50)
	}
}

// await waits on the changes feed of db until it has id.
func await(t *testing.T, db couch.DB, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found := errors.New("found")
	_, err := db.Changes(ctx, couch.ChangesOptions{Feed: couch.FeedContinuous}, func(c *couch.Change) error {
		if c.ID == id {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Fatal(id, err)
	}
}

// A server that goes away and comes back: the run says so, waits, and goes on.
func TestLiveRunsOutliveTheirServer(t *testing.T) {
	near, far := openStore(t), openStore(t)
	a, b := newDB(t, near, "a"), newDB(t, far, "b")
	server := couchhttp.NewServer(couchhttp.ServerOptions{Store: far, UUID: "far"})
	var down atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		server.ServeHTTP(w, r)
	}))
	defer web.Close()
	defer server.Close()
	base, _ := url.Parse(web.URL)
	client := couchhttp.NewClient(base, nil, couchhttp.ClientOptions{})
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	states := make(chan replicate.State, 10_000)
	done := make(chan error, 1)
	go func() {
		o := replicate.Options{Live: true, Retry: replicate.Retry{Max: 50 * time.Millisecond}, OnProgress: func(p replicate.Progress) {
			if p.State == replicate.Retrying && (p.Stage != "changes" || p.End != "source" || p.Err == nil) {
				t.Errorf("%+v", p)
			}
			states <- p.State
		}}
		_, err := replicate.RunDB(ctx, client.DB("b"), a, o)
		done <- err
	}()
	awaitState(t, states, replicate.Idle)
	down.Store(true)
	web.CloseClientConnections()
	awaitState(t, states, replicate.Retrying)
	if _, err := b.BulkDocs(ctx, []*couch.Doc{{ID: "meanwhile"}}, couch.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	down.Store(false)
	await(t, a, "meanwhile")
	awaitState(t, states, replicate.Idle)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
