package hub

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// exhausted repeats a request until it is refused, which must be well said, and returns how often it was not.
func (s *server) exhausted(send func() *answer) int {
	s.t.Helper()
	for n := range 100 {
		a := send()
		if a.StatusCode < 400 {
			continue
		}
		if a.StatusCode != 429 || a.Header.Get("Retry-After") == "" || !strings.HasPrefix(string(a.body), `{"error":"too_many_requests","reason":"You have too many `) {
			s.t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
		}
		return n
	}
	s.t.Error("not refused")
	return 100
}

// Each client has its own quotas: one that uses them up takes nothing from the others.
func TestQuotas(t *testing.T) {
	s := startUsers(t, Config{Service: Service{Quotas: Quotas{Requests: 8, Documents: .5, Signals: .3, Feeds: 2}}})
	free := func(user string) {
		t.Helper()
		if a := s.do("GET", "/hub", "", basicAuth(user)); a.StatusCode != 200 {
			t.Errorf("%s is held responsible: %d", user, a.StatusCode)
		}
	}
	s.as("root", "PUT", "/notes", "", 201)
	s.as("root", "PUT", "/notes/_security", `{"members":{"names":["ann"]}}`, 200)

	ann, bob := newDevice(t), newDevice(t)
	if n := s.exhausted(func() *answer {
		id, body := ann.signal(t, bob, nil)
		return s.do("PUT", "/hub/"+id, body, basicAuth("ann"), asJSON, s.proof(ann, "PUT", "/hub/"+id, hubdoc.ToClaim))
	}); n != 3 {
		t.Errorf("%d signals", n)
	}
	if n := s.exhausted(func() *answer { return s.do("POST", "/notes", `{}`, basicAuth("ann"), asJSON) }); n < 2 || n > 5 { // the request and the document are counted
		t.Errorf("%d documents", n)
	}
	free("ann")
	if n := s.exhausted(func() *answer { return s.do("GET", "/hub", "", basicAuth("bob")) }); n < 30 || n > 60 {
		t.Errorf("%d requests", n)
	}
	free("ann")
	for range 60 {
		free("root")
	}
	for range 2 {
		_, closer := s.open("/hub/_changes?feed=continuous&since=now&heartbeat=100", basicAuth("eve"))
		defer closer.Close()
	}
	if n := s.exhausted(func() *answer { return s.do("GET", "/hub/_changes?feed=longpoll&since=now", "", basicAuth("eve")) }); n != 0 {
		t.Errorf("%d more feeds", n)
	}
	free("eve")
}

func TestDatabasesAreLimited(t *testing.T) {
	s := startUsers(t, Config{Service: Service{Quotas: Quotas{Databases: 4}}})
	for i := range 10 {
		a := s.do("PUT", fmt.Sprintf("/db%d", i), "", basicAuth("root"))
		if a.StatusCode == 201 {
			continue
		}
		if a.StatusCode != 413 || !strings.Contains(string(a.body), "too_many_databases") || i == 0 {
			t.Errorf("%d: %d %s", i, a.StatusCode, a.body)
		}
		return
	}
	t.Error("no limit")
}

// A client that sends its body too slowly is cut off.
func TestSlowUploadIsCut(t *testing.T) {
	s := start(t, Config{Service: Service{Quotas: Quotas{Upload: 2 * time.Second}}})
	s.do("PUT", "/db", "")
	for _, first := range []string{`{"a":`, `{"a":"` + strings.Repeat("x", 400<<10)} { // what came fast buys no time
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begun := time.Now()
		fmt.Fprint(c, "PUT /db/doc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"+first)
		_ = c.SetReadDeadline(time.Now().Add(40 * time.Second))
		go func() {
			for range time.Tick(100 * time.Millisecond) { // it goes on, very slowly
				if _, err := fmt.Fprint(c, "x"); err != nil {
					return
				}
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			if resp.StatusCode < 400 || resp.StatusCode >= 500 {
				t.Errorf("status %d", resp.StatusCode)
			}
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if took := time.Since(begun); errors.Is(err, net.ErrClosed) || took > 30*time.Second {
			t.Errorf("after %d bytes cut off after %v: %v", len(first), took, err)
		}
	}
	// A body that comes whole leaves no deadline on the connection.
	feed, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/db/_changes?feed=continuous&since=now&heartbeat=100&filter=_doc_ids", strings.NewReader(`{"doc_ids":["later"]}`))
	if err != nil {
		t.Fatal(err)
	}
	feed.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(feed)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for range 25 { // heartbeats, until the deadline would have come
		lines.Scan()
	}
	s.do("PUT", "/db/later", "{}", asJSON)
	if line := next(t, lines); !strings.Contains(line, "later") {
		t.Errorf("%s", line)
	}
}

// Who does nothing for a while is forgotten.
func TestIdleClientsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Quotas{})
		for i := range 100 {
			leave, err := l.enter(&caller{client: fmt.Sprint("address ", i)}, i == 7)
			if err != nil {
				t.Fatal(err)
			}
			if i != 7 {
				leave()
			}
		}
		time.Sleep(2 * idle)
		leave, err := l.enter(&caller{client: "address x"}, false)
		if err != nil {
			t.Fatal(err)
		}
		leave()
		if n := l.count(); n != 2 { // the one with a feed, and the last
			t.Errorf("%d clients", n)
		}
	})
}

func TestRetryAfterOfOneSignal(t *testing.T) {
	l := newLimiter(Quotas{Signals: .01})
	c := caller{client: "user ann"}
	if err := l.signal(&c); err != nil {
		t.Fatal(err)
	}
	if after := couch.RetryAfter(l.signal(&c)); after < 90*time.Second || after > 100*time.Second {
		t.Errorf("Retry-After %v", after)
	}
}
