package hub

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/localdb"
)

// FuzzHeaders: whatever the headers say, nobody is let in by them, and they are
// answered without a bug.
func FuzzHeaders(f *testing.F) {
	store, err := localdb.OpenStore(f.TempDir(), localdb.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { store.Close() })
	_, tokens := signers(f)
	h, err := New(f.Context(), Config{Store: store, Admin: admin, JWT: tokens, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { h.Close() })
	for _, name := range []string{"Authorization", "Cookie", "X-Forwarded-For", "X-Forwarded-Proto", "Origin", "Host", "Loveseat-Peer", "X-HTTP-Method-Override", "Content-Encoding", "If-None-Match"} {
		for _, v := range []string{"", "Basic YTpi", "Basic ???", "Bearer a.b.c", "AuthSession=YW5uOjU6", "1.2.3.4, [::1]:5", "https", "http://localhost:1", "DELETE", "gzip", "W/\"a\", *"} {
			f.Add(name, v)
		}
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			r := httptest.NewRequest(method, "/hub/_security", strings.NewReader("{}"))
			r.Header.Set(name, value)
			if name == "Host" {
				r.Host = value
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 500 || w.Code == http.StatusOK {
				t.Fatalf("%s with %s: %q: %d %s", method, name, value, w.Code, w.Body)
			}
			if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s with %s: %q: %s", method, name, value, w.Body)
			}
		}
	})
}

// FuzzCredentials: any body of a log-in is read or refused.
func FuzzCredentials(f *testing.F) {
	f.Add("application/json", `{"name":"a","password":"b"}`)
	f.Add("application/x-www-form-urlencoded", "name=a&password=%62")
	f.Add("application/json; charset=x", `{"name":1}`)
	f.Add("application/json", `{"name":"a","username":"b","password":"c"}`)
	f.Add("application/x-www-form-urlencoded", "password=c")
	f.Add("text/plain", "name=a&password=b")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		r := httptest.NewRequest("POST", "/_session", strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		if name, password, err := credentials(r); err != nil && name+password != "" {
			t.Fatalf("%q: %q %q with %v", body, name, password, err)
		}
	})
}

// FuzzSecurity: a _security object that cannot be understood lets administrators in alone.
func FuzzSecurity(f *testing.F) {
	f.Add([]byte(`{"admins":{"names":["a"]},"members":{"roles":["b"]}}`))
	f.Add([]byte(`{"members":{"names":"bob"}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := parseSecurity(raw)
		if nobody := new(user); s.admin(nobody) || s.member(nobody) && (!json.Valid(raw) || strings.TrimSpace(string(raw))[0] != '{') {
			t.Fatalf("%q lets everybody in", raw)
		}
		if !s.admin(&user{Roles: []string{roleAdmin}}) {
			t.Fatalf("%q shuts the administrators out", raw)
		}
	})
}

// FuzzPasswordHash: a hash in the configuration is read as it is written, or taken for a password.
func FuzzPasswordHash(f *testing.F) {
	f.Add("-pbkdf2:sha256-ab,salt,10")
	f.Add("-pbkdf2-ab,salt,10")
	f.Add("-hashed-ab,salt")
	f.Add("secret")
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := parsePasswordHash(text)
		if !ok {
			return
		}
		if again, ok := parsePasswordHash(p.String()); !ok || again != p {
			t.Fatalf("%q is %+v, and then %+v", text, p, again)
		}
		if p.Iterations = min(p.Iterations, 100); p.Iterations > 0 {
			if right, _ := p.verify("wrong"); right {
				t.Fatalf("%q lets everybody in", text)
			}
		}
	})
}
