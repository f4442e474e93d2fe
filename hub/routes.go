package hub

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// An endpoint is a path that the hub itself answers.
type endpoint struct {
	methods []string // in the order of the Allow header; HEAD is served by GET
	needs   right    // forAll or forAdmins
	serve   http.HandlerFunc
}

// endpoints is what the hub answers itself; the API has the other paths.
func (h *Hub) endpoints() map[string]endpoint {
	metrics := endpoint{[]string{"GET", "HEAD"}, forAdmins, h.metrics.serve}
	if h.c.OpenMetrics {
		metrics.needs = forAll
	}
	all := map[string]endpoint{
		"/_session": {[]string{"GET", "HEAD", "POST", "DELETE"}, forAll, h.session},
		"/_metrics": metrics,
		"/_ice":     {[]string{"GET", "HEAD"}, forAll, h.iceServers},
	}
	for name, d := range h.service.hubs {
		all["/"+url.PathEscape(name)+"/_relay"] = h.relay(d)
	}
	return all
}

// routed is a request's path as the API's router takes it: split at the slashes
// that are written bare, without empty segments. In each segment all is escaped that may be, so that one path has one form.
func routed(r *http.Request) string {
	path := r.URL.EscapedPath()
	if isCanonical(path) {
		return path
	}
	var b strings.Builder
	for part := range strings.SplitSeq(path, "/") {
		if name, err := url.PathUnescape(part); err == nil {
			part = url.PathEscape(name)
		}
		if part != "" {
			b.WriteString("/" + part)
		}
	}
	return cmp.Or(b.String(), "/")
}

// isCanonical reports whether routed leaves a path as it is, as most often.
func isCanonical(path string) bool {
	for i := range len(path) {
		if c := path[i]; c == '/' && i > 0 && path[i-1] == '/' || c != '/' && !plain(c) {
			return false
		}
	}
	return len(path) == 1 || !strings.HasSuffix(path, "/")
}

// plain reports whether a character is never escaped.
func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.' || c == '~' || c == ':'
}

// needsNoUser reports whether a request is one that [Config.RequireUser] lets pass: for what this server is
// and how to log in, and with a ticket, which who is logged in has got, for a relay.
func (h *Hub) needsNoUser(r *http.Request) bool {
	path := routed(r)
	switch path {
	case "/", "/_up", "/_session":
		return true
	}
	db, relay := strings.CutSuffix(path, "/_relay")
	name, err := url.PathUnescape(strings.TrimPrefix(db, "/"))
	return relay && err == nil && h.service.hubs[name] != nil && r.Method == http.MethodGet && r.URL.Query().Has("ticket")
}

// routes sends requests to the hub's own endpoints and to the API.
func (h *Hub) routes() http.Handler {
	own := h.endpoints()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, ok := own[routed(r)]
		switch {
		case !ok:
			h.api.ServeHTTP(w, r)
			if r.Method == http.MethodPut && strings.HasSuffix(strings.TrimRight(r.URL.Path, "/"), "/_security") {
				h.security.forget()
			}
		case !slices.Contains(e.methods, r.Method):
			allow := strings.Join(e.methods, ",")
			w.Header().Set("Allow", allow)
			couchhttp.WriteError(w, &couch.Error{Status: 405, Code: "method_not_allowed", Reason: "Only " + allow + " allowed"})
		case e.needs != forAll && !loginOf(r.Context()).admin():
			refuse(w, r, errNotAdmin)
		default:
			e.serve(w, r)
		}
	})
}
