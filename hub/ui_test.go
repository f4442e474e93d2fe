package hub

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/web"
)

const navigation = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"

// TestPageFor tells browsers that navigate from programs and from pages' requests.
func TestPageFor(t *testing.T) {
	s := start(t, Config{Admin: admin, RequireUser: true})
	id := strings.Repeat("a", 26)
	for _, c := range []struct {
		what, method, path string
		headers            []string
		to                 string // "": not sent anywhere
	}{
		{"a browser", "GET", "/", []string{navigation}, "/_utils/"},
		{"a browser that says what for", "GET", "/", []string{navigation, "Sec-Fetch-Dest: document"}, "/_utils/"},
		{"a share's link", "GET", "/hub/share:" + id, []string{navigation}, "/_utils/shares/hub/" + id},
		{"the page without its slash", "GET", "/_utils", nil, "/_utils/"},
		{"curl", "GET", "/", []string{"Accept: */*"}, ""},
		{"PouchDB", "GET", "/hub/share:" + id, []string{"Accept: application/json"}, ""},
		{"a page's request", "GET", "/", []string{navigation, "Sec-Fetch-Dest: empty"}, ""},
		{"a frame", "GET", "/", []string{navigation, "Sec-Fetch-Dest: iframe"}, ""},
		{"an attachment", "GET", "/hub/share:" + id + "/a.html", []string{navigation}, ""},
		{"a query", "GET", "/hub/share:" + id + "?revs=true", []string{navigation}, ""},
		{"no hub database", "GET", "/other/share:" + id, []string{navigation}, ""},
		{"elsewhere", "GET", "//evil.example/share:" + id, []string{navigation}, ""},
		{"a form", "POST", "/", []string{navigation}, ""},
	} {
		r, w := httptest.NewRequest(c.method, s.url, nil), httptest.NewRecorder()
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(c.path, "?")
		for _, h := range c.headers {
			k, v, _ := strings.Cut(h, ": ")
			r.Header.Set(k, v)
		}
		s.hub.ServeHTTP(w, r) // a client would follow
		if got := w.Header().Get("Location"); got != c.to || (c.to != "") != (w.Code/100 == 3) {
			t.Errorf("%s: %d %q, not %q", c.what, w.Code, got, c.to)
		}
	}
}

// TestPageNeedsNoLogIn: who is to log in must get the page, whatever their cookie is.
func TestPageNeedsNoLogIn(t *testing.T) {
	s := start(t, Config{Admin: admin, RequireUser: true})
	a := s.do("GET", "/_utils/users", "", "Cookie: AuthSession=rubbish")
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Security-Policy") != web.Policy {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := s.do("GET", "/favicon.ico", ""); a.StatusCode != http.StatusOK || web.Built() && a.Header.Get("Content-Type") != "image/svg+xml" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	a = s.do("GET", "/_utils/config.json", "")
	if want := `{"hubs":["hub"],"release":"","open":false,"signUp":false}`; strings.TrimSpace(string(a.body)) != want {
		t.Errorf("%s", a.body)
	}
	if a = s.do("POST", "/_utils/", "{}", asJSON); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", a.StatusCode)
	}
}
