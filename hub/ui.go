package hub

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
	"github.com/loveseat-db/loveseat/web"
)

// pagePath is where the hub's page is, as CouchDB's Fauxton.
const pagePath = "/_utils"

// iconPath is where browsers look for a site's icon.
const iconPath = "/favicon.ico"

// pageMethods are the methods of the page, which is for everybody: what it shows it asks the API for.
var pageMethods = []string{"GET", "HEAD"}

// paged serves the hub's page, and sends browsers there that ask for "/" or follow
// a share's link. Whoever asks need not be signed in yet.
func (h *Hub) paged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, under := strings.CutPrefix(r.URL.Path, pagePath+"/")
		to, goes := h.pageFor(r)
		switch {
		case r.URL.Path == pagePath:
			http.Redirect(w, r, pagePath+"/", http.StatusMovedPermanently)
		case r.URL.Path == iconPath && slices.Contains(pageMethods, r.Method):
			web.Serve(w, r, "icon.svg")
		case under && !slices.Contains(pageMethods, r.Method):
			w.Header().Set("Allow", "GET,HEAD")
			couchhttp.WriteError(w, &couch.Error{Status: 405, Code: "method_not_allowed", Reason: "Only GET,HEAD allowed"})
		case name == "config.json":
			h.pageConfig(w, r)
		case under:
			web.Serve(w, r, name)
		case goes:
			w.Header().Add("Vary", "Accept, Sec-Fetch-Dest")
			w.Header().Set("Cache-Control", "no-store")
			http.Redirect(w, r, to, http.StatusSeeOther) // the browser keeps the fragment, an invite's secret
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// pageFor returns which screen of the page answers a browser's navigation: "/", or a
// share's link "/HUB/share:ID".
func (h *Hub) pageFor(r *http.Request) (to string, ok bool) {
	dest := r.Header.Get("Sec-Fetch-Dest") // not sent over plain HTTP
	if !slices.Contains(pageMethods, r.Method) || !strings.Contains(r.Header.Get("Accept"), "text/html") || dest != "" && dest != "document" {
		return "", false
	}
	if r.URL.Path == "/" {
		return pagePath + "/", true
	}
	db, id, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"+hubdoc.SharePrefix)
	if !ok || h.service.hubs[db] == nil || id == "" || strings.Contains(id, "/") || r.URL.RawQuery != "" {
		return "", false
	}
	return pagePath + "/shares/" + url.PathEscape(db) + "/" + url.PathEscape(id), true
}

// pageConfig tells the page which hub this is.
func (h *Hub) pageConfig(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	writeValue(w, struct {
		Hubs    []string `json:"hubs"`
		Release string   `json:"release"`
		Open    bool     `json:"open"` // there are no accounts: everybody may do everything
		SignUp  bool     `json:"signUp"`
		Proxy   bool     `json:"undeclaredProxy,omitempty"` // this request came through one, see --trusted-proxy
	}{slices.Sorted(maps.Keys(h.service.hubs)), h.c.Release, h.open(), h.c.SignUp, proxied(r)})
}
