package evil

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// opened are the attacks on who opens a share: item 1, and what else a sharer can answer.
var opened = []Attack{
	{Item: 1, Name: "a sharer's web page is not one of loopback's", Run: servesPages},
	{Item: 1, Name: "a sharer's status and Location lead nowhere", Run: redirects},
	{Item: 1, Name: "a service worker is not installed from a share", Run: serviceWorker},
	{Item: 1, Name: "a page elsewhere does not navigate to a share", Run: navigates},
	{Item: 1, Name: "a hub with accounts trusts no origin of loopback", Run: loopbackOrigin, Stranger: true},
	{Item: 0, Name: "headers without end of a sharer", Run: endlessHeaders},
	{Item: 0, Name: "a body without end, and one that is packed, of a sharer", Run: endlessBodies},
	{Item: 0, Name: "a sharer's lies to who pulls from it", Run: liesToPullers},
}

// forbidden are headers that must not pass from a sharer to a browser, with values that a browser obeys.
var forbidden = map[string]string{
	"Set-Cookie":                           "AuthSession=stolen; Path=/",
	"Set-Cookie2":                          "a=b",
	"Service-Worker-Allowed":               "/",
	"Refresh":                              "0; url=http://evil.example/",
	"Clear-Site-Data":                      `"*"`,
	"Link":                                 "<http://evil.example/x.js>; rel=preload; as=script",
	"Access-Control-Allow-Origin":          "*",
	"Access-Control-Allow-Credentials":     "true",
	"Access-Control-Allow-Headers":         "*",
	"Access-Control-Allow-Methods":         "*",
	"Access-Control-Allow-Private-Network": "true",
	"Access-Control-Max-Age":               "86400",
	"Strict-Transport-Security":            "max-age=31536000; includeSubDomains",
	"Alt-Svc":                              `h2="evil.example:443"`,
	"Content-Location":                     "http://evil.example/",
	"Report-To":                            `{"endpoints":[{"url":"http://evil.example/"}]}`,
	"Reporting-Endpoints":                  `a="http://evil.example/"`,
	"NEL":                                  `{"report_to":"a"}`,
	"SourceMap":                            "http://evil.example/map",
	"X-SourceMap":                          "http://evil.example/map",
	"WWW-Authenticate":                     `Basic realm="your password"`,
	"Proxy-Authenticate":                   `Basic realm="your password"`,
	"Origin-Agent-Cluster":                 "?0",
	"Supports-Loading-Mode":                "credentialed-prerender",
	"Speculation-Rules":                    `"/rules.json"`,
	"Public-Key-Pins":                      "max-age=1",
	"Permissions-Policy":                   "camera=*",
	"Sec-Session-Registration":             "(ES256); path=\"/x\"",
	"X-Anything":                           "else",
}

// harmless tells what of an answer a browser could be harmed by.
func harmless(a *answer) error {
	var bad []string
	for name, value := range forbidden {
		for _, got := range a.Header.Values(name) {
			if got == value {
				bad = append(bad, name)
			}
		}
	}
	csp := strings.ToLower(strings.Join(a.Header.Values("Content-Security-Policy"), ","))
	if !strings.Contains(csp, "sandbox") || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "allow-") || strings.Contains(csp, "unsafe") {
		bad = append(bad, fmt.Sprintf("Content-Security-Policy %q", csp))
	}
	if !strings.EqualFold(a.Header.Get("X-Content-Type-Options"), "nosniff") {
		bad = append(bad, "no nosniff")
	}
	if a.Header.Get("Cross-Origin-Resource-Policy") == "" {
		bad = append(bad, "no Cross-Origin-Resource-Policy")
	}
	kind := strings.ToLower(a.Header.Get("Content-Type"))
	for _, active := range []string{"html", "svg", "xml", "javascript", "ecmascript", "pdf", "x-mixed-replace"} {
		if strings.Contains(kind, active) && !strings.HasPrefix(strings.ToLower(a.Header.Get("Content-Disposition")), "attachment") {
			bad = append(bad, kind+" that is shown")
		}
	}
	if bad == nil {
		return nil
	}
	return fmt.Errorf("what passes: %s", strings.Join(bad, ", "))
}

const page = "<script>navigator.serviceWorker.register('/notes/sw.js')</script>"

// servesPages: whatever the sharer says of what it sends, a browser gets nothing that runs, in any path and type.
func servesPages(ctx context.Context, t *Target) error {
	var all strings.Builder
	for name, value := range forbidden {
		fmt.Fprintf(&all, "%s: %s\r\n", name, value)
	}
	types := map[string]string{"html": "text/html", "HTML": "Text/HTML;charset=utf-7", "xhtml": "application/xhtml+xml", "svg": "image/svg+xml",
		"js": "application/javascript", "none": "", "pdf": "application/pdf", "mixed": "multipart/x-mixed-replace; boundary=x", "xml": "text/xml", "two": "application/json\r\nContent-Type: text/html"}
	return t.bait(ctx, func(w io.Writer, r *http.Request) bool {
		kind := types[r.URL.Query().Get("type")]
		_, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\n%sContent-Security-Policy: sandbox allow-scripts allow-same-origin\r\nContent-Disposition: inline\r\nCross-Origin-Resource-Policy: cross-origin\r\nX-Content-Type-Options: sniff\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			all.String(), kind, len(page), page)
		return err == nil
	}, func(o *openedShare, _ *sharer) error {
		var errs []error
		for name := range types {
			for _, path := range []string{"/page.html", "/_design/a/x.html", "/_all_docs", "/doc/att"} {
				a, err := do(ctx, "GET", o.URL+path+"?type="+name, request{})
				if err != nil {
					return notMade("a request", err)
				}
				if err := harmless(a); err != nil && len(errs) == 0 {
					errs = append(errs, fmt.Errorf("%s, %s: %w", path, types[name], err))
				}
			}
		}
		return errors.Join(errs...)
	})
}

// redirects: no status makes a browser or a client go elsewhere, ask for a password, or change protocols.
func redirects(ctx context.Context, t *Target) error {
	return t.bait(ctx, func(w io.Writer, r *http.Request) bool {
		_, err := fmt.Fprintf(w, "HTTP/1.1 %s Whatever\r\nLocation: http://evil.example/\r\nRefresh: 0; url=http://evil.example/\r\nWWW-Authenticate: Basic realm=x\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}", r.URL.Query().Get("status"))
		return err == nil
	}, func(o *openedShare, _ *sharer) error {
		for _, status := range []string{"301", "302", "303", "307", "308", "201", "200", "401", "407", "300"} {
			a, err := do(ctx, "GET", o.URL+"/doc?status="+status, request{})
			if err != nil {
				continue // not passed on at all
			}
			for _, name := range []string{"Location", "Refresh"} {
				if to := a.Header.Get(name); strings.Contains(to, "evil.example") {
					return fmt.Errorf("status %s: %s: %s passes", status, name, to)
				}
			}
			if a.Header.Get("WWW-Authenticate") != "" {
				return fmt.Errorf("status %s: it asks for a password", status)
			}
		}
		return nil
	})
}

// serviceWorker: what asks for a worker's script does not get one.
func serviceWorker(ctx context.Context, t *Target) error {
	return t.bait(ctx, func(w io.Writer, _ *http.Request) bool {
		const script = "onfetch = e => e.respondWith(new Response('mine'))"
		_, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nService-Worker-Allowed: /\r\nContent-Length: %d\r\n\r\n%s", len(script), script)
		return err == nil
	}, func(o *openedShare, _ *sharer) error {
		for _, h := range []http.Header{
			headers("Service-Worker", "script", "Sec-Fetch-Dest", "serviceworker", "Sec-Fetch-Mode", "same-origin", "Sec-Fetch-Site", "same-origin"),
			headers("Service-Worker", "script"),
			headers("Sec-Fetch-Dest", "serviceworker"), headers("Sec-Fetch-Dest", "sharedworker"), headers("Sec-Fetch-Dest", "worker"), headers("Sec-Fetch-Dest", "script"),
		} {
			a, err := do(ctx, "GET", o.URL+"/sw.js", request{header: h})
			if err != nil {
				return notMade("a request", err)
			}
			if a.Status < 400 {
				return fmt.Errorf("%v gets %v", h, a)
			}
		}
		return nil
	})
}

// navigates: what a page of another site makes the browser ask for is refused.
func navigates(ctx context.Context, t *Target) error {
	return t.bait(ctx, func(w io.Writer, _ *http.Request) bool {
		_, err := io.WriteString(w, jsonAnswer(`{"_id":"doc","_rev":"1-a"}`))
		return err == nil
	}, func(o *openedShare, s *sharer) error {
		for _, h := range []http.Header{
			headers("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-User", "?1"),
			headers("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"),
			headers("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "object"),
			headers("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "frame"),
			headers("Origin", "null"), headers("Origin", "http://evil.example"),
			headers("Origin", "http://127.0.0.1.evil.example"), headers("Origin", "file://"),
		} {
			for _, method := range []string{"GET", "POST"} {
				a, err := do(ctx, method, o.URL+"/doc", request{header: h})
				if err != nil {
					return notMade("a request", err)
				}
				if a.Status < 400 {
					return fmt.Errorf("%s with %v gets %v", method, h, a)
				}
			}
		}
		return nil
	})
}

// loopbackOrigin: a page of any program on loopback reads nothing and writes nothing with the user's cookie.
func loopbackOrigin(ctx context.Context, t *Target) error {
	for _, origin := range []string{"http://127.0.0.1:1", "http://localhost:8080", "http://evil.localhost", "https://[::1]:7", "null", "http://127.1"} {
		for _, method := range []string{"GET", "OPTIONS", "PUT"} {
			h := headers("Origin", origin)
			if method == "OPTIONS" {
				h = headers("Origin", origin, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Private-Network", "true")
			}
			a, err := do(ctx, method, t.Hub+"/hub/none", request{header: h, as: &t.Mallory})
			if err != nil {
				return notMade("a request", err)
			}
			if a.Header.Get("Access-Control-Allow-Credentials") != "" || a.Header.Get("Access-Control-Allow-Origin") == origin {
				return fmt.Errorf("%s from %s is allowed: %v", method, origin, a.Header)
			}
		}
	}
	return nil
}

const openRoom = 128 << 20 // by which `loveseat open` and `sync` may grow

// endlessHeaders: 10 MB of headers are not held, and do not get through.
func endlessHeaders(ctx context.Context, t *Target) error {
	return t.bait(ctx, func(w io.Writer, r *http.Request) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n")
		line := "X-A: " + strings.Repeat("a", 1000) + "\r\n"
		if r.URL.Query().Has("one") {
			line = strings.Repeat("a", 1000)
			_, _ = io.WriteString(w, "X-A: ")
		}
		for range 10_000 {
			if _, err := io.WriteString(w, line); err != nil {
				return false
			}
		}
		_, _ = io.WriteString(w, "\r\nContent-Length: 0\r\n\r\n")
		return false
	}, func(o *openedShare, _ *sharer) error {
		g := watch(o.Pid())
		for _, path := range []string{"/doc", "/doc?one"} {
			if a, err := do(ctx, "GET", o.URL+path, request{}); err == nil && a.Status < 500 {
				g.end()
				return fmt.Errorf("%s gets %d with %d headers", path, a.Status, len(a.Header))
			}
		}
		return t.within("loveseat open", g.end(), openRoom)
	})
}

// bomb is a gzip that unpacks to so many MiB.
func bomb(mib int) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	zeros := make([]byte, 1<<20)
	for range mib {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	return b.Bytes()
}

// endlessBodies: they are passed on piece by piece, packed ones as they are, and end when the client has left.
func endlessBodies(ctx context.Context, t *Target) error {
	packed := bomb(256)
	return t.bait(ctx, func(w io.Writer, r *http.Request) bool {
		if r.URL.Query().Has("packed") {
			_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", len(packed))
			_, err := w.Write(packed)
			return err == nil
		}
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":\"")
		piece := strings.Repeat("a", 64<<10)
		for began := time.Now(); time.Since(began) < time.Second; {
			if _, err := io.WriteString(w, piece); err != nil {
				return false
			}
		}
		return false
	}, func(o *openedShare, _ *sharer) error {
		g := watch(o.Pid())
		limited, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		for _, path := range []string{"/doc?packed", "/doc"} {
			_, _ = do(limited, "GET", o.URL+path, request{header: headers("Accept-Encoding", "gzip")})
		}
		if err := t.within("loveseat open", g.end(), openRoom); err != nil {
			return err
		}
		return t.rests(ctx, o.Pid())
	})
}

// liesToPullers: who replicates from a hostile sharer takes nothing that is not what it says, keeps its memory, and ends.
func liesToPullers(ctx context.Context, t *Target) error {
	const rev = `"1-967a00dff5e02add41819138abb3284d"`
	packed := bomb(256)
	lies := map[string]evilAnswer{
		"a feed without end": func(w io.Writer, _ *http.Request) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"results\":[\n")
			line := `{"seq":"1","id":"` + strings.Repeat("a", 4000) + `","changes":[{"rev":` + rev + "}]},\n"
			for began := time.Now(); time.Since(began) < time.Second; {
				if _, err := io.WriteString(w, line); err != nil {
					return false
				}
			}
			return false
		},
		"deep JSON": func(w io.Writer, _ *http.Request) bool {
			_, _ = io.WriteString(w, jsonAnswer(`{"results":`+strings.Repeat("[", 4<<20)))
			return false
		},
		"a packed feed": func(w io.Writer, _ *http.Request) bool {
			_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", len(packed))
			_, err := w.Write(packed)
			return err == nil
		},
		"ids that are others'": func(w io.Writer, r *http.Request) bool {
			ids := []string{"_local/planted", "_design/planted", "../planted", "_planted", "a\x1b[31m", strings.Repeat("i", 1<<20)}
			var body []string
			for i, id := range ids {
				if strings.HasSuffix(r.URL.Path, "_changes") {
					body = append(body, fmt.Sprintf(`{"seq":"%d","id":%s,"changes":[{"rev":%s}]}`, i+1, quoted(id), rev))
				} else {
					body = append(body, fmt.Sprintf(`{"id":%s,"docs":[{"ok":{"_id":%s,"_rev":%s,"_revisions":{"start":1,"ids":["967a00dff5e02add41819138abb3284d"]},"_attachments":{"a":{"content_type":"text/plain","revpos":1,"digest":"md5-AAAAAAAAAAAAAAAAAAAAAA==","data":"eHh4"}}}}]}`, quoted(id), quoted(id), rev))
				}
			}
			out := `{"results":[` + strings.Join(body, ",") + `],"last_seq":"1000000","pending":0}`
			_, err := io.WriteString(w, jsonAnswer(out))
			return err == nil
		},
	}
	return together(slices.Sorted(maps.Keys(lies)), func(name string) error { return t.pullsFrom(ctx, name, lies[name]) })
}

func (t *Target) pullsFrom(ctx context.Context, name string, lie evilAnswer) error {
	s, err := t.sharer(ctx, func(w io.Writer, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "_local/") {
			_, err := io.WriteString(w, "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 41\r\n\r\n{\"error\":\"not_found\",\"reason\":\"missing\"}\r\n")
			return err == nil
		}
		return lie(w, r)
	})
	if err != nil {
		return err
	}
	defer s.Close()
	limited, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	to := fmt.Sprintf("%s/puller-%d", t.Dir, sharerNumber.Add(1))
	cmd := t.Loveseat(limited, "sync", to+"/notes", t.Direct+"/hub/share:"+s.share.ID(), "--pull", "--network", "127.0.0.0/8")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return notMade("loveseat sync", err)
	}
	g := watch(cmd.Process.Pid)
	_ = cmd.Wait()
	errs := []error{t.within("loveseat sync from "+name, g.end(), openRoom+32<<20), t.Loot.Search("what loveseat sync printed", out.String())}
	if strings.Contains(out.String(), "goroutine ") {
		errs = append(errs, fmt.Errorf("%s: loveseat sync panics: %.600s", name, out.String()))
	}
	if strings.ContainsRune(out.String(), '\x1b') {
		errs = append(errs, fmt.Errorf("%s: escapes reach the terminal: %q", name, out.String()))
	}
	b, err := t.Loveseat(ctx, "export", to+"/notes").Output()
	if err == nil && (bytes.Contains(b, []byte("planted")) && bytes.Contains(b, []byte(`"_local/`)) || bytes.Contains(b, []byte("md5-AAAA"))) {
		errs = append(errs, fmt.Errorf("%s: the puller keeps %.300s", name, b))
	}
	return errors.Join(errs...)
}
