package turnserver

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// special are the ranges that no packet is relayed to unless Config.Targets
// has them, besides those that netip knows: all that IANA's registries of special-purpose
// addresses name (RFC 6890), and what a cloud's own servers have among public addresses.
var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"168.63.129.16/32", // Azure's DHCP, DNS and agents
	"2001::/23",        // Teredo, ORCHID and others, in which an IPv4 address may be
	"2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

// internet is what IPv6 addresses of the Internet begin with: none that translates to IPv4 (64:ff9b::/96) is in it.
var internet = netip.MustParsePrefix("2000::/3")

func prefixes(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func contains(all []netip.Prefix, a netip.Addr) bool {
	for _, p := range all {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// allowed decides where a user's packets may go and come from. Of this machine's own
// addresses that is only the one of the relays, and there only their ports, see [Server.reaches].
func (s *Server) allowed(_ net.Addr, peer net.IP) bool {
	a, ok := netip.AddrFromSlice(peer)
	if a = a.Unmap(); !ok || !contains(s.c.Targets, a) && !public(a) {
		return false
	}
	return a == s.c.PublicIP.Unmap() || !s.isOwn(a)
}

// reaches reports whether a packet may go to, or come from, an address of a peer that is
// allowed: what else listens on this machine is reached by nobody through a relay.
func (s *Server) reaches(peer net.Addr) bool {
	udp, ok := peer.(*net.UDPAddr)
	if !ok {
		return false
	}
	at := udp.AddrPort()
	return !s.isOwn(at.Addr().Unmap()) || s.ports.has(at.Port())
}

// isOwn reports whether an address is one of this machine's. Loopback is none for who has
// listed it among the targets.
func (s *Server) isOwn(a netip.Addr) bool {
	if a.IsLoopback() {
		return !contains(s.c.Targets, a)
	}
	return a == s.c.PublicIP.Unmap() || s.interfaces.has(a)
}

// public reports whether an address is one of the Internet's.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || contains(special, a) {
		return false
	}
	if a.Is4() {
		return true
	}
	b := a.As16()
	isatap := b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe // RFC 5214: the rest is an IPv4 address
	return internet.Contains(a) && (!isatap || public(netip.AddrFrom4([4]byte(b[12:]))))
}

// ports are those of the relays there are.
type ports struct {
	mu sync.RWMutex
	m  map[uint16]bool
}

func (p *ports) has(port uint16) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.m[port]
}

func (p *ports) set(port uint16, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[uint16]bool{}
	}
	if open {
		p.m[port] = true
	} else {
		delete(p.m, port)
	}
}

// interfaceTTL is how long a machine's addresses are believed to be the same.
const interfaceTTL = 10 * time.Second

// interfaces are this machine's addresses.
type interfaces struct {
	mu   sync.Mutex
	read time.Time
	m    map[netip.Addr]bool
}

func (i *interfaces) has(a netip.Addr) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.read) > interfaceTTL {
		i.read = time.Now()
		if all, err := net.InterfaceAddrs(); err == nil {
			i.m = map[netip.Addr]bool{}
			for _, n := range all {
				if p, err := netip.ParsePrefix(n.String()); err == nil {
					i.m[p.Addr().Unmap().WithZone("")] = true
				}
			}
		}
	}
	return i.m[a.WithZone("")]
}
