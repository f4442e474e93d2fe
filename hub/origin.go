package hub

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// LoopbackHost reports whether a host name (without port) can only mean this machine.
func LoopbackHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// checkHost refuses requests under a foreign host name when there are no
// accounts: a page of evil.example whose name now resolves to 127.0.0.1 (DNS
// rebinding) would otherwise be of the same origin as the hub.
func (h *Hub) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if h.open() && host != "" && !LoopbackHost(host) {
			couchhttp.WriteError(w, couch.Forbidden("A hub without an administrator answers only to localhost."))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// parseOrigin checks a configured origin: scheme and host, nothing else.
func parseOrigin(s string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(s, "/"))
	if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("origin %q: want scheme and host, like https://example.org", s)
	}
	return strings.ToLower(u.Scheme + "://" + u.Host), nil
}

// allowed reports whether pages of an origin may use the hub with credentials. A hub without
// accounts is for every program of this machine, and so for its pages. Where there are accounts, loopback says nothing:
// any program may listen there, and serve what strangers wrote.
func (h *Hub) allowed(origin string) bool {
	if h.origins[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && h.open() && (u.Scheme == "http" || u.Scheme == "https") && LoopbackHost(u.Hostname())
}

// What CORS (https://fetch.spec.whatwg.org/#http-cors-protocol) lets pages send
// and see: all that PouchDB and CouchDB's documentation name.
const (
	corsMethods = "GET, HEAD, POST, PUT, DELETE, COPY, OPTIONS"
	corsHeaders = "Accept, Authorization, Content-Encoding, Content-MD5, Content-Type, Destination, If-Match, If-None-Match, If-Range, Last-Event-ID, Loveseat-Peer, Origin, Range, Referer, X-Couch-Full-Commit, X-CSRF-Token, X-HTTP-Method-Override, X-Requested-With"
	corsExposed = "Accept-Encoding, Accept-Ranges, Cache-Control, Content-Encoding, Content-Length, Content-MD5, Content-Range, Content-Type, ETag, Location, Retry-After, Server, X-Couch-Request-ID"
)

// cors answers preflights, lets pages of allowed origins read answers, and
// refuses writes of pages of other origins outright.
func (h *Hub) cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		w.Header().Add("Vary", "Origin")
		h.embedding(w.Header(), r)
		switch err := h.checkPage(r, origin); {
		case err != nil:
			couchhttp.WriteError(w, couch.AsError(err))
		case origin == "" || sameOrigin(r, origin) || !h.allowed(origin):
			next.ServeHTTP(w, r)
		case allowOrigin(w.Header(), r, origin):
			w.WriteHeader(http.StatusNoContent)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// checkPage refuses what a browser asks for on behalf of a page that has no business here. What pages of
// other origins read is let pass: the browser keeps the answer from them.
func (h *Hub) checkPage(r *http.Request, origin string) error {
	if !couchhttp.ForData(r) {
		return couch.Forbidden("What databases hold is data: a browser may not run or frame it.")
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	switch {
	case origin == "" && couchhttp.OfOtherPage(r):
		return couch.Forbidden("A page of another origin may not do this.")
	case origin != "" && !sameOrigin(r, origin) && !h.allowed(origin):
		return couch.Forbidden("The origin " + origin + " is not allowed.")
	}
	return nil
}

// embedding says whose pages may show an answer, as an image for example, without being able to read it: everyone's, unless
// it is for whoever is signed in here, or for this machine. Others ask by CORS (<img crossorigin="use-credentials">).
func (h *Hub) embedding(head http.Header, r *http.Request) {
	switch {
	case h.open():
		head["Cross-Origin-Resource-Policy"] = sameSiteOnly
	case r.Header["Cookie"] != nil || r.Header["Authorization"] != nil:
		head["Cross-Origin-Resource-Policy"] = sameOriginOnly
	}
}

// The values are shared, as nothing is ever written into them.
var sameSiteOnly, sameOriginOnly = []string{"same-site"}, []string{"same-origin"}

// allowOrigin adds what lets pages of an allowed origin read the answer; true: the request is a preflight and this is all of it.
func allowOrigin(head http.Header, r *http.Request, origin string) (preflight bool) {
	head.Set("Access-Control-Allow-Origin", origin)
	head.Set("Access-Control-Allow-Credentials", "true")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		head.Set("Access-Control-Expose-Headers", corsExposed)
		return false
	}
	head.Set("Access-Control-Allow-Methods", corsMethods)
	head.Set("Access-Control-Allow-Headers", corsHeaders)
	head.Set("Access-Control-Max-Age", "600")
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		head.Set("Access-Control-Allow-Private-Network", "true")
	}
	return true
}

func sameOrigin(r *http.Request, origin string) bool {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return strings.EqualFold(origin, scheme+r.Host)
}

// isPath reports whether a request is for path, with or without a slash at the end.
func isPath(r *http.Request, path string) bool {
	return r.URL.Path == path || r.URL.Path == path+"/"
}
