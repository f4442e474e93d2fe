package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// A fakeShare is an opened database that a server on loopback plays.
type fakeShare struct{ *httptest.Server }

func (f fakeShare) URL() *url.URL            { u, _ := url.Parse(f.Server.URL + "/notes"); return u }
func (f fakeShare) HTTPClient() *http.Client { return f.Client() }
func (f fakeShare) Close() error             { return nil }

// The loopback port of an opened share answers programs and pages of this machine.
// A page of another origin gets nothing, whether it asks across origins or
// under a name of its own that leads here (DNS rebinding).
func TestAttackLoopbackPort(t *testing.T) {
	var reached []string
	share := fakeShare{httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached = append(reached, r.Method+" "+r.URL.Path)
		for _, h := range []string{"Origin", "Authorization", "Cookie"} {
			if r.Header.Get(h) != "" {
				t.Errorf("%s was passed on", h)
			}
		}
		_, _ = io.WriteString(w, `{"secret":1}`)
	}))}
	defer share.Server.Close()
	port := httptest.NewServer(newProxy(share, nil))
	defer port.Close()
	_, number, _ := net.SplitHostPort(port.Listener.Addr().String())
	for _, tt := range []struct {
		why, method, host, origin string
		preflight                 bool
		status                    int
	}{
		{"a program", "GET", "127.0.0.1:" + number, "", false, 200},
		{"a program, by name", "GET", "localhost:" + number, "", false, 200},
		{"a program, IPv6", "GET", "[::1]:" + number, "", false, 200},
		{"a page of this machine", "GET", "127.0.0.1:" + number, "http://localhost:3000", false, 200},
		{"its preflight", "OPTIONS", "127.0.0.1:" + number, "http://localhost:3000", true, 204},
		{"another origin", "GET", "127.0.0.1:" + number, "https://evil.example", false, 403},
		{"another origin writes", "POST", "127.0.0.1:" + number, "https://evil.example", false, 403},
		{"another origin's preflight", "OPTIONS", "127.0.0.1:" + number, "https://evil.example", true, 403},
		{"an origin like ours", "GET", "127.0.0.1:" + number, "http://localhost.evil.example", false, 403},
		{"an origin like ours", "GET", "127.0.0.1:" + number, "http://127.0.0.1.evil.example:" + number, false, 403},
		{"user info as our name", "GET", "127.0.0.1:" + number, "http://localhost@evil.example", false, 403},
		{"a sandboxed page", "POST", "127.0.0.1:" + number, "null", false, 403},
		{"a file", "POST", "127.0.0.1:" + number, "file://", false, 403},
		{"an extension", "POST", "127.0.0.1:" + number, "chrome-extension://abcdef", false, 403},
		{"no origin at all", "POST", "127.0.0.1:" + number, "%zz", false, 403},
		{"DNS rebinding", "GET", "evil.example:" + number, "", false, 403},
		{"DNS rebinding, same origin", "POST", "evil.example:" + number, "http://evil.example:" + number, false, 403},
		{"DNS rebinding, as our page", "POST", "evil.example:" + number, "http://127.0.0.1:" + number, false, 403},
		{"a name like ours", "GET", "localhost.evil.example:" + number, "", false, 403},
		{"a name like ours", "GET", "127.0.0.1.evil.example", "", false, 403},
		{"another address", "GET", "192.0.2.1:" + number, "", false, 403},
		{"any address", "GET", "0.0.0.0:" + number, "", false, 403},
	} {
		reached = nil
		req, err := http.NewRequestWithContext(t.Context(), tt.method, port.URL+"/notes/_all_docs", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		req.Header.Set("Authorization", "Basic x")
		req.Header.Set("Cookie", "x=y")
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		if tt.preflight {
			req.Header.Set("Access-Control-Request-Method", "PUT")
		}
		resp, err := port.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("%s (host %s, origin %s): %d, want %d", tt.why, tt.host, tt.origin, resp.StatusCode, tt.status)
		}
		if allowed := resp.Header.Get("Access-Control-Allow-Origin"); allowed != "" && allowed != tt.origin || allowed != "" && tt.status == 403 {
			t.Errorf("%s: pages of %q may read the answer", tt.why, allowed)
		}
		if refused := tt.status == 403; refused && (len(reached) > 0 || strings.Contains(string(body), "secret")) {
			t.Errorf("%s: %q reached the share: %s", tt.why, reached, body)
		}
	}
}

// What browsers tell of a request decides too: a site may neither lead to the port nor embed it, and nothing there is run.
func TestOpenFetchMetadata(t *testing.T) {
	var reached bool
	share := fakeShare{httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reached = true; _, _ = io.WriteString(w, "{}") }))}
	defer share.Server.Close()
	port, listed := httptest.NewServer(newProxy(share, nil)), httptest.NewServer(newProxy(share, []string{"https://app.example"}))
	defer port.Close()
	defer listed.Close()
	const page = "Origin: http://localhost:3000"
	for _, tt := range []struct {
		method  string
		headers string // separated by "; "
		allowed bool
		by      string // of the one with a list; "": the same
	}{
		{"GET", "", true, ""},
		{"GET", "Sec-Fetch-Site: none; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: document; Sec-Fetch-User: ?1", true, ""},
		{"GET", "Sec-Fetch-Site: same-origin; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: document", true, ""},
		{"GET", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: cors; Sec-Fetch-Dest: empty; " + page, true, "refuses"},
		{"GET", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: cors; Sec-Fetch-Dest: image; " + page, true, "refuses"},
		{"PUT", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: cors; Sec-Fetch-Dest: empty; " + page, true, "refuses"},
		{"GET", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: cors; Sec-Fetch-Dest: empty; Origin: https://app.example", false, "allows"},
		{"GET", "Origin: https://APP.example", false, "allows"},
		{"GET", "Origin: https://app.example.evil", false, ""},
		{"GET", "Origin: http://app.example", false, ""},
		{"GET", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: document", false, ""},
		{"GET", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: document", false, ""},
		{"POST", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: document; " + page, false, ""},
		{"GET", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: iframe", false, ""},
		{"GET", "Sec-Fetch-Site: none; Sec-Fetch-Mode: navigate; Sec-Fetch-Dest: iframe", false, ""},
		{"GET", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: no-cors; Sec-Fetch-Dest: image", false, ""},
		{"GET", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: no-cors; Sec-Fetch-Dest: empty", false, ""},
		{"GET", "Sec-Fetch-Site: cross-site; Sec-Fetch-Mode: cors; Sec-Fetch-Dest: empty", false, ""},
		{"GET", "Sec-Fetch-Site: whatever comes", false, ""},
		{"GET", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: cors; Sec-Fetch-Dest: script; " + page, false, ""},
		{"GET", "Sec-Fetch-Site: same-origin; Sec-Fetch-Mode: same-origin; Sec-Fetch-Dest: worker", false, ""},
		{"GET", "Sec-Fetch-Site: same-origin; Sec-Fetch-Mode: same-origin; Sec-Fetch-Dest: serviceworker; Service-Worker: script", false, ""},
		{"GET", "Service-Worker: script", false, ""},
		{"GET", "Sec-Fetch-Site: same-site; Sec-Fetch-Mode: websocket; Sec-Fetch-Dest: websocket; " + page, false, ""},
		{"PATCH", "", false, ""},
		{"TRACE", "", false, ""},
	} {
		for _, server := range []*httptest.Server{port, listed} {
			reached = false
			req, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+"/notes", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range strings.Split(tt.headers, "; ") {
				if name, v, ok := strings.Cut(h, ": "); ok {
					req.Header.Set(name, v)
				}
			}
			resp, err := server.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			allowed := tt.allowed
			if server == listed && tt.by != "" {
				allowed = tt.by == "allows"
			}
			if reached != allowed || (resp.StatusCode == 200) != allowed || resp.Header.Get("Content-Security-Policy") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %q (listed: %v): %d %v", tt.method, tt.headers, server == listed, resp.StatusCode, resp.Header)
			}
			if origin := resp.Header.Get("Access-Control-Allow-Origin"); origin != "" && (!allowed || origin != req.Header.Get("Origin") || resp.Header.Get("Access-Control-Allow-Credentials") != "true") {
				t.Errorf("%s %q: %v", tt.method, tt.headers, resp.Header)
			}
		}
	}
	for _, bad := range []string{"app.example", "*", "https://app.example/x", "https://a:b@app.example", "https://app.example?x", "null", "https://app.example#x"} {
		if status, _, errs := run(t, nil, "", "open", "http://127.0.0.1:1/hub", "x", "--origin", bad); status != 2 || !strings.Contains(errs, "want scheme and host") {
			t.Errorf("--origin %s: %d %s", bad, status, errs)
		}
	}
}

func TestLoopbackAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:0": true, "127.8.8.8:1": true, "localhost:5984": true, "[::1]:0": true,
		"0.0.0.0:0": false, ":0": false, "[::]:0": false, "example.org:1": false, "127.0.0.1": false, "192.168.0.1:1": false,
	} {
		if loopback(address) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
}
