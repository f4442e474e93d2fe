package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/localdb"
)

var admin = &Admin{Name: "ann", Password: "s3cret:word"}

const basic = "Authorization: Basic YW5uOnMzY3JldDp3b3Jk"

func TestAccounts(t *testing.T) {
	s := start(t, Config{Admin: admin, Hosts: []string{"hub.example.org"}, Origins: []string{"https://app.example.org"}})
	for _, tt := range []struct {
		method, path string
		headers      []string
		status       int
		body         string
	}{
		{"GET", "/", nil, 200, `"Welcome"`},
		{"GET", "/_up", nil, 200, `"ok"`},
		{"GET", "/_session", nil, 200, `"name":null,"roles":[]`},
		{"GET", "/_all_dbs", nil, 401, `{"error":"unauthorized","reason":"You are not a server admin."}`},
		{"GET", "/_users", nil, 401, `"You are not authorized to access this db."`},
		{"PUT", "/db", nil, 401, `"You are not a server admin."`},
		{"GET", "/_users/_changes?feed=continuous", nil, 401, `"You are not authorized to access this db."`},
		{"GET", "/hub", []string{"Authorization: Basic YW5uOndyb25n"}, 401, `{"error":"unauthorized","reason":"Name or password is incorrect."}`},
		{"GET", "/hub", []string{"Authorization: Basic Ym9iOnMzY3JldDp3b3Jk"}, 401, `"Name or password is incorrect."`},
		{"GET", "/", []string{"Authorization: Basic YW5uOndyb25n"}, 401, `"Name or password is incorrect."`},
		{"GET", "/_users", []string{"Authorization: Bearer x"}, 400, `"Authorization header is invalid"`},
		{"GET", "/_users", []string{"Authorization: Basic *"}, 400, `"Authorization header has invalid base64 value"`},
		{"GET", "/_users", []string{"Authorization: Basic Xzpf"}, 401, `"You are not authorized to access this db."`}, // _:_
		{"GET", "/_users", []string{"Cookie: AuthSession=junk"}, 400, `"Malformed AuthSession cookie. Please clear your cookies."`},
		{"GET", "/hub", []string{basic}, 200, `"db_name":"hub"`},
		{"GET", "/_session", []string{basic}, 200, `"authenticated":"default"`},
		{"PUT", "/db", []string{basic}, 201, `{"ok":true}`},
		{"GET", "/hub", []string{basic, "Host: hub.example.org"}, 200, `"db_name":"hub"`},
	} {
		a := s.do(tt.method, tt.path, "", tt.headers...)
		if a.StatusCode != tt.status || !strings.Contains(string(a.body), tt.body) {
			t.Errorf("%s %s %q: %d %s", tt.method, tt.path, tt.headers, a.StatusCode, a.body)
		}
	}
	if a := s.do("GET", "/", "", "Authorization: Basic YW5uOndyb25n"); a.Header.Get("WWW-Authenticate") == "" {
		t.Error("curl is not told how to log in")
	}
	if a := s.do("GET", "/", "", "Authorization: Basic YW5uOndyb25n", "Origin: https://app.example.org"); a.Header.Get("WWW-Authenticate") != "" || a.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Error("a page must be able to see 401, and no password dialog be shown")
	}
}

func TestSessions(t *testing.T) {
	s := start(t, Config{Admin: admin})
	login := func(contentType, body string) *answer {
		return s.do("POST", "/_session", body, "Content-Type: "+contentType)
	}
	for _, a := range []*answer{
		login("application/json", `{"name":"ann","password":"wrong"}`),
		login("application/json", `{"name":"bob","password":"s3cret:word"}`),
		login("application/x-www-form-urlencoded", `name=ann&password=`),
	} {
		if a.StatusCode != 401 || !strings.Contains(string(a.body), "Name or password is incorrect.") {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	}
	for _, tt := range []struct{ contentType, body, want string }{
		{"text/plain", "{}", "request body must contain a username"},
		{"application/json", `{"password":"x"}`, "request body must contain a username"},
		{"application/x-www-form-urlencoded", "password=x", "request body must contain a username"},
		{"application/json", `{"name":"ann","username":"bob","password":"s3cret:word"}`, "request body contains different usernames"},
	} {
		if a := login(tt.contentType, tt.body); a.StatusCode != 400 || !strings.Contains(string(a.body), tt.want) || len(a.Cookies()) > 0 {
			t.Errorf("%s: %d %v %s", tt.body, a.StatusCode, a.Cookies(), a.body)
		}
	}
	for _, body := range []string{`{"username":"ann","password":"s3cret:word"}`, `{"username":"ann","name":"ann","password":"s3cret:word"}`} {
		if a := login("application/json", body); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", body, a.StatusCode, a.body)
		}
	}
	// A page's form is sent on, to a path of this host only.
	for _, tt := range []struct {
		method, path, password string
		status                 int
		location               string
	}{
		{"POST", "/_session?next=/_utils/", "s3cret:word", 302, s.url + "/_utils/"},
		{"POST", "/_session?next=/_utils/", "wrong", 401, ""},
		{"POST", "/_session?fail=/_utils/?x", "wrong", 302, s.url + "/_utils/?x"},
		{"POST", "/_session?next=//evil.example", "s3cret:word", 302, s.url + "//evil.example"},
		{"POST", "/_session?next=http://evil.example", "s3cret:word", 400, ""},
		{"POST", "/_session?next=/%0d%0aX-Evil:1", "s3cret:word", 400, ""},
		{"POST", "/_session?next=/%5cevil.example", "s3cret:word", 400, ""}, // to a browser as //
		{"DELETE", "/_session?next=/", "", 302, s.url + "/"},
	} {
		a := s.once(tt.method, tt.path, `{"name":"ann","password":"`+tt.password+`"}`, asJSON)
		if a.StatusCode != tt.status || a.Header.Get("Location") != tt.location || len(a.Cookies()) != 1 {
			t.Errorf("%s: %d %v", tt.path, a.StatusCode, a.Header)
		}
	}
	if a := s.do("PATCH", "/_session", ""); a.StatusCode != 405 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	a := login("application/x-www-form-urlencoded", `name=ann&password=s3cret%3Aword`)
	var out struct {
		OK    bool
		Name  string
		Roles []string
	}
	if a.StatusCode != 200 || json.Unmarshal(a.body, &out) != nil || out.Name != "ann" || out.Roles[0] != "_admin" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	c := a.Cookies()[0]
	if c.Name != "AuthSession" || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.MaxAge != 600 {
		t.Errorf("%+v", c)
	}
	if a := s.do("GET", "/_session", "", "Cookie: AuthSession="+c.Value); !strings.Contains(string(a.body), `"authenticated":"cookie"`) {
		t.Errorf("%s", a.body)
	}
	for i := range len(c.Value) { // any change breaks it
		b := []byte(c.Value)
		b[i] ^= 1
		if a := s.do("GET", "/_all_dbs", "", "Cookie: AuthSession="+string(b)); a.StatusCode != 401 && a.StatusCode != 400 && i < len(b)-1 { // the last digit has bits to spare
			t.Fatalf("changed at %d: %d", i, a.StatusCode)
		}
	}
	if a := s.do("DELETE", "/_session", ""); a.StatusCode != 200 || a.Cookies()[0].MaxAge >= 0 {
		t.Errorf("%d %v", a.StatusCode, a.Cookies())
	}
}

func TestSessionTime(t *testing.T) {
	a, err := newAccounts(nil, []Admin{*admin})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	h := &Hub{accounts: a, sessions: newSessions(10*time.Minute, nil)}
	h.sessions.now = func() time.Time { return now }
	token := h.sessions.token("ann", a.admins["ann"].hash.Salt)
	for _, tt := range []struct {
		after          time.Duration
		valid, renewed bool
	}{{0, true, false}, {50 * time.Second, true, false}, {2 * time.Minute, true, true}, {11 * time.Minute, false, false}, {-2 * time.Minute, false, false}} {
		now = time.Unix(1_800_000_000, 0).Add(tt.after)
		w := newRecorder()
		r, _ := http.NewRequest("GET", "/hub", nil)
		r.AddCookie(&http.Cookie{Name: cookieName, Value: token})
		u, err := h.sessionUser(w, r)
		if err != nil {
			t.Fatal(err)
		}
		if (u != nil) != tt.valid || (w.Header().Get("Set-Cookie") != "") != tt.renewed {
			t.Errorf("after %v: %v, %v", tt.after, u, w.Header())
		}
	}
}

func newRecorder() http.ResponseWriter { return recorder{http.Header{}} }

type recorder struct{ h http.Header }

func (r recorder) Header() http.Header         { return r.h }
func (r recorder) Write(b []byte) (int, error) { return len(b), nil }
func (r recorder) WriteHeader(int)             {}

// FuzzCookie: whatever a cookie says, it is not believed and nothing panics.
func FuzzCookie(f *testing.F) {
	s := newSessions(time.Minute, nil)
	f.Add(s.token("ann", ""))
	f.Add("")
	f.Add("YW5uOjU6")
	f.Fuzz(func(t *testing.T, token string) {
		_, text, made, mac, ok := newSessions(time.Minute, nil).read(token)
		if !ok {
			return
		}
		if _, ok := newSessions(time.Minute, nil).verify(text, made, mac, ""); ok {
			t.Fatalf("%q is believed", token)
		}
	})
}

// TestRightPasswordIsRemembered: hashing costs once, not for each request.
func TestRightPasswordIsRemembered(t *testing.T) {
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	a, err := newAccounts(store, []Admin{*admin})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.login(t.Context(), source{}, "ann", "s3cret:word"); err != nil {
		t.Fatal(err)
	}
	for range a.hasher.places { // from here on nothing can be hashed
		a.hasher.enter(ticket{})
	}
	for range 100 {
		if _, err := a.login(t.Context(), source{}, "ann", "s3cret:word"); err != nil {
			t.Fatal(err)
		}
	}
	for _, wrong := range [][2]string{{"ann", "S3cret:word"}, {"Ann", "s3cret:word"}, {"ann\x00s3cret", "word"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if u, err := a.login(ctx, source{}, wrong[0], wrong[1]); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q is %v, %v", wrong, u, err)
		}
		cancel()
	}
}

// Pages on loopback may use a hub that every program there may use. Where there are accounts, only those that are listed.
func TestCORS(t *testing.T) {
	listed := []string{"https://App.example.org/", "http://localhost:4000"}
	open, accounts := start(t, Config{Origins: listed}), start(t, Config{Origins: listed, Admin: admin})
	for _, tt := range []struct {
		origin         string
		open, accounts bool
	}{
		{"http://localhost:3000", true, false}, {"http://127.0.0.1:8080", true, false}, {"https://[::1]:1", true, false}, {"http://x.localhost", true, false},
		{"http://localhost:4000", true, true}, {"http://LOCALHOST:4000", true, true}, {"http://localhost", true, false}, {"https://localhost:4000", true, false},
		{"https://app.example.org", true, true}, {"https://example.org", false, false}, {"null", false, false}, {"http://localhost.evil.example", false, false},
		{"https://evil.example", false, false}, {"file://", false, false},
	} {
		checkCORS(t, open, tt.origin, tt.open)
		checkCORS(t, accounts, tt.origin, tt.accounts)
	}
	for _, s := range []*server{open, accounts} {
		checkCORS(t, s, s.url, true) // its own page
		if a := s.do("GET", "/_up", ""); a.Header.Get("Access-Control-Allow-Origin") != "" || a.Header.Get("Vary") == "" {
			t.Errorf("%v", a.Header)
		}
	}
	for _, bad := range []string{"example.org", "*", "https://example.org/path", "https://u:p@example.org"} {
		if _, err := parseOrigin(bad); err == nil {
			t.Errorf("%q was taken for an origin", bad)
		}
	}
}

// checkCORS asks as pages of an origin do, by the session of an administrator.
func checkCORS(t *testing.T, s *server, origin string, allowed bool) {
	t.Helper()
	cookie := "Accept: */*" // none
	if !s.hub.open() {
		login := s.do("POST", "/_session", `{"name":"ann","password":"s3cret:word"}`, asJSON)
		cookie = "Cookie: " + strings.Split(login.Header.Get("Set-Cookie"), ";")[0]
	}
	own, from := origin == s.url, "Origin: "+origin
	a := s.do("GET", "/hub", "", from, cookie)
	if got := a.Header.Get("Access-Control-Allow-Origin"); a.StatusCode != 200 || (got == origin) != (allowed && !own) || got == "*" || (got == "") == (a.Header.Get("Access-Control-Allow-Credentials") != "") {
		t.Errorf("%s: %d, allowed %q", origin, a.StatusCode, got)
	}
	if !own {
		p := s.do("OPTIONS", "/hub/doc", "", from, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: content-type")
		if ok := p.StatusCode == 204 && strings.Contains(p.Header.Get("Access-Control-Allow-Methods"), "PUT") && strings.Contains(p.Header.Get("Access-Control-Allow-Headers"), "Content-Type"); ok != allowed {
			t.Errorf("%s: preflight %d %v", origin, p.StatusCode, p.Header)
		}
	}
	for _, method := range []string{"PUT", "DELETE", "COPY", "POST"} {
		if w := s.do(method, "/hub/x", "{", from, cookie); (w.StatusCode == 403) == allowed {
			t.Errorf("%s: %s %d %s", origin, method, w.StatusCode, w.body)
		}
	}
}

// A browser that tells for whom it asks is believed: no write of another origin's page without its Origin, whatever form it has,
// and nothing that would run or frame what a database holds.
func TestFetchMetadata(t *testing.T) {
	for _, s := range []*server{start(t, Config{Origins: []string{"http://localhost:3000"}}), start(t, Config{Admin: admin, Origins: []string{"http://localhost:3000"}})} {
		who := basic
		if s.hub.open() {
			who = "Accept: */*"
		}
		s.do("PUT", "/db", "", who)
		for _, tt := range []struct {
			method, path string
			headers      []string
			refused      bool
		}{
			{"GET", "/db", []string{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, false},
			{"GET", "/db", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, false}, // a link
			{"GET", "/db", []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}, false},
			{"GET", "/db", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, false},
			{"PUT", "/db/a", []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}, false},
			{"PUT", "/db/b", []string{"Sec-Fetch-Site: none"}, false},
			{"PUT", "/db/c", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Origin: http://localhost:3000"}, false},
			{"PUT", "/db/d", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors"}, true},
			{"POST", "/db", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: empty"}, true},
			{"POST", "/db", []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, true},
			{"POST", "/db", []string{"Sec-Fetch-Site: whatever comes"}, true},
			{"POST", "/_session?next=/", []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, true},
			{"DELETE", "/_session", []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"}, true},
			{"GET", "/db/d/a.js", []string{"Service-Worker: script"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: serviceworker"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: sharedworker"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: worker"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: script", "Sec-Fetch-Site: same-origin"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: style"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: iframe", "Sec-Fetch-Mode: navigate"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: object"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: embed"}, true},
			{"GET", "/db", []string{"Sec-Fetch-Dest: what comes next"}, true},
			{"GET", "/_utils/", []string{"Sec-Fetch-Dest: script"}, false}, // of the page
		} {
			body := ""
			if tt.method != "GET" {
				body = `{}`
			}
			a := s.do(tt.method, tt.path, body, append(tt.headers, who, asJSON)...)
			if (a.StatusCode == 403) != tt.refused || a.StatusCode >= 400 && !tt.refused {
				t.Errorf("%s %s %q: %d %s", tt.method, tt.path, tt.headers, a.StatusCode, a.body)
			}
		}
	}
}

// Whatever the API answers is data to a browser, attachments of others above all.
func TestAnswersAreData(t *testing.T) {
	s := start(t, Config{Admin: admin})
	s.do("PUT", "/db", "", basic)
	s.do("PUT", "/db/_security", "{}", basic, asJSON)
	types := map[string]bool{ // whether a browser may show it
		"text/html": false, "image/svg+xml": false, "application/xhtml+xml": false, "text/xml": false, "application/pdf": false, "text/javascript": false,
		"text/css": false, "multipart/x-mixed-replace; boundary=b": false, "text/plain; charset=utf-7": false, "text/html, text/plain": false, "message/rfc822": false, "*/*": false,
		"text/plain": true, "text/plain; charset=UTF-8": true, "image/png": true, "application/json": true, "video/mp4": true,
	}
	navigates := []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"}
	rev := ""
	for kind, shown := range types {
		a := s.do("PUT", "/db/doc/file"+rev, "<script>alert(1)</script>", basic, "Content-Type: "+kind)
		var written struct{ Rev string }
		if err := json.Unmarshal(a.body, &written); err != nil {
			t.Fatal(err)
		}
		rev = "?rev=" + written.Rev
		if a = s.do("GET", "/db/doc/file", "", navigates...); (a.Header.Get("Content-Disposition") == "attachment") == shown || a.Header.Get("Content-Type") != kind {
			t.Errorf("%s: %d %v", kind, a.StatusCode, a.Header)
		}
		checkInert(t, "an attachment of "+kind, a)
		if a = s.do("GET", "/db/doc/file", ""); a.Header.Get("Content-Disposition") != "" || a.Header.Get("Content-Type") != kind || string(a.body) != "<script>alert(1)</script>" {
			t.Errorf("a program gets %s otherwise than CouchDB sends it: %v", kind, a.Header)
		}
	}
	for _, path := range []string{"/", "/_up", "/_session", "/_all_dbs", "/db", "/db/doc", "/db/none", "/db/_all_docs", "/db/_changes", "/_ice", "/_metrics", "/none", "/db/doc/none", "/hub/_relay", "/_utils/config.json"} {
		for _, method := range []string{"GET", "HEAD", "POST", "TRACE"} {
			checkInert(t, method+" "+path, s.do(method, path, ""))
		}
	}
	if a := s.do("GET", "/db/doc/file", "", basic); a.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
		t.Errorf("what is for who is signed in may be embedded by others: %v", a.Header)
	}
	if a := start(t, Config{}).do("GET", "/hub", ""); a.Header.Get("Cross-Origin-Resource-Policy") != "same-site" {
		t.Errorf("what is for this machine may be embedded by others: %v", a.Header)
	}
}

func checkInert(t *testing.T, what string, a *answer) {
	t.Helper()
	if csp := a.Header.Get("Content-Security-Policy"); csp != "sandbox; default-src 'none'; frame-ancestors 'none'" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: %d, %q: %v", what, a.StatusCode, csp, a.Header)
	}
}

func TestHostOfALoopbackHub(t *testing.T) {
	s := start(t, Config{})
	for host, status := range map[string]int{
		"localhost": 200, "LOCALHOST:5984": 200, "127.0.0.1": 200, "127.9.9.9:1": 200, "[::1]:5984": 200, "a.localhost:1": 200, "localhost.": 200,
		"evil.example": 403, "evil.example:5984": 403, "localhost.evil.example": 403, "10.0.0.1": 403, "0.0.0.0": 403, "127.0.0.1.evil.example": 403,
	} {
		if a := s.do("GET", "/", "", "Host: "+host); a.StatusCode != status {
			t.Errorf("%s: %d", host, a.StatusCode)
		}
	}
}

// TestLogTellsNoSecrets: neither headers nor queries nor bodies are logged.
func TestLogTellsNoSecrets(t *testing.T) {
	var log syncBuffer
	s := start(t, Config{Admin: admin, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	s.do("GET", "/hub?password=s3cret", "", basic)
	s.do("POST", "/_session", `{"name":"ann","password":"s3cret:word"}`, asJSON)
	s.do("GET", "/hub", "", "Cookie: AuthSession=s3cret")
	s.stop()
	text := log.String()
	if !strings.Contains(text, "path=/hub") || !strings.Contains(text, "status=200") || !strings.Contains(text, "id=") {
		t.Errorf("%s", text)
	}
	for _, secret := range []string{"s3cret", "YW5uOnMz", "AuthSession"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q:\n%s", secret, text)
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
