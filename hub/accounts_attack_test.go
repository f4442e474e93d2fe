package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// costly is a user document with a hash of the password "secret" that takes so many iterations.
func costly(name, prf string, n int, salt string) string {
	p := passwordHash{Scheme: "pbkdf2", PRF: prf, Salt: salt, Iterations: n}
	key, err := p.derive("secret")
	if err != nil {
		key = []byte{1} // of a hash that nobody can verify
	}
	return fmt.Sprintf(`{"name":%q,"type":"user","roles":[],"password_scheme":"pbkdf2","pbkdf2_prf":%q,"salt":%q,"iterations":%d,"derived_key":"%x"}`, name, prf, salt, n, key)
}

// TestHashesThatCostTooMuch: nobody writes a hash that costs more than twice the server's own to verify, in whatever way.
func TestHashesThatCostTooMuch(t *testing.T) {
	s := startWithUsers(t, Config{SignUp: true})
	for _, tt := range []struct {
		doc string
		ok  bool
	}{
		{costly("new", "sha256", 2*iterations, "s"), true},
		{costly("new", "sha256", 2*iterations+1, "s"), false},
		{costly("new", "sha", 2*iterations+1, "s"), false},
		{costly("new", "sha512", iterations, "s"), true},
		{costly("new", "sha512", iterations+1, "s"), false}, // each takes twice as long
		{costly("new", "sha384", iterations+1, "s"), false},
		{costly("new", "sha256", 10, strings.Repeat("s", maxSalt)), true},
		{costly("new", "sha256", 10, strings.Repeat("s", maxSalt+1)), false},
		{costly("new", "md5", 10, "s"), false},
		{costly("new", "sha256", -1, "s"), false},
		{strings.Replace(costly("new", "sha256", 10, "s"), `:10,`, `:1e300,`, 1), false},
		{strings.Replace(costly("new", "sha256", 10, "s"), `:10,`, `:10.5,`, 1), false},
		{`{"name":"new","type":"user","roles":[],"password_sha":"00","salt":"` + strings.Repeat("s", 1<<20) + `"}`, false},
		{`{"name":"new","type":"user","roles":[],"password":"` + strings.Repeat("s", 1<<20) + `"}`, false},
		{strings.Replace(costly("new", "sha256", 2*iterations+1, "s"), `"name"`, `"password":null,"name"`, 1), false},
	} {
		for _, who := range []string{"", "ann"} {
			for _, way := range []struct{ method, path, body string }{
				{"PUT", "/_users/org.couchdb.user:new", tt.doc},
				{"POST", "/_users", strings.Replace(tt.doc, "{", `{"_id":"org.couchdb.user:new",`, 1)},
				{"POST", "/_users/_bulk_docs", `{"docs":[` + strings.Replace(tt.doc, "{", `{"_id":"org.couchdb.user:new",`, 1) + `]}`},
				{"POST", "/_users/_bulk_docs", `{"new_edits":false,"docs":[` + strings.Replace(tt.doc, "{", `{"_id":"org.couchdb.user:new","_rev":"1-a",`, 1) + `]}`},
			} {
				s.do(way.method, way.path, way.body, asJSON, as(who))
				a := s.do("GET", "/_users/org.couchdb.user:new", "", as("ann"))
				if (a.StatusCode == 200) != tt.ok {
					t.Fatalf("%s %s by %q: %d, %.200s", way.method, way.path, who, a.StatusCode, tt.doc)
				}
				if rev := strings.Trim(a.Header.Get("ETag"), `"`); a.StatusCode == 200 {
					s.do("DELETE", "/_users/org.couchdb.user:new?rev="+rev, "", as("ann"))
					s.purge("org.couchdb.user:new")
				}
			}
		}
	}
}

// purge removes a document of _users without a trace.
func (s *server) purge(id string) {
	s.t.Helper()
	a := s.do("GET", "/_users/"+id+"?open_revs=all", "", "Accept: application/json", as("ann"))
	for _, part := range strings.Split(string(a.body), `"_rev":"`)[1:] {
		rev, _, _ := strings.Cut(part, `"`)
		s.do("POST", "/_users/_purge", `{"`+id+`":["`+rev+`"]}`, asJSON, as("ann"))
	}
}

// TestCostlyHashesThatAreStored: what was written before the bound logs in, once at that cost.
func TestCostlyHashesThatAreStored(t *testing.T) {
	s := startWithUsers(t, Config{})
	db, err := s.hub.c.Store.Open(t.Context(), usersDatabase)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"old": costly("old", "sha512", 3*iterations, "s"), "salty": costly("salty", "sha256", 10, strings.Repeat("s", 1<<20))} {
		if _, err := db.BulkDocs(t.Context(), []*couch.Doc{{ID: userPrefix + name, Body: []byte(body)}}, couch.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	auth := "Authorization: " + basicOf("old", "secret")
	edit := strings.Replace(strings.TrimSuffix(costly("old", "sha512", 3*iterations, "s"), "}")+`,"nick":"x"}`, "{", `{"_rev":"`+s.revOf("old")+`",`, 1)
	if a := s.do("PUT", "/_users/org.couchdb.user:old", edit, asJSON, as("ann")); a.StatusCode != 201 {
		t.Errorf("another member is written: %d %s", a.StatusCode, a.body)
	}
	s.hub.accounts.forget("old")
	if a := s.do("GET", "/_session", "", auth); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	a := s.do("GET", "/_users/org.couchdb.user:old", "", as("ann"))
	if body := string(a.body); !strings.Contains(body, `"pbkdf2_prf":"sha256"`) || !strings.Contains(body, fmt.Sprintf(`"iterations":%d,`, iterations)) || !strings.Contains(body, `"nick":"x"`) {
		t.Errorf("it is kept at its cost: %s", body)
	}
	if a := s.do("GET", "/_session", "", auth); a.StatusCode != 200 {
		t.Errorf("again: %d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", "/_session", "", "Authorization: "+basicOf("salty", "secret")); a.StatusCode != 401 {
		t.Errorf("a salt of a megabyte is hashed with each request: %d", a.StatusCode)
	}
}

func (s *server) revOf(name string) string {
	return strings.Trim(s.do("GET", "/_users/org.couchdb.user:"+name, "", as("ann")).Header.Get("ETag"), `"`)
}

func from(i byte) source { return source{addr: netip.AddrFrom4([4]byte{192, 0, 2, i})} }

// TestHashingTakesTurns: whoever sends many passwords, or such as cost much, holds up nobody else.
func TestHashingTakesTurns(t *testing.T) {
	h := newHasher()
	h.places, h.free = 1, 1
	busy := h.enter(ticket{name: "first", from: from(1), lane: forOthers, cost: 1})
	served := func(w *waiter) bool { return len(w.ready) == 1 }
	var flood []*waiter
	for i := range 40 { // one name from many addresses, and one address with many names
		flood = append(flood, h.enter(ticket{forOthers, from(100 + byte(i)), "eve", 2}), h.enter(ticket{forOthers, from(2), fmt.Sprint("x", i), 1}))
	}
	guesses := h.enter(ticket{forOperators, from(2), "root", 1}) // of an administrator's password
	root := h.enter(ticket{forOperators, from(3), "root", 1})
	bob := h.enter(ticket{forOthers, from(4), "bob", 1})
	carl := h.enter(ticket{forKnown, from(2), "carl", 1})
	turns := map[string]*waiter{"an administrator": root, "a user": bob, "a user who has been here": carl}
	for range 8 {
		h.leave()
	}
	for who, w := range turns {
		if !served(w) {
			t.Errorf("%s waits for those who flood", who)
		}
	}
	if !served(busy) || !served(guesses) || !slices.ContainsFunc(flood, served) {
		t.Error("and others starve")
	}
	// Two users of one address: the one with one log-in does not wait for all those of the other.
	h = newHasher()
	h.places, h.free = 1, 1
	h.enter(ticket{forOthers, from(1), "eve", 1})
	for range 20 {
		h.enter(ticket{forOthers, from(1), "eve", 1})
	}
	bob = h.enter(ticket{forOthers, from(1), "bob", 1})
	if h.leave(); !served(bob) {
		t.Error("a neighbour's log-ins come first")
	}
}

// TestHashingIsBounded: of too many that wait, those who crowd give way, and who has gone waits no more.
func TestHashingIsBounded(t *testing.T) {
	h := newHasher()
	h.places, h.free = 1, 1
	h.enter(ticket{})
	var crowd []*waiter
	for range maxHashing {
		crowd = append(crowd, h.enter(ticket{forOthers, from(1), "eve", 1}))
	}
	bob := h.enter(ticket{forOthers, from(2), "bob", 1})
	last := crowd[len(crowd)-1]
	if len(bob.ready) != 0 || len(last.ready) != 1 || !errors.Is(<-last.ready, error(errHashing)) {
		t.Error("the newest of the crowd does not give way")
	}
	if w := h.enter(ticket{forOthers, from(1), "eve", 1}); len(w.ready) != 1 {
		t.Error("there is no bound")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.do(ctx, ticket{forOperators, from(3), "root", 1}, func() { t.Error("hashed for nobody") }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n := int(h.busy()); n != 1+maxHashing {
		t.Errorf("%d wait", n)
	}
	var wg sync.WaitGroup
	for range 50 { // those who leave at the moment of their turn lose no place
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { _ = h.do(ctx, ticket{forKnown, from(5), "x", 1}, func() {}) })
		wg.Go(cancel)
	}
	h.leave()
	for range maxHashing {
		h.leave()
	}
	wg.Wait()
	if h.busy() != 0 {
		t.Errorf("%v places are lost", h.busy())
	}
}

// stopClock makes no time pass for failed log-ins, however busy the machine is.
func (s *server) stopClock() {
	l, now := s.hub.accounts.lockout, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = func() time.Time { return now }
}

// TestGuessesLockNobodyElseOut: whoever guesses, from the same address or another, keeps out neither the
// administrator nor a user who has logged in from there.
func TestGuessesLockNobodyElseOut(t *testing.T) {
	s := startWithUsers(t, Config{})
	s.stopClock()
	by := func(client, name, password string) int {
		headers := []string{"Authorization: " + basicOf(name, password)}
		if client != "" {
			headers = append(headers, "X-Forwarded-For: "+client) // of a proxy that is not declared
		}
		return s.do("GET", "/_session", "", headers...).StatusCode
	}
	if status := by("", "bob", "pw-bob"); status != 200 {
		t.Fatal(status)
	}
	cookie := s.do("POST", "/_session", `{"name":"bob","password":"pw-bob"}`, asJSON).Cookies()[0]
	guess := func(client string) {
		for i := range 2 * lockThreshold {
			for _, name := range []string{"ann", "bob", "alice"} {
				by(client, name, fmt.Sprint("wrong", i))
			}
		}
		for i := range lockThresholdAddress {
			by(client, fmt.Sprint("nobody", i), "wrong")
		}
	}
	guess("")
	guess("203.0.113.66")
	if by("", "alice", "pw-alice") == 200 || by("203.0.113.66", "ann", admin.Password) == 200 {
		t.Error("guesses are not slowed down")
	}
	if status := by("", "bob", "pw-bob"); status != 200 {
		t.Errorf("a user who has logged in from there: %d", status)
	}
	if status := by("", "bob", "wrong"); status != 403 {
		t.Errorf("a wrong password from there: %d", status)
	}
	if a := s.do("GET", "/_session", "", "Cookie: "+cookie.Name+"="+cookie.Value); !strings.Contains(string(a.body), `"bob"`) {
		t.Errorf("a session: %s", a.body)
	}
	for _, name := range []string{"ann", "alice"} { // behind the same proxy
		password := map[string]string{"ann": admin.Password, "alice": "pw-alice"}[name]
		if status := by("203.0.113.7", name, password); status != 200 {
			t.Errorf("%s from another address: %d", name, status)
		}
	}
}

// TestMadeUpAddressesAreNoWayToGuess: whoever reaches the hub from near may write any X-Forwarded-For.
func TestMadeUpAddressesAreNoWayToGuess(t *testing.T) {
	l := newLockout()
	now := time.Unix(1_800_000_000, 0)
	l.now = func() time.Time { return now }
	madeUp := func(i int) source {
		return source{addr: netip.AddrFrom4([4]byte{9, byte(i >> 16), byte(i >> 8), byte(i)}), via: netip.MustParseAddr("127.0.0.1")}
	}
	tries := map[string]int{}
	for i := range 2000 {
		for name, operator := range map[string]bool{"root": true, fmt.Sprint("x", i): false} {
			if l.begin(madeUp(i), name, operator) == nil {
				tries[name[:1]]++
			}
		}
	}
	if tries["r"] > lockThresholdAddress || tries["x"] > lockThresholdProxy {
		t.Errorf("%v guesses at once", tries)
	}
	if err := l.check(source{addr: netip.MustParseAddr("127.0.0.1")}, "root", true); err != nil {
		t.Errorf("the administrator at the machine itself: %v", err)
	}
	if now = now.Add(lockAddress); l.check(madeUp(5000), "root", true) != nil {
		t.Error("the administrator behind the proxy is out for long")
	}
	h := newHasher()
	h.places, h.free = 1, 1
	h.enter(ticket{forOthers, madeUp(0), "x", 1})
	for i := range 50 {
		h.enter(ticket{forOthers, madeUp(i), fmt.Sprint("x", i), 1})
	}
	bob := h.enter(ticket{forOthers, from(1), "bob", 1})
	if h.leave(); len(bob.ready) != 1 {
		t.Error("made-up addresses take all turns")
	}
}

// TestKnownIsNoWayToGuess: what lets a known user in although others guess is bounded itself.
func TestKnownIsNoWayToGuess(t *testing.T) {
	l := newLockout()
	now := time.Unix(1_800_000_000, 0)
	l.now = func() time.Time { return now }
	if l.mayCompare(from(1), "bob") {
		t.Error("nobody has logged in")
	}
	l.right(from(1), "bob")
	n := 0
	for range 1000 {
		if l.mayCompare(from(1), "bob") {
			n++
		}
	}
	if n != knownBurst || l.mayCompare(from(2), "bob") || l.mayCompare(from(1), "alice") {
		t.Errorf("%d guesses at once", n)
	}
	if now = now.Add(time.Second); !l.mayCompare(from(1), "bob") {
		t.Error("and never again")
	}
	if now = now.Add(knownFor); l.mayCompare(from(1), "bob") {
		t.Error("for ever")
	}
}

// TestUndeclaredProxyIsTold: once, and to the page and the doctor.
func TestUndeclaredProxyIsTold(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	s := start(t, Config{Admin: admin, Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))})
	told := func(headers ...string) bool {
		return strings.Contains(string(s.do("GET", "/_utils/config.json", "", headers...).body), `"undeclaredProxy":true`)
	}
	if told() {
		t.Error("without a proxy")
	}
	for _, h := range []string{"X-Forwarded-For: 203.0.113.7", "X-Real-IP: 203.0.113.7", "Forwarded: for=203.0.113.7"} {
		if !told(h) {
			t.Errorf("not told of %s", h)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "--trusted-proxy"); n != 1 {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// TestRequireUserByRoute: what needs no log-in is decided by where a request goes, however it is spelled.
func TestRequireUserByRoute(t *testing.T) {
	s := startWithUsers(t, Config{RequireUser: true, Origins: []string{"http://localhost:1"}})
	for _, path := range []string{"/public/_relay", "/public/doc%2F_relay", "/public/_up", "/public/_session"} {
		name := strings.TrimPrefix(path, "/public/")
		if strings.HasPrefix(name, "_") {
			s.do("PUT", "/public/doc/"+name, "kept secret", "Content-Type: text/plain", "If-Match: "+strings.Trim(s.do("GET", "/public/doc", "", as("ann")).Header.Get("ETag"), `"`), as("ann"))
			continue
		}
		s.do("PUT", path, `{"text":"kept secret"}`, asJSON, as("ann"))
	}
	paths := []string{"/public/doc", "/public/doc%2F_relay", "/public/doc%2f_relay", "/public/doc%2F%5Frelay", "/public/doc/_relay", "/public/doc/%5frelay", "/public/doc/_relay/",
		"/public/_relay", "/public%2F_relay", "/public//_relay", "//public/doc%2F_relay", "/public/_design%2F_relay", "/public/_design/x%2F_relay", "/public/_local%2F_relay",
		"/hub/x%2F_relay", "/hub%2Fx/_relay", "/hub/x/_relay", "/public/doc/_up", "/public/doc/_session", "/public/doc%2F_up", "/_up/public/doc", "/_up%2Fpublic/doc", "/_up/../public/doc", "/_up/%2e%2e/public/doc",
		"/_session/../public/doc", "/_session%2F..%2Fpublic%2Fdoc", "/_session/public/doc", "/_utils/../public/doc", "/_utils/..%2Fpublic%2Fdoc", "/_utils%2F..%2Fpublic/doc", "/_utils%2f../public/doc",
		"/./public/doc", "/%2e/public/doc", "/_all_dbs", "/_all_dbs/_up", "/_all_dbs%2F_relay", "/public/_all_docs", "/public/_all_docs%2F_relay", "/public/_changes/_relay", "/favicon.ico/../public/doc", "/_ice", "/_metrics", "/_metrics/_relay"}
	for _, path := range paths {
		for _, query := range []string{"", "?ticket=1"} {
			for _, method := range []string{"GET", "POST", "OPTIONS"} {
				for _, extra := range [][]string{nil, {"Upgrade: websocket", "Connection: upgrade"}, {"X-HTTP-Method-Override: GET"}, {"Origin: http://localhost:1", "Access-Control-Request-Method: GET"}} {
					a := s.do(method, path+query, "", extra...)
					page := strings.HasPrefix(path, "/_utils") // static, whatever the path
					preflight := method == "OPTIONS" && a.StatusCode == 204 && len(a.body) == 0
					if strings.Contains(string(a.body), "kept secret") || a.StatusCode != 401 && !page && !preflight {
						t.Errorf("%s %s %v by nobody: %d %.100s", method, path+query, extra, a.StatusCode, a.body)
					}
				}
			}
		}
	}
	for path, status := range map[string]int{"/": 200, "/_up": 200, "/%5Fup": 200, "/_up/": 200, "//_up": 200, "/_session": 200, "/%5fsession": 200,
		"/hub/_relay?ticket=1": 426, "/h%75b/%5Frelay?ticket=1": 426, "/hub/_relay/?ticket=1": 426, "/hub/_relay": 401, "/_up%2F": 401, "/%2F_up": 401, "/_session%2F": 401, "/%2F": 401} {
		if a := s.do("GET", path, ""); a.StatusCode != status {
			t.Errorf("%s: %d %s, want %d", path, a.StatusCode, a.body, status)
		}
	}
	if a := s.do("POST", "/hub/_relay?ticket=1", "{}"); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a ticket by nobody: %d", a.StatusCode)
	}
}

// TestAllDatabasesAreCounted: those of users too, however many are made at once.
func TestAllDatabasesAreCounted(t *testing.T) {
	const limit = 7
	s := start(t, Config{Admin: admin, SignUp: true, UserDatabases: true, Service: Service{Quotas: Quotas{Databases: limit}, Databases: []Database{{Name: "hub"}, {Name: "team"}}}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("u", i)
			s.do("PUT", "/_users/org.couchdb.user:"+name, `{"name":"`+name+`","type":"user","roles":[],"password":"p"}`, asJSON)
		})
		wg.Go(func() { s.do("PUT", fmt.Sprint("/db", i), "", as("ann")) })
		wg.Go(func() {
			name := fmt.Sprint("b", i)
			s.do("POST", "/_users/_bulk_docs", `{"docs":[{"_id":"org.couchdb.user:`+name+`","name":"`+name+`","type":"user","roles":[],"password":"p"}]}`, asJSON, as("ann"))
		})
	}
	wg.Wait()
	names, err := s.hub.c.Store.Databases(t.Context())
	if err != nil || len(names) != limit {
		t.Errorf("%d databases, %v: %v", len(names), err, names)
	}
	a := s.do("PUT", "/_users/org.couchdb.user:late", `{"name":"late","type":"user","roles":[],"password":"p"}`, asJSON)
	if a.StatusCode != 413 || !strings.Contains(string(a.body), "too_many_databases") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	users, err := (Users{Store: s.hub.c.Store}).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range users { // who has an account has a database
		if !slices.Contains(names, userDatabase(u.Name)) {
			t.Errorf("%s has none", u.Name)
		}
	}
	err = Users{Store: s.hub.c.Store, Databases: true}.Add(t.Context(), "later", "p", nil)
	if !tooManyDatabases(err) {
		t.Errorf("an account from outside: %v", err)
	}
	if err := (Users{Store: s.hub.c.Store}).Add(t.Context(), "without", "p", nil); err != nil { // before there were such databases
		t.Fatal(err)
	}
	h, err := New(t.Context(), Config{Store: s.hub.c.Store, Admin: admin, UserDatabases: true, Service: Service{Quotas: Quotas{Databases: 1}}})
	if err != nil {
		t.Fatalf("a hub that has too many does not start: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}
