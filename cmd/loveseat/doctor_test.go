package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/peeradapter/turnserver"
)

// checks runs doctor --json and returns each check's status, and what it found and advised.
func checks(t *testing.T, args ...string) (status int, found map[string]string) {
	t.Helper()
	args = append([]string{"--identity", filepath.Join(t.TempDir(), "id"), "doctor", "--json"}, args...)
	status, out, errs := run(t, nil, "", args...)
	found = map[string]string{}
	for line := range strings.Lines(out) {
		var c struct{ Event, Check, Status, Found, Advice string }
		if err := json.Unmarshal([]byte(line), &c); err != nil || c.Event != "check" || c.Found == "" || (c.Advice == "") != (c.Status == "ok") {
			t.Errorf("%s: %v", line, err)
		}
		found[c.Check] += c.Status + " " + c.Found + "; "
	}
	if failed := strings.Contains(fmt.Sprint(found), "failed"); failed != (status == 1) {
		t.Errorf("status %d: %v\n%s", status, found, errs)
	}
	return status, found
}

func expectCheck(t *testing.T, found map[string]string, check, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(found[check]) {
		t.Errorf("%s: %q, want %s\nall: %q", check, found[check], pattern, found)
	}
}

// admin signs in at a hub.
func admin(hub, db string) string {
	return strings.Replace(hub, "://", "://admin:pass-word@", 1) + "/" + db
}

// testAdmin's password is hashed in few rounds, so that tests do not wait for it.
var testAdmin = &hub.Admin{Name: "admin", Password: cheapHash("pass-word")}

func cheapHash(password string) string {
	key, err := pbkdf2.Key(sha256.New, password, []byte("salt"), 10, sha256.Size)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("-pbkdf2:sha256-%x,salt,10", key)
}

func TestDoctorOfHealthyHub(t *testing.T) {
	server := serveHub(t, hub.Config{Admin: testAdmin, Service: hub.Service{ICE: turnServer(t, "secret")}})
	store := notesStore(t)
	share := startShare(t, admin(server, "hub"), filepath.Join(store, "notes"))
	status, found := checks(t, admin(server, "hub"), share, "--store", store)
	if status != 0 {
		t.Errorf("status %d", status)
	}
	for check, pattern := range map[string]string{
		"dns": `^ok 127\.0\.0\.1 is`, "tcp": `^ok port \d+ answers`, "couchdb": `^ok Loveseat .* answers`, "clock": `^ok agrees`,
		"auth": `^ok signed in as "admin"`, "database": `^ok "hub" may be read`, "cors": `^ok only the hub's own pages`, "feed": `^(ok|warning) a signal to oneself took`,
		"turn": `^ok turn:127\.0\.0\.1:\d+\S* gives the relay .*ok .*transport=tcp gives`, "relay": `^ok`, "share": `^ok "notes" is open \(route (host|srflx)\)`,
		"disk": `^(ok|warning)`, "store": `database "notes" is healthy: 1 documents`,
	} {
		expectCheck(t, found, check, pattern)
	}
	_, found = checks(t, serveHub(t, hub.Config{})+"/hub")
	expectCheck(t, found, "cors", `^ok pages of http://localhost:3000 may use the hub`)
	_, found = checks(t, admin(server, "hub"), "--origin", server)
	expectCheck(t, found, "cors", `^ok pages of http://127.0.0.1:\d+ are the hub's own`)
	if status, out, errs := run(t, nil, "", "--identity", t.TempDir(), "doctor", admin(server, "hub")); status != 0 || !regexp.MustCompile(`(?m)^ok       clock     agrees with the hub's$`).MatchString(out) {
		t.Errorf("%d\n%s%s", status, out, errs)
	}
}

// notesStore is a store with a database of one document.
func notesStore(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	local, err := localdb.OpenStore(dir, localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	if err := local.Create(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	if _, err := local.DB("notes").Put(t.Context(), "x", map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startShare shares a database until the test ends, and returns the share's id.
func startShare(t *testing.T, hub, path string, flags ...string) string {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	m := &Main{Args: append([]string{"share", hub, path, "--json"}, flags...), Stdin: strings.NewReader(""), Stdout: w, Stderr: io.Discard, Getenv: func(string) string { return "" }}
	done := make(chan int, 1)
	go func() { done <- m.Run(ctx); _ = w.Close() }()
	ids := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			var e struct{ Event, ID string }
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event == "shared" {
				ids <- e.ID
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case id := <-ids:
		return id
	case status := <-done:
		done <- status
		t.Fatalf("share ended with status %d", status)
	case <-time.After(time.Minute):
		t.Fatal("not shared")
	}
	return ""
}

// turnServer runs a TURN server on loopback, and returns how a hub that has a secret tells peers of it.
func turnServer(t *testing.T, secret string) hub.ICE {
	t.Helper()
	s, err := turnserver.Start(turnserver.Config{
		Secret: "secret", PublicIP: netip.MustParseAddr("127.0.0.1"), UDP: "127.0.0.1:0", TCP: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return hub.ICE{TURN: s.URLs(), Secret: secret}
}

// Each thing that may be wrong shows in its line, which says what to do.
func TestDoctorFindsFaults(t *testing.T) {
	server := serveHub(t, hub.Config{Admin: testAdmin, Service: hub.Service{
		Relay: hub.Relay{Off: true}, ICE: turnServer(t, "wrong"),
	}})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer page.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer other.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	secure.StartTLS()
	defer secure.Close()
	damaged := damagedStore(t)
	refusing := startShare(t, admin(server, "hub"), filepath.Join(notesStore(t), "notes"), "--invite")
	for name, tt := range map[string]struct {
		args           []string
		check, pattern string
	}{
		"host name":        {[]string{"http://nowhere.invalid/hub"}, "dns", `^failed nowhere.invalid has no address`},
		"port":             {[]string{"http://" + gone.Addr().String() + "/hub"}, "tcp", `^failed port \d+ of 127.0.0.1 cannot be reached`},
		"certificate":      {[]string{secure.URL + "/hub"}, "tls", `^failed no TLS`},
		"a web page":       {[]string{page.URL + "/hub"}, "couchdb", `^failed no CouchDB answers`},
		"another service":  {[]string{other.URL + "/hub"}, "couchdb", `^failed what answers is no CouchDB`},
		"password":         {[]string{strings.Replace(serveHub(t, hub.Config{Admin: testAdmin}), "://", "://admin:wrong@", 1) + "/hub"}, "auth", `^failed the hub refuses name and password`},
		"not signed in":    {[]string{server + "/hub"}, "database", `^failed the hub database may not be read`},
		"database":         {[]string{admin(server, "nope")}, "database", `^failed there is no database "nope"`},
		"TURN credentials": {[]string{admin(server, "hub")}, "turn", `^failed turn:\S+transport=udp gives no relay: .*failed turn:\S+transport=tcp gives no relay`},
		"origin":           {[]string{admin(server, "hub"), "--origin", "https://app.example"}, "cors", `^failed pages of https://app.example may not use the hub: the preflight is answered with 403`},
		"no address":       {[]string{admin(server, "hub"), "--network", "127.0.0.0/8"}, "host", `^warning no address but loopback \(of [1-9]`},
		"bad interface":    {[]string{admin(server, "hub"), "--interface", "["}, "join", `^failed cannot join the hub: .*no name of network interfaces`},
		"no relay":         {[]string{admin(server, "hub")}, "relay", `^warning the hub has no relay`},
		"share":            {[]string{admin(server, "hub"), "nothing"}, "share", `^failed not_found`},
		"share, refused":   {[]string{admin(server, "hub"), refusing}, "share", `^failed the sharer refuses: .*needs an invite`},
		"store":            {[]string{"http://" + gone.Addr().String() + "/hub", "--store", filepath.Join(damaged, "none")}, "store", `^failed there is no local store`},
		"damaged store":    {[]string{"http://" + gone.Addr().String() + "/hub", "--store", damaged}, "store", `failed (.* cannot be opened|database "notes" is damaged)`},
		"directory":        {[]string{"http://" + gone.Addr().String() + "/hub", "--store", "/proc/self"}, "store", `^failed /proc/self cannot be written`},
	} {
		t.Run(name, func(t *testing.T) {
			_, found := checks(t, tt.args...)
			expectCheck(t, found, tt.check, tt.pattern)
		})
	}
	for _, bad := range [][]string{{"./notes"}, {server + "/hub", "--origin", "app.example"}, {server + "/hub", "--origin", "https://app.example/x"}, {}, {"a", "b", "c"}} {
		if status, _, errs := run(t, nil, "", append([]string{"doctor"}, bad...)...); status != 2 || !regexp.MustCompile("URL of a hub database|want scheme and host|usage: loveseat doctor").MatchString(errs) {
			t.Errorf("%q: %d %s", bad, status, errs)
		}
	}
	// People read the advice below the line.
	status, out, _ := run(t, nil, "", "--identity", t.TempDir(), "doctor", "http://"+gone.Addr().String()+"/hub")
	if status != 1 || !regexp.MustCompile(`(?m)^failed   tcp       port \d+ of 127.0.0.1 cannot be reached.*\n {19}Check the port in the URL`).MatchString(out) {
		t.Errorf("%d\n%s", status, out)
	}
}

// damagedStore is a store with a database whose file has been overwritten.
func damagedStore(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	store, err := localdb.OpenStore(dir, localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = store.Create(t.Context(), "notes")
	_ = store.Close()
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "notes*"))
	if len(files) == 0 {
		t.Fatal("no file of the database")
	}
	for _, file := range files {
		if err := os.WriteFile(file, bytes.Repeat([]byte("not a database"), 10_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A proxy between hub and peer whose clock is wrong, that swallows the changes
// feed, or lets nothing be written.
func TestDoctorFindsFaultsOnTheWay(t *testing.T) {
	server := serveHub(t, hub.Config{Admin: testAdmin, Origins: []string{anyPage}})
	for name, tt := range map[string]struct {
		change         func(*http.Response)
		refuse         string // path
		check, pattern string
	}{
		"clock, ten minutes": {change: shiftDate(-10 * time.Minute), check: "clock", pattern: `^failed .* differ by (10|9)m`},
		"clock, ahead":       {change: shiftDate(10 * time.Minute), check: "clock", pattern: `^failed .* differ by -(10|9)m`},
		"clock, 40 seconds":  {change: shiftDate(-40 * time.Second), check: "clock", pattern: `^warning .* differ by`},
		"writing":            {refuse: "/hub/_bulk_docs", check: "feed", pattern: `^failed cannot write a signal: forbidden`},
		"CORS":               {change: without("Access-Control-Allow-Origin"), check: "cors", pattern: `^warning .*: the preflight's answer has no Access-Control-Allow-Origin`},
		"CORS of answers":    {change: withoutOn("GET", "Access-Control-Allow-Origin"), check: "cors", pattern: `^warning .*: an answer has no Access-Control-Allow-Origin`},
		"CORS, methods":      {change: without("Access-Control-Allow-Methods"), check: "cors", pattern: `^warning .*: the preflight does not allow PUT`},
		"CORS, headers":      {change: without("Access-Control-Allow-Headers"), check: "cors", pattern: `^warning .*: the preflight does not allow the header`},
		"CORS, signed in":    {change: without("Access-Control-Allow-Credentials"), check: "cors", pattern: `^warning .*: .* no Access-Control-Allow-Credentials`},
		"CORS, of others":    {change: anyOrigin, check: "cors", pattern: `^warning .*: .* has Access-Control-Allow-Origin: \*`},
		"ICE servers":        {refuse: "/_ice", check: "srflx", pattern: `^warning the hub names no STUN server`},
		"no TURN":            {check: "turn", pattern: `^warning the hub names no TURN server`},
		"relay":              {refuse: "/hub/_relay", check: "relay", pattern: `^failed the hub's relay refuses`},
	} {
		t.Run(name, func(t *testing.T) {
			_, found := checks(t, admin(proxyTo(t, server, tt.refuse, tt.change), "hub"))
			expectCheck(t, found, tt.check, tt.pattern)
		})
	}
}

// What does not answer is told after a while: the changes feed of the hub, a STUN and a TURN server.
func TestDoctorOfSilence(t *testing.T) {
	answerTime = time.Second
	defer func() { answerTime = time.Minute }()
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	server := serveHub(t, hub.Config{Admin: testAdmin, Service: hub.Service{ICE: hub.ICE{
		Servers: []hub.ICEServer{{URLs: []string{"stun:" + silent.LocalAddr().String()}}}, TURN: []string{"turn:" + silent.LocalAddr().String() + "?transport=udp"}, Secret: "secret",
	}}})
	_, found := checks(t, admin(proxyTo(t, server, "", silence("/hub/_changes")), "hub"))
	expectCheck(t, found, "feed", `^failed a signal to oneself did not come back within 1s`)
	expectCheck(t, found, "host", `^ok `)
	expectCheck(t, found, "srflx", `^warning no outside address from stun:127`)
	expectCheck(t, found, "turn", `^failed turn:127\S+ does not answer`)
}

// silence keeps the answers of a path back until nobody waits for them.
func silence(path string) func(*http.Response) {
	return func(r *http.Response) {
		if r.Request.URL.Path == path {
			<-r.Request.Context().Done()
		}
	}
}

func without(header string) func(*http.Response) {
	return func(r *http.Response) { r.Header.Del(header) }
}

func withoutOn(method, header string) func(*http.Response) {
	return func(r *http.Response) {
		if r.Request.Method == method {
			r.Header.Del(header)
		}
	}
}

func anyOrigin(r *http.Response) { r.Header.Set("Access-Control-Allow-Origin", "*") }

func shiftDate(d time.Duration) func(*http.Response) {
	return func(r *http.Response) { r.Header.Set("Date", time.Now().Add(d).UTC().Format(http.TimeFormat)) }
}

// reverseProxy passes requests on to a server, and its answers back, changed.
func reverseProxy(t *testing.T, server string, change func(*http.Response)) http.Handler {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	p := httputil.NewSingleHostReverseProxy(to)
	p.Transport, p.FlushInterval = transport, -1
	p.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	p.ModifyResponse = func(r *http.Response) error {
		if change != nil {
			change(r)
		}
		return nil
	}
	return p
}

// proxyTo serves what another server answers, changed, but 403 for one path.
func proxyTo(t *testing.T, server, refuse string, change func(*http.Response)) string {
	t.Helper()
	p := reverseProxy(t, server, change)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == refuse {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"error":"forbidden","reason":"no"}`)
			return
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}
