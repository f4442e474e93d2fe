package couchhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEveryRouteHasAnOperation: access rules see every method of every path, and
// a method that had none would be refused.
func TestEveryRouteHasAnOperation(t *testing.T) {
	s := NewServer(ServerOptions{})
	defer s.Close()
	for _, r := range s.routes() {
		for method, a := range r.methods {
			if a.op == 0 || a.serve == nil {
				t.Errorf("%s %s has none", method, r.path)
			}
		}
	}
	c := &call{s: s}
	if err := c.authorize(0, ""); couch.AsError(err).Status != http.StatusForbidden {
		t.Errorf("the operation 0: %v", err)
	}
}

// memStore is one database of fixed answers, enough to see what reaches it.
type memStore struct {
	couch.Store
	db couch.DB
}

func (s memStore) Open(context.Context, string) (couch.DB, error) { return s.db, nil }

type memDB struct {
	couch.DB
	changes func(ctx context.Context, fn func(*couch.Change) error) error
	wrote   []*couch.Doc
}

func (d *memDB) Get(context.Context, string, couch.GetOptions) (*couch.Doc, error) {
	panic("some detail")
}

func (d *memDB) Info(context.Context) (*couch.Info, error) {
	return &couch.Info{UUID: "u", UpdateSeq: "9"}, nil
}

func (d *memDB) Changes(ctx context.Context, _ couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	return couch.ChangesResult{LastSeq: "9"}, d.changes(ctx, fn)
}

func (d *memDB) BulkDocs(_ context.Context, docs []*couch.Doc, _ couch.WriteOptions) ([]couch.WriteResult, error) {
	d.wrote = append(d.wrote, docs...)
	out := make([]couch.WriteResult, len(docs))
	for i, doc := range docs {
		out[i] = couch.WriteResult{ID: doc.ID, Rev: couch.Rev{Gen: 1, Hash: "a"}}
	}
	return out, nil
}

// TestAuthorize: each document of a request is asked about, and what is refused is not written.
func TestAuthorize(t *testing.T) {
	db := &memDB{}
	var asked []Access
	s := NewServer(ServerOptions{Store: memStore{db: db}, Authorize: func(_ *http.Request, a Access) error {
		asked = append(asked, a)
		if a.Op == OpWriteDesign || a.Op == OpDestroyDB || a.Op == OpWriteLocal {
			return couch.Forbidden("no")
		}
		return nil
	}})
	defer s.Close()
	do := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	for _, tt := range []struct {
		method, path, body string
		status             int
		last               Access
	}{
		{"DELETE", "/db", "", 403, Access{OpDestroyDB, "db", ""}},
		{"PUT", "/db/_design/x", "{}", 403, Access{OpWriteDesign, "db", "_design/x"}},
		{"PUT", "/db/_design%2Fx", "{}", 403, Access{OpWriteDesign, "db", "_design/x"}},
		{"PUT", "/db/_design/x/att", "x", 403, Access{OpWriteDesign, "db", "_design/x"}},
		{"DELETE", "/db/%5Fdesign/x?rev=1-a", "", 403, Access{OpWriteDesign, "db", "_design/x"}},
		{"POST", "/db", `{"_id":"_design/x"}`, 403, Access{OpWriteDesign, "db", "_design/x"}},
		{"COPY", "/db/x", "", 403, Access{OpWriteDesign, "db", "_design/y"}},
		{"PUT", "/db/_local/x", "{}", 403, Access{OpWriteLocal, "db", "_local/x"}},
		{"PUT", "/db/_local%2Fx", "{}", 403, Access{OpWriteLocal, "db", "_local/x"}},
		{"PUT", "/a%2Fb/x%2Fy", "{}", 201, Access{OpWriteDoc, "a/b", "x/y"}},
		{"POST", "/db/_bulk_docs", `{"docs":[{"_id":"_design/z"},{"_id":"_local/z"},{"_id":"fine"}]}`, 201, Access{OpWriteDoc, "db", "fine"}},
	} {
		asked = nil
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Destination", "_design/y")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tt.status || len(asked) == 0 || asked[len(asked)-1] != tt.last {
			t.Errorf("%s %s: %d %s, asked %v, want %v", tt.method, tt.path, w.Code, w.Body, asked, tt.last)
		}
	}
	var ids []string
	for _, d := range db.wrote {
		ids = append(ids, d.ID)
	}
	if got := strings.Join(ids, " "); got != "x/y fine" {
		t.Errorf("written: %s", got)
	}
	w := do("POST", "/db/_bulk_docs", `{"docs":[{"_id":"_design/z"},{"_id":"fine"}]}`)
	if want := `[{"id":"_design/z","error":"forbidden","reason":"no"},{"ok":true,"id":"fine","rev":"1-a"}]` + "\n"; w.Body.String() != want {
		t.Errorf("%s", w.Body)
	}
}

// TestBugsAreContained: a panic before the answer is a 500, one within it cuts the answer off.
func TestBugsAreContained(t *testing.T) {
	var log syncBuffer
	db := &memDB{changes: func(_ context.Context, fn func(*couch.Change) error) error {
		for range 2000 {
			if err := fn(&couch.Change{Seq: "1", ID: strings.Repeat("x", 100)}); err != nil {
				return err
			}
		}
		panic("another bug")
	}}
	s := NewServer(ServerOptions{Store: memStore{db: db}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer s.Close()
	srv := httptest.NewServer(s)
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get(srv.URL + "/db/doc")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	var e couch.Error
	if resp.StatusCode != 500 || json.Unmarshal(b, &e) != nil || e.Code != "internal_server_error" || strings.Contains(e.Reason, "detail") {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
	resp, err = http.Get(srv.URL + "/db/_changes")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a part of the feed was taken for the whole")
	}
	if !strings.Contains(log.String(), "another bug") || !strings.Contains(log.String(), "handler_test.go") {
		t.Errorf("%s", log.String())
	}
}

// TestErrorsAfterTheFirstPiece: a database that fails in the middle of a feed cuts it off, too.
func TestErrorsAfterTheFirstPiece(t *testing.T) {
	rows := 0
	db := &memDB{changes: func(_ context.Context, fn func(*couch.Change) error) error {
		for range rows {
			if err := fn(&couch.Change{Seq: "1", ID: strings.Repeat("x", 1000)}); err != nil {
				return err
			}
		}
		return couch.NotFound("Database does not exist.")
	}}
	s := NewServer(ServerOptions{Store: memStore{db: db}, Logger: slog.New(slog.DiscardHandler)})
	defer s.Close()
	srv := httptest.NewServer(s)
	defer srv.Close()
	for _, rows = range []int{0, 3} { // still an error
		defer http.DefaultClient.CloseIdleConnections()
		resp, err := http.Get(srv.URL + "/db/_changes")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("%d rows: %d", rows, resp.StatusCode)
		}
	}
	rows = 1000
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get(srv.URL + "/db/_changes")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a part of the feed was taken for the whole")
	}
}

// TestSlowReaderIsCut: who takes nothing of an answer does not keep the database busy for ever.
func TestSlowReaderIsCut(t *testing.T) {
	before := maxStall
	maxStall = time.Second
	defer func() { maxStall = before }()
	ended := make(chan error, 1)
	db := &memDB{changes: func(_ context.Context, fn func(*couch.Change) error) (err error) {
		defer func() { ended <- err }()
		for err == nil {
			err = fn(&couch.Change{Seq: "1", ID: strings.Repeat("x", 10_000)})
		}
		return err
	}}
	s := NewServer(ServerOptions{Store: memStore{db: db}, Logger: slog.New(slog.DiscardHandler)})
	defer s.Close()
	srv := httptest.NewServer(s)
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /db/_changes HTTP/1.1\r\nHost: localhost\r\n\r\n")
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the feed goes on")
	}
}

func TestRange(t *testing.T) {
	for _, tt := range []struct {
		spec   string
		length int64
		want   string // "[]": the whole, "": not satisfiable
	}{
		{"", 10, "[]"},
		{"bytes=0-4", 10, "[{0 5}]"},
		{"bytes=5-", 10, "[{5 10}]"},
		{"bytes=-3", 10, "[{7 10}]"},
		{"bytes=-30", 10, "[{0 10}]"},
		{"bytes=5-99", 10, "[{5 10}]"},
		{"bytes=0-", 10, "[]"},
		{"bytes=10-", 10, ""},
		{"bytes=4-2", 10, ""},
		{"bytes=-0", 10, ""},
		{"bytes=0-0", 0, ""},
		{"bytes=0-1, 3-4,-2", 10, "[{0 2} {3 5} {8 10}]"},
		{"bytes=0-1,20-30", 10, ""},
		{"bytes=1-2,0-", 10, "[]"},
		{"bytes=" + strings.Repeat("0-1,", 9) + "0-1", 10, "[]"},
		{"bytes=99999999999999999999-", 10, "[]"},
		{"bytes=--1", 10, "[]"},
		{"bytes=+1-2", 10, "[]"},
		{"bytes=1-2,x", 10, "[]"},
		{"bytes=,", 10, "[]"},
		{"rows=0-4", 10, "[]"},
	} {
		h := http.Header{"Range": {tt.spec}}
		ranges, err := parseRanges(h, `"e"`, tt.length)
		if got := fmt.Sprint(ranges); got != tt.want && tt.want != "" || (err != nil) != (tt.want == "") {
			t.Errorf("%s of %d: %v %v", tt.spec, tt.length, ranges, err)
		}
	}
	h := http.Header{"Range": {"bytes=0-4"}, "If-Range": {`"other"`}}
	if ranges, _ := parseRanges(h, `"e"`, 10); ranges != nil {
		t.Error("If-Range of another entity was ignored")
	}
}

func TestAccepts(t *testing.T) {
	for _, tt := range []struct {
		header, mediaType string
		want              bool
	}{
		{"", "multipart/mixed", true}, {"*/*", "multipart/mixed", true}, {"multipart/*", "multipart/mixed", true},
		{"application/json", "multipart/mixed", false}, {"application/json, Multipart/Mixed;q=0.5", "multipart/mixed", true},
		{"multipart/mixed;q=0", "multipart/mixed", false}, {"multipart/related", "multipart/mixed", false},
	} {
		if got := accepts(tt.header, tt.mediaType); got != tt.want {
			t.Errorf("%q takes %s: %v", tt.header, tt.mediaType, got)
		}
	}
}

// A syncBuffer takes the log of goroutines that outlive an answer.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
