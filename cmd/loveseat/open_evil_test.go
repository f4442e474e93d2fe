package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/evil/sharer"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// An evilShare is opened from a sharer whose wire answers what a test says.
type evilShare struct {
	url, address string // of the port where it is open
	id           string // of the share

	mu     sync.Mutex
	answer string // whole, as it goes over the wire
	asked  http.Header
	closes bool
}

func openEvil(t *testing.T, origins ...string) *evilShare {
	t.Helper()
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	for _, name := range []string{"hub", "notes"} {
		if err := store.Create(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	e, quiet := &evilShare{answer: sharer.Database}, slog.New(slog.DiscardHandler)
	sharer, s, err := sharer.Share(t.Context(), store.DB("hub"), store.DB("notes"), share.Config{
		NewTransport: func(s share.Signaler) (share.Transport, error) {
			return peeradapter.New(peeradapter.Config{Logger: quiet}, s)
		},
		Logger: quiet,
	}, e.serve)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sharer.Close() })
	opener, err := peeradapter.Join(t.Context(), store.DB("hub"), peeradapter.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opener.Close() })
	remote, err := opener.Open(t.Context(), s.ID())
	if err != nil {
		t.Fatal(err)
	}
	port := httptest.NewServer(newProxy(remote, origins))
	t.Cleanup(port.Close)
	e.url, e.address, e.id = port.URL+"/notes", port.Listener.Addr().String(), s.ID()
	return e
}

func (e *evilShare) serve(w io.Writer, r *http.Request) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = r.Header
	_, err := io.WriteString(w, e.answer)
	return err == nil && !e.closes
}

// ask sends a request to the open port while the sharer answers so, and returns all that comes back.
func (e *evilShare) ask(t *testing.T, answer, request string) (raw string) {
	t.Helper()
	e.mu.Lock()
	e.answer, e.closes = answer, !strings.Contains(answer, "Content-Length") || strings.HasPrefix(answer, "HTTP/1.1 199")
	e.mu.Unlock()
	c, err := net.DialTimeout("tcp", e.address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n")+"\r\nHost: "+e.address+"\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return string(b)
}

// get asks for a document; the answer is read as a strict client would.
func (e *evilShare) get(t *testing.T, answer string, headers ...string) (*http.Response, string) {
	t.Helper()
	raw := e.ask(t, answer, strings.Join(append([]string{"GET /notes/doc HTTP/1.1"}, headers...), "\n"))
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
	if err != nil {
		t.Fatalf("%.300q: %v\n%.300q", answer, err, raw)
	}
	body, _ := io.ReadAll(r.Body)
	return r, string(body)
}

// passing are the headers that an answer of the port may have: its own, and the few of the sharer's.
var passing = strings.Fields("Content-Security-Policy X-Content-Type-Options Referrer-Policy Cross-Origin-Resource-Policy Cache-Control Server Vary Date Connection " +
	"Content-Type Content-Length Content-Disposition Content-Encoding Content-Range Content-Md5 Accept-Ranges Accept-Encoding Allow Etag Location Retry-After")

// evilHeaders is what browsers obey, and what somebody may think of.
const evilHeaders = `Set-Cookie: AuthSession=evil; Path=/
Set-Cookie2: evil=1
Service-Worker-Allowed: /
Service-Worker-Navigation-Preload: evil
Refresh: 0; url=https://evil.example/
Clear-Site-Data: "*", "evil"
Link: <https://evil.example/x.css>; rel=stylesheet
Access-Control-Allow-Origin: *
Access-Control-Allow-Origin: https://evil.example
Access-Control-Allow-Credentials: true
Access-Control-Allow-Private-Network: true
Access-Control-Expose-Headers: evil
Timing-Allow-Origin: https://evil.example
Content-Security-Policy: script-src https://evil.example
Content-Security-Policy-Report-Only: default-src 'none'; report-uri https://evil.example/
X-Content-Type-Options: evil
X-Frame-Options: ALLOW-FROM https://evil.example
Cross-Origin-Resource-Policy: cross-origin; evil
Cross-Origin-Opener-Policy: evil
Cross-Origin-Embedder-Policy: evil
Content-Location: https://evil.example/
Content-Disposition: inline; filename=evil.html
Content-Base: https://evil.example/
SourceMap: https://evil.example/
X-SourceMap: https://evil.example/
X-DNS-Prefetch-Control: on evil
X-UA-Compatible: evil
NEL: {"report_to":"evil"}
Report-To: {"group":"evil"}
Reporting-Endpoints: evil="https://evil.example/"
Alt-Svc: h2="evil.example:443"
Alternates: evil
Strict-Transport-Security: max-age=31536000; evil
Public-Key-Pins: evil
Expect-CT: evil
Origin-Agent-Cluster: ?1; evil
Origin-Trial: evil
Document-Policy: evil
Permissions-Policy: evil=*
Feature-Policy: evil *
Accept-CH: evil
Critical-CH: evil
Speculation-Rules: "https://evil.example/rules.json"
Supports-Loading-Mode: evil
Use-As-Dictionary: match="evil"
No-Vary-Search: evil
Activate-Storage-Access: load; evil
Set-Login: evil
Observe-Browsing-Topics: evil
Attribution-Reporting-Register-Source: evil
WWW-Authenticate: Basic realm="evil"
Proxy-Authenticate: Basic realm="evil"
Authentication-Info: evil
Cache-Control: public, max-age=31536000, immutable, evil
Expires: evil
Pragma: evil
Age: evil
Vary: evil
Server: evil
Via: evil
Warning: 199 evil
Upgrade: evil
Keep-Alive: evil
Proxy-Connection: evil
Trailer: X-Evil
TE: evil
Destination: evil
Priority: evil
P3P: evil
Loveseat-Invite: evil
X-Whatever-Comes-Next: evil`

// What a sharer answers is made anew: the headers that are listed, in their forms, and none else, whatever the status.
func TestEvilHeaders(t *testing.T) {
	e := openEvil(t)
	for _, status := range []string{"200 OK", "201 Created evil", "206 Partial Content", "304 Not Modified", "404 evil", "401 Unauthorized", "500 evil", "412 \x1b[31mevil"} {
		head := status + "\nContent-Type: application/json\nETag: \"1-abc\"\nContent-Range: bytes 0-1/2\nRetry-After: 7\n" + evilHeaders
		r, body := e.get(t, sharer.Answer(head, `{"good":1}`))
		for name, v := range r.Header {
			if !slices.Contains(passing, name) || len(v) != 1 || strings.Contains(v[0], "evil") {
				t.Errorf("%s: %s: %q", status, name, v)
			}
		}
		if strings.Contains(r.Status, "evil") || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Content-Security-Policy") != "sandbox; default-src 'none'; frame-ancestors 'none'" ||
			r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: %v", r.Status, r.Header)
		}
		if r.Header.Get("Etag") != `"1-abc"` || r.Header.Get("Retry-After") != "7" || r.StatusCode != 304 && body != `{"good":1}` {
			t.Errorf("%s: what is CouchDB's is missing: %v %q", status, r.Header, body)
		}
	}
	for name, values := range map[string][]string{
		"ETag": {"evil", `"a" "b"`, `"` + strings.Repeat("a", 300) + `"`, `"a", "evil"`, "\"\xff\""}, "Content-Range": {"bytes evil", "bytes 0-1/2, evil", "items 0-1/2"}, "Retry-After": {"evil", "-1", "Fri, 31 Dec 1999 23:59:59 GMT", "9999999999999"},
		"Accept-Ranges": {"evil", "bytes, evil"}, "Content-MD5": {"evil"}, "Allow": {"get evil", "GET; evil"}, "Accept-Encoding": {"br", "gzip;q=evil"},
	} {
		for _, v := range values {
			if r, _ := e.get(t, sharer.Answer("200 OK\nContent-Type: application/json\n"+name+": "+v, "{}")); r.StatusCode != 200 || r.Header.Get(name) != "" {
				t.Errorf("%s: %.100q passed: %d %.100q", name, v, r.StatusCode, r.Header.Get(name))
			}
		}
		if r, _ := e.get(t, sharer.Answer(fmt.Sprintf("200 OK\nContent-Type: application/json\n%s: %s\n%s: %s", name, values[0], name, "0"), "{}")); r.Header.Get(name) != "" {
			t.Errorf("two of %s passed: %v", name, r.Header)
		}
	}
}

// Interim answers, upgrades, trailers, statuses and sizes that are not CouchDB's do not pass.
func TestEvilAnswers(t *testing.T) {
	e := openEvil(t)
	ok := sharer.Answer("200 OK\nContent-Type: application/json", `{"good":1}`)
	chunked := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
	cases := map[string]struct {
		answer string
		status int
	}{
		"early hints":       {"HTTP/1.1 103 Early Hints\r\nLink: <https://evil.example/>; rel=preload\r\nSet-Cookie: evil=1\r\n\r\n" + ok, 200},
		"continue, often":   {strings.Repeat("HTTP/1.1 100 Continue\r\nX-Evil: evil\r\n\r\n", 20) + ok, 200},
		"continue for ever": {strings.Repeat("HTTP/1.1 102 Processing\r\nX-Evil: evil\r\n\r\n", 10_000) + ok, 502},
		"an upgrade":        {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nevil", 502},
		"trailers":          {chunked + "Trailer: Set-Cookie, X-Evil\r\n\r\na\r\n{\"good\":1}\r\n0\r\nSet-Cookie: evil=1\r\nX-Evil: evil\r\n\r\n", 200},
		"sudden trailers":   {chunked + "\r\na\r\n{\"good\":1}\r\n0\r\nSet-Cookie: evil=1\r\nX-Evil: evil\r\n\r\n", 200},
		"a long header":     {sharer.Answer("200 OK\nX-Evil: "+strings.Repeat("evil", 50_000), "{}"), 502},
		"many headers":      {sharer.Answer("200 OK\nX-A: evil"+strings.Repeat("\nX-Evil: evil", 20_000), "{}"), 502},
		"a long status":     {sharer.Answer("200 "+strings.Repeat("evil", 50_000), "{}"), 502},
		"no HTTP":           {"evil evil evil\r\n\r\n", 502},
		"no status":         {"HTTP/1.1 evil\r\n\r\n", 502},
		"two lengths":       {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!", 502},
		"no length":         {"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nevil!", 502},
		"brotli":            {sharer.Answer("200 OK\nContent-Encoding: br", "evil"), 502},
		"gzip twice":        {sharer.Answer("200 OK\nContent-Encoding: gzip, gzip", "evil"), 502},
		"gzip and more":     {sharer.Answer("200 OK\nContent-Encoding: gzip\nContent-Encoding: deflate", "evil"), 502},
		"a header's folds":  {sharer.Answer("200 OK\nX-A: b\n Set-Cookie: evil=1", `{"good":1}`), 200},
		"a teapot":          {sharer.Answer("418 evil", "{}"), 418},
	}
	for _, status := range []int{0, 99, 199, 203, 205, 207, 208, 226, 299, 300, 305, 306, 309, 399, 407, 600, 999} {
		cases[fmt.Sprintf("status %d", status)] = struct {
			answer string
			status int
		}{sharer.Answer(fmt.Sprintf("%03d evil", status), "{}"), 502}
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			raw := e.ask(t, tt.answer, "GET /notes/doc HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket")
			r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
			if err != nil || r.StatusCode != tt.status {
				t.Fatalf("%v: %.300q", err, raw)
			}
			body, _ := io.ReadAll(r.Body)
			if head, _, _ := strings.Cut(raw, "\r\n\r\n"); strings.Contains(strings.ToLower(head), "evil") || len(r.Trailer) > 0 || strings.Contains(raw, "Set-Cookie") {
				t.Errorf("%.500q", raw)
			}
			if tt.status == 502 && !strings.HasPrefix(string(body), `{"error":"bad_gateway","reason":"The `) || tt.status == 200 && !strings.HasPrefix(string(body), `{"good":1}`) {
				t.Errorf("%d %.300q", tt.status, body)
			}
		})
	}
}

// An answer that is cut off is not taken for whole.
func TestEvilCut(t *testing.T) {
	e := openEvil(t)
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n",
	} {
		e.mu.Lock()
		e.answer, e.closes = answer, true
		e.mu.Unlock()
		r, err := http.Get(e.url + "/doc")
		if err != nil {
			continue
		}
		if _, err := io.ReadAll(r.Body); err == nil {
			t.Errorf("%q was taken for whole", answer)
		}
		_ = r.Body.Close()
	}
}

// A Location leads into the share that is open here, or it is left out; a redirect without it is refused.
func TestEvilLocations(t *testing.T) {
	e := openEvil(t)
	here := "http://" + e.address
	for location, want := range map[string]string{
		"http://" + e.id + "/notes/doc": here + "/notes/doc", "https://" + e.id + "/notes/doc": "", "http://" + e.id + ":80/notes": "", "http://" + e.id + "/other": "", "http://evil@" + e.id + "/notes": "",
		"/notes/doc": here + "/notes/doc", "/notes": here + "/notes", "/notes/_design/a?x=1%2F": here + "/notes/_design/a?x=1%2F", "/n%6Ftes/a": here + "/n%6Ftes/a",
		"https://evil.example/": "", "http://evil.example/notes/a": "", "//evil.example/notes": "", "/\\evil.example/notes": "", "\\\\evil.example": "", "/other/doc": "", "/notes2": "", "/": "", "": "",
		"/notes/../other": "", "/notes/..": "", "/notes/%2e%2E/other": "", "/notes/./a": "", "javascript:alert(1)": "", "data:text/html,evil": "", "notes/a": "", "?x": "", "#x": "",
		"http:/notes/a": "", "http:notes": "", "http://user@evil.example/notes": "", "/notes/é": "", "/notes/" + strings.Repeat("a", 5000): "", "http://" + e.address + "/notes": "", "ftp://x/notes": "",
	} {
		for _, status := range []int{201, 301, 302, 303, 307, 308} {
			r, body := e.get(t, sharer.Answer(fmt.Sprintf("%d x\nContent-Type: application/json\nLocation: %s", status, location), "{}"))
			code := status
			if want == "" && status != 201 {
				code = 502
			}
			if got := r.Header.Get("Location"); got != want || r.StatusCode != code {
				t.Errorf("%d to %.100q: %d to %q, want %q %s", status, location, r.StatusCode, got, want, body)
			}
		}
	}
	if r, _ := e.get(t, sharer.Answer("302 x\nLocation: /notes/a\nLocation: https://evil.example/", "")); r.StatusCode != 502 {
		t.Errorf("two locations: %v", r.Header)
	}
}

// Programs get the content type that a document's author gave; a browser shows only what cannot run.
func TestEvilContentTypes(t *testing.T) {
	e := openEvil(t)
	const octets = "application/octet-stream"
	for given, want := range map[string]struct {
		kind     string
		download bool
	}{
		"text/html": {"text/html", true}, "TEXT/HTML": {"TEXT/HTML", true}, "text/html; charset=utf-8": {"text/html; charset=utf-8", true}, "text/html;charset=utf-7": {"text/html;charset=utf-7", true},
		"image/svg+xml": {"image/svg+xml", true}, "application/xhtml+xml": {"application/xhtml+xml", true}, "text/xml": {"text/xml", true}, "application/pdf": {"application/pdf", true},
		"text/javascript": {"text/javascript", true}, "text/css": {"text/css", true}, "application/x-shockwave-flash": {"application/x-shockwave-flash", true}, "message/rfc822": {"message/rfc822", true},
		"multipart/related; boundary=\"a b\"": {"multipart/related; boundary=\"a b\"", true}, "multipart/mixed; boundary=x": {"multipart/mixed; boundary=x", true}, "multipart/x-mixed-replace; boundary=x": {octets, true},
		"text/plain; charset=utf-7": {"text/plain; charset=utf-7", true}, "text/plain; charset=utf-8; charset=utf-7": {"text/plain; charset=utf-8; charset=utf-7", true}, "text/plain; charset=iso-2022-jp": {"text/plain; charset=iso-2022-jp", true},
		"text/html, application/json": {octets, true}, "application/json, text/html": {octets, true}, "application/json\nContent-Type: text/html": {octets, true}, "": {octets, true}, "html": {octets, true}, "*/*": {octets, true}, "x/y": {"x/y", true},
		"text/html;charset=\"": {octets, true}, "text/plain\xc2\xa0": {octets, true}, "application/json;" + strings.Repeat("a", 1000): {octets, true},
		"application/json": {"application/json", false}, "application/json; charset=utf-8": {"application/json; charset=utf-8", false}, "text/plain": {"text/plain", false}, "text/plain;charset=UTF-8": {"text/plain;charset=UTF-8", false},
		"image/png": {"image/png", false}, "video/mp4": {"video/mp4", false}, octets: {octets, true},
	} {
		r, body := e.get(t, sharer.Answer("200 OK\nContent-Type: "+given, "<script>alert(1)</script>"))
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != want.kind || (r.Header.Get("Content-Disposition") == "attachment") != want.download || body != "<script>alert(1)</script>" {
			t.Errorf("%.100q: %d %.100q %q", given, r.StatusCode, r.Header.Get("Content-Type"), r.Header.Get("Content-Disposition"))
		}
	}
	if r, _ := e.get(t, sharer.Answer("200 OK", "<script>alert(1)</script>")); r.Header.Get("Content-Type") != octets || r.Header.Get("Content-Disposition") != "attachment" {
		t.Errorf("without a type: %v", r.Header)
	}
}

// The sharer learns what CouchDB's API needs, and nothing else of who asks.
func TestSharerLearnsNothing(t *testing.T) {
	e := openEvil(t)
	asked := "Accept: application/json\nAccept-Encoding: gzip\nContent-Type: application/json\nIf-None-Match: \"a\"\nRange: bytes=0-1\nX-Couch-Full-Commit: true"
	private := "Cookie: a=secret\nAuthorization: Basic secret\nProxy-Authorization: secret\nReferer: http://localhost:3000/secret\nUser-Agent: secret\nX-Forwarded-For: secret\nForwarded: secret\nLoveseat-Peer: secret\n" +
		"Loveseat-Invite: secret\nX-Auth-CouchDB-Token: secret\nSec-CH-UA: secret\nAccept-Language: secret\nDNT: 1\nX-Secret: secret\nTE: trailers\nVia: secret\nSec-Fetch-Site: none\nOrigin: http://localhost:3000"
	e.ask(t, sharer.Database, "GET /notes HTTP/1.1\n"+asked+"\n"+private)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, line := range strings.Split(asked, "\n") {
		if name, v, _ := strings.Cut(line, ": "); e.asked.Get(name) != v {
			t.Errorf("%s did not come", line)
		}
	}
	for _, line := range strings.Split(private, "\n") {
		if name, _, _ := strings.Cut(line, ": "); e.asked.Get(name) != "" {
			t.Errorf("the sharer learns %s: %q", name, e.asked[http.CanonicalHeaderKey(name)])
		}
	}
}
