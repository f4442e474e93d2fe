package evil

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// claims are the attacks of item 6: another's peer id, taken over by what that peer has published.
var claims = []Attack{
	{Item: 6, Name: "a peer that another user claims with its public share document", Run: claimsHere, Stranger: true},
	{Item: 6, Name: "a peer that another user claims in another hub database", Run: claimsElsewhere, Stranger: true},
	{Item: 6, Name: "an unshared share that another puts back", Run: putsBack, Stranger: true},
}

// A victim is an honest peer that shares in a hub database.
type victim struct {
	*peer
	store *localdb.Store
	share *share.Share
}

// victim joins a hub database where everybody may do everything, without signing in, and shares.
func (t *Target) victim(ctx context.Context, db string, w wiring) (*victim, error) {
	w.direct = true
	v := &victim{}
	dir, err := os.MkdirTemp(t.Dir, "victim-")
	if err != nil {
		return nil, err
	}
	if v.store, err = localdb.OpenStore(dir, localdb.Options{}); err != nil {
		return nil, err
	}
	if err = v.store.Create(ctx, "notes"); err == nil {
		v.peer, err = t.join(ctx, db, w)
	}
	if err != nil {
		_ = v.store.Close()
		return nil, err
	}
	if err = v.publish(ctx); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

func (v *victim) publish(ctx context.Context) (err error) {
	v.share, err = v.Share(ctx, v.store.DB("notes"), share.ShareOptions{Name: fmt.Sprint("victim ", sharerNumber.Add(1))})
	return err
}

// Close leaves the hub.
func (v *victim) Close() {
	v.peer.Close()
	_ = v.store.Close()
}

// captured is a share document as anybody sees it, without its revision.
func (t *Target) captured(ctx context.Context, db, id string) (body string, err error) {
	a, err := do(ctx, "GET", t.Hub+"/"+db+"/share:"+id, request{as: &t.Mallory})
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("%v", a)
	}
	if err != nil {
		return "", notMade("reading a share document", err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(a.Body), &m); err != nil {
		return "", notMade("reading a share document", err)
	}
	delete(m, "_rev")
	return quoted(m), nil
}

// replay writes a document again, in all ways there are.
func (t *Target) replay(ctx context.Context, db, id, body string) {
	at := t.Hub + "/" + db
	for _, r := range []struct{ method, path, body string }{
		{"PUT", "/share:" + id, body}, {"PUT", "/share%3A" + id, body}, {"POST", "", body}, {"POST", "/_bulk_docs", `{"docs":[` + body + `]}`},
		{"POST", "/_bulk_docs", `{"new_edits":false,"docs":[` + body + `]}`}, {"PUT", "/share:" + id + "?rev=1-967a00dff5e02add41819138abb3284d", body},
	} {
		_, _ = do(ctx, r.method, at+r.path, request{as: &t.Mallory, header: asJSON, body: text(r.body)})
	}
}

func claimsHere(ctx context.Context, t *Target) error {
	v, err := t.victim(ctx, "open", wiring{nobody: true})
	if err != nil {
		return notMade("an honest peer", err)
	}
	defer v.Close()
	body, err := t.captured(ctx, "open", v.share.ID())
	if err != nil {
		return err
	}
	t.replay(ctx, "open", v.share.ID(), body)
	if err := v.share.Unshare(ctx); err != nil {
		return fmt.Errorf("the owner cannot unshare any more: %w", err)
	}
	if err := v.publish(ctx); err != nil {
		return fmt.Errorf("the owner cannot share any more: %w", err)
	}
	return nil
}

func claimsElsewhere(ctx context.Context, t *Target) error {
	v, err := t.victim(ctx, "open", wiring{nobody: true})
	if err != nil {
		return notMade("an honest peer", err)
	}
	defer v.Close()
	body, err := t.captured(ctx, "open", v.share.ID())
	if err != nil {
		return err
	}
	t.replay(ctx, "other", v.share.ID(), body)
	t.replay(ctx, "hub", v.share.ID(), body)
	var errs []error
	for _, where := range []struct {
		db string
		w  wiring
	}{{"other", wiring{id: v.id, nobody: true}}, {"hub", wiring{id: v.id, as: &t.Ann}}} {
		there, err := t.victim(ctx, where.db, where.w)
		if err != nil {
			errs = append(errs, fmt.Errorf("the owner cannot share in %s: %w", where.db, err))
			continue
		}
		there.Close()
	}
	return errors.Join(errs...)
}

func putsBack(ctx context.Context, t *Target) error {
	v, err := t.victim(ctx, "open", wiring{nobody: true})
	if err != nil {
		return notMade("an honest peer", err)
	}
	defer v.Close()
	id := v.share.ID()
	body, err := t.captured(ctx, "open", id)
	if err != nil {
		return err
	}
	if err := v.share.Unshare(ctx); err != nil {
		return notMade("unsharing", err)
	}
	t.replay(ctx, "open", id, body)
	a, err := do(ctx, "GET", t.Direct+"/open/share:"+id, request{})
	if err != nil {
		return notMade("a request", err)
	}
	if a.Status == 200 {
		return fmt.Errorf("the share is back: %v", a)
	}
	return nil
}

// proofs are the attacks of item 7: what a peer shows one hub is shown to another.
var proofs = []Attack{{Item: 7, Name: "a proof that was shown to another hub", Run: replaysProofs, Stranger: true}}

// replaysProofs lures a peer to a hub of ours, which passes on what it asks and keeps what it shows, and shows that
// to the hub where it shares.
func replaysProofs(ctx context.Context, t *Target) error {
	v, err := t.victim(ctx, "open", wiring{nobody: true})
	if err != nil {
		return notMade("an honest peer", err)
	}
	defer v.Close()
	hub, err := url.Parse(t.Direct)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	shown := map[string]http.Header{} // by method and path
	pass := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(hub); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := http.Header{}
		for name, values := range r.Header {
			if strings.HasPrefix(name, "Loveseat-") {
				h[name] = values
			}
		}
		if len(h) > 0 {
			mu.Lock()
			shown[r.Method+" "+r.URL.Path+quoted(h)] = h
			mu.Unlock()
		}
		pass.ServeHTTP(w, r)
	}))
	defer ours.Close()
	defer ours.CloseClientConnections()
	lured, err := t.victim(ctx, "other", wiring{id: v.id, nobody: true, server: ours.URL})
	if err == nil {
		_ = lured.share.Unshare(ctx)
		lured.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if len(shown) == 0 {
		return notMade("luring a peer", errors.New("it shows our hub nothing"))
	}
	at := t.Direct + "/open/share:" + v.share.ID()
	for what, h := range shown {
		a, err := do(ctx, "GET", at, request{})
		if err != nil || a.Status != 200 {
			return notMade("reading the share", fmt.Errorf("%v %w", a, err))
		}
		h := h.Clone()
		h.Set("Content-Type", "application/json")
		removed, err := do(ctx, "DELETE", t.Hub+"/open/share:"+v.share.ID()+"?rev="+member(a.Body, "_rev"), request{header: h})
		if err != nil {
			return notMade("a request", err)
		}
		if removed.Status/100 == 2 {
			what, _, _ = strings.Cut(what, "{")
			return fmt.Errorf("what was shown for %s at another hub has removed the share: %v", what, removed)
		}
	}
	return nil
}

// relays are the attacks of item 10.
var relays = []Attack{
	{Item: 10, Name: "a share opened through the relay by a user without the right to open", Run: opensByRelay},
}

// opensByRelay opens, reads and writes as a user who may not; by the relay alone, and with signals of other kinds.
func opensByRelay(ctx context.Context, t *Target) error {
	kinds := []string{"", "restart", "answer"}
	errs := make([]error, len(kinds))
	var wg sync.WaitGroup
	for i, kind := range kinds {
		w := wiring{relay: peeradapter.RelayHub}
		if kind != "" { // the offer under another name
			w = wiring{relay: peeradapter.RelayOff, signal: func(s share.Signaler) share.Signaler { return &renaming{s, kind} }}
		}
		wg.Go(func() { errs[i] = t.opensClosed(ctx, w, kind) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (t *Target) opensClosed(ctx context.Context, w wiring, kind string) error {
	p, err := t.join(ctx, "closed", w)
	if err != nil {
		return notMade("joining the hub", err)
	}
	defer p.Close()
	patience := 5 * time.Second // who may does so within one
	if kind != "" {
		patience = 3 * time.Second // nobody answers
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := p.Open(limited, t.Closed.ID)
	if err != nil {
		return nil //nolint:nilerr // that is the defence
	}
	defer r.Close()
	return fmt.Errorf("a user without the right to open has opened the share by %s (signals as %q)", r.Route(), kind)
}

// A renaming signaler gives offers another kind.
type renaming struct {
	share.Signaler
	kind string
}

// Send implements [share.Signaler].
func (r *renaming) Send(ctx context.Context, s share.Signal) error {
	if s.Kind == "offer" {
		s.Kind = r.kind
	}
	return r.Signaler.Send(ctx, s)
}

// halfOpen are the attacks of item 12.
var halfOpen = []Attack{{Item: 12, Name: "negotiations that one peer leaves half open", Run: halfOpens}}

// A deaf signaler sends, and hears nothing.
type deaf struct{ share.Signaler }

// Receive implements [share.Signaler].
func (deaf) Receive(ctx context.Context, _ func(share.Signal)) error {
	<-ctx.Done()
	return ctx.Err()
}

// halfOpens makes offers without end, and never goes on: another opens as fast as before.
func halfOpens(ctx context.Context, t *Target) error {
	before, err := t.honestOpen(ctx)
	if err != nil {
		return notMade("opening a share before", err)
	}
	key, err := share.NewIdentity()
	if err != nil {
		return err
	}
	limited, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	sent := make(chan struct{}, 256)
	for range 8 {
		wg.Go(func() {
			var mine sync.WaitGroup
			defer mine.Wait()
			for range 10 {
				p, err := t.join(limited, "hub", wiring{id: key, signal: func(s share.Signaler) share.Signaler { return &counting{deaf{s}, sent} }})
				if err != nil {
					return
				}
				mine.Go(func() {
					defer p.Close()
					_, _ = p.stream(limited, t.Library.ID)
				})
			}
		})
	}
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	for range 72 {
		select {
		case <-sent:
		case <-patience.C:
			return notMade("72 offers", errors.New("they take too long"))
		}
	}
	took, err := t.honestOpen(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("another peer cannot open: %w, after %v", err, took)
	case t.Alone && took > Prompt+2*before:
		return fmt.Errorf("another peer opens within %v, before within %v", took, before)
	}
	return nil
}

// honestOpen tells how long it takes an honest peer that has joined the hub to open a share.
func (t *Target) honestOpen(ctx context.Context) (time.Duration, error) {
	p, err := t.join(ctx, "hub", wiring{as: &t.Ann, direct: true})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	began := time.Now()
	r, err := p.Open(ctx, t.Library.ID)
	took := time.Since(began)
	if err == nil {
		_ = r.Close()
	}
	return took, err
}

// A counting signaler tells of offers that were sent.
type counting struct {
	share.Signaler
	sent chan<- struct{}
}

// Send implements [share.Signaler].
func (c *counting) Send(ctx context.Context, s share.Signal) error {
	err := c.Signaler.Send(ctx, s)
	if s.Kind == "offer" && err == nil {
		select {
		case c.sent <- struct{}{}:
		default:
		}
	}
	return err
}

// tombstones are the attacks of item 14.
var tombstones = []Attack{{Item: 14, Name: "ids of shares that are not listed, by their tombstones", Run: readsTombstones, Stranger: true}}

func readsTombstones(ctx context.Context, t *Target) error {
	v, err := t.victim(ctx, "unlisted", wiring{as: &t.Ann})
	if err != nil {
		return notMade("an honest peer", err)
	}
	defer v.Close()
	id := v.share.ID()
	if err := v.share.Unshare(ctx); err != nil {
		return notMade("unsharing", err)
	}
	for _, ask := range []struct{ method, path, body string }{
		{"GET", "/_changes", ""}, {"GET", "/_changes?include_docs=true&style=all_docs", ""}, {"GET", "/_changes?descending=true", ""},
		{"GET", "/_changes?feed=longpoll&since=0&timeout=100", ""}, {"GET", "/_changes?feed=continuous&since=0&timeout=100", ""}, {"GET", "/_changes?feed=eventsource&since=0&timeout=100", ""},
		{"POST", "/_changes?filter=_selector", `{"selector":{"_deleted":true}}`}, {"POST", "/_changes?filter=_selector", `{"selector":{}}`},
		{"GET", "/_all_docs?include_docs=true", ""}, {"GET", "/_all_docs?conflicts=true&startkey=%22share:%22", ""}, {"POST", "/_find", `{"selector":{"_id":{"$gt":"share:"}}}`},
	} {
		limited, cancel := context.WithTimeout(ctx, Prompt)
		a, err := do(limited, ask.method, t.Hub+"/unlisted"+ask.path, request{as: &t.Mallory, header: asJSON, body: text(ask.body)})
		cancel()
		if a != nil && strings.Contains(a.Body, id) {
			return fmt.Errorf("%s %s tells the id of a share that is not listed: %v", ask.method, ask.path, a)
		}
		if err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// manyShares are the attacks of item 19.
var manyShares = []Attack{
	{Item: 19, Name: "shares without end of one peer", Run: func(ctx context.Context, t *Target) error { return t.floodOfShares(ctx, 1) }, Stranger: true},
	{Item: 19, Name: "shares without end of a user's many peers", Run: func(ctx context.Context, t *Target) error { return t.floodOfShares(ctx, 40) }, Stranger: true},
}

// floodOfShares publishes 600 shares of 30 KB, 18 MB: not all of them are kept.
func (t *Target) floodOfShares(ctx context.Context, peers int) error {
	const shares, workers = 600, 8
	docs, err := manyShareDocs(peers, shares/peers)
	if err != nil {
		return err
	}
	began := time.Now()
	type result struct {
		kept  []shareDoc // with their URLs and revisions as ids
		bytes int
		first string
	}
	results := make([]result, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := &results[w]
			for i := w; i < len(docs); i += workers {
				at, a, err := t.publish(ctx, "flood", docs[i])
				if err != nil {
					return
				}
				if at != "" {
					r.kept, r.bytes = append(r.kept, shareDoc{peer: docs[i].peer, id: at}), r.bytes+len(docs[i].body)
				} else if r.first == "" {
					r.first = a.String()
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	var all result
	for _, r := range results {
		all.kept, all.bytes = append(all.kept, r.kept...), all.bytes+r.bytes
		all.first = r.first
	}
	ls := t.Loveseat(ctx, "ls", with(t.Direct, t.Ann)+"/flood", "--json")
	out, _ := ls.Output()
	memory := maxRSS(ls.ProcessState)
	cleanUp(ctx, t, "flood", all.kept)
	switch {
	case len(all.kept) == 0:
		return notMade("publishing a share", errors.New(all.first))
	case len(all.kept) == len(docs):
		return fmt.Errorf("all %d shares of %d peers were taken in %v: %d MB in the hub, and loveseat ls of another user takes %d MiB to list %d MB", len(docs), peers, took.Round(time.Millisecond), all.bytes/1e6, memory>>20, len(out)/1e6)
	}
	return nil
}

// cleanUp removes shares that an attack has left in a hub database, so that the next one begins as this did. Their ids are
// URLs with revisions.
func cleanUp(ctx context.Context, t *Target, db string, shares []shareDoc) {
	next := make(chan shareDoc)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for s := range next {
				_, _ = do(ctx, "DELETE", s.id, request{as: &t.Mallory, header: t.proven(s.peer, db, "DELETE")})
			}
		})
	}
	for _, s := range shares {
		next <- s
	}
	close(next)
	wg.Wait()
}
