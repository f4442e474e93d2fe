package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"regexp"
	"strings"
	"testing"
)

// TestHeadersOfEveryAnswer: what CouchDB puts on each answer, whoever gives it.
func TestHeadersOfEveryAnswer(t *testing.T) {
	s := start(t, Config{Admin: admin})
	id := regexp.MustCompile(`^[0-9a-f]{10}$`)
	for _, tt := range []struct{ method, path, who, contentType string }{
		{"GET", "/", "", "application/json"},
		{"GET", "/_up", "", "application/json"},
		{"GET", "/_session", "", "application/json"},
		{"POST", "/_session", "", "application/json"}, // 415
		{"GET", "/hub", "ann", "application/json"},
		{"HEAD", "/hub", "ann", "application/json"},
		{"GET", "/hub", "", "application/json"}, // 401
		{"GET", "/hub/nope", "ann", "application/json"},
		{"GET", "/hub/_changes", "ann", "application/json"},
		{"GET", "/hub/_changes?feed=eventsource&timeout=1", "ann", "text/event-stream"},
		{"GET", "/hub/_all_docs", "ann", "application/json"},
		{"TRACE", "/hub", "ann", "application/json"},
	} {
		a := s.do(tt.method, tt.path, "", as(tt.who))
		h := a.Header
		if !strings.Contains(h.Get("Server"), "CouchDB/3.5.2") || h.Get("Date") == "" || !id.MatchString(h.Get("X-Couch-Request-ID")) || h.Get("X-CouchDB-Body-Time") == "" {
			t.Errorf("%s %s: %v", tt.method, tt.path, h)
		}
		if h.Get("Content-Type") != tt.contentType || tt.contentType == "application/json" && h.Get("Cache-Control") != "must-revalidate" {
			t.Errorf("%s %s: %v", tt.method, tt.path, h)
		}
	}
}

// TestMethodOverride: a POST can stand for another method, and obeys the rules of that one.
func TestMethodOverride(t *testing.T) {
	s := startWithUsers(t, Config{})
	for _, tt := range []struct {
		method, path, override, body, who string
		status                            int
		want                              string
	}{
		{"POST", "/db/x", "PUT", `{"n":1}`, "ann", 201, `"ok":true`},
		{"POST", "/db/x", "GET", "", "ann", 200, `"n":1`},
		{"POST", "/db/x", "HEAD", "", "ann", 200, `"n":1`}, // with a body, as in CouchDB
		{"POST", "/db/x", "COPY", "", "ann", 201, `"id":"copy"`},
		{"POST", "/db/x", "DELETE", "", "ann", 409, `"conflict"`},
		{"POST", "/db", "DELETE", "", "ann", 200, `"ok":true`},
		{"POST", "/_session", "DELETE", "", "", 200, `"ok":true`},
		{"POST", "/public", "DELETE", "", "bob", 401, "You are not a server admin."},
		{"POST", "/public/_security", "PUT", "{}", "alice", 403, "You are not a db or server admin."},
		{"POST", "/public/x", "TRACE", "", "ann", 405, "method_not_allowed"},
		{"POST", "/public/x", "put", "{}", "ann", 400, "Referer header required."}, // not one of its methods
		{"PUT", "/public/x", "DELETE", `{}`, "ann", 201, `"ok":true`},              // only POST is overridden
		{"GET", "/public/x", "DELETE", "", "ann", 200, `"_rev"`},
	} {
		a := s.do(tt.method, tt.path, tt.body, "X-HTTP-Method-Override: "+tt.override, as(tt.who), "Destination: copy")
		if a.StatusCode != tt.status || !strings.Contains(string(a.body), tt.want) {
			t.Errorf("%s %s as %s by %q: %d %s", tt.method, tt.path, tt.override, tt.who, a.StatusCode, a.body)
		}
	}
	// A page of another origin is not asked less for what it overrides.
	if a := s.do("POST", "/public/x", `{}`, "X-HTTP-Method-Override: PUT", "Origin: https://evil.example", as("ann")); a.StatusCode != 403 {
		t.Errorf("another origin: %d %s", a.StatusCode, a.body)
	}
}

// TestConditionalRequests: each answer that has an ETag is not sent again, and has another after a write.
func TestConditionalRequests(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	rev := s.put("/db/doc", `{"n":1}`)
	s.put("/db/_local/l", `{"n":1}`)
	s.json("PUT", "/db/att/a.txt", "hello", nil)
	etags := map[string]string{}
	paths := []string{"/db/doc", "/db/_local/l", "/db/att/a.txt", "/db/_changes", "/db/_changes?include_docs=true", "/db/doc?revs=true"}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD"} {
			a := s.do(method, path, "")
			etag := a.Header.Get("ETag")
			if a.StatusCode != 200 || len(etag) < 3 || etag[0] != '"' || etag[len(etag)-1] != '"' || etags[path] != "" && etags[path] != etag {
				t.Errorf("%s %s: %d, ETag %s", method, path, a.StatusCode, etag)
			}
			etags[path] = etag
			for _, match := range []string{etag, `"other", ` + etag, "W/" + etag} {
				a := s.do(method, path, "", "If-None-Match: "+match)
				if a.StatusCode != 304 || len(a.body) > 0 || a.Header.Get("ETag") != etag {
					t.Errorf("%s %s of %s: %d %s", method, path, match, a.StatusCode, a.body)
				}
			}
			if a := s.do(method, path, "", `If-None-Match: "other"`); a.StatusCode != 200 {
				t.Errorf("%s %s: %d", method, path, a.StatusCode)
			}
		}
	}
	if etags["/db/doc"] != `"`+rev+`"` || etags["/db/att/a.txt"] != `"XUFAKrxLKna5cZ2REBfFkg=="` {
		t.Errorf("%v", etags)
	}
	s.put("/db/doc?rev="+rev, `{"n":2}`)
	s.put("/db/_local/l?rev=0-1", `{"n":2}`)
	for _, path := range paths {
		if a := s.do("GET", path, "", "If-None-Match: "+etags[path]); a.StatusCode != 200 && !strings.Contains(path, "att") {
			t.Errorf("%s after a write: %d", path, a.StatusCode)
		}
	}
	// No ETag where the answer is more than the revision, or depends on who asks.
	for _, path := range []string{"/db/doc?revs_info=true", "/db/_changes?feed=longpoll", "/hub/_changes", "/db/_all_docs"} {
		if a := s.do("GET", path, ""); a.StatusCode != 200 || a.Header.Get("ETag") != "" {
			t.Errorf("%s: %d, ETag %s", path, a.StatusCode, a.Header.Get("ETag"))
		}
	}
}

// TestBatch: a write with batch=ok is accepted, and here done.
func TestBatch(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	for _, tt := range [][3]string{{"PUT", "/db/a?batch=ok", `{}`}, {"POST", "/db?batch=ok", `{"_id":"b"}`}} {
		if a := s.do(tt[0], tt[1], tt[2], asJSON); a.StatusCode != 202 || strings.Contains(string(a.body), "rev") || !strings.Contains(string(a.body), `{"ok":true,"id":"`) {
			t.Errorf("%s: %d %s", tt[1], a.StatusCode, a.body)
		}
	}
	for _, id := range []string{"a", "b"} {
		if a := s.do("GET", "/db/"+id, ""); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", id, a.StatusCode, a.body)
		}
	}
}

// TestRanges: one range, several, and those that CouchDB answers with the whole.
func TestRanges(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	large := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	for name, data := range map[string]string{"small.txt": "0123456789", "large.txt": string(large)} {
		if a := s.do("PUT", "/db/"+name+"/x", data, "Content-Type: text/plain"); a.StatusCode != 201 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		a := s.do("GET", "/db/"+name+"/x", "", "Range: bytes=0-3, 5-6,-2")
		mediaType, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
		if err != nil || a.StatusCode != 206 || mediaType != "multipart/byteranges" {
			t.Fatalf("%d %v", a.StatusCode, a.Header)
		}
		mr := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
		for _, r := range [][2]int{{0, 4}, {5, 7}, {len(data) - 2, len(data)}} {
			p, err := mr.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(p)
			if want := fmt.Sprintf("bytes %d-%d/%d", r[0], r[1]-1, len(data)); err != nil || string(b) != data[r[0]:r[1]] || p.Header.Get("Content-Range") != want || p.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("%v: %.20q %v %v", r, b, p.Header, err)
			}
		}
		if _, err := mr.NextPart(); err != io.EOF {
			t.Error(err)
		}
	}
	if a := s.do("HEAD", "/db/small.txt/x", "", "Range: bytes=0-1,3-4"); a.StatusCode != 206 || len(a.body) > 0 {
		t.Errorf("HEAD: %d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", "/db/small.txt/x", "", "Range: bytes=0-1,20-30"); a.StatusCode != 416 {
		t.Errorf("outside: %d %s", a.StatusCode, a.body)
	}
}

// TestBulkGetMultipart: who does not take JSON gets the revisions of _bulk_get as parts.
func TestBulkGetMultipart(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	large := bytes.Repeat([]byte("large\r\n--"), 100_000)
	contentType, body := related(large, true)
	id := "a%0D%0AX-Evil:%201"
	if a := s.do("PUT", "/db/"+id, body, "Content-Type: "+contentType); a.StatusCode != 201 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	s.put("/db/plain", `{"n":1}`)
	ask := `{"docs":[{"id":"a\r\nX-Evil: 1"},{"id":"plain"},{"id":"plain","rev":"9-x"},{"id":"nope"}]}`
	for accept, want := range map[string]string{
		"multipart/mixed": "multipart/mixed", "multipart/related": "multipart/related", "multipart/related, multipart/mixed": "multipart/mixed",
		"*/*": "application/json", "multipart/mixed, application/json": "application/json", "text/plain": "application/json",
	} {
		a := s.do("POST", "/db/_bulk_get", ask, asJSON, "Accept: "+accept)
		mediaType, params, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
		if a.StatusCode != 200 || mediaType != want {
			t.Fatalf("%s: %d %v", accept, a.StatusCode, a.Header)
		}
		if mediaType == "application/json" {
			continue
		}
		mr := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
		first, err := mr.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if first.Header.Get("X-Evil") != "" || first.Header.Get("X-Doc-Id") == "" || !strings.HasPrefix(first.Header.Get("X-Rev-Id"), "1-") {
			t.Errorf("%v", first.Header)
		}
		if doc, atts := readRelated(t, first.Header.Get("Content-Type"), first); !strings.Contains(doc, `"a\u000d\u000aX-Evil: 1"`) || atts["a.bin"] != string(large) || atts["z.txt"] != "zz" || len(atts) != 3 {
			t.Errorf("%.200s, %d attachments", doc, len(atts))
		}
		for _, want := range []struct{ contentType, text string }{
			{"application/json", `"n":1`}, {`application/json; error="true"`, `"rev":"9-x","error":"not_found","reason":"missing"`}, {`application/json; error="true"`, `"id":"nope","rev":"undefined"`},
		} {
			p, err := mr.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(p)
			if err != nil || p.Header.Get("Content-Type") != want.contentType || !strings.Contains(string(b), want.text) || !json.Valid(b) {
				t.Errorf("%v %s %v", p.Header, b, err)
			}
		}
		if _, err := mr.NextPart(); err != io.EOF {
			t.Error(err)
		}
	}
}
