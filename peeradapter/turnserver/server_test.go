package turnserver

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/turn/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, c Config) *Server {
	t.Helper()
	c.Secret, c.UDP = "secret", "127.0.0.1:0"
	if !c.PublicIP.IsValid() {
		c.PublicIP = netip.MustParseAddr("127.0.0.1")
	}
	s, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for deadline := time.Now().Add(30 * time.Second); s.stats.Allocations.Load() != 0; {
			if time.Now().After(deadline) {
				t.Fatalf("%d relays are left", s.stats.Allocations.Load())
			}
			time.Sleep(time.Millisecond)
		}
	})
	return s
}

// client makes a client of a user whose credentials last for so long.
func client(t *testing.T, s *Server, secret, user string, life time.Duration) *turn.Client {
	t.Helper()
	name, password, err := turn.GenerateLongTermTURNRESTCredentials(secret, user, life)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := s.udp.LocalAddr().String()
	c, err := turn.NewClient(&turn.ClientConfig{Conn: conn, STUNServerAddr: addr, TURNServerAddr: addr, Username: name, Password: password, Realm: "loveseat", LoggerFactory: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		_ = conn.Close()
	})
	return c
}

func TestCredentials(t *testing.T) {
	s := start(t, Config{})
	for name, tt := range map[string]struct {
		secret string
		life   time.Duration
		ok     bool
	}{"good": {"secret", time.Minute, true}, "other secret": {"x", time.Minute, false}, "expired": {"secret", -time.Minute, false}} {
		relay, err := client(t, s, tt.secret, "ann", tt.life).Allocate()
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = relay.Close()
		}
	}
}

func TestQuotaOfRelays(t *testing.T) {
	s := start(t, Config{UserAllocations: 1, Allocations: 2})
	allocate := func(user string, ok bool) net.PacketConn {
		t.Helper()
		relay, err := client(t, s, "secret", user, time.Minute).Allocate()
		if (err == nil) != ok {
			t.Errorf("%s: %v", user, err)
		}
		return relay
	}
	first := allocate("ann", true)
	allocate("ann", false)
	defer allocate("bob", true).Close()
	allocate("eve", false) // no more for all
	_ = first.Close()
	for deadline := time.Now().Add(30 * time.Second); !s.users.may("ann"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was closed still counts")
		}
	}
	defer allocate("ann", true).Close()
}

// Packets go where they may, and no faster than they may.
func TestTargetsAndBandwidth(t *testing.T) {
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	closed := start(t, Config{})
	relay, err := client(t, closed, "secret", "ann", time.Minute).Allocate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := relay.WriteTo([]byte("x"), peer.LocalAddr()); err == nil {
		t.Error("packets to loopback are relayed")
	}
	_ = relay.Close()

	open := start(t, Config{Targets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, UserBandwidth: 1})
	if relay, err = client(t, open, "secret", "ann", time.Minute).Allocate(); err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	packet := make([]byte, 1000)
	for range 100 { // 100 KB of the 64 KiB that may come at once
		if _, err := relay.WriteTo(packet, peer.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); open.stats.Bytes.Load()+1000*open.stats.Dropped.Load() < 90_000; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			break // some were lost before they came to the server
		}
	}
	if b, d := open.stats.Bytes.Load(), open.stats.Dropped.Load(); b < 60_000 || b > 66_000 || d < 10 {
		t.Errorf("%d bytes relayed, %d packets dropped", b, d)
	}
}

func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1": true,
		"168.63.129.16": false, "192.88.99.1": false, "192.0.0.192": false, "100.100.100.200": false, "192.175.48.1": false, "::ffff:169.254.169.254": false, "::ffff:168.63.129.16": false, "::169.254.169.254": false,
		"64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "2001:0:a9fe:a9fe::1": false, "2001:20::1": false, "2002:a9fe:a9fe::1": false, "fd00:ec2::254": false, "fd00:ec2::23": false, "fe80::a9fe:a9fe": false, "fec0::1": false, "5f00::1": false,
		"3fff::1": false, "2001:db8::1": false, "4000::1": false, "100::1": false, "2606:4700::5efe:a9fe:a9fe": false, "2606:4700::200:5efe:a00:1": false, "2606:4700::5efe:808:808": true, "ff0e::1": false, "::": false,
		"127.0.0.1": false, "10.1.2.3": false, "192.168.1.1": false, "172.16.0.1": false, "169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false,
		"224.0.0.1": false, "255.255.255.255": false, "::1": false, "fe80::1": false, "fc00::1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false,
	} {
		s := &Server{}
		if got := s.allowed(nil, net.ParseIP(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestOwnServicesAreNotReached: through a relay nothing of this machine is reached but other relays.
func TestOwnServicesAreNotReached(t *testing.T) {
	s := &Server{c: Config{PublicIP: netip.MustParseAddr("127.0.0.9")}}
	s.interfaces.m, s.interfaces.read = map[netip.Addr]bool{netip.MustParseAddr("8.8.4.4"): true, netip.MustParseAddr("2606:4700::9"): true}, time.Now().Add(time.Hour)
	s.ports.set(50_000, true)
	for to, want := range map[string]bool{
		"8.8.8.8:53": true, "8.8.4.4:53": false, "[2606:4700::9]:1": false, "[::ffff:8.8.4.4]:53": false, "127.0.0.9:3478": false, "127.0.0.9:5984": false, "127.0.0.1:22": false,
		"127.0.0.9:50000": true,
	} {
		if got := s.reaches(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
	if s.allowed(nil, net.ParseIP("8.8.4.4")) || s.allowed(nil, net.ParseIP("2606:4700::9")) || !s.allowed(nil, net.ParseIP("8.8.8.8")) {
		t.Error("permissions for this machine's own addresses")
	}
	if s.c.PublicIP = netip.MustParseAddr("8.8.4.4"); !s.allowed(nil, net.ParseIP("8.8.4.4")) {
		t.Error("relays cannot be permitted to reach each other")
	}
}

// ownAddress is an address of this machine that is not loopback.
func ownAddress(t *testing.T) netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr()
		}
	}
	t.Fatal("this machine has no IPv4 address but loopback")
	return netip.Addr{}
}

// TestRelayToRelay: two relays reach each other on the address that peers are told, and from them nobody
// reaches another port there, though the network is a target.
func TestRelayToRelay(t *testing.T) {
	ip := ownAddress(t)
	s := start(t, Config{PublicIP: ip, Targets: []netip.Prefix{netip.PrefixFrom(ip, 24).Masked()}})
	service, err := net.ListenPacket("udp4", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	var relays []net.PacketConn
	for _, user := range []string{"ann", "bob"} {
		relay, err := client(t, s, "secret", user, time.Minute).Allocate()
		if err != nil {
			t.Fatal(err)
		}
		defer relay.Close()
		relays = append(relays, relay)
	}
	got := make(chan string, 100)
	go func() {
		p := make([]byte, 100)
		for {
			n, _, err := relays[1].ReadFrom(p)
			if err != nil {
				return
			}
			got <- string(p[:n])
		}
	}()
	if _, err := relays[1].WriteTo([]byte("permits"), relays[0].LocalAddr()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); len(got) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("relays do not reach each other")
		}
		_, _ = relays[0].WriteTo([]byte("attack"), service.LocalAddr())
		_, _ = relays[0].WriteTo([]byte("hello"), relays[1].LocalAddr())
	}
	_ = service.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // what was sent before has come by now
	if n, _, err := service.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes reached another port of this machine", n)
	}
}

func TestBadConfigs(t *testing.T) {
	ip := netip.MustParseAddr("127.0.0.1")
	for _, c := range []Config{{}, {Secret: "s", PublicIP: ip}, {Secret: "s", UDP: "127.0.0.1:0"}, {PublicIP: ip, UDP: "127.0.0.1:0"}, {Secret: "s", PublicIP: ip, UDP: "127.0.0.1:0", MinPort: 9, MaxPort: 8}, {Secret: "s", PublicIP: ip, UDP: "127.0.0.1:0", TCP: "nowhere:x"}} {
		if s, err := Start(c); err == nil {
			_ = s.Close()
			t.Errorf("%+v", c)
		}
	}
}
