package hub

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/loveseat-db/loveseat/localdb"
)

func TestMain(m *testing.M) {
	iterations = 10_000
	goleak.VerifyTestMain(m)
}

// A server is a hub on a port of its own.
type server struct {
	t    *testing.T
	hub  *Hub
	url  string
	stop func() // returns when Serve has
}

func start(t *testing.T, c Config) *server {
	t.Helper()
	return startIn(t, t.TempDir(), c)
}

// startIn starts a hub over the databases in a directory.
func startIn(t *testing.T, dir string, c Config) *server {
	t.Helper()
	store, err := localdb.OpenStore(dir, localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.Store, c.UUID = store, store.UUID()
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	h, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, ln) }()
	s := &server{t: t, hub: h, url: "http://" + ln.Addr().String()}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		s.stop()
	})
	return s
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body []byte
}

// do sends a request; headers are "Name: value".
func (s *server) do(method, path, body string, headers ...string) *answer {
	s.t.Helper()
	return s.doBy(http.DefaultClient, method, path, body, headers...)
}

func (s *server) doBy(client *http.Client, method, path, body string, headers ...string) *answer {
	s.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return &answer{resp, b}
}

const asJSON = "Content-Type: application/json"

// json sends a JSON body and reads the answer into to.
func (s *server) json(method, path, body string, to any) {
	s.t.Helper()
	a := s.do(method, path, body, asJSON, "Accept: application/json")
	if a.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, path, a.StatusCode, a.body)
	}
	if to != nil {
		if err := json.Unmarshal(a.body, to); err != nil {
			s.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
		}
	}
}

// put writes a document and returns its revision.
func (s *server) put(path, body string) string {
	s.t.Helper()
	var out struct{ Rev string }
	s.json("PUT", path, body, &out)
	return out.Rev
}

func TestWelcome(t *testing.T) {
	s := start(t, Config{Release: "9.9"})
	var w struct {
		CouchDB, Version, UUID string
		Vendor                 struct{ Name, Version string }
		Features               []string
	}
	s.json("GET", "/", "", &w)
	if w.CouchDB != "Welcome" || w.Version != "3.5.2" || len(w.UUID) != 32 || w.Vendor.Name != "Loveseat" || w.Vendor.Version != "9.9" || w.Features == nil {
		t.Errorf("%+v", w)
	}
	if a := s.do("GET", "/_all_dbs", ""); string(a.body) != `["_users","hub"]`+"\n" {
		t.Errorf("%s", a.body)
	}
	if a := s.do("HEAD", "/hub", ""); a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Cache-Control") != "must-revalidate" {
		t.Errorf("%v", a.Header)
	}
}

// TestLongAnswersAreWhole: answers of more than one piece parse and have every row.
func TestLongAnswersAreWhole(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	var docs bytes.Buffer
	docs.WriteString(`{"docs":[`)
	text := strings.Repeat("x", 500)
	for i := range 1000 {
		if i > 0 {
			docs.WriteByte(',')
		}
		docs.WriteString(`{"_id":"` + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + `","text":"` + text + `"}`)
	}
	docs.WriteString("]}")
	var written []struct{ OK bool }
	s.json("POST", "/db/_bulk_docs", docs.String(), &written)
	if len(written) != 1000 || !written[999].OK {
		t.Fatal(len(written))
	}
	var all struct {
		Total  int `json:"total_rows"`
		Offset *int
		Rows   []struct {
			ID  string
			Doc struct{ Text string }
		}
	}
	s.json("GET", "/db/_all_docs?include_docs=true", "", &all)
	if all.Total != 1000 || all.Offset == nil || *all.Offset != 0 || len(all.Rows) != 1000 || all.Rows[999].Doc.Text != text {
		t.Errorf("total %d, rows %d", all.Total, len(all.Rows))
	}
	var feed struct {
		Results []struct{ ID string }
		LastSeq string `json:"last_seq"`
		Pending *int
	}
	s.json("GET", "/db/_changes?include_docs=true", "", &feed)
	if len(feed.Results) != 1000 || feed.LastSeq == "" || feed.Pending == nil || *feed.Pending != 0 {
		t.Errorf("%d changes, last %q", len(feed.Results), feed.LastSeq)
	}
	var found struct{ Docs []struct{ Text string } }
	s.json("POST", "/db/_find", `{"selector":{"_id":{"$gt":null}},"limit":500}`, &found)
	if len(found.Docs) != 500 || found.Docs[0].Text != text {
		t.Errorf("%d found", len(found.Docs))
	}
}

// TestShutdown: waiting feeds end with their tails, and Serve returns.
func TestShutdown(t *testing.T) {
	s := start(t, Config{})
	bodies := make(chan string)
	for _, feed := range []string{"longpoll", "continuous"} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/hub/_changes?heartbeat=true&feed="+feed, nil)
		resp, err := http.DefaultClient.Do(req) // returns when the header is there: the feed waits
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				b = []byte(err.Error())
			}
			bodies <- string(b)
		}()
	}
	began := time.Now()
	go s.stop()
	for range 2 {
		if b := <-bodies; !strings.Contains(b, `"last_seq":`) {
			t.Errorf("feed ended with %q", b)
		}
	}
	if d := time.Since(began); d >= grace {
		t.Errorf("took %v", d)
	}
}

// TestShutdownFinishesWrites: a write that is under way when the server stops is done and answered.
func TestShutdownFinishesWrites(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	const body = `{"late":true}`
	fmt.Fprintf(c, "PUT /db/doc HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") { // the body is being read
		t.Fatalf("%q %v", line, err)
	}
	_, _ = r.ReadString('\n')
	fmt.Fprint(c, body[:5])
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	s.eventually("the server takes no more connections", func() bool {
		other, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err == nil {
			other.Close()
		}
		return err != nil
	})
	fmt.Fprint(c, body[5:])
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 201 {
		t.Errorf("%d", resp.StatusCode)
	}
	<-stopped
}
