package couchhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// tidyDB purges all that it is asked to, and compacts until it is told to stop.
type tidyDB struct {
	couch.DB
	asked      [][]couch.DocRevs
	compacting chan struct{}
	stop       chan struct{}
}

func (d *tidyDB) Purge(_ context.Context, docs []couch.DocRevs) ([]couch.DocRevs, error) {
	d.asked = append(d.asked, docs)
	return docs, nil
}

func (d *tidyDB) Compact(ctx context.Context) error {
	d.compacting <- struct{}{}
	select {
	case <-d.stop:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *tidyDB) Info(context.Context) (*couch.Info, error) {
	return &couch.Info{Name: "db", PurgeSeq: "3"}, nil
}

func post(s *Server, path, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// purgeOf is a request for n documents with a number of revisions each.
func purgeOf(docs, revs int) string {
	in := map[string][]string{}
	for i := range docs {
		id := fmt.Sprint("doc", i)
		in[id] = []string{}
		for j := range revs {
			in[id] = append(in[id], fmt.Sprintf("1-%x", j))
		}
	}
	b, _ := json.Marshal(in)
	return string(b)
}

func TestPurgeRequests(t *testing.T) {
	s := NewServer(ServerOptions{Store: memStore{db: &tidyDB{}}})
	defer s.Close()
	for _, tt := range []struct {
		contentType, body string
		status            int
		want              string
	}{
		{"application/json", `{}`, 201, `{"purge_seq":null,"purged":{}}`},
		{"application/json", `{"b":["2-x","1-a"],"a":[]}`, 201, `{"purge_seq":null,"purged":{"b":["2-x","1-a"],"a":[]}}`},
		{"text/plain", `{}`, 415, `"Content-Type must be application/json"`},
		{"application/json", `{"a":["x"]}`, 400, `"Invalid rev format"`},
		{"application/json", `{"a":"1-a"}`, 400, `"Invalid list of revisions"`},
		{"application/json", `[]`, 400, `"Request body must be a JSON object"`},
		{"application/json", `{"a":["1-a"]`, 400, `"bad_request"`},
		{"application/json", purgeOf(100, 1), 201, ``},
		{"application/json", purgeOf(101, 1), 400, `"Exceeded maximum number of documents."`},
		{"application/json", purgeOf(1, 1000), 201, ``},
		{"application/json", purgeOf(2, 501), 400, `"Exceeded maximum number of revisions."`},
	} {
		w := post(s, "/db/_purge", tt.contentType, tt.body)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%.50s: %d %s", tt.body, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("PUT", "/db/_purge", nil))
	if w.Code != 405 || !strings.Contains(w.Body.String(), "Only POST allowed") {
		t.Errorf("PUT: %d %s", w.Code, w.Body)
	}
}

func TestCompactRunsOn(t *testing.T) {
	db := &tidyDB{compacting: make(chan struct{}, 9), stop: make(chan struct{})}
	s := NewServer(ServerOptions{Store: memStore{db: db}})
	running := func() bool {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/db", nil))
		var info struct {
			Compacting bool   `json:"compact_running"`
			PurgeSeq   string `json:"purge_seq"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &info); err != nil || info.PurgeSeq != "3" {
			t.Fatal(err, w.Body)
		}
		return info.Compacting
	}
	if w := post(s, "/db/_compact", "", ""); w.Code != 415 || running() {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for range 3 { // one is enough
		if w := post(s, "/db/_compact", "application/json", ""); w.Code != 202 || strings.TrimSpace(w.Body.String()) != `{"ok":true}` || !running() {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	db.stop <- struct{}{}
	for running() {
	}
	post(s, "/db/_compact", "application/json", "")
	<-db.compacting
	<-db.compacting
	s.Close() // ends it
	if running() || len(db.compacting) > 0 {
		t.Error("it still runs")
	}
	post(s, "/db/_compact", "application/json", "")
	if running() || len(db.compacting) > 0 {
		t.Error("a closed server began another")
	}
}

func TestClientPurgesInParts(t *testing.T) {
	db := &tidyDB{}
	s := NewServer(ServerOptions{Store: memStore{db: db}})
	server := httptest.NewServer(s)
	defer server.Close()
	defer s.Close()
	base, _ := url.Parse(server.URL)
	client := NewClient(base, nil, ClientOptions{})
	defer client.Close()
	var docs []couch.DocRevs
	add := func(id string, n int) {
		d := couch.DocRevs{ID: id}
		for i := range n {
			d.Revs = append(d.Revs, couch.Rev{Gen: 1, Hash: fmt.Sprintf("%s%d", id, i)})
		}
		docs = append(docs, d)
	}
	for i := range 250 {
		add(fmt.Sprint("doc", i), 2)
	}
	add("big", 2500)
	add("none", 0)
	add("doc7", 1) // again
	add("doc7", 3)
	got, err := client.DB("db").Purge(context.Background(), docs)
	if err != nil || !reflect.DeepEqual(got, docs) {
		t.Fatal(err, len(got), slices.IndexFunc(got, func(d couch.DocRevs) bool { return d.ID == "big" }))
	}
	for _, batch := range db.asked {
		revs := 0
		for _, d := range batch {
			revs += len(d.Revs)
		}
		if len(batch) > maxPurgeDocs || revs > maxPurgeRevs {
			t.Errorf("%d documents with %d revisions at once", len(batch), revs)
		}
	}
	if none, err := client.DB("db").Purge(context.Background(), nil); err != nil || len(none) != 0 {
		t.Error(none, err)
	}
}
