package share

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// Requests beyond a peer's limits get 429 with Retry-After; other peers' do not.
func TestAttackFloodOfRequests(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Limits: PeerLimits{Requests: 2}})
	r := w.open(bob, s.ID())
	refused := 0
	for range 40 {
		resp, body := r.ask(t, "GET", "/notes/first", "")
		switch {
		case resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "1" && strings.Contains(body, "too_many_requests"):
			refused++
		case resp.StatusCode != http.StatusOK:
			t.Fatalf("%s %s", resp.Status, body)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	if resp, _ := w.open(carol, s.ID()).ask(t, "GET", "/notes/first", ""); resp.StatusCode != 200 {
		t.Errorf("another peer: %s", resp.Status)
	}
}

// No more requests of a peer than its limit are under way, feeds that wait among them.
func TestAttackFloodOfWaitingRequests(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Limits: PeerLimits{Concurrent: 3}})
	r := w.open(bob, s.ID())
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var bodies []io.Closer
	for range 3 {
		req, _ := http.NewRequestWithContext(ctx, "GET", r.URL().String()+"/_changes?feed=continuous&since=now&heartbeat=60000", nil)
		resp, err := r.HTTPClient().Do(req)
		w.must(err)
		bodies = append(bodies, resp.Body)
	}
	if resp, _ := r.ask(t, "GET", "/notes/first", ""); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %s", resp.Status)
	}
	if resp, _ := w.open(carol, s.ID()).ask(t, "GET", "/notes/first", ""); resp.StatusCode != 200 {
		t.Errorf("another peer: %s", resp.Status)
	}
	cancel()
	for _, b := range bodies {
		_ = b.Close()
	}
	w.eventually("served again", func() bool {
		resp, _ := r.ask(t, "GET", "/notes/first", "")
		return resp.StatusCode == 200
	})
}

// What is too large is refused in every way to send it.
func TestAttackOversizedBodies(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Limits: PeerLimits{Body: 64 << 10, Document: 16 << 10, Attachment: 32 << 10}})
	r := w.open(bob, s.ID())
	long := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", "/notes/a", `{"x":` + long(8<<10) + `}`, 201},
		{"PUT", "/notes/b", `{"x":` + long(17<<10) + `}`, 413},
		{"POST", "/notes", `{"x":` + long(17<<10) + `}`, 413},
		{"POST", "/notes/_bulk_docs", `{"docs":[{"x":` + long(17<<10) + `}]}`, 413},
		{"POST", "/notes/_bulk_docs", `{"docs":[{"x":` + long(15<<10) + `},{"x":` + long(15<<10) + `},{"x":` + long(15<<10) + `},{"x":` + long(15<<10) + `},{"x":` + long(15<<10) + `}]}`, 413},
		{"POST", "/notes/_bulk_docs", `{"new_edits":false,"docs":[{"_id":"c","_rev":"1-a","x":` + long(17<<10) + `}]}`, 413},
		{"POST", "/notes/_find", `{"selector":{"x":` + long(65<<10) + `}}`, 413},
		{"POST", "/notes/_revs_diff", `{` + long(65<<10) + `:["1-a"]}`, 413},
		{"PUT", "/notes/d/att", strings.Repeat("x", 31<<10), 201},
		{"PUT", "/notes/e/att", strings.Repeat("x", 33<<10), 413},
		{"PUT", "/notes/_local/f", `{"x":` + long(65<<10) + `}`, 413},
	} {
		if resp, body := r.ask(t, tt.method, tt.path, tt.body); resp.StatusCode != tt.status {
			t.Errorf("%s %s of %d bytes: %s %.200s", tt.method, tt.path, len(tt.body), resp.Status, body)
		}
	}
	// Of a length that is not told.
	req, _ := http.NewRequest("PUT", r.URL().String()+"/g/att", io.MultiReader(bytes.NewReader(make([]byte, 20<<10)), bytes.NewReader(make([]byte, 20<<10))))
	req.ContentLength = -1
	resp, err := r.HTTPClient().Do(req)
	w.must(err)
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("chunked: %s", resp.Status)
	}
	for _, id := range []string{"b", "c", "e", "g"} {
		if _, err := kivikDB(w, "notes").GetRev(w.ctx, id); status(err) != 404 {
			t.Errorf("%s was written", id)
		}
	}
}

// A transfer keeps to the bandwidth: it takes no less than its bytes do.
func TestBandwidth(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{Limits: PeerLimits{Bandwidth: 256 << 10}})
	r := w.open(bob, s.ID())
	const size = 320 << 10 // 64 KiB of it at once
	begin := time.Now()
	if resp, body := r.ask(t, "PUT", "/notes/a/att", strings.Repeat("x", size)); resp.StatusCode != 201 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	up := time.Since(begin)
	begin = time.Now()
	if resp, body := r.ask(t, "GET", "/notes/a/att", ""); resp.StatusCode != 200 || len(body) != size {
		t.Fatalf("%s, %d bytes", resp.Status, len(body))
	}
	if down := time.Since(begin); up < 900*time.Millisecond || down < 900*time.Millisecond {
		t.Errorf("up %v, down %v", up, down)
	}
}

// The owner's rule holds for each way to write, and a refused document does not hold up the others.
func TestOnWrite(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	var calls atomic.Int32
	var last atomic.Pointer[Write]
	s := w.share(alice, "notes", ShareOptions{OnWrite: func(_ context.Context, x Write) error {
		calls.Add(1)
		last.Store(&x)
		var d struct {
			Bad bool `json:"bad"`
		}
		if err := json.Unmarshal(x.New, &d); err != nil {
			return err
		}
		if d.Bad || x.Deleted || x.ID == "locked" || strings.Contains(string(x.New), `"_attachments"`) {
			return errors.New("not so")
		}
		return nil
	}})
	r := w.open(bob, s.ID())
	first, err := kivikDB(w, "notes").GetRev(w.ctx, "first")
	w.must(err)
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", "/notes/a", `{}`, 201},
		{"PUT", "/notes/b", `{"bad":true}`, 403},
		{"PUT", "/notes/b?new_edits=false", `{"_rev":"1-a","bad":true}`, 403},
		{"POST", "/notes", `{"bad":true}`, 403},
		{"PUT", "/notes/locked", `{}`, 403},
		{"PUT", "/notes/a/att", `x`, 403},
		{"DELETE", "/notes/first?rev=" + first, ``, 403},
		{"COPY", "/notes/first", ``, 201},
		{"PUT", "/notes/first", `{"_rev":"` + first + `","n":2}`, 201},
	} {
		if resp, body := r.ask(t, tt.method, tt.path, tt.body); resp.StatusCode != tt.status || tt.status == 403 && !strings.Contains(body, "not so") {
			t.Errorf("%s %s: %s %s", tt.method, tt.path, resp.Status, body)
		}
	}
	if x := last.Load(); x.Peer != bob.ID() || x.ID != "first" || x.Replicated || !strings.Contains(string(x.Old), `"n":1`) || !strings.Contains(string(x.New), `"n":2`) {
		t.Errorf("%+v: %s, %s", x, x.Old, x.New)
	}
	for _, edits := range []string{"true", "false"} {
		_, body := r.ask(t, "POST", "/notes/_bulk_docs", `{"new_edits":`+edits+`,"docs":[{"_id":"x`+edits+`","_rev":"1-a","bad":true},{"_id":"y`+edits+`","_rev":"1-a"}]}`)
		if !strings.Contains(body, `"error":"forbidden"`) || !strings.Contains(body, "not so") {
			t.Errorf("_bulk_docs: %s", body)
		}
	}
	if ids := fmt.Sprint(docIDs(w, "notes")); ids != "[a copy first yfalse]" {
		t.Errorf("written: %s", ids)
	}
	refused := s.RefusedWrites()
	if len(refused) < 8 || refused[0].ID != "b" || refused[0].Peer != bob.ID() || refused[0].Reason != "not so" || refused[0].Time.IsZero() {
		t.Errorf("%+v", refused)
	}
	n := calls.Load()
	w.put(kivikDB(w, "notes"), "locked", `{}`)
	if calls.Load() != n {
		t.Error("the owner's own write was asked about")
	}
}

// Refused writes are remembered and told, also those that are refused before they come to the
// database, and no more than so many.
func TestRefusedWrites(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	var told atomic.Int32
	s := w.share(alice, "notes", ShareOptions{ReadOnly: true, OnEvent: func(e ShareEvent) {
		if e.Kind == WriteRefused && e.Remote.Peer == bob.ID() {
			told.Add(int32(len(e.Writes)))
		}
	}})
	r := w.open(bob, s.ID())
	r.ask(t, "PUT", "/notes/a", `{}`)
	r.ask(t, "PUT", "/notes/_design/d", `{}`)
	r.ask(t, "POST", "/notes/_bulk_docs", `{"docs":[{"_id":"b"}]}`)
	var got []string
	for _, x := range s.RefusedWrites() {
		got = append(got, x.ID+": "+x.Reason)
	}
	if fmt.Sprint(got) != fmt.Sprint([]string{"a: " + errReadOnly.Reason, "_design/d: " + errDesign.Reason, "b: " + errReadOnly.Reason}) || told.Load() != 3 {
		t.Errorf("%v; %d told", got, told.Load())
	}
	var docs []string
	for i := range 2 * maxRefused {
		docs = append(docs, fmt.Sprintf(`{"_id":"d%d"}`, i))
	}
	r.ask(t, "POST", "/notes/_bulk_docs", `{"docs":[`+strings.Join(docs, ",")+`]}`)
	if all := s.RefusedWrites(); len(all) != maxRefused || all[len(all)-1].ID != fmt.Sprintf("d%d", 2*maxRefused-1) {
		t.Errorf("%d remembered", len(all))
	}
}

// Whoever has written a revision first is its author; who repeats it is not, nor is anybody of the owner's.
func TestAuthors(t *testing.T) {
	w := newWorld(t)
	id := w.identity()
	alice, bob, carol := w.as(id), w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{})
	b, c := w.open(bob, s.ID()), w.open(carol, s.ID())
	own, err := kivikDB(w, "notes").GetRev(w.ctx, "first")
	w.must(err)
	rev1, err := b.DB().Put(w.ctx, "doc", []byte(`{"by":"bob"}`))
	w.must(err)
	rev2, err := c.DB().Put(w.ctx, "doc", []byte(`{"_rev":"`+rev1+`","by":"carol"}`))
	w.must(err)
	push := func(r *Remote, id, rev string) {
		t.Helper()
		if resp, body := r.ask(t, "POST", "/notes/_bulk_docs", `{"new_edits":false,"docs":[{"_id":"`+id+`","_rev":"`+rev+`"}]}`); resp.StatusCode != 201 || body != "[]\n" {
			t.Fatalf("%s %s", resp.Status, body)
		}
	}
	push(b, "pushed", "3-abc")
	push(c, "pushed", "3-abc")
	push(c, "doc", rev1)
	push(c, "first", own)
	check := func(s *Share) {
		t.Helper()
		for _, tt := range []struct{ id, rev, peer string }{
			{"doc", rev1, bob.ID()}, {"doc", rev2, carol.ID()}, {"pushed", "3-abc", bob.ID()}, {"first", own, ""}, {"doc", "9-x", ""}, {"other", rev1, ""},
		} {
			if peer, err := s.Author(w.ctx, tt.id, tt.rev); err != nil || peer != tt.peer {
				t.Errorf("%s %s: %s, %v; want %s", tt.id, tt.rev, peer, err, tt.peer)
			}
		}
	}
	check(s)
	if _, err := s.Author(w.ctx, "doc", "x"); status(err) != 400 {
		t.Error(err)
	}
	// They are known after a restart, and without any share.
	w.must(alice.Close())
	all, err := Authors(w.ctx, kivikDB(w, "notes"), id, "doc")
	w.must(err)
	if want := []RevAuthor{{rev2, carol.ID(), true}, {rev1, bob.ID(), false}}; fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", all, want)
	}
	if _, err := Authors(w.ctx, kivikDB(w, "notes"), id, "nothing"); status(err) != 404 {
		t.Error(err)
	}
	alice = w.as(id)
	s, err = alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{})
	w.must(err)
	check(s)
}

// The ledger keeps the newest, in a bounded number of documents.
func TestLedgerIsBounded(t *testing.T) {
	w := newWorld(t)
	db := couchkivik.From(w.create("notes"))
	l := newLedger(db, "x", testLogger(w))
	const more = segmentSize + 10
	all := authorSegments*segmentSize + more
	key := func(i int) revKey { return revKey{fmt.Sprint("doc", i), couch.Rev{Gen: 1, Hash: "a"}} }
	batch := make([]revKey, 0, segmentSize)
	for i := range all {
		if batch = append(batch, key(i)); len(batch) == cap(batch) || i == all-1 {
			l.note(fmt.Sprint("peer", i/segmentSize%3), batch)
			batch = batch[:0]
		}
	}
	l.flush(w.ctx)
	for _, l := range []*ledger{l, newLedger(db, "x", testLogger(w))} {
		for _, i := range []int{0, segmentSize - 1, 2 * segmentSize, all - 1} {
			k := key(i)
			peer, err := l.author(w.ctx, k.id, k.rev)
			w.must(err)
			want := fmt.Sprint("peer", i/segmentSize%3)
			if i < segmentSize {
				want = "" // forgotten
			}
			if peer != want {
				t.Errorf("%d: %q, want %q", i, peer, want)
			}
		}
		if n := len(l.by); n > authorSegments*segmentSize {
			t.Errorf("%d remembered", n)
		}
		l.note("peer9", []revKey{key(all)}) // goes on where it was
		if at := l.at; at != 1 {
			t.Errorf("goes on in segment %d", at)
		}
	}
}

// A segment that is damaged is taken for empty.
func TestLedgerDamaged(t *testing.T) {
	w := newWorld(t)
	db := couchkivik.From(w.create("notes"))
	_, err := db.PutLocal(w.ctx, &couch.Doc{ID: "loveseat-authors-x-00", Body: json.RawMessage(`{"round":0,"peers":["a"],"entries":"AAAAAAAAAAAFAA=="}`)})
	w.must(err)
	_, err = db.PutLocal(w.ctx, &couch.Doc{ID: "loveseat-authors-x-01", Body: json.RawMessage(`{"round":"?"}`)})
	w.must(err)
	l := newLedger(db, "x", testLogger(w))
	l.note("peer", []revKey{{"a", couch.Rev{Gen: 1, Hash: "a"}}})
	l.flush(w.ctx)
	l = newLedger(db, "x", testLogger(w))
	if peer, err := l.author(w.ctx, "a", couch.Rev{Gen: 1, Hash: "a"}); peer != "peer" || err != nil {
		t.Errorf("%q, %v", peer, err)
	}
}

// Keys of the ledger cannot be computed by a peer, which could make two revisions with one key,
// have another peer write the first and be taken for nobody with the second. What is there is found after a restart.
func TestLedgerKeysAreSecret(t *testing.T) {
	w := newWorld(t)
	rev := couch.Rev{Gen: 1, Hash: "a"}
	seen := map[authorKey]bool{newAuthorKey("", "a", rev): true}
	for _, name := range []string{"one", "two"} {
		db := couchkivik.From(w.create(name))
		// An entry of the last release.
		old := newAuthorKey("", "old", rev)
		entry := base64.StdEncoding.EncodeToString(append(old[:], 0, 0))
		_, err := db.PutLocal(w.ctx, &couch.Doc{ID: "loveseat-authors-x-00", Body: json.RawMessage(`{"round":0,"peers":["before"],"entries":"` + entry + `"}`)})
		w.must(err)
		l := newLedger(db, "x", testLogger(w))
		l.note("peer", []revKey{{"a", rev}, {"old", rev}})
		l.flush(w.ctx)
		l = newLedger(db, "x", testLogger(w))
		for id, want := range map[string]string{"a": "peer", "old": "before"} {
			if peer, err := l.author(w.ctx, id, rev); peer != want || err != nil {
				t.Errorf("%s: %q, %v", id, peer, err)
			}
		}
		for key := range l.by {
			if key != old && seen[key] {
				t.Errorf("the key %x is the same everywhere", key)
			}
			seen[key] = true
		}
	}
}
