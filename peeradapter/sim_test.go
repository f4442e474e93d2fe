package peeradapter

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/vnet"
	"github.com/pion/turn/v5"

	"github.com/loveseat-db/loveseat/share"
)

// A simulation is a network between two peers, with a hub that both reach.
type simulation struct {
	testing.TB
	wan    *vnet.Router
	signal post
	cut    atomic.Bool // nothing passes
	hub    atomic.Bool // nor do signals
	turn   func(context.Context) ([]ICEServer, error)

	openerNet, sharerNet *vnet.Net
	opener, sharer       *Transport
}

// How a simulated network is.
type conditions struct {
	delay     time.Duration // one way
	loss      float64       // of 1
	reordered float64       // packets that others overtake
	nat       bool          // symmetric ones at both ends, and a TURN server
	onePort   bool          // the sharer uses one UDP port
	lostAfter time.Duration // see Config
}

var building sync.Mutex // vnet counts hardware addresses without one

const symmetric = vnet.EndpointAddrPortDependent

func simulate(t testing.TB, c conditions) *simulation {
	t.Helper()
	s := &simulation{TB: t}
	var err error
	building.Lock()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	s.wan, err = vnet.NewRouter(&vnet.RouterConfig{CIDR: "10.0.0.0/24", MinDelay: c.delay, LoggerFactory: quiet})
	must(t, err)
	s.wan.AddChunkFilter(func(vnet.Chunk) bool { return !s.cut.Load() && rand.Float64() >= c.loss })
	host := func(ip string, nat bool) *vnet.Net {
		router := s.wan
		if nat {
			router, err = vnet.NewRouter(&vnet.RouterConfig{
				CIDR: "192.168.0.0/24", StaticIPs: []string{ip}, LoggerFactory: quiet,
				NATType: &vnet.NATType{MappingBehavior: symmetric, FilteringBehavior: symmetric},
			})
			must(t, err)
			must(t, s.wan.AddRouter(router))
			ip = "192.168.0.9"
		}
		n, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{ip}})
		must(t, err)
		must(t, router.AddNet(n))
		return n
	}
	s.openerNet, s.sharerNet = host("10.0.0.1", c.nat), host("10.0.0.2", c.nat)
	server := host("10.0.0.3", false)
	building.Unlock()
	must(t, s.wan.Start())
	t.Cleanup(func() { _ = s.wan.Stop() })
	if c.nat {
		s.startTURN(server)
	}
	config := Config{net: unruly{s.openerNet, c.reordered}, ICEServers: s.turn, lostAfter: c.lostAfter}
	s.opener = s.transport("opener", config)
	config.net = unruly{s.sharerNet, c.reordered}
	if c.onePort {
		config.UDPPort = 7777
	}
	s.sharer = s.transport("sharer", config)
	return s
}

func (s *simulation) transport(self string, c Config) *Transport {
	t, err := New(c, hubbed{s, s.signal.mailbox(self)})
	must(s, err)
	s.Cleanup(func() { _ = t.Close() })
	s.signal.await(s, self)
	return t
}

func (s *simulation) startTURN(n *vnet.Net) {
	conn, err := n.ListenPacket("udp4", "10.0.0.3:3478")
	must(s, err)
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "test",
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, "secret"), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(10, 0, 0, 3), Address: "10.0.0.3", Net: n},
		}},
	})
	must(s, err)
	s.Cleanup(func() { _ = server.Close() })
	s.turn = func(context.Context) ([]ICEServer, error) {
		return []ICEServer{{URLs: []string{"turn:10.0.0.3:3478"}, Username: "u", Credential: "secret"}}, nil
	}
}

// A hubbed mailbox is one of a hub that may be out of reach.
type hubbed struct {
	s *simulation
	*mailbox
}

func (h hubbed) Send(ctx context.Context, s share.Signal) error {
	for h.s.hub.Load() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return h.mailbox.Send(ctx, s)
}

// An unruly network lets packets overtake others.
type unruly struct {
	*vnet.Net
	reordered float64
}

func (n unruly) ListenUDP(family string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(family, addr)
	if err != nil {
		return nil, err
	}
	return &unrulyConn{UDPConn: c, reordered: n.reordered}, nil
}

// Interfaces returns a copy: vnet changes its own while they are read.
func (n unruly) Interfaces() ([]*transport.Interface, error) {
	moving.Lock()
	defer moving.Unlock()
	all, err := n.Net.Interfaces()
	copies := make([]*transport.Interface, len(all))
	for i, from := range all {
		copies[i] = transport.NewInterface(from.Interface)
		addrs, _ := from.Addrs() // of none: an error
		for _, a := range addrs {
			copies[i].AddAddress(a)
		}
	}
	return copies, err
}

var moving sync.Mutex // held while a host's address changes

type unrulyConn struct {
	transport.UDPConn
	reordered float64
}

func (c *unrulyConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if rand.Float64() >= c.reordered {
		return c.UDPConn.WriteTo(p, to)
	}
	late := append([]byte(nil), p...)
	time.AfterFunc(5*time.Millisecond, func() { _, _ = c.UDPConn.WriteTo(late, to) })
	return len(p), nil
}

// move gives a host another address.
func move(t testing.TB, n *vnet.Net, from, to string) {
	t.Helper()
	moving.Lock()
	defer moving.Unlock()
	must(t, n.AddAddress("eth0", &net.IPNet{IP: net.ParseIP(to).To4(), Mask: net.CIDRMask(24, 32)}))
	must(t, n.RemoveAddress("eth0", net.ParseIP(from).To4()))
}

// A trip is a transfer during which something happens.
type trip struct {
	s     *simulation
	total int64
	conn  net.Conn
	sum   [32]byte

	mu    sync.Mutex
	steps []time.Time // when something was read
}

// transfer begins to read total bytes from the sharer.
func (s *simulation) transfer(total int64) *trip {
	s.Helper()
	data := make([]byte, total)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(data)
	l := listen(s, s.sharer, "sharer")
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = c.Write(data)
			_ = c.Close()
		}
	}()
	return &trip{s: s, total: total, conn: dial(s, s.opener, "sharer"), sum: sha256.Sum256(data)}
}

// read reads all; after an eighth of it, it calls event beside that.
func (r *trip) read(event func()) {
	r.s.Helper()
	defer r.conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	hash, have, began := sha256.New(), int64(0), event == nil
	buf := make([]byte, 64<<10)
	for {
		n, err := r.conn.Read(buf)
		hash.Write(buf[:n])
		have += int64(n)
		r.mu.Lock()
		r.steps = append(r.steps, time.Now())
		r.mu.Unlock()
		if have >= r.total/8 && !began {
			began = true
			wg.Go(event)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.s.Fatalf("after %d of %d bytes: %v", have, r.total, err)
		}
	}
	if have != r.total || [32]byte(hash.Sum(nil)) != r.sum {
		r.s.Fatalf("%d of %d bytes came, or others", have, r.total)
	}
}

// resumed tells how long after a moment bytes came again. It waits for that.
func (r *trip) resumed(after time.Time) time.Duration {
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		last := r.steps[len(r.steps)-1]
		r.mu.Unlock()
		if last.After(after) {
			return last.Sub(after)
		}
	}
	r.s.Error("the transfer does not go on")
	return 0
}

// Transfers go on through cuts and changes of address, on a path with delay, loss and packets out of
// order, and behind symmetric NATs. LOVESEAT_BARS=1 cuts for ten seconds and demands that the transfer
// goes on within five of the path's return: LOVESEAT_BARS=1 go test -run Network -v ./peeradapter
func TestNetwork(t *testing.T) {
	cut, bar, size := 4*time.Second, 30*time.Second, int64(128<<10)
	if os.Getenv("LOVESEAT_BARS") != "" {
		cut, bar, size = 10*time.Second, 5*time.Second, 1<<20
	}
	wan := conditions{delay: 25 * time.Millisecond, loss: 0.01, reordered: 0.01}
	nat, port := wan, wan
	nat.nat, port.onePort = true, true
	// An event does something to the network and returns when it is whole again.
	type event func(*simulation)
	moved := func(sharer bool) event {
		return func(s *simulation) {
			if sharer {
				move(s, s.sharerNet, "10.0.0.2", "10.0.0.22")
			} else {
				move(s, s.openerNet, "10.0.0.1", "10.0.0.11")
			}
		}
	}
	cutFor := func(hubToo bool) event {
		return func(s *simulation) {
			s.cut.Store(true)
			s.hub.Store(hubToo)
			time.Sleep(cut)
			s.cut.Store(false)
			s.hub.Store(false)
		}
	}
	var all sync.WaitGroup // all at once: they wait most of the time
	defer all.Wait()
	for name, c := range map[string]struct {
		conditions
		event
		route string
	}{
		"steady":                   {wan, nil, "host"},
		"cut":                      {wan, cutFor(false), "host"},
		"cut, the hub too":         {wan, cutFor(true), "host"},
		"opener moves":             {wan, moved(false), "host"},
		"sharer moves":             {wan, moved(true), "host"},
		"sharer moves, one port":   {port, moved(true), "host"},
		"symmetric NATs":           {nat, nil, "relay"},
		"symmetric NATs, then cut": {nat, cutFor(false), "relay"},
	} {
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				s := simulate(t, c.conditions)
				trip := s.transfer(size)
				began := time.Now()
				if c.event == nil {
					trip.read(nil)
				} else {
					trip.read(func() {
						c.event(s)
						took := trip.resumed(time.Now())
						t.Logf("went on after %v", took.Round(time.Millisecond))
						if took > bar {
							t.Errorf("went on only after %v", took)
						}
					})
				}
				t.Logf("%d bytes in %v", trip.total, time.Since(began).Round(time.Millisecond))
				if got := trip.conn.(share.Conn).Route(); got != c.route {
					t.Errorf("route %q", got)
				}
			})
		})
	}
}

// Without a TURN server symmetric NATs keep peers apart: that the simulation is one.
func TestNetworkNATs(t *testing.T) {
	s := simulate(t, conditions{nat: true})
	s.turn = nil
	s.opener.config.ICEServers = func(context.Context) ([]ICEServer, error) { return nil, nil }
	s.sharer.config.ICEServers = s.opener.config.ICEServers
	listen(t, s.sharer, "sharer")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if c, err := s.opener.DialContext(ctx, "", "sharer"); err == nil {
		t.Error(fmt.Sprint("a path was found: ", c.(share.Conn).Route()))
	}
}
