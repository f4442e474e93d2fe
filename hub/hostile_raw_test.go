package hub

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// raw sends bytes on a connection of their own and returns what comes back until
// the server closes it. end says what the client does after it has sent.
func (s *server) raw(text string, end func(*net.TCPConn)) string {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, text); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		s.t.Fatal(err)
	}
	if end != nil {
		end(c.(*net.TCPConn))
	}
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("%.60q: the connection hangs after %q", text, b)
	}
	return string(b)
}

func halfClose(c *net.TCPConn) { _ = c.CloseWrite() }

// TestRawGarbage: what is not HTTP, or two requests in one, gets one 400 and an end.
func TestRawGarbage(t *testing.T) {
	s := startForHostility(t, t.TempDir())
	before := s.contents()
	const get, put = "GET /db/doc HTTP/1.1\r\nHost: localhost\r\n", "PUT /db/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
	// Who goes away in the middle of a body gets 400 or, as from CouchDB, nothing.
	const cut = "cut"
	post := "POST /db HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"a line end", "\r\n", "*"},
		{"bytes", "\x00\x01\x02\xff\xfe\r\n\r\n", "400"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x5a", 200) + "\r\n\r\n", "400"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "*"},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "400"},
		{"another version", "GET / HTTP/3.7\r\nHost: localhost\r\n\r\n", "505"},
		{"no version", "GET /\r\n\r\n", "400"},
		{"no method", " / HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
		{"a method of bytes", "G\x00T / HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
		{"no path", "GET  HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
		{"a path with bytes", "GET /db/\x00\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"two hosts", "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", "400"},
		{"a host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
		{"a header without a colon", get + "broken\r\n\r\n", "400"},
		{"a header with a space before its colon", get + "Content-Length : 5\r\n\r\n", "400"},
		{"a header with bytes", get + "X-A: \x00\x01\r\n\r\n", "400"},
		{"a folded header", get + "X-A: b\r\n c\r\n\r\n", "*"},
		{"a bare carriage return", get + "X-A: b\rc: d\r\n\r\n", "400"},
		{"headers without end", get + strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 100), "431"},
		{"one long header", get + "X-A: " + strings.Repeat("b", 200_000), "431"},
		{"a long path", "GET /db/" + strings.Repeat("a", 200_000) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "431"},
		{"a length that is none", post + "Content-Length: x\r\n\r\n{}", "400"},
		{"a negative length", post + "Content-Length: -1\r\n\r\n{}", "400"},
		{"a huge length", post + "Content-Length: 1180591620717411303424\r\n\r\n{}", "400"},
		{"a length with a sign", post + "Content-Length: +2\r\n\r\n{}", "400"},
		{"two lengths", post + "Content-Length: 2\r\nContent-Length: 50\r\n\r\n{}" + put, "400"},
		{"a list of lengths", post + "Content-Length: 2, 50\r\n\r\n{}" + put, "400"},
		{"another coding", post + "Transfer-Encoding: gzip\r\n\r\n{}", "501"},
		{"two codings", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "501"},
		{"a coding with a tab", post + "Transfer-Encoding:\tchunked, x\r\n\r\n0\r\n\r\n" + put, "501"},
		{"chunks that are none", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", "400"},
		{"a negative chunk", post + "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", "400"},
		{"a huge chunk", post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n", "400"},
		{"a chunk that is too long", post + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n", "400"},
		{"a chunk without an end", post + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}", cut},
		{"half a body", post + "Content-Length: 100\r\n\r\n{\"a\":", cut},
		{"half an attachment", "PUT /db/half/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\n\r\nhalf", cut},
		{"an attachment of chunks without an end", "PUT /db/half/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf", cut}, // of no length that could be compared
		{"half a multipart body", "PUT /db/half HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/related; boundary=x\r\nContent-Length: 40000\r\n\r\n--x\r\n\r\n{\"_attachments\":{\"a\":{\"follows\":true}}}\r\n--x\r\n\r\nhalf", cut},
		{"half of packed text", "PUT /db/half HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 400\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", cut},
	} {
		got := s.raw(tt.text, halfClose)
		if n := strings.Count(got, "HTTP/1.1 "); n > 1 {
			t.Errorf("%s: %d answers: %q", tt.name, n, got)
		}
		if ok := (tt.want == "" || tt.want == cut) && got == "" || tt.want == cut && strings.HasPrefix(got, "HTTP/1.1 400") || tt.want == "*" && !strings.HasPrefix(got, "HTTP/1.1 5") || tt.want != "" && strings.HasPrefix(got, "HTTP/1.1 "+tt.want); !ok {
			t.Errorf("%s: %.200q, want %s", tt.name, got, tt.want)
		}
	}
	if after := s.contents(); after != before {
		t.Errorf("before:\n%s\nafterwards:\n%s", before, after)
	}
}

// TestSmuggling: with a length and a coding the coding counts, as RFC 9112 section
// 6.3 says, and the connection is not used again, so that no proxy in front and
// the hub disagree on where a request ends.
func TestSmuggling(t *testing.T) {
	s := startForHostility(t, t.TempDir())
	head := "POST /db HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
	got := s.raw(head+"2\r\n{}\r\n0\r\n\r\nPUT /db/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", nil)
	if strings.Count(got, "HTTP/1.1 ") != 1 {
		t.Errorf("%q", got)
	}
	if a := s.do("GET", "/db/smuggled", ""); a.StatusCode != 404 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestPipelined: requests that come at once are answered in their order.
func TestPipelined(t *testing.T) {
	s := startForHostility(t, t.TempDir())
	get := "GET /db/doc HTTP/1.1\r\nHost: localhost\r\n\r\n"
	got := s.raw(strings.Repeat(get, 5)+"GET /db/nope HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", nil)
	if strings.Count(got, "HTTP/1.1 200") != 5 || strings.Count(got, "HTTP/1.1 404") != 1 || strings.Index(got, "HTTP/1.1 404") < strings.LastIndex(got, "HTTP/1.1 200") {
		t.Errorf("%q", got)
	}
}

// TestHalfClosed: who closes the half to send on is answered or cut, as by
// net/http, and what is answered has been done. A feed whose client has gone ends.
func TestHalfClosed(t *testing.T) {
	s := startForHostility(t, t.TempDir())
	for i := range 5 {
		got := s.raw(fmt.Sprintf("POST /db HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"_id\":\"h%d\"}", i), halfClose)
		if got != "" && !strings.HasPrefix(got, "HTTP/1.1 201") {
			t.Errorf("%q", got)
		}
		if a := s.do("GET", fmt.Sprint("/db/h", i), ""); got != "" && a.StatusCode != 200 {
			t.Errorf("%q, but then %d %s", got, a.StatusCode, a.body)
		}
	}
	for _, q := range []string{"&heartbeat=100", ""} { // without one, nothing is written that could fail
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /db/_changes?feed=continuous&since=now"+q+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		c.Close()
	}
	s.eventually("the feed ends", func() bool {
		l := s.hub.service.quotas
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.feeds == 0
	})
}

// eventually waits for something to become true.
func (s *server) eventually(what string, is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("it does not happen that %s", what)
		}
	}
}

// TestContentTypesAreNoHeaders: a content type that a document brings cannot become
// headers, neither of its attachment nor of parts.
func TestContentTypesAreNoHeaders(t *testing.T) {
	s := startForHostility(t, t.TempDir())
	for i, contentType := range []string{"text/html\r\nX-Evil: 1", "a/b\nX-Evil: 1", "a/b\r\n\r\n<script>", "a/b\x00", strings.Repeat("x", 9000), "ünï/ж", "", `a/b; x="\r\n"`, "multipart/mixed; boundary=x"} {
		id := fmt.Sprintf("/db/type%d", i)
		a := s.do("PUT", id, fmt.Sprintf(`{"_attachments":{"a":{"content_type":%s,"data":"aGk="}}}`, quoted(contentType)), asJSON)
		if a.StatusCode != 201 {
			if a.StatusCode < 400 || a.StatusCode >= 500 {
				t.Errorf("%q: %d %s", contentType, a.StatusCode, a.body)
			}
			continue
		}
		for _, headers := range []string{"Accept: */*", "Range: bytes=0-0", "Range: bytes=0-0,1-1"} {
			a := s.do("GET", id+"/a", "", headers)
			if a.StatusCode >= 300 || a.Header.Get("X-Evil") != "" || strings.Contains(string(a.body), "X-Evil") || a.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(a.Header.Get("Content-Security-Policy"), "sandbox; ") {
				t.Errorf("%q: %d %v %q", contentType, a.StatusCode, a.Header, a.body)
			}
		}
		a = s.do("GET", id+"?attachments=true", "", "Accept: multipart/related")
		_, atts := readRelated(t, a.Header.Get("Content-Type"), strings.NewReader(string(a.body)))
		if atts["a"] != "hi" || strings.Contains(string(a.body), "\nX-Evil") {
			t.Errorf("%q: %q", contentType, a.body)
		}
	}
}

func quoted(s string) string { return string(members{}.set("x", s)[0].value) }

// TestSlowHeaderIsCut: a header that comes byte by byte does not hold a connection for ever.
func TestSlowHeaderIsCut(t *testing.T) {
	before := headerTime
	headerTime = time.Second
	s := startForHostility(t, t.TempDir())
	drip := func(c *net.TCPConn) {
		for begun := time.Now(); time.Since(begun) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
		}
		t.Error("the connection is not cut")
	}
	headerTime = before // the server has read it
	if got := s.raw("GET /db/doc HTTP/1.1\r\nX-Slow: ", drip); strings.Contains(got, "HTTP/1.1 200") {
		t.Errorf("%q", got)
	}
}
