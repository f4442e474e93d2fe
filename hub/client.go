package hub

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// forwarded makes a request that came through a trusted reverse proxy look as if
// its client had sent it: its address in RemoteAddr, and TLS not nil if the
// client spoke TLS to the proxy. What others write into those headers is not believed.
func (h *Hub) forwarded(next http.Handler) http.Handler {
	if len(h.c.TrustedProxies) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.trusts(remoteAddr(r)) {
			out := r.WithContext(r.Context())
			if client := h.forwardedFor(r); client.IsValid() {
				out.RemoteAddr = net.JoinHostPort(client.String(), "0")
			}
			if out.TLS == nil && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
				out.TLS = &tls.ConnectionState{}
			}
			r = out
		}
		next.ServeHTTP(w, r)
	})
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

// clientKey is what one client is counted by: an IPv4 address, or the /64 of an
// IPv6 address, since whoever has one of those has all of them.
func clientKey(r *http.Request) netip.Addr {
	a := remoteAddr(r)
	if a.Is6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return a
}
