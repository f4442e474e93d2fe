package hub

import (
	"net/http"
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
		all["/"+name+"/_relay"] = h.relay(d)
	}
	return all
}

// routes sends requests to the hub's own endpoints and to the API.
func (h *Hub) routes() http.Handler {
	own := h.endpoints()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, ok := own[strings.TrimSuffix(r.URL.Path, "/")]
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
