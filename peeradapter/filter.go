package peeradapter

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
)

// A filter decides which of this machine's addresses connections use, see Config.Interfaces and Config.Networks.
type filter struct {
	names, notNames       []string
	networks, notNetworks []netip.Prefix
}

func newFilter(interfaces, networks []string) (*filter, error) {
	f := new(filter)
	for _, s := range interfaces {
		name, not := strings.CutPrefix(s, "!")
		if _, err := path.Match(name, ""); err != nil || name == "" {
			return nil, fmt.Errorf("peeradapter: %q is no name of network interfaces, such as eth0, wlan* or !docker0", s)
		}
		if not {
			f.notNames = append(f.notNames, name)
		} else {
			f.names = append(f.names, name)
		}
	}
	for _, s := range networks {
		text, not := strings.CutPrefix(s, "!")
		p, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("peeradapter: %q is no range of addresses, such as 10.0.0.0/8, fd00::/8 or !192.168.7.1", s)
		}
		if not {
			f.notNetworks = append(f.notNetworks, p)
		} else {
			f.networks = append(f.networks, p)
		}
	}
	return f, nil
}

// parsePrefix reads a range in CIDR notation, or one address.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	return netip.ParsePrefix(s)
}

// keepInterface reports whether the addresses of an interface may be used.
func (f *filter) keepInterface(name string) bool {
	matches := func(patterns []string) bool {
		for _, p := range patterns {
			if ok, _ := path.Match(p, name); ok {
				return true
			}
		}
		return false
	}
	return (len(f.names) == 0 || matches(f.names)) && !matches(f.notNames)
}

// keepIP reports whether an address of this machine may be used.
func (f *filter) keepIP(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false
	}
	a = a.Unmap()
	if a.Is6() && (a.IsLoopback() || a.IsLinkLocalUnicast()) {
		return false // a socket for nothing: 127.0.0.1 is always there, and who has no other address reaches no hub
	}
	within := func(ranges []netip.Prefix) bool {
		for _, p := range ranges {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	return (len(f.networks) == 0 || within(f.networks)) && !within(f.notNetworks)
}
