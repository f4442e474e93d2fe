package e2e

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// udpSockets are the local addresses of a process's UDP sockets, as the kernel tells.
func (w *world) udpSockets(p *proc.Proc) (all []netip.AddrPort) {
	w.Helper()
	dir := fmt.Sprintf("/proc/%d/", p.Pid())
	files, err := os.ReadDir(dir + "fd")
	w.ok(err)
	own := map[string]bool{}
	for _, f := range files {
		to, err := os.Readlink(filepath.Join(dir, "fd", f.Name()))
		if inode, is := strings.CutPrefix(to, "socket:["); err == nil && is {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, table := range []string{"udp", "udp6"} {
		text, err := os.ReadFile(dir + "net/" + table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		w.ok(err)
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 9 && own[f[9]] {
				all = append(all, w.kernelAddr(f[1]))
			}
		}
	}
	return all
}

// kernelAddr reads ADDRESS:PORT in hexadecimal, the address in words of the machine's byte order.
func (w *world) kernelAddr(s string) netip.AddrPort {
	w.Helper()
	address, port, _ := strings.Cut(s, ":")
	a, err := hex.DecodeString(address)
	w.ok(err)
	p, err := hex.DecodeString(port)
	w.ok(err)
	for i := 0; i < len(a); i += 4 {
		binary.NativeEndian.PutUint32(a[i:], binary.BigEndian.Uint32(a[i:]))
	}
	ip, _ := netip.AddrFromSlice(a)
	return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(p))
}

// freeUDPPort is a UDP port that nobody uses, below those that the system hands out.
func (w *world) freeUDPPort() string {
	w.Helper()
	for range 100 {
		port := fmt.Sprint(10_000 + rand.N(20_000))
		if c, err := net.ListenPacket("udp", ":"+port); err == nil {
			w.ok(c.Close())
			return port
		}
	}
	w.Fatal("no free port")
	return ""
}

// openedTwice opens a share by two peers at the same time, with the routes that they come by.
func (w *world) openedTwice(hub *hub, s *sharer, name, relay string) (routes []string) {
	w.Helper()
	var both []*proc.Proc
	for i := range 2 {
		both = append(both, w.start(w.command("loveseat", "--identity", w.path(fmt.Sprint(name, i)), "open", hub.db, s.ID, relay, "--json")))
	}
	for _, p := range both {
		var e struct{ Route string }
		w.next(p, "open", &e)
		routes = append(routes, e.Route)
	}
	return routes
}

// TestNetworkFlags: the flags choose the addresses and the port that a process really uses for its peers.
func TestNetworkFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	port := w.freeUDPPort()
	isLoopback := func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }
	none := func([]netip.AddrPort) bool { return true }
	for name, tt := range map[string]struct {
		flags []string
		hub   bool // the way leads through the hub, since there is no other
		right func([]netip.AddrPort) bool
	}{
		"default": {nil, false, func(all []netip.AddrPort) bool {
			return slices.ContainsFunc(all, func(a netip.AddrPort) bool { return a.Port() != all[0].Port() })
		}},
		"port": {[]string{"--udp-port", port}, false, func(all []netip.AddrPort) bool {
			return !slices.ContainsFunc(all, func(a netip.AddrPort) bool { return fmt.Sprint(a.Port()) != port })
		}},
		"interface": {[]string{"--interface", "lo"}, false, func(all []netip.AddrPort) bool {
			return !slices.ContainsFunc(all, func(a netip.AddrPort) bool { return !isLoopback(a) })
		}},
		"network": {[]string{"--network", "127.0.0.0/8"}, false, func(all []netip.AddrPort) bool {
			return !slices.ContainsFunc(all, func(a netip.AddrPort) bool { return !isLoopback(a) })
		}},
		"not a network": {[]string{"--network", "240.0.0.0/8"}, true, none},
	} {
		t.Run(name, func(t *testing.T) { // not in parallel: the world's time would pass while it waits for its turn
			w := *w
			w.T = t
			w.edit(name+"/notes", `{"_id":"a"}`)
			relay := "--relay=off" // also where a direct path takes long
			if tt.hub {
				relay = "--relay=auto"
			}
			s := w.share(hub.db, name+"/notes", append(tt.flags, relay)...)
			routes := w.openedTwice(hub, s, name, relay)
			if slices.ContainsFunc(routes, func(r string) bool { return (r == "hub") != tt.hub }) {
				t.Errorf("routes %q", routes)
			}
			if all := w.udpSockets(s.Proc); (len(all) == 0) != tt.hub || !tt.right(all) {
				t.Errorf("it uses %v", all)
			}
		})
	}
}
