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

// allowed reports whether pages of an origin may use the hub with credentials.
func (h *Hub) allowed(origin string) bool {
	if h.origins[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && LoopbackHost(u.Hostname())
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
		if origin == "" || sameOrigin(r, origin) {
			next.ServeHTTP(w, r)
			return
		}
		if !h.allowed(origin) {
			if r.Method == http.MethodGet || r.Method == http.MethodHead { // the browser keeps the answer from the page
				next.ServeHTTP(w, r)
				return
			}
			couchhttp.WriteError(w, couch.Forbidden("The origin "+origin+" is not allowed."))
			return
		}
		head := w.Header()
		head.Set("Access-Control-Allow-Origin", origin)
		head.Set("Access-Control-Allow-Credentials", "true")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			head.Set("Access-Control-Allow-Methods", corsMethods)
			head.Set("Access-Control-Allow-Headers", corsHeaders)
			head.Set("Access-Control-Max-Age", "600")
			if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
				head.Set("Access-Control-Allow-Private-Network", "true")
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		head.Set("Access-Control-Expose-Headers", corsExposed)
		next.ServeHTTP(w, r)
	})
}

func sameOrigin(r *http.Request, origin string) bool {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return strings.EqualFold(origin, scheme+r.Host)
}
