package hub

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// forwarded makes a request that came through a trusted reverse proxy look as if
// its client had sent it: its address in RemoteAddr, and TLS not nil if the
// client spoke TLS to the proxy. What others write into those headers is not believed;
// of a proxy next to the hub that nobody has declared it tells log-ins apart.
func (h *Hub) forwarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch peer := remoteAddr(r); {
		case h.trusts(peer):
			out := r.WithContext(r.Context())
			if client := h.forwardedFor(r); client.IsValid() {
				out.RemoteAddr = net.JoinHostPort(client.String(), "0")
			}
			if out.TLS == nil && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
				out.TLS = &tls.ConnectionState{}
			}
			r = out
		case near(peer) && isForwarded(r.Header):
			h.proxyOnce.Do(func() {
				h.c.Logger.Warn("requests come through a proxy that is not declared: all its users count as one client, and share what failed log-ins cost; see --trusted-proxy", "proxy", peer)
			})
			r = r.WithContext(context.WithValue(r.Context(), proxyKey{}, prefixed(h.forwardedFor(r))))
		}
		next.ServeHTTP(w, r)
	})
}

// proxyKey is the context key of the address that an undeclared proxy tells of its client.
type proxyKey struct{}

// proxied reports whether a request came through a proxy that is not declared.
func proxied(r *http.Request) bool { return r.Context().Value(proxyKey{}) != nil }

// near reports whether an address may be that of a reverse proxy of this hub.
func near(a netip.Addr) bool { return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() }

// isForwarded reports whether a header is one that proxies write.
func isForwarded(h http.Header) bool {
	return h.Get("X-Forwarded-For") != "" || h.Get("Forwarded") != "" || h.Get("X-Real-Ip") != ""
}

// sourceOf is where a log-in comes from.
func sourceOf(r *http.Request) source {
	if client, _ := r.Context().Value(proxyKey{}).(netip.Addr); client.IsValid() {
		return source{client, clientKey(r)}
	}
	return source{addr: clientKey(r)}
}

// forwardedFor is the last address of X-Forwarded-For that is no proxy of ours.
func (h *Hub) forwardedFor(r *http.Request) netip.Addr {
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, s := range slices.Backward(list) {
		a, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return netip.Addr{}
		}
		if a = a.Unmap(); !h.trusts(a) {
			return a
		}
	}
	return netip.Addr{}
}

func (h *Hub) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(h.c.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// remoteAddr is the client's address, the zero Addr if it has none.
func remoteAddr(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr().Unmap().WithZone("")
}

// clientKey is what one client is counted by.
func clientKey(r *http.Request) netip.Addr { return prefixed(remoteAddr(r)) }

// prefixed is an IPv4 address, or the /64 of an IPv6 address, since whoever has
// one of those has all of them.
func prefixed(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return a
}
