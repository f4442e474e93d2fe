package peeradapter

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/pion/ice/v4"
	"github.com/pion/transport/v5"
)

// A portMux gives all connections one UDP port: a firewall needs one rule, and
// many peers cost one socket for each address of this machine. It has the addresses that there are
// when a connection gathers its candidates. (pion's own for several addresses keeps those
// of its start.)
type portMux struct {
	net    transport.Net
	filter *filter
	port   int
	log    loggerFactory

	mu     sync.Mutex
	closed bool
	muxes  map[netip.Addr]*ice.UDPMuxDefault
}

var _ ice.UDPMux = (*portMux)(nil)

// newPortMux listens on a port of every address there is.
func newPortMux(n transport.Net, f *filter, port int, log loggerFactory) (*portMux, error) {
	m := &portMux{net: n, filter: f, port: port, log: log, muxes: make(map[netip.Addr]*ice.UDPMuxDefault)}
	if err := m.refresh(); len(m.muxes) == 0 {
		if err == nil {
			err = errors.New("no address to listen on")
		}
		return nil, fmt.Errorf("peeradapter: UDP port %d: %w", port, err)
	} else if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("peeradapter: UDP port %d: %w", port, err)
	}
	return m, nil
}

// refresh listens on addresses that are new and lets go of those that have gone.
func (m *portMux) refresh() error {
	addrs, err := localAddrs(m.net, m.filter)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return net.ErrClosed
	}
	for a := range addrs {
		if m.muxes[a] != nil {
			continue
		}
		conn, lerr := m.net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, uint16(m.port))))
		if lerr != nil {
			err = lerr
			continue
		}
		m.muxes[a] = ice.NewUDPMuxDefault(ice.UDPMuxParams{Logger: m.log.NewLogger("ice"), UDPConn: conn, Net: m.net})
	}
	for a, mux := range m.muxes {
		if _, there := addrs[a]; !there {
			delete(m.muxes, a)
			_ = mux.Close()
		}
	}
	return err
}

// GetListenAddresses implements [ice.UDPMux].
func (m *portMux) GetListenAddresses() []net.Addr {
	if err := m.refresh(); err != nil {
		m.log.log.Debug("cannot listen on all addresses", "port", m.port, "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var addrs []net.Addr
	for _, mux := range m.muxes {
		addrs = append(addrs, mux.GetListenAddresses()...)
	}
	return addrs
}

// GetConn implements [ice.UDPMux].
func (m *portMux) GetConn(ufrag string, addr net.Addr) (net.PacketConn, error) {
	var mux *ice.UDPMuxDefault
	if u, ok := addr.(*net.UDPAddr); ok {
		m.mu.Lock()
		mux = m.muxes[u.AddrPort().Addr().Unmap()]
		m.mu.Unlock()
	}
	if mux == nil {
		return nil, fmt.Errorf("peeradapter: %s is not an address of this machine", addr)
	}
	return mux.GetConn(ufrag, addr)
}

// RemoveConnByUfrag implements [ice.UDPMux].
func (m *portMux) RemoveConnByUfrag(ufrag string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mux := range m.muxes {
		mux.RemoveConnByUfrag(ufrag)
	}
}

// Close ends all connections of the port.
func (m *portMux) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, mux := range m.muxes {
		_ = mux.Close()
	}
	return nil
}

// localAddrs returns the addresses of this machine that the filter keeps and that others may be told of.
func localAddrs(n transport.Net, f *filter) (map[netip.Addr]struct{}, error) {
	interfaces, err := n.Interfaces()
	if err != nil {
		return nil, err
	}
	found := make(map[netip.Addr]struct{})
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || !f.keepInterface(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, addr := range addrs {
			ip := ipOf(addr)
			a, ok := netip.AddrFromSlice(ip)
			if ok && f.keepIP(ip) && !ip.IsMulticast() {
				found[a.Unmap()] = struct{}{}
			}
		}
	}
	return found, nil
}

func ipOf(a net.Addr) net.IP {
	switch a := a.(type) {
	case *net.IPNet:
		return a.IP
	case *net.IPAddr:
		return a.IP
	}
	return nil
}
