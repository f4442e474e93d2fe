package hub

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
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

// checkHost refuses requests under a host name that is not one of the hub's: a
// page of evil.example whose name now resolves to this machine (DNS rebinding)
// would otherwise be of the same origin as the hub.
func (h *Hub) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostname(r.Host)
		switch {
		case host == "" || h.knownHost(host): // "": HTTP/1.0, which no browser speaks
			next.ServeHTTP(w, r)
		case h.open():
			couchhttp.WriteError(w, couch.Forbidden("A hub without an administrator answers only to localhost, and to the names given by --host."))
		default:
			couchhttp.WriteError(w, couch.Forbidden(fmt.Sprintf("This hub does not answer to the name %.100q. If it is the hub's, start it with --host.", host)))
		}
	})
}

// hostname returns the host of a "host:port", in lower case and without brackets or a dot at the end.
func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

// knownHost reports whether the hub answers to a host name (without port). Any IP
// address is as good as another, since no name can be made to mean it; but a hub without
// accounts is for this machine alone.
func (h *Hub) knownHost(host string) bool {
	host = hostname(host)
	if LoopbackHost(host) || slices.ContainsFunc(h.hosts, func(n hostName) bool { return n.matches(host) }) {
		return true
	}
	if h.open() {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err == nil || slices.ContainsFunc(h.otherHosts(), func(n hostName) bool { return n.matches(host) })
}

// A hostName is a name of the hub: "hub.example.org", "*.example.org", an address. port is ""
// where it is not said.
type hostName struct{ name, port string }

// parseHost reads a name of the hub, with or without a port.
func parseHost(s string) (hostName, error) {
	n := hostName{name: hostname(s)}
	if host, port, err := net.SplitHostPort(s); err == nil && host != "" {
		n.port = port
	}
	name := strings.TrimPrefix(n.name, "*.")
	if _, err := netip.ParseAddr(name); err != nil && (name == "" || strings.ContainsAny(name, "/:@*?# ")) {
		return n, fmt.Errorf("host %q: want a name or an address, with a port if it is not the usual one, like hub.example.org or 203.0.113.7:8443", s)
	}
	if _, err := strconv.ParseUint(n.port, 10, 16); err != nil && n.port != "" {
		return n, fmt.Errorf("host %q: %q is not a port", s, n.port)
	}
	return n, nil
}

// matches reports whether a host is meant; "*." stands for one label, as in certificates.
func (n hostName) matches(host string) bool {
	if parent, ok := strings.CutPrefix(n.name, "*."); ok {
		_, rest, ok := strings.Cut(host, ".")
		return ok && rest == parent
	}
	return n.name == host
}

// otherHosts are the names that need not be configured: the machine's, and its certificate's.
func (h *Hub) otherHosts() (names []hostName) {
	add := func(name string) {
		if n, err := parseHost(name); err == nil && n.name != "" {
			names = append(names, n)
		}
	}
	if h.machine != "" {
		add(h.machine)
		add(h.machine + ".local")
	}
	if h.c.CertificateHosts != nil {
		for _, name := range h.c.CertificateHosts() {
			add(name)
		}
	}
	return names
}

// Hosts returns the names that the hub answers to, besides those of this machine's
// loopback interface and, if there is an administrator, IP addresses.
func (h *Hub) Hosts() (names []string) {
	all := h.hosts
	if !h.open() {
		all = append(slices.Clone(all), h.otherHosts()...)
	}
	for _, n := range all {
		name := n.name
		if n.port != "" {
			name = net.JoinHostPort(name, n.port)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// ownOrigin reports whether a peer that has dialled an origin means this hub, and not
// another one that passes its requests on. A name counts with the ports 80 and 443, that on which the
// request arrived and the one it is given with; an address that is not given, and a loopback
// name, only if it is where the request arrived, not through a reverse proxy: what is at a
// loopback address there is somebody else's on another machine.
func (h *Hub) ownOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || hubdoc.Origin(u) != origin || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	host, port := hostname(u.Host), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	var here netip.AddrPort
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		here, _ = netip.ParseAddrPort(a.String())
	}
	at := here.Addr().Unmap().WithZone("")
	arrived := here.IsValid() && port == strconv.Itoa(int(here.Port()))
	if a, err := netip.ParseAddr(host); arrived && !passedOn(r) && (err == nil && a.Unmap() == at || at.IsLoopback() && LoopbackHost(host)) {
		return true
	}
	names := h.hosts
	if !h.open() {
		names = append(slices.Clone(names), h.otherHosts()...)
	}
	return slices.ContainsFunc(names, func(n hostName) bool {
		return n.matches(host) && (port == n.port || n.port == "" && (arrived || port == "80" || port == "443"))
	})
}

// passedOn reports whether a request says that it came through a proxy.
func passedOn(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded", "Via"} {
		if len(r.Header.Values(name)) > 0 {
			return true
		}
	}
	return false
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
