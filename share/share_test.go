package share

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

func TestShareListOpen(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	var events []ShareEvent
	var seen RemoteInfo
	s := w.share(alice, "notes", ShareOptions{
		Name: "My notes", Info: map[string]any{"topic": "x"},
		OnRemote: func(i RemoteInfo) error { seen = i; return nil },
		OnEvent:  func(e ShareEvent) { events = append(events, e) },
	})

	infos, err := bob.Shares(w.ctx)
	w.must(err)
	if len(infos) != 1 {
		t.Fatalf("%+v", infos)
	}
	i := infos[0]
	if i.ID != s.ID() || i.Name != "My notes" || string(i.Info) != `{"topic":"x"}` || i.Peer != alice.ID() || i.DocCount != 1 || i.UpdateSeq == "" || i.Access != ReadWrite || i.Own || i.Link != s.Link() {
		t.Errorf("%+v", i)
	}
	if own, err := alice.Shares(w.ctx); err != nil || len(own) != 1 || !own[0].Own {
		t.Errorf("%+v, %v", own, err)
	}
	text, _ := json.Marshal(i)
	for _, member := range []string{`"id":`, `"name":`, `"info":{"topic":"x"}`, `"peer":`, `"doc_count":1`, `"update_seq":`, `"access":"read-write"`, `"expires":`} {
		if !strings.Contains(string(text), member) {
			t.Errorf("no %s in %s", member, text)
		}
	}

	r := w.open(bob, "My notes")
	var doc struct{ N int }
	w.must(r.DB().Get(w.ctx, "first").ScanDoc(&doc))
	if doc.N != 1 {
		t.Errorf("%+v", doc)
	}
	w.put(r.DB(), "second", `{"from":"bob"}`)
	if rev, err := kivikDB(w, "notes").GetRev(w.ctx, "second"); err != nil || rev == "" {
		t.Errorf("not written: %v", err)
	}
	if seen.Peer != bob.ID() || seen.Share != s.ID() || seen.Name != "My notes" || seen.Route != "memory" {
		t.Errorf("OnRemote saw %+v", seen)
	}
	if r.Route() != "memory" || r.Info().ID != s.ID() {
		t.Errorf("%q, %+v", r.Route(), r.Info())
	}
	w.must(r.Close())
	w.must(alice.Close())
	want := []EventKind{Opened, Closed, Ended}
	var got []EventKind
	for _, e := range events {
		got = append(got, e.Kind)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || events[0].Remote.Peer != bob.ID() {
		t.Errorf("events %+v", events)
	}
}

func TestOpenByReference(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{})
	twin := w.share(alice, "twin", ShareOptions{Name: "notes"})
	for _, ref := range []string{s.ID(), s.Link(), "https://other.test/x/hub/share:" + s.ID()} {
		if r := w.open(bob, ref); r.Info().ID != s.ID() {
			t.Errorf("%s opened %s", ref, r.Info().ID)
		}
	}
	_, err := bob.Open(w.ctx, "notes")
	if status(err) != http.StatusConflict || !strings.Contains(err.Error(), s.ID()) || !strings.Contains(err.Error(), twin.ID()) {
		t.Errorf("ambiguous: %v", err)
	}
	w.must(twin.Unshare(w.ctx))
	if r := w.open(bob, "notes"); r.Info().ID != s.ID() {
		t.Error(r.Info())
	}
	if _, err := alice.Open(w.ctx, s.ID()); status(err) != http.StatusConflict {
		t.Errorf("own share: %v", err)
	}
	for _, ref := range []string{"nothing", someID, "http://other.test/hub/share:" + someID, ""} {
		if _, err := bob.Open(w.ctx, ref); status(err) != http.StatusNotFound {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if _, err := bob.Open(w.ctx, "http://other.test/hub/share:"+someID); !strings.Contains(err.Error(), "other.test") {
		t.Errorf("not told of the other hub: %v", err)
	}
}

func TestRefusal(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	events := make(chan ShareEvent, 10)
	w.share(alice, "notes", ShareOptions{
		OnRemote: func(RemoteInfo) error { return errors.New("friends only") },
		OnEvent:  func(e ShareEvent) { events <- e },
	})
	_, err := bob.Open(w.ctx, "notes")
	if status(err) != http.StatusForbidden || !strings.Contains(err.Error(), "friends only") {
		t.Errorf("%v", err)
	}
	if e := <-events; e.Kind != Refused || e.Remote.Peer != bob.ID() || e.Err == nil {
		t.Errorf("%+v", e)
	}
	w.eventually("disconnected", func() bool {
		m := alice.transport.(*memTransport)
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.open) == 0
	})
}

// What an opener must not do is denied in every way there is to ask for it.
func TestDenied(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	rw := w.open(bob, w.share(alice, "open", ShareOptions{}).ID())
	ro := w.open(bob, w.share(alice, "fixed", ShareOptions{ReadOnly: true}).ID())
	const design = `{"_id":"_design/x","views":{"v":{"map":"function(){}"}}}`
	for _, tt := range []struct {
		r                  *Remote
		method, path, body string
		status             int
	}{
		{rw, "GET", "", "", 200},
		{rw, "GET", "/_all_docs", "", 200},
		{rw, "GET", "/_changes", "", 200},
		{rw, "POST", "/_find", `{"selector":{}}`, 200},
		{rw, "PUT", "/new", `{}`, 201},
		{rw, "PUT", "", "", 403},
		{rw, "DELETE", "", "", 403},
		{rw, "GET", "/_security", "", 403},
		{rw, "PUT", "/_security", `{}`, 403},
		{rw, "PUT", "/_design/x", design, 403},
		{rw, "PUT", "/_design%2Fx", design, 403},
		{rw, "POST", "", design, 403},
		{rw, "PUT", "/_design/x/att", "x", 403},
		{rw, "DELETE", "/_design/x", "", 403},
		{rw, "PUT", "/_local/x", `{}`, 201},
		{rw, "GET", "/_local/x", ``, 200},
		{rw, "PUT", "/_local/big", `{"x":"` + strings.Repeat("x", maxLocalDoc) + `"}`, 413},
		{ro, "GET", "/first", "", 200},
		{ro, "POST", "/_revs_diff", `{"first":["1-x"]}`, 200},
		{ro, "PUT", "/new", `{}`, 403},
		{ro, "POST", "", `{}`, 403},
		{ro, "PUT", "/first/att", "x", 403},
		{ro, "DELETE", "/first?rev=1-x", "", 403},
		{ro, "PUT", "/_local/x", `{}`, 201},
	} {
		resp := tt.r.do(t, tt.method, tt.path, tt.body)
		if resp.StatusCode != tt.status {
			t.Errorf("%s %s on %s: %s", tt.method, tt.path, tt.r.dbName, resp.Status)
		}
	}
	for _, path := range []string{"/_compact", "/_compact/x", "/_purge", "/_view_cleanup"} {
		if resp := rw.do(t, "POST", path, `{}`); resp.StatusCode != 403 {
			t.Errorf("POST %s: %s", path, resp.Status)
		}
	}
	// By a page's form, and by copying.
	for r, want := range map[*Remote][2]int{rw: {403, 201}, ro: {403, 403}} {
		form := []string{"Content-Type: multipart/form-data; boundary=x", "Referer: http://" + r.id + "/"}
		for i, id := range []string{"_design/x", "formed"} {
			if resp, body := r.ask(t, "POST", "/"+r.dbName+"/"+id, "--x\r\nContent-Disposition: form-data; name=\"_doc\"\r\n\r\n{}\r\n--x--\r\n", form...); resp.StatusCode != want[i] {
				t.Errorf("a form for %s on %s: %s %s", id, r.dbName, resp.Status, body)
			}
		}
		for i, to := range []string{"_design/x", "copied"} {
			if resp, body := r.ask(t, "COPY", "/"+r.dbName+"/first", "", "Destination: "+to); resp.StatusCode != want[i] {
				t.Errorf("a copy to %s on %s: %s %s", to, r.dbName, resp.Status, body)
			}
		}
	}
	for _, path := range []string{"/_compact", "/_purge", "/_view_cleanup", "/_ensure_full_commit", "/_revs_limit", "/_index"} {
		for _, method := range []string{"POST", "PUT"} {
			if resp := rw.do(t, method, path, `{}`); resp.StatusCode < 400 && path != "/_ensure_full_commit" {
				t.Errorf("%s %s: %s", method, path, resp.Status)
			}
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		req, _ := http.NewRequest(method, "http://"+rw.id+"/other", nil)
		resp, err := rw.HTTPClient().Do(req)
		w.must(err)
		if resp.StatusCode != 403 && resp.StatusCode != 404 {
			t.Errorf("%s another database: %s", method, resp.Status)
		}
		resp.Body.Close()
	}
	// Several documents at once are decided one by one.
	for _, edits := range []string{"true", "false"} {
		resp := rw.do(t, "POST", "/_bulk_docs", `{"new_edits":`+edits+`,"docs":[{"_id":"_design/y","_rev":"1-a"},{"_id":"b`+edits+`","_rev":"1-b"}]}`)
		if resp.StatusCode != 201 {
			t.Errorf("_bulk_docs: %s", resp.Status)
		}
	}
	// A replication that pushes into a read-only share goes on after each refusal.
	if resp := ro.do(t, "POST", "/_bulk_docs", `{"docs":[{"_id":"sneaked"}]}`); resp.StatusCode != 201 {
		t.Errorf("_bulk_docs of a read-only share: %s", resp.Status)
	}
	if ids := docIDs(w, "open"); !slices.Equal(ids, []string{"bfalse", "copied", "first", "formed", "new"}) {
		t.Errorf("in the shared database: %v", ids)
	}
	if ids := docIDs(w, "fixed"); !slices.Equal(ids, []string{"first"}) {
		t.Errorf("in the read-only database: %v", ids)
	}
}

// The rules hold in each of their two layers, before the HTTP API and behind it.
func TestLayersOfAccess(t *testing.T) {
	w := newWorld(t)
	db := couchkivik.From(w.create("notes"))
	allowed := map[couchhttp.Op]bool{couchhttp.OpWelcome: true, couchhttp.OpListDBs: true, couchhttp.OpInfo: true, couchhttp.OpRead: true, couchhttp.OpReadLocal: true, couchhttp.OpWriteLocal: true}
	for _, mode := range []Access{ReadOnly, ReadWrite} {
		s := &Share{access: mode}
		for op := couchhttp.Op(0); op < 100; op++ {
			want := allowed[op] || mode == ReadWrite && op == couchhttp.OpWriteDoc
			if err := s.authorize(nil, couchhttp.Access{Op: op, Doc: "x"}); (err == nil) != want {
				t.Errorf("%s: operation %d: %v", mode, op, err)
			}
		}
		v := &view{db: db, access: mode}
		results, err := v.BulkDocs(w.ctx, []*couch.Doc{{ID: "_design/x"}, {ID: "x" + string(mode)}, {ID: "_other"}}, couch.WriteOptions{})
		w.must(err)
		if len(results) != 3 || results[0].Err == nil || (results[1].Err == nil) != (mode == ReadWrite) || results[2].Err == nil {
			t.Errorf("%s: %+v", mode, results)
		}
		if _, err := v.PutLocal(w.ctx, &couch.Doc{ID: "x"}); status(err) != 403 {
			t.Errorf("a checkpoint of nobody: %v", err)
		}
	}
}

// A view passes on what it does not know: whoever adds a method to couch.DB decides here what openers may do with it.
func TestViewKnowsEveryMethod(t *testing.T) {
	known := map[string]bool{
		// reads that pass through
		"Info": true, "Changes": true, "BulkGet": true, "Attachment": true, "RevsDiff": true, "Get": true, "AllDocs": true, "Find": true,
		// decided by view
		"BulkDocs": true, "GetLocal": true, "PutLocal": true, "Security": true, "SetSecurity": true, "Purge": true, "Compact": true,
	}
	for m := range reflect.TypeFor[couch.DB]().Methods() {
		if !known[m.Name] {
			t.Errorf("couch.DB.%s: may openers of a share use it?", m.Name)
		}
	}
}

// do sends a raw request to the share and reads the answer.
func (r *Remote) do(t *testing.T, method, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, r.URL().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp
}

// Each peer has _local documents of its own, which outlive its connections.
func TestLocalsOfPeers(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	id := w.share(alice, "notes", ShareOptions{ReadOnly: true}).ID()
	owner := kivikDB(w, "notes")
	w.put(owner, "_local/x", `{"of":"alice"}`)
	b, c := w.open(bob, id), w.open(carol, id)
	if _, err := b.DB().GetRev(w.ctx, "_local/x"); status(err) != 404 {
		t.Errorf("the owner's: %v", err)
	}
	w.put(b.DB(), "_local/x", `{"of":"bob"}`)
	if _, err := c.DB().GetRev(w.ctx, "_local/x"); status(err) != 404 {
		t.Errorf("another peer's: %v", err)
	}
	w.must(b.Close())
	var doc struct {
		ID string `json:"_id"`
		Of string
	}
	w.must(w.open(bob, id).DB().Get(w.ctx, "_local/x").ScanDoc(&doc))
	if doc.Of != "bob" || doc.ID != "_local/x" {
		t.Errorf("%+v", doc)
	}
	w.must(owner.Get(w.ctx, "_local/x").ScanDoc(&doc))
	if doc.Of != "alice" {
		t.Errorf("%+v", doc)
	}
	for range maxLocals + 1 {
		if got := c.do(t, "PUT", "/_local/"+randomHex(8), `{}`).StatusCode; got != 201 {
			t.Fatal(got)
		}
	}
	s := alice.server.all()[0]
	s.locals.mu.Lock()
	defer s.locals.mu.Unlock()
	for peer, use := range s.locals.peers {
		if use.docs > maxLocals {
			t.Errorf("%s keeps %d", peer, use.docs)
		}
	}
}

// Unsharing ends requests under way, and those to come.
func TestUnshareEndsRequests(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{})
	r := w.open(bob, s.ID())
	info, err := r.DB().Stats(w.ctx)
	w.must(err)
	feed, began := make(chan error, 1), make(chan struct{})
	go func() {
		req, _ := http.NewRequestWithContext(w.ctx, "GET", r.URL().String()+"/_changes?feed=longpoll&heartbeat=100000&since="+info.UpdateSeq, nil)
		resp, err := r.HTTPClient().Do(req)
		close(began)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		feed <- err
	}()
	<-began // the head of the answer comes at once
	w.must(s.Unshare(w.ctx))
	select {
	case err := <-feed:
		if err == nil {
			t.Log("the feed ended as if its time were over")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the feed goes on")
	}
	if _, err := r.DB().Stats(w.ctx); err == nil {
		t.Error("still answers")
	}
	if ids := w.hubDocs(shareDocPrefix); len(ids) != 0 {
		t.Errorf("in the hub: %v", ids)
	}
	w.must(s.Unshare(w.ctx))
	if _, err := bob.Open(w.ctx, s.ID()); status(err) != 404 {
		t.Errorf("opened: %v", err)
	}
	// The database can be shared again, under the same id.
	again, err := alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{})
	w.must(err)
	if again.ID() != s.ID() {
		t.Errorf("%s, then %s", s.ID(), again.ID())
	}
	w.open(bob, again.ID())
}

// A peer that does not read its answer does not hold up the end of a share.
func TestUnshareBesideStalledReader(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	closed := make(chan struct{}, 100)
	s := w.share(alice, "notes", ShareOptions{OnEvent: func(e ShareEvent) {
		if e.Kind == Closed {
			closed <- struct{}{}
		}
	}})
	w.put(kivikDB(w, "notes"), "big", `{"x":"`+randomHex(2<<20)+`"}`)
	r := w.open(bob, s.ID())
	resp, err := r.HTTPClient().Get(r.URL().String() + "/big")
	w.must(err)
	defer resp.Body.Close()
	w.must(s.Unshare(w.ctx))
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("still served")
	}
}

func TestSharedOnce(t *testing.T) {
	w := newWorld(t)
	alice := w.join(nil)
	s := w.share(alice, "notes", ShareOptions{})
	_, err := alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Name: "again"})
	if status(err) != http.StatusPreconditionFailed || !strings.Contains(err.Error(), s.ID()) {
		t.Error(err)
	}
	for _, o := range []ShareOptions{{Name: "a\nb"}, {Info: json.RawMessage("{")}} {
		if _, err := alice.Share(w.ctx, w.create("x"+randomHex(3)), o); status(err) != 400 {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := alice.Share(w.ctx, kivikDB(w, "missing"), ShareOptions{}); status(err) != 404 {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{})
	r := w.open(bob, s.ID())
	watch := make(chan error, 1)
	go func() { watch <- alice.Watch(context.Background(), func(Event) error { return nil }) }()
	w.must(alice.Close())
	w.must(alice.Close())
	if n := len(alice.server.conns); n != 0 {
		t.Errorf("%d connections left", n)
	}
	if err := <-watch; !errors.Is(err, ErrClosed) {
		t.Errorf("Watch: %v", err)
	}
	<-s.Done()
	if ids := w.hubDocs(shareDocPrefix); len(ids) != 0 {
		t.Errorf("left in the hub: %v", ids)
	}
	if _, err := alice.Share(w.ctx, w.create("more"), ShareOptions{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	w.must(bob.Close())
	if ids := w.hubDocs(""); len(ids) != 0 {
		t.Errorf("left in the hub: %v", ids)
	}
	w.must(r.Close())
	if _, err := r.DB().Stats(w.ctx); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func kivikDB(w *world, name string) *kivik.DB { return couchkivik.DB(DriverName, w.store, name) }

func docIDs(w *world, db string) (ids []string) {
	w.t.Helper()
	rows := kivikDB(w, db).AllDocs(w.ctx)
	defer rows.Close()
	for rows.Next() {
		id, err := rows.ID()
		w.must(err)
		ids = append(ids, id)
	}
	w.must(rows.Err())
	return ids
}
