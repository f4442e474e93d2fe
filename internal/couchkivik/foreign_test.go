package couchkivik

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	kivik "github.com/go-kivik/kivik/v4"
	_ "github.com/go-kivik/kivik/v4/couchdb" // driver "couch"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// script answers "METHOD /path" with a JSON body, "STATUS body" for other
// statuses than 200, in turn if there are several; the last one stays.
type script struct {
	mu      sync.Mutex
	answers map[string][]string
	log     []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	call := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.log = append(s.log, call+"?"+r.URL.RawQuery)
	list := s.answers[call]
	if len(list) > 1 {
		s.answers[call] = list[1:]
	}
	s.mu.Unlock()
	if len(list) == 0 {
		list = []string{`404 {"error":"not_found","reason":"missing"}`}
	}
	if list[0] == "wait" {
		<-r.Context().Done()
		return
	}
	status, body := 200, list[0]
	if body[0] != '{' && body[0] != '[' {
		_, _ = fmt.Sscan(body, &status)
		body = body[4:]
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (s *script) count(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.log {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// scripted is the adapter over kivik's own driver, over the script.
func scripted(t *testing.T, answers map[string][]string) (couch.DB, *script) {
	s := &script{answers: answers}
	server := httptest.NewServer(s)
	transport := &http.Transport{}
	client, err := kivik.New("couch", server.URL, httpClient{transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		transport.CloseIdleConnections()
		server.Close()
	})
	return From(client.DB("db")), s
}

type httpClient struct{ *http.Transport }

func (c httpClient) Apply(target any) {
	if hc, ok := target.(*http.Client); ok {
		hc.Transport = c.Transport
	}
}

const info = `{"db_name":"db","doc_count":1,"update_seq":"5-x"}`

func bulkGet(db couch.DB, refs ...couch.DocRef) (got []string, err error) {
	err = db.BulkGet(context.Background(), refs, couch.GetOptions{}, func(r couch.BulkGetResult) error {
		if r.Err != nil {
			got = append(got, r.ID+" "+r.Err.Error())
		} else {
			got = append(got, r.Doc.ID+" "+r.Doc.Rev.String())
		}
		return nil
	})
	return got, err
}

func TestServerWithoutBulkGet(t *testing.T) {
	db, s := scripted(t, map[string][]string{
		"GET /db": {info}, "GET /db/a": {`{"_id":"a","_rev":"1-x"}`}, "POST /db/_bulk_get": {`405 {"error":"method_not_allowed","reason":"x"}`},
	})
	for range 2 {
		got, err := bulkGet(db, couch.DocRef{ID: "a", Rev: couch.Rev{Gen: 1, Hash: "x"}}, couch.DocRef{ID: "b", Rev: couch.Rev{Gen: 1, Hash: "y"}})
		if err != nil || fmt.Sprint(got) != "[a 1-x b not_found: missing]" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := s.count("_bulk_get"); n != 1 {
		t.Errorf("asked for _bulk_get %d times", n)
	}
}

// A database that is gone must not look like documents that are missing.
func TestBulkGetOfAGoneDatabase(t *testing.T) {
	db, _ := scripted(t, map[string][]string{})
	got, err := bulkGet(db, couch.DocRef{ID: "a", Rev: couch.Rev{Gen: 1, Hash: "x"}})
	if !errors.Is(err, couch.ErrNotFound) || got != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestBulkGetCutOff(t *testing.T) {
	db, _ := scripted(t, map[string][]string{
		"GET /db": {info}, "POST /db/_bulk_get": {`{"results":[{"id":"a","docs":[{"ok":{"_id":"a","_rev":"1-x"}}]}]}`},
	})
	ref := func(id string) couch.DocRef { return couch.DocRef{ID: id, Rev: couch.Rev{Gen: 1, Hash: "x"}} }
	if got, err := bulkGet(db, ref("a"), ref("b")); err == nil {
		t.Errorf("half an answer was taken for the whole: %q", got)
	}
}

func TestLongpollIsAskedAgain(t *testing.T) {
	db, s := scripted(t, map[string][]string{"POST /db/_changes": {
		`{"results":[],"last_seq":"5-x","pending":0}`,
		`{"results":[{"seq":"6-x","id":"a","changes":[{"rev":"1-x"}]}],"last_seq":"6-x","pending":0}`,
	}})
	var ids []string
	res, err := db.Changes(t.Context(), couch.ChangesOptions{Feed: couch.FeedLongpoll, Since: "4-x"}, func(c *couch.Change) error {
		ids = append(ids, c.ID)
		return nil
	})
	if err != nil || fmt.Sprint(ids) != "[a]" || res.LastSeq != "6-x" {
		t.Errorf("%v, %+v, %v", ids, res, err)
	}
	if s.count("since=4-x") != 1 || s.count("since=5-x") != 1 {
		t.Errorf("%q", s.log)
	}
}

func TestContinuousOfLongpolls(t *testing.T) {
	row := func(n int) string {
		return fmt.Sprintf(`{"results":[{"seq":"%d-x","id":"%d","changes":[{"rev":"1-x"}]}],"last_seq":"%d-x","pending":0}`, n, n, n)
	}
	db, s := scripted(t, map[string][]string{"POST /db/_changes": {row(1), row(2), row(3), "wait"}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ids []string
	_, err := db.Changes(ctx, couch.ChangesOptions{Feed: couch.FeedContinuous}, func(c *couch.Change) error {
		if ids = append(ids, c.ID); len(ids) == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || fmt.Sprint(ids) != "[1 2 3]" || s.count("feed=continuous") != 0 {
		t.Errorf("%v, %v, %q", ids, err, s.log)
	}
}

func TestLongpollTimeout(t *testing.T) {
	db, s := scripted(t, map[string][]string{"POST /db/_changes": {`{"results":[],"last_seq":"5-x","pending":0}`}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	res, err := db.Changes(ctx, couch.ChangesOptions{Feed: couch.FeedLongpoll, Timeout: time.Nanosecond}, nil)
	if err != nil || res.LastSeq != "5-x" || s.count("_changes") != 1 {
		t.Errorf("%+v, %v, %q", res, err, s.log)
	}
}

func TestReplicatedResults(t *testing.T) {
	db, _ := scripted(t, map[string][]string{"POST /db/_bulk_docs": {`201 [{"id":"b","rev":"1-y","error":"forbidden","reason":"no"}]`}})
	docs := []*couch.Doc{{ID: "a", Rev: couch.Rev{Gen: 1, Hash: "x"}}, {ID: "b", Rev: couch.Rev{Gen: 1, Hash: "y"}}, {ID: "b", Rev: couch.Rev{Gen: 1, Hash: "z"}}}
	results, err := db.BulkDocs(t.Context(), docs, couch.WriteOptions{Replicated: true})
	if err != nil || results[0].Err != nil || results[1].Err == nil || results[2].Err != nil || results[0].Rev != docs[0].Rev {
		t.Errorf("%+v, %v", results, err)
	}
}

func TestErrors(t *testing.T) {
	for in, want := range map[string]string{
		`401 {"error":"unauthorized","reason":"Name or password is incorrect."}`: "401 unauthorized: Name or password is incorrect.",
		`403 {"error":"forbidden","reason":"You are not allowed."}`:              "403 forbidden: You are not allowed.",
		`404 {"error":"not_found","reason":"Database does not exist."}`:          "404 not_found: Database does not exist.",
		`429 {"error":"too_many_requests","reason":"slow down"}`:                 "429 unknown_error: slow down",
		`503 {"error":"x","reason":"busy"}`:                                      "503 unknown_error: busy",
	} {
		db, _ := scripted(t, map[string][]string{"GET /db": {in}})
		_, err := db.Info(t.Context())
		var e *couch.Error
		if !errors.As(err, &e) || fmt.Sprintf("%d %v", e.Status, e) != want {
			t.Errorf("%#v, want %s", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	db, _ := scripted(t, nil)
	if _, err := db.Info(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%#v", err)
	}
	if Error(nil) != nil {
		t.Error("an error of nothing")
	}
}
