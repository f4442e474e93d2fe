package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// hashes are passwords "secret" as versions of CouchDB keep them.
var hashes = map[string]string{
	"sha256": `"password_scheme":"pbkdf2","pbkdf2_prf":"sha256","salt":"0123456789abcdef0123456789abcdef","iterations":10,"derived_key":"` + derived("sha256") + `"`,
	"sha1":   `"password_scheme":"pbkdf2","salt":"0123456789abcdef0123456789abcdef","iterations":10,"derived_key":"` + derived("sha") + `"`,
	"simple": `"salt":"00a4d7f3c1b2","password_sha":"` + derived("simple") + `"`,
}

func derived(prf string) string {
	p := passwordHash{Scheme: "pbkdf2", PRF: prf, Salt: "0123456789abcdef0123456789abcdef", Iterations: 10}
	if prf == "simple" {
		p = passwordHash{Scheme: "simple", Salt: "00a4d7f3c1b2"}
	}
	key, err := p.derive("secret")
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", key)
}

// TestHashesOfOthers: what CouchDB's and others' implementations make is verified here.
func TestHashesOfOthers(t *testing.T) {
	for _, tt := range []struct {
		hash     passwordHash
		password string
	}{
		// RFC 6070
		{passwordHash{"pbkdf2", "sha", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"}, "password"},
		// RFC 7914 section 11, its first 32 bytes
		{passwordHash{"pbkdf2", "sha256", "salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"}, "passwd"},
		{passwordHash{"simple", "", "salt", 0, "c88e9c67041a74e0357befdff93f87dde0904214"}, "password"},
	} {
		if ok, err := tt.hash.verify(tt.password); !ok || err != nil {
			t.Errorf("%v: %v %v", tt.hash, ok, err)
		}
		again, ok := parsePasswordHash(tt.hash.String())
		if !ok || again != tt.hash {
			t.Errorf("%v is read as %v", tt.hash, again)
		}
		if ok, _ := tt.hash.verify(tt.password + "x"); ok {
			t.Errorf("%v: a wrong password is right", tt.hash)
		}
	}
	for _, clear := range []string{"", "secret", "-pbkdf2", "-pbkdf2-a,b", "-pbkdf2:md5-a,b,10", "-pbkdf2:sha256-a,b,x", "-hashed-a"} {
		if p, ok := parsePasswordHash(clear); ok {
			t.Errorf("%q is taken for the hash %v", clear, p)
		}
	}
	if ok, _ := (&passwordHash{Scheme: "pbkdf2", PRF: "sha256", Salt: "x", Iterations: 1}).verify(""); ok {
		t.Error("no key is right")
	}
}

// TestAccountsOfCouchDB: documents copied from CouchDB log in, and are then kept as CouchDB 3.5 keeps them.
func TestAccountsOfCouchDB(t *testing.T) {
	s := start(t, Config{Admin: admin})
	for scheme, fields := range hashes {
		id := "/_users/org.couchdb.user:" + scheme
		rev := s.replicated(id, `{"_rev":"1-abc","name":"`+scheme+`","type":"user","roles":["r"],`+fields+`,"kept":[1.50]}`)
		auth := func(password string) string { return "Authorization: " + basicOf(scheme, password) }
		if a := s.do("GET", "/_session", "", auth("wrong")); a.StatusCode != 401 {
			t.Errorf("%s: wrong password: %d", scheme, a.StatusCode)
		}
		for range 2 {
			if a := s.do("GET", "/_session", "", auth("secret")); a.StatusCode != 200 || !strings.Contains(string(a.body), `"roles":["r"]`) {
				t.Fatalf("%s: %d %s", scheme, a.StatusCode, a.body)
			}
		}
		a := s.do("GET", id, "", as("ann"))
		var doc struct {
			Rev        string `json:"_rev"`
			Scheme     string `json:"password_scheme"`
			PRF        string `json:"pbkdf2_prf"`
			Iterations int
			Key        string  `json:"derived_key"`
			SHA        *string `json:"password_sha"`
		}
		if err := json.Unmarshal(a.body, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Rev == rev || doc.Scheme != "pbkdf2" || doc.PRF != "sha256" || doc.Iterations != iterations || len(doc.Key) != 64 || doc.SHA != nil || !strings.Contains(string(a.body), `"kept":[1.50]`) {
			t.Errorf("%s is not upgraded: %s", scheme, a.body)
		}
	}
}

func basicOf(name, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, password)
	return r.Header.Get("Authorization")
}

// replicated writes a document as an administrator, with the revision it has.
func (s *server) replicated(path, doc string) string {
	s.t.Helper()
	a := s.do("PUT", path+"?new_edits=false", doc, asJSON, as("ann"))
	if a.StatusCode != 201 {
		s.t.Fatalf("%s: %d %s", path, a.StatusCode, a.body)
	}
	return "1-abc"
}

// TestUserDocuments is CouchDB's rules of _users, request by request.
func TestUserDocuments(t *testing.T) {
	for _, signUp := range []bool{false, true} {
		t.Run(fmt.Sprint("sign-up ", signUp), func(t *testing.T) {
			s := startWithUsers(t, Config{SignUp: signUp})
			rev := func(name string) string {
				var d struct {
					Rev string `json:"_rev"`
				}
				_ = json.Unmarshal(s.do("GET", "/_users/org.couchdb.user:"+name, "", as("ann")).body, &d)
				return d.Rev
			}
			user := func(name, more string) string { return `{"name":"` + name + `","type":"user","roles":[]` + more + `}` }
			id := func(name string) string { return "/_users/org.couchdb.user:" + name }
			const noAccess = `{"error":"unauthorized","reason":"You are not authorized to access this db."}`
			anonymous := func(open string) string { // what nobody is told when sign-up is off
				if signUp {
					return open
				}
				return noAccess
			}
			for i, tt := range []struct{ who, method, path, body, want string }{
				{"bob", "GET", id("bob"), "", `"derived_key"`},
				{"bob", "GET", id("alice"), "", `{"error":"not_found","reason":"missing"}`},
				{"bob", "GET", id("none"), "", `{"error":"not_found","reason":"missing"}`},
				{"bob", "GET", id("alice") + "?open_revs=all", "", `"missing"`},
				{"", "GET", id("alice"), "", anonymous(`"missing"`)},
				{"bob", "GET", "/_users/_all_docs?include_docs=true", "", `You are not a server admin.`},
				{"bob", "GET", "/_users/_changes", "", `You are not a server admin.`},
				{"bob", "POST", "/_users/_find", `{"selector":{}}`, `You are not a server admin.`},
				{"bob", "POST", "/_users/_bulk_get", `{"docs":[{"id":"org.couchdb.user:alice"}]}`, `You are not a server admin.`},
				{"bob", "GET", "/_users/_design/_auth", "", `Only administrators can view design docs in the users database.`},
				{"bob", "PUT", "/_users/_design/x", "{}", `You are not a db or server admin.`},
				{"bob", "PUT", "/_users/_local/x", "{}", `You are not allowed to access this db.`},
				{"bob", "GET", "/_users", "", `"db_name":"_users"`},
				{"", "GET", "/_users", "", anonymous(`"db_name":"_users"`)},
				{"ann", "PUT", "/_users/_security", "{}", `{"error":"forbidden","reason":"You can't edit the security object of the user database."}`},
				{"bob", "PUT", id("bob"), user("bob", `,"password":"new"`), `"conflict"`},
				{"bob", "PUT", id("bob") + "?rev=REV-bob", `{"name":"bob","type":"user","roles":["chief"]}`, `Only _admin may edit roles`},
				{"bob", "PUT", id("bob") + "?rev=REV-bob", `{"name":"alice","type":"user","roles":[]}`, `Doc ID must be of the form org.couchdb.user:name`},
				{"bob", "PUT", id("alice") + "?rev=REV-alice", user("alice", `,"password":"new"`), `{"error":"not_found","reason":"missing"}`},
				{"bob", "DELETE", id("alice") + "?rev=REV-alice", "", `"missing"`},
				{"bob", "POST", "/_users/_bulk_docs", `{"docs":[` + strings.Replace(user("alice", `,"password":"new"`), "{", `{"_id":"org.couchdb.user:alice",`, 1) + `]}`, `"missing"`},
				{"bob", "PUT", id("bob") + "?new_edits=false", user("bob", `,"_rev":"9-zzz","roles":["chief"]`), `"bad_request"`},
				{"bob", "PUT", id("bob") + "?new_edits=false", `{"name":"bob","type":"user","_rev":"9-zzz","roles":["chief"]}`, `Only _admin may edit roles`},
				{"bob", "PUT", id("newcomer"), user("newcomer", `,"password":"new"`), `"missing"`},
				{"", "PUT", id("alice"), user("alice", `,"password":"new"`), anonymous(`"conflict"`)},
				{"", "PUT", id("alice") + "?new_edits=false", user("alice", `,"_rev":"9-zzz","password":"new"`), anonymous(`"conflict"`)},
				{"", "DELETE", id("alice") + "?rev=REV-alice", "", anonymous(`Only admins may delete other user docs.`)},
				{"", "PUT", id("eve"), `{"name":"eve","type":"user","roles":["chief"],"password":"x"}`, anonymous(`Only _admin may set roles`)},
				{"", "PUT", id("eve"), `{"name":"eve","type":"user","roles":["_admin"],"password":"x"}`, anonymous(`Only _admin may set roles`)},
				{"", "PUT", id("ann"), user("ann", `,"password":"x"`), anonymous(`"conflict"`)},
				{"", "PUT", id("eve"), user("eve", `,"password":"pw-eve"`), anonymous(`"ok":true`)},
				{"ann", "PUT", id("x"), `{"name":"x","type":"user","roles":["_admin"]}`, `No system roles (starting with underscore) in users db.`},
				{"ann", "PUT", id("x"), `{"name":"x","type":"user","roles":"chief"}`, `doc.roles must be an array`},
				{"ann", "PUT", id("x"), `{"name":"x","type":"user"}`, `doc.roles must exist`},
				{"ann", "PUT", id("x"), `{"name":"x","type":"user","roles":[1]}`, `doc.roles can only contain strings`},
				{"ann", "PUT", id("x"), `{"name":"x","roles":[]}`, `doc.type must be user`},
				{"ann", "PUT", id("x"), `{"type":"user","roles":[]}`, `doc.name is required`},
				{"ann", "PUT", id("_x"), user("_x", ""), `Username may not start with underscore.`},
				{"ann", "PUT", id("x:y"), user("x:y", ""), "Character `:` is not allowed in usernames."},
				{"ann", "PUT", id("x"), user("x", `,"password":1`), `Password value of '1' is invalid.`},
				{"ann", "PUT", id("x"), user("x", `,"password_scheme":"rot13"`), "Password scheme `rot13` not supported."},
				{"ann", "PUT", id("x"), user("x", `,"password_scheme":"pbkdf2","iterations":"1"`), `iterations must be a number.`},
				{"ann", "PUT", id("x"), user("x", `,"password_sha":"1"`), `Users with password_sha must have a salt.`},
				{"ann", "PUT", "/_users/other", user("x", ""), `Doc ID must be of the form org.couchdb.user:name`},
				{"bob", "PUT", id("bob") + "?rev=REV-bob", user("bob", `,"password":"pw-bob2"`), `"ok":true`},
				{"mia", "DELETE", id("mia") + "?rev=REV-mia", "", `"ok":true`},
			} {
				path := tt.path
				if before, name, ok := strings.Cut(path, "REV-"); ok {
					path = before + rev(name)
				}
				a := s.do(tt.method, path, tt.body, asJSON, as(tt.who))
				if !strings.Contains(string(a.body), tt.want) {
					t.Errorf("%d: %s %s %s as %q: %d %s, want %s", i, tt.method, path, tt.body, tt.who, a.StatusCode, a.body, tt.want)
				}
			}
			if a := s.do("GET", "/_session", "", as("bob")); a.StatusCode != 401 {
				t.Errorf("the old password: %d", a.StatusCode)
			}
			if a := s.do("GET", "/_session", "", "Authorization: "+basicOf("bob", "pw-bob2")); a.StatusCode != 200 {
				t.Errorf("the new password: %d %s", a.StatusCode, a.body)
			}
			if a := s.do("GET", "/_session", "", as("mia")); a.StatusCode != 401 {
				t.Errorf("a removed user: %d", a.StatusCode)
			}
			if a := s.do("GET", id("bob"), "", as("ann")); strings.Contains(string(a.body), "pw-") || strings.Contains(string(a.body), `"password"`) {
				t.Errorf("a password is kept: %s", a.body)
			}
		})
	}
}

// TestUserDatabases: an account brings a database, which is the user's alone.
func TestUserDatabases(t *testing.T) {
	s := startWithUsers(t, Config{SignUp: true, UserDatabases: true})
	db := "/userdb-626f62"
	if userDatabase("bob") != db[1:] {
		t.Fatal(userDatabase("bob"))
	}
	for name, status := range map[string]int{"bob": 200, "ann": 200, "alice": 403, "": 401} {
		if a := s.do("GET", db, "", as(name)); a.StatusCode != status {
			t.Errorf("%q: %d %s", name, a.StatusCode, a.body)
		}
	}
	if a := s.do("PUT", db+"/_design/d", "{}", asJSON, as("bob")); a.StatusCode != 201 {
		t.Errorf("its owner administers it: %d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", db+"/_security", "", as("bob")); strings.TrimSpace(string(a.body)) != `{"admins":{"names":["bob"],"roles":["_admin"]},"members":{"names":["bob"],"roles":["_admin"]}}` {
		t.Errorf("%s", a.body)
	}
	var doc struct {
		Rev string `json:"_rev"`
	}
	s2 := s.do("GET", "/_users/org.couchdb.user:bob", "", as("bob"))
	if err := json.Unmarshal(s2.body, &doc); err != nil {
		t.Fatal(err)
	}
	s.do("DELETE", "/_users/org.couchdb.user:bob?rev="+doc.Rev, "", as("bob"))
	if a := s.do("GET", db, "", as("ann")); a.StatusCode != 200 {
		t.Errorf("the database of a removed user: %d", a.StatusCode)
	}
	again := `{"name":"bob","type":"user","roles":[],"password":"pw-bob"}`
	if a := s.do("PUT", "/_users/org.couchdb.user:bob", again, asJSON); a.StatusCode != 409 {
		t.Errorf("somebody takes over a removed user's database: %d %s", a.StatusCode, a.body)
	}
	if a := s.do("PUT", "/_users/org.couchdb.user:bob", again, asJSON, as("ann")); a.StatusCode != 201 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestLockout: after five failures from an address even the right password is refused for a while.
func TestLockout(t *testing.T) {
	s := startWithUsers(t, Config{})
	s.stopClock()
	for i := range 6 {
		a := s.do("GET", "/_session", "", "Authorization: "+basicOf("bob", "wrong"))
		if want := map[bool]int{true: 401, false: 403}[i < 5]; a.StatusCode != want {
			t.Errorf("failure %d: %d %s", i+1, a.StatusCode, a.body)
		}
	}
	a := s.do("POST", "/_session", `{"name":"bob","password":"pw-bob"}`, asJSON)
	if a.StatusCode != 403 || a.Header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "Account is temporarily locked due to multiple authentication failures") {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
	if a := s.do("GET", "/_session", "", as("alice")); a.StatusCode != 200 {
		t.Errorf("another user: %d", a.StatusCode)
	}
}

func TestLockoutTime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := newLockout()
	l.now = func() time.Time { return now }
	here, there := source{addr: netip.MustParseAddr("192.0.2.1")}, source{addr: netip.MustParseAddr("192.0.2.2")}
	for range lockThreshold {
		if err := l.begin(here, "bob", false); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []time.Duration{5, 10, 20, 40, 60, 60, 60} { // longer from time to time, never long
		if got := couch.RetryAfter(l.check(here, "bob", false)); got != want*time.Second {
			t.Errorf("after a failure the wait is %v, want %v s", got, want)
		}
		if err := errors.Join(l.check(there, "bob", false), l.check(here, "alice", false)); err != nil {
			t.Error(err)
		}
		now = now.Add(want * time.Second)
		if err := l.begin(here, "bob", false); err != nil {
			t.Errorf("for ever: %v", err)
		}
	}
	here = source{addr: netip.MustParseAddr("192.0.2.3")}
	l.right(here, "bob")
	for i := range lockThresholdAddress {
		if err := l.begin(here, fmt.Sprint("user", i), false); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if err := l.check(here, "alice", false); !errors.Is(err, &couch.Error{Status: 429}) || couch.RetryAfter(err) != lockAddress {
		t.Errorf("an address that tries all names: %v", err)
	}
	if err := errors.Join(l.check(here, "bob", false), l.check(here, "root", true)); err != nil {
		t.Errorf("a name that is known there, an administrator's: %v", err)
	}
	for i := range 2 * maxLocks {
		from := source{addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
		_ = l.begin(from, "x", false)
		l.right(from, "x")
		_ = l.begin(from, "x", false)
	}
	if len(l.m) > maxLocks+1 || len(l.known) > maxLocks+1 {
		t.Errorf("%d failures and %d log-ins are remembered", len(l.m), len(l.known))
	}
}

// TestManyLoginsAtOnce: right passwords that come together are not taken for guesses, wrong ones are.
func TestManyLoginsAtOnce(t *testing.T) {
	s := startWithUsers(t, Config{})
	s.stopClock()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a := s.do("GET", "/_session", "", as("alice")); a.StatusCode != 200 {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		})
	}
	wg.Wait()
	var mu sync.Mutex
	tried := 0
	for i := range 50 {
		wg.Go(func() {
			if a := s.do("GET", "/_session", "", "Authorization: "+basicOf("bob", fmt.Sprint("wrong", i))); a.StatusCode == 401 {
				mu.Lock()
				tried++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if tried > lockThreshold {
		t.Errorf("%d passwords were tried", tried)
	}
}

// TestSessionsOutlastARestart: with the same secret and accounts, and end with the password.
func TestSessionsOutlastARestart(t *testing.T) {
	secret := []byte("0123456789abcdef")
	s := startWithUsers(t, Config{Secret: secret})
	cookie := s.do("POST", "/_session", `{"name":"bob","password":"pw-bob"}`, asJSON).Cookies()[0]
	h, err := New(t.Context(), Config{Store: s.hub.c.Store, Admin: admin, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w := newRecorder()
	r, _ := http.NewRequest("GET", "/hub", nil)
	r.AddCookie(cookie)
	if u, err := h.sessionUser(w, r); u == nil || u.Name != "bob" || err != nil {
		t.Errorf("after a restart: %v %v", u, err)
	}
	if err := (Users{Store: s.hub.c.Store}).SetPassword(t.Context(), "bob", "other"); err != nil {
		t.Fatal(err)
	}
	h.accounts.forget("bob")
	if u, err := h.sessionUser(w, r); u != nil || err != nil {
		t.Errorf("after another password: %v %v", u, err)
	}
}

// TestHashingDelaysNobody: passwords that wait to be hashed, and those that are
// being hashed, keep nobody else waiting.
func TestHashingDelaysNobody(t *testing.T) {
	s := startWithUsers(t, Config{})
	cookie := s.do("POST", "/_session", `{"name":"bob","password":"pw-bob"}`, asJSON).Cookies()[0]
	s.do("GET", "/public/doc", "", as("alice")) // her password is remembered from here on
	h := s.hub.accounts.hasher
	if h.places > max(1, runtime.GOMAXPROCS(0)/2) {
		t.Errorf("%d passwords are hashed at a time", h.places)
	}
	for range h.places { // as if that many hashes never ended
		h.enter(ticket{})
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if a := s.do("GET", "/_session", "", "Authorization: "+basicOf(fmt.Sprint("nobody", i), "x")); a.StatusCode != 401 {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		})
	}
	s.eventually("four passwords wait", func() bool { return int(h.busy()) == h.places+4 })
	for range 10 {
		for _, who := range []string{as("alice"), "Cookie: " + cookie.Name + "=" + cookie.Value, as("")} {
			if a := s.do("GET", "/public/doc", "", who); a.StatusCode != 200 {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		}
	}
	for range h.places {
		h.leave()
	}
	wg.Wait()
}

// TestSharedSecret: hubs of one store know each other's sessions, and users cannot read how.
func TestSharedSecret(t *testing.T) {
	s := startWithUsers(t, Config{})
	var wg sync.WaitGroup
	secrets := make([]string, 8)
	for i := range secrets {
		wg.Go(func() {
			b, err := SharedSecret(t.Context(), s.hub.c.Store)
			if err != nil {
				t.Error(err)
			}
			secrets[i] = string(b)
		})
	}
	wg.Wait()
	for _, b := range secrets {
		if b != secrets[0] || len(b) != 32 {
			t.Errorf("%x and %x", b, secrets[0])
		}
	}
	if a := s.do("GET", "/_users/_local/"+secretID, "", as("bob")); a.StatusCode != 403 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestMetrics: what is counted is told to administrators, or to everybody.
func TestMetrics(t *testing.T) {
	s := startWithUsers(t, Config{})
	s.do("GET", "/public/doc", "")
	s.do("BREW", "/public/doc", "")
	a := s.do("GET", "/_metrics", "", as("ann"))
	for _, want := range []string{
		`loveseat_requests_total{method="GET",status="200"} 1`, `loveseat_requests_total{method="other",status="405"} 1`,
		`loveseat_request_seconds_count{method="PUT"}`, "loveseat_feeds 0", "loveseat_databases 4", "loveseat_peers 0", "process_resident_memory_bytes",
	} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("%s is missing in\n%s", want, a.body)
		}
	}
	open := start(t, Config{Admin: admin, OpenMetrics: true})
	if a := open.do("GET", "/_metrics", ""); a.StatusCode != 200 {
		t.Errorf("%d", a.StatusCode)
	}
}

// TestBehindAProxy: who comes through a trusted proxy is counted by the address of the
// client, and has cookies for TLS; what strangers claim is not believed.
func TestBehindAProxy(t *testing.T) {
	for _, tt := range []struct {
		trusted, forwarded, proto, want string
		secure                          bool
	}{
		{"127.0.0.1/32", "203.0.113.9", "https", "203.0.113.9", true},
		{"127.0.0.1/32", "198.51.100.1, 203.0.113.9", "http", "203.0.113.9", false},
		{"127.0.0.0/8", "198.51.100.1, 127.0.0.2", "https", "198.51.100.1", true},
		{"127.0.0.1/32", "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::", false},
		{"127.0.0.1/32", "junk", "", "127.0.0.1", false},
		{"127.0.0.1/32", "", "", "127.0.0.1", false},
		{"10.0.0.0/8", "203.0.113.9", "https", "127.0.0.1", false},
	} {
		h := &Hub{c: Config{Logger: slog.New(slog.DiscardHandler), TrustedProxies: []netip.Prefix{netip.MustParsePrefix(tt.trusted)}}}
		var got string
		var secure bool
		next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, secure = clientKey(r).String(), r.TLS != nil })
		r, _ := http.NewRequest("GET", "/", nil)
		r.RemoteAddr = "127.0.0.1:4711"
		r.Header.Set("X-Forwarded-For", tt.forwarded)
		r.Header.Set("X-Forwarded-Proto", tt.proto)
		h.forwarded(next).ServeHTTP(newRecorder(), r)
		if got != tt.want || secure != tt.secure {
			t.Errorf("%+v: %s, %v", tt, got, secure)
		}
	}
}

// TestNamesAreNotToldByTime: a log-in by a name that nobody has, or whose password
// is kept by an old and cheap scheme, derives a key as long as any other.
func TestNamesAreNotToldByTime(t *testing.T) {
	s := startWithUsers(t, Config{})
	a := s.hub.accounts
	if fresh, err := hashPassword("x"); err != nil || a.dummy.Iterations != fresh.Iterations || a.dummy.PRF != fresh.PRF || a.dummy.Scheme != fresh.Scheme {
		t.Errorf("%+v is not what a new password costs: %+v, %v", a.dummy, fresh, err)
	}
	s.replicated("/_users/org.couchdb.user:cheap", `{"_rev":"1-abc","name":"cheap","type":"user","roles":[],`+hashes["simple"]+`}`)
	a.dummy.PRF = "told" // so that deriving with it fails, and can be seen
	for name, derived := range map[string]bool{"nobody": true, "bob": false, "cheap": true} {
		_, err := a.login(t.Context(), source{}, name, "wrong")
		if seen := err != nil && strings.Contains(err.Error(), "told"); seen != derived {
			t.Errorf("%s: %v", name, err)
		}
	}
	for cost, p := range map[bool]passwordHash{true: {Scheme: "simple"}, false: a.admins["ann"].hash} {
		if p.cheap() != cost {
			t.Errorf("%+v is cheap: %v", p, p.cheap())
		}
	}
}
