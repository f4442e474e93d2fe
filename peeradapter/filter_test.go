package peeradapter

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/transport/v5"

	"github.com/loveseat-db/loveseat/share"
)

func TestFilter(t *testing.T) {
	for _, c := range []struct{ interfaces, networks, name, ip, want string }{
		{"", "", "eth0", "10.1.2.3", "yes"},
		{"", "", "lo", "::1", "no"},
		{"", "", "eth0", "fe80::1", "no"},
		{"eth0 wlan*", "", "wlan7", "10.1.2.3", "yes"},
		{"eth0 wlan*", "", "docker0", "10.1.2.3", "no"},
		{"!docker*", "", "docker0", "10.1.2.3", "no"},
		{"!docker*", "", "eth0", "10.1.2.3", "yes"},
		{"", "10.0.0.0/8 fd00::/8", "eth0", "10.1.2.3", "yes"},
		{"", "10.0.0.0/8 fd00::/8", "eth0", "fd12::1", "yes"},
		{"", "10.0.0.0/8 fd00::/8", "eth0", "192.168.1.1", "no"},
		{"", "10.0.0.0/8 !10.1.0.0/16", "eth0", "10.1.2.3", "no"},
		{"", "192.168.7.1", "eth0", "192.168.7.1", "yes"},
		{"", "192.168.7.1", "eth0", "192.168.7.2", "no"},
	} {
		f, err := newFilter(strings.Fields(c.interfaces), strings.Fields(c.networks))
		must(t, err)
		got := "no"
		if f.keepInterface(c.name) && f.keepIP(net.ParseIP(c.ip)) {
			got = "yes"
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	for _, bad := range []Config{{Interfaces: []string{"["}}, {Interfaces: []string{"!"}}, {Networks: []string{"eth0"}}, {Networks: []string{"10.0.0.0/99"}}} {
		if x, err := New(bad, new(post).mailbox("x")); err == nil {
			_ = x.Close()
			t.Errorf("%+v", bad)
		}
	}
}

// Signals tell of no address but those that the filter keeps.
func TestFilteredCandidates(t *testing.T) {
	var sent []string
	p := new(post)
	p.route = recordSignals(&sent)
	c := Config{Networks: []string{"127.0.0.1"}}
	a, b := newTransport(t, p, "a", c), newTransport(t, p, "b", c)
	go echo(listen(t, b, "b"))
	must(t, ping(dial(t, a, "b")))
	p.mu.Lock()
	defer p.mu.Unlock()
	found := 0
	for _, line := range candidateLines(sent) {
		found++
		if !strings.Contains(line, " 127.0.0.1 ") {
			t.Error(line)
		}
	}
	if found == 0 {
		t.Error("no candidates were sent")
	}
}

// An aliasNet is the system's network with one interface, which has the address
// alias; its packets travel over loopback.
type aliasNet struct {
	*network
	alias, real net.IP
}

func (n aliasNet) Interfaces() ([]*transport.Interface, error) {
	i := transport.NewInterface(net.Interface{Index: 1, MTU: 1500, Name: "alias0", Flags: net.FlagUp})
	i.AddAddress(&net.IPNet{IP: n.alias, Mask: net.CIDRMask(64, 128)})
	return []*transport.Interface{i}, nil
}

func (n aliasNet) ListenUDP(family string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := net.ListenUDP(family, &net.UDPAddr{IP: n.real, Port: addr.Port})
	return aliasConn{c, n}, err
}

// An aliasConn translates addresses on their way in and out.
type aliasConn struct {
	*net.UDPConn
	n aliasNet
}

func (c aliasConn) LocalAddr() net.Addr { return swapIP(c.UDPConn.LocalAddr(), c.n.alias) }

func (c aliasConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(p)
	return n, swapIP(from, c.n.alias), err
}

func (c aliasConn) WriteTo(p []byte, to net.Addr) (int, error) {
	return c.UDPConn.WriteTo(p, swapIP(to, c.n.real))
}

func swapIP(a net.Addr, ip net.IP) net.Addr {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return a
	}
	return &net.UDPAddr{IP: ip, Port: u.Port}
}

// Peers that have nothing but IPv6 reach each other, also through one port.
func TestIPv6(t *testing.T) {
	system, err := newNetwork()
	must(t, err)
	c := Config{net: aliasNet{system, net.ParseIP("fd77::1"), net.IPv6loopback}}
	for name, config := range map[string]Config{"ports": c, "one port": {net: c.net, UDPPort: freePort(t, "[::1]:0")}} {
		t.Run(name, func(t *testing.T) {
			p := new(post)
			a, b := newTransport(t, p, "a", c), newTransport(t, p, "b", config)
			go echo(listen(t, b, "b"))
			conn := dial(t, a, "b")
			must(t, ping(conn))
			pair, err := iceOf(conn.(*stream).link.pc).GetSelectedCandidatePair()
			must(t, err)
			if pair.Local.Address != "fd77::1" || conn.(share.Conn).Route() != "host" {
				t.Errorf("%v", pair)
			}
		})
	}
}

// freePort returns a UDP port that nobody has at the moment.
func freePort(t *testing.T, address string) int {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	must(t, err)
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// One port serves many peers, both ways, and again after they have gone; and the
// signals tell of no other.
func TestOnePort(t *testing.T) {
	var sent []string
	p := new(post)
	p.route = recordSignals(&sent)
	port := freePort(t, "0.0.0.0:0")
	b := newTransport(t, p, "b", Config{UDPPort: port})
	go echo(listen(t, b, "b"))
	for range 3 {
		var peers []*Transport
		for i := range 5 {
			a := newTransport(t, p, fmt.Sprint("a", i), Config{})
			must(t, ping(dial(t, a, "b")))
			go echo(listen(t, a, fmt.Sprint("a", i)))
			must(t, ping(dial(t, b, fmt.Sprint("a", i))))
			peers = append(peers, a)
		}
		for _, a := range peers {
			must(t, a.Close())
		}
	}
	both := newTransport(t, p, "both", Config{UDPPort: freePort(t, "0.0.0.0:0")}) // one port at each end
	must(t, ping(dial(t, both, "b")))
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := 0
	for _, line := range candidateLines(sent) {
		if strings.HasPrefix(line, "b ") {
			ours++
			if !strings.Contains(line, fmt.Sprintf(" %d typ host", port)) {
				t.Error(line)
			}
		}
	}
	if ours == 0 {
		t.Error("no candidates were sent")
	}
	if x, err := New(Config{UDPPort: port}, p.mailbox("x")); err == nil {
		_ = x.Close()
		t.Error("two transports have one port")
	}
}

// recordSignals keeps who sent which payload.
func recordSignals(sent *[]string) func(share.Signal) []time.Duration {
	return func(s share.Signal) []time.Duration {
		*sent = append(*sent, s.From+" "+string(s.Payload))
		return []time.Duration{0}
	}
}

// candidateLines finds the candidates in what recordSignals has kept, each after its sender's name.
func candidateLines(sent []string) []string {
	var lines []string
	for _, s := range sent {
		from, payload, _ := strings.Cut(s, " ")
		for _, c := range strings.Split(payload, "candidate:")[1:] {
			line, _, _ := strings.Cut(c, "generation")
			line, _, _ = strings.Cut(line, `\r\n`)
			line, _, _ = strings.Cut(line, `"`)
			lines = append(lines, from+" "+line)
		}
	}
	return lines
}
