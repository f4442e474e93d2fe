package hub

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// open starts a feed and returns its lines.
func (s *server) open(path string, headers ...string) (*bufio.Scanner, io.Closer) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		s.t.Fatalf("%s: %d", path, resp.StatusCode)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return bufio.NewScanner(resp.Body), resp.Body
}

// next returns the next line that is not a heartbeat.
func next(t *testing.T, lines *bufio.Scanner) string {
	t.Helper()
	for lines.Scan() {
		if lines.Text() != "" {
			return lines.Text()
		}
	}
	t.Fatalf("the feed ended: %v", lines.Err())
	return ""
}

// A compressor takes a megabyte, so feeds that wait for as long as they like have none, even if
// they have had something to tell at first.
func TestWaitingFeedsArePlain(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	s.put("/db/a", `{"text":"`+strings.Repeat("abc", 100_000)+`"}`)
	for _, accept := range []string{"zstd", "gzip"} {
		for _, feed := range []string{"continuous", "eventsource"} {
			lines, end := s.open("/db/_changes?include_docs=true&heartbeat=1000&feed="+feed, "Accept-Encoding: "+accept)
			lines.Buffer(nil, 1<<20)
			if l := next(t, lines); !strings.Contains(l, `"id":"a"`) {
				t.Errorf("%s, %s: %.100q", feed, accept, l)
			}
			end.Close()
		}
		if a := s.do("GET", "/db/_changes?include_docs=true", "", "Accept-Encoding: "+accept); a.Header.Get("Content-Encoding") != accept {
			t.Errorf("%s: a feed that does not wait is not packed", accept)
		}
	}
}

func TestLongpollWaitsForAChange(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	s.put("/db/old", "{}")
	for _, accept := range []string{"identity", "zstd", "gzip"} {
		lines, _ := s.open("/db/_changes?feed=longpoll&since=now&heartbeat=1000", "Accept-Encoding: "+accept)
		if l := next(t, lines); l != `{"results":[` {
			t.Fatal(l)
		}
		s.put("/db/new-"+accept, "{}")
		if l := next(t, lines); !strings.Contains(l, `"id":"new-`+accept+`"`) {
			t.Error(l)
		}
		if l := next(t, lines); l != "]," {
			t.Error(l)
		}
		if l := next(t, lines); !strings.HasPrefix(l, `"last_seq":"`) || !strings.HasSuffix(l, `,"pending":0}`) {
			t.Error(l)
		}
	}
	var feed struct{ Results []struct{ ID string } }
	s.json("GET", "/db/_changes?feed=longpoll", "", &feed)
	if len(feed.Results) != 4 {
		t.Errorf("longpoll with changes at hand gives %d", len(feed.Results))
	}
	s.json("GET", "/db/_changes?feed=longpoll&since=now&timeout=50", "", &feed)
	if len(feed.Results) != 0 {
		t.Errorf("%v", feed)
	}
}

func TestContinuousFeed(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	s.put("/db/a", "{}")
	lines, body := s.open("/db/_changes?feed=continuous&heartbeat=true&include_docs=true")
	if l := next(t, lines); !strings.Contains(l, `"id":"a"`) || !strings.Contains(l, `"doc":{"_id":"a"`) {
		t.Error(l)
	}
	for _, id := range []string{"b", "c"} {
		s.put("/db/"+id, "{}")
		if l := next(t, lines); !strings.Contains(l, `"id":"`+id+`"`) || !json.Valid([]byte(l)) {
			t.Error(l)
		}
	}
	body.Close()

	lines, _ = s.open("/db/_changes?feed=continuous&limit=2")
	next(t, lines)
	next(t, lines)
	if l := next(t, lines); !strings.HasPrefix(l, `{"last_seq":"`) {
		t.Error(l)
	}

	lines, _ = s.open("/db/_changes?feed=continuous&since=now&heartbeat=true")
	s.json("DELETE", "/db", "", nil)
	for lines.Scan() {
		if lines.Text() != "" {
			t.Errorf("after the end of the database: %q", lines.Text())
		}
	}
}

func TestHeartbeat(t *testing.T) {
	s := start(t, Config{})
	began := time.Now()
	lines, _ := s.open("/hub/_changes?feed=continuous&since=now&heartbeat=100")
	for range 4 {
		if !lines.Scan() || lines.Text() != "" {
			t.Fatalf("%q %v", lines.Text(), lines.Err())
		}
	}
	if d := time.Since(began); d < 250*time.Millisecond || d > 30*time.Second {
		t.Errorf("three heartbeats of 100 ms took %v", d)
	}
}

func TestEventSource(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	s.put("/db/a", "{}")
	lines, _ := s.open("/db/_changes?feed=eventsource&heartbeat=true")
	if l := next(t, lines); !strings.HasPrefix(l, `data: {"seq":"`) {
		t.Error(l)
	}
	id := next(t, lines)
	if !strings.HasPrefix(id, `id: "`) {
		t.Fatal(id)
	}
	again, _ := s.open("/db/_changes?feed=eventsource&heartbeat=true", "Last-Event-ID: "+strings.TrimPrefix(id, "id: "))
	s.put("/db/b", "{}")
	if l := next(t, again); l == ":" {
		if l = next(t, again); !strings.Contains(l, `"id":"b"`) {
			t.Error(l)
		}
	} else {
		t.Error(l)
	}
}

func TestChangesFilters(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	for _, id := range []string{"a", "b", "_design/x", "c", "_design/y"} {
		s.put("/db/"+id, `{"v":"`+id+`"}`)
	}
	for _, tt := range []struct{ method, path, body, want string }{
		{"GET", "/db/_changes?filter=_design", "", "_design/x _design/y"},
		{"GET", "/db/_changes?filter=_design&limit=1", "", "_design/x"},
		{"GET", `/db/_changes?filter=_doc_ids&doc_ids=["a","c"]`, "", "a c"},
		{"POST", "/db/_changes?filter=_doc_ids", `{"doc_ids":["b"]}`, "b"},
		{"POST", "/db/_changes?filter=_doc_ids", `{"doc_ids":[]}`, ""},
		{"POST", "/db/_changes?filter=_selector", `{"selector":{"v":"c"}}`, "c"},
		{"GET", "/db/_changes?descending=true&limit=2", "", "_design/y c"},
		{"GET", "/db/_changes?limit=0", "", "a"},
		{"GET", "/db/_changes?since=now", "", ""},
	} {
		var feed struct {
			Results []struct{ ID string }
			LastSeq string `json:"last_seq"`
		}
		s.json(tt.method, tt.path, tt.body, &feed)
		var ids []string
		for _, r := range feed.Results {
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); got != tt.want || feed.LastSeq == "" {
			t.Errorf("%s %s: %q, want %q (last_seq %q)", tt.path, tt.body, got, tt.want, feed.LastSeq)
		}
	}
	lines, _ := s.open("/db/_changes?filter=_design&feed=continuous&since=now&heartbeat=true")
	s.put("/db/other", "{}")
	s.put("/db/_design/z", "{}")
	if l := next(t, lines); !strings.Contains(l, `"_design/z"`) {
		t.Error(l)
	}
}
