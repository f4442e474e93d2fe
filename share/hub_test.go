package share

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kivik/kivik/v4"
	"github.com/go-kivik/kivik/v4/couchdb"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// A brokenHub is a hub database that fails when it is told to: calls that wait end too.
type brokenHub struct {
	couch.Store
	ctx  atomic.Pointer[context.Context] // ends when the hub breaks
	stop context.CancelFunc
}

func (w *world) brokenHub() (*brokenHub, *kivik.DB) {
	b := &brokenHub{Store: w.store}
	b.mend()
	w.t.Cleanup(func() { b.stop() })
	return b, couchkivik.DB(DriverName, b, "hub")
}

func (b *brokenHub) mend() {
	ctx, cancel := context.WithCancel(context.Background())
	b.ctx.Store(&ctx)
	b.stop = cancel
}

func (b *brokenHub) Open(ctx context.Context, name string) (couch.DB, error) {
	db, err := b.Store.Open(ctx, name)
	return &brokenDB{db, b}, err
}

type brokenDB struct {
	couch.DB
	b *brokenHub
}

var errBroken = errors.New("connection refused")

func (d *brokenDB) ok() error {
	if (*d.b.ctx.Load()).Err() != nil {
		return errBroken
	}
	return nil
}

func (d *brokenDB) Info(ctx context.Context) (*couch.Info, error) {
	if err := d.ok(); err != nil {
		return nil, err
	}
	return d.DB.Info(ctx)
}

func (d *brokenDB) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	if err := d.ok(); err != nil {
		return nil, err
	}
	return d.DB.BulkDocs(ctx, docs, o)
}

func (d *brokenDB) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	if err := d.ok(); err != nil {
		return couch.AllDocsResult{}, err
	}
	return d.DB.AllDocs(ctx, o, fn)
}

func (d *brokenDB) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	if err := d.ok(); err != nil {
		return couch.ChangesResult{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(*d.b.ctx.Load(), cancel)()
	res, err := d.DB.Changes(ctx, o, fn)
	if d.ok() != nil {
		return res, errBroken
	}
	return res, err
}

// While the hub is away nothing is lost but time.
func TestHubOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hub, db := w.brokenHub()
		alice := w.join(nil) // sees the hub all the time
		w.hub = db
		away := w.join(nil)
		events := w.watch(away)
		gone := w.share(alice, "gone", ShareOptions{})
		mine, err := away.Share(w.ctx, w.create("mine"), ShareOptions{OnEvent: func(ShareEvent) {}})
		w.must(err)
		expect(t, events, "new gone", "new mine")

		hub.stop()
		synctest.Wait()
		w.must(gone.Unshare(w.ctx))
		w.share(alice, "back", ShareOptions{})
		var got atomic.Pointer[Signal]
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		go func() { _ = away.mailbox.Receive(ctx, func(s Signal) { got.Store(&s) }) }()
		w.must(alice.mailbox.Send(w.ctx, Signal{To: away.address(), Session: "s", Kind: "offer"}))
		if _, err := away.Shares(w.ctx); !errors.Is(err, errBroken) {
			t.Errorf("a listing from memory: %v", err)
		}
		time.Sleep(time.Minute)
		if got.Load() != nil {
			t.Fatal("the hub is not broken")
		}
		hub.mend()
		expect(t, events, "new back", "gone gone")
		synctest.Wait()
		if s := got.Load(); s == nil || s.From != alice.address() {
			t.Errorf("signal lost: %+v", s)
		}

		// A longer outage: the own share has expired for all, and comes back.
		hub.stop()
		time.Sleep(10 * time.Minute)
		if infos := mustShares(w, alice); len(infos) != 1 {
			t.Errorf("%+v", infos)
		}
		hub.mend()
		time.Sleep(time.Minute)
		if infos := mustShares(w, alice); len(infos) != 2 || infos[1].ID != mine.ID() {
			t.Errorf("%+v", infos)
		}
	})
}

// A hub that has not come as far as the feed was made anew; its sequences may be bare numbers.
func TestFeedOfNewHub(t *testing.T) {
	w := newWorld(t)
	p := w.join(nil)
	for _, tt := range [][3]couch.Seq{
		{"", "12", "12"}, {"12", "13", "12"}, {"12", "12", "12"}, {"12", "3", "0"},
		{"12-a", "3-b", "0"}, {"12-a", "100-a", "12-a"}, {"[1,2]", "[3,4]", "[1,2]"},
	} {
		f := &feed{hub: seqHub{p.hub, tt[1]}, dir: p.dir, since: tt[0]}
		w.must(f.list(w.ctx))
		if f.since != tt[2] {
			t.Errorf("since %q at %q: %q", tt[0], tt[1], f.since)
		}
	}
}

type seqHub struct {
	couch.DB
	seq couch.Seq
}

func (h seqHub) Info(context.Context) (*couch.Info, error) { return &couch.Info{UpdateSeq: h.seq}, nil }

// The hub's database is destroyed and made anew: the feed follows the new one, and sharers come back.
func TestHubMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob := w.join(nil), w.join(nil)
		for range 100 { // so that sequences of the old database mean nothing in the new one
			w.put(w.hub, randomHex(4), `{}`)
		}
		w.share(alice, "notes", ShareOptions{})
		_, err := write(w.ctx, alice.hub, someShare(t, newTestIdentity(t), func(s *shareDoc) { s.Name = "other"; s.expires = s.published.Add(time.Hour) }))
		w.must(err)
		events := w.watch(bob)
		expect(t, events, "new notes", "new other")
		time.Sleep(time.Minute)
		w.must(w.store.Destroy(w.ctx, "hub"))
		w.must(w.store.Create(w.ctx, "hub"))
		time.Sleep(time.Minute)
		w.share(alice, "more", ShareOptions{})
		var seen []string
		for e := range events { // whether notes was seen to be gone depends on who came back first
			if seen = append(seen, e); e == "new more" {
				break
			}
		}
		if !slices.Contains(seen, "gone other") {
			t.Errorf("%q", seen)
		}
		if infos := mustShares(w, bob); len(infos) != 2 {
			t.Errorf("%+v", infos)
		}
	})
}

// A share that could not be published has not begun: there is no event of it.
func TestShareFails(t *testing.T) {
	w := newWorld(t)
	hub, db := w.brokenHub()
	w.hub = db
	p := w.join(nil)
	hub.stop()
	d := w.create("notes")
	_, err := p.Share(w.ctx, d, ShareOptions{OnEvent: func(e ShareEvent) { t.Errorf("%+v", e) }})
	if !errors.Is(err, errBroken) {
		t.Error(err)
	}
	hub.mend()
	_, err = p.Share(w.ctx, d, ShareOptions{}) // nothing is left of the first attempt
	w.must(err)
}

func TestJoinFails(t *testing.T) {
	w := newWorld(t)
	if _, err := Join(w.ctx, kivikDB(w, "nowhere"), Config{NewTransport: w.transport}); status(err) != 404 {
		t.Error(err)
	}
	if _, err := Join(w.ctx, w.hub, Config{}); err == nil {
		t.Error("without a transport")
	}
	broken := errors.New("no network")
	if _, err := Join(w.ctx, w.hub, Config{NewTransport: func(Signaler) (Transport, error) { return nil, broken }}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// The hub may be any database that kivik opens.
func TestHubsOverHTTP(t *testing.T) {
	for name, hub := range map[string]func(t *testing.T, w *world, base string) *kivik.DB{
		"our client": func(t *testing.T, _ *world, base string) *kivik.DB {
			u, err := url.Parse(base)
			if err != nil {
				t.Fatal(err)
			}
			c := couchhttp.NewClient(u, nil, couchhttp.ClientOptions{})
			t.Cleanup(func() { _ = c.Close() })
			return couchkivik.DB(DriverName, c, "hub")
		},
		"kivik's client": func(t *testing.T, w *world, base string) *kivik.DB {
			hc := &http.Client{Transport: &http.Transport{}}
			c, err := kivik.New("couch", base, couchdb.OptionHTTPClient(hc))
			w.must(err)
			t.Cleanup(func() { _ = c.Close(); hc.CloseIdleConnections() })
			return c.DB("hub")
		},
	} {
		t.Run(name, func(t *testing.T) {
			if raceDetector && name == "kivik's client" {
				t.Skip("kivik's changes feed has a data race when its context ends (iter.closeErr and Changes.ScanDoc)")
			}
			w := newWorld(t)
			api := couchhttp.NewServer(couchhttp.ServerOptions{Store: w.store, UUID: w.store.UUID()})
			srv := httptest.NewServer(api)
			t.Cleanup(func() { _ = api.Close(); srv.Close() })
			w.hub = hub(t, w, srv.URL)
			noURL := func(c *Config) { c.HubURL = "" }
			id := newTestIdentity(t)
			alice, bob := w.join(func(c *Config) { c.HubURL, c.Identity = "", id }), w.join(noURL)
			events := w.watch(bob)
			s := w.share(alice, "notes", ShareOptions{})
			expect(t, events, "new notes")
			if l, err := ParseLink(s.Link()); name == "kivik's client" && (err != nil || l.Hub != srv.URL+"/hub") {
				t.Errorf("link %s", s.Link())
			}
			r := w.open(bob, s.Link())
			w.put(r.DB(), "second", `{}`)
			again, err := w.join(func(c *Config) { c.HubURL, c.Identity = "", id }).Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Name: "restarted"})
			w.must(err)
			expect(t, events, "changed restarted")
			w.put(r.DB(), "third", `{}`)
			w.must(again.Unshare(w.ctx))
			expect(t, events, "gone restarted")
			if _, err := bob.Open(w.ctx, s.ID()); status(err) != 404 {
				t.Error(err)
			}
		})
	}
}
