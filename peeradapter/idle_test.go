package peeradapter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// from connects from another address of this machine: 127.0.0.n.
func from(n int, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+n%250))}, Timeout: 5 * time.Second}
	return d.Dial("tcp", to)
}

// Those who connect and do not show that they are welcome, at whatever stage they stop and however many and
// from wherever they are, keep nobody out.
func TestIdleHandshakes(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	trust := cert.Client().Transport.(*http.Transport).TLSClientConfig
	upgrade := func(c net.Conn, protocol string) { // and says no more
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "+protocol+"\r\n\r\n")
		_, _ = c.Read(make([]byte, 512))
	}
	stages := map[string]struct {
		listen string
		stop   func(net.Conn) // what a connection does before it is silent
	}{
		"tcp, connected":  {"tcp", func(net.Conn) {}},
		"tcp, device key": {"tcp", func(c net.Conn) { _, _, _ = secureClient(t.Context(), c, identity(t), nil) }},
		"ws, connected":   {"ws", func(net.Conn) {}},
		"ws, half a header": {"ws", func(c net.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n")
		}},
		"ws, no upgrade": {"ws", func(c net.Conn) { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }},
		"ws, upgraded":   {"ws", func(c net.Conn) { upgrade(c, protocolSecure) }},
		"ws, no secret":  {"ws", func(c net.Conn) { upgrade(c, protocolPlain) }},
		"wss, connected": {"wss", func(net.Conn) {}},
		"wss, TLS":       {"wss", func(c net.Conn) { _ = tls.Client(c, trust).HandshakeContext(t.Context()) }},
	}
	for name, stage := range stages {
		t.Run(name, func(t *testing.T) {
			o := ServeOptions{Secret: goodSecret}
			o.TLS = cert.TLS
			store := localStore(t, "notes")
			address := serving(t, stage.listen+"://127.0.0.1:0", o, store.DB("notes")) + "#" + goodSecret
			if stage.listen == "wss" {
				address = withoutPeer(t, address)
			}
			host := address[strings.LastIndex(address, "127.0.0.1"):]
			host = host[:strings.Index(host, "/")]
			ctx, cancel := context.WithCancel(t.Context())
			var attackers sync.WaitGroup
			defer attackers.Wait()
			defer cancel()
			var made atomic.Int64
			const idle = 400
			for n := range 20 {
				attackers.Go(func() {
					var held []net.Conn
					defer func() {
						for _, c := range held {
							_ = c.Close()
						}
					}()
					for i := 0; ctx.Err() == nil; i++ {
						if i >= idle/20 { // more come as long as it takes, not as fast as they can
							select {
							case <-ctx.Done():
								return
							case <-time.After(200 * time.Millisecond):
							}
						}
						c, err := from(n+20*i, host)
						if err != nil {
							continue
						}
						held = append(held, c)
						stage.stop(c)
						made.Add(1)
					}
				})
			}
			waitFor(t, func() bool { return made.Load() >= idle })
			for range 5 {
				began := time.Now()
				r, err := Open(t.Context(), address, WireOptions{Logger: discard, TLS: &tls.Config{RootCAs: trust.RootCAs}})
				must(t, err)
				err = r.DB("").Get(t.Context(), "doc").Err()
				must(t, errors.Join(err, r.Close()))
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("an honest peer waited %v", took)
				}
			}
		})
	}
}

// Peers that are welcome keep their places whatever strangers do; a peer that takes all of them
// makes room for another; and of a stranger nothing is kept beyond its time.
func TestPlacesOfPeers(t *testing.T) {
	l := listening(t)(ListenWebSocket("127.0.0.1:0", WireOptions{Logger: discard, MaxPeers: 3, Identity: identity(t)}))
	go echo(l)
	wires := l.(*WebSocketListener).wires
	try := func(o WireOptions) (net.Conn, error) {
		o.Logger, o.Peers = discard, []string{wires.options.Identity.ID()}
		w, err := DialWebSocket(t.Context(), "ws://"+l.Addr().String(), o)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = w.Close() })
		return w.DialContext(t.Context(), "", "")
	}
	connect := func(o WireOptions) net.Conn {
		t.Helper()
		c, err := try(o)
		must(t, err)
		return c
	}
	honest := WireOptions{Identity: identity(t)}
	first := connect(honest)
	must(t, ping(first))
	greedy := WireOptions{Identity: identity(t)}
	for range 5 {
		c := connect(greedy)
		must(t, ping(c))
	}
	must(t, ping(first))
	second := connect(WireOptions{Identity: identity(t)})
	must(t, ping(second))
	must(t, ping(first))
	if c, err := try(WireOptions{Identity: identity(t)}); err == nil && ping(c) == nil {
		must(t, ping(first)) // the greedy one's last place
	}
	if c, err := try(WireOptions{Identity: identity(t)}); err == nil && ping(c) == nil {
		t.Error("a place too many")
	}
	must(t, ping(first))
	must(t, ping(second))
}

func TestAddressGroup(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.9:1": "127.0.0.9", "[::ffff:10.0.0.1]:5": "10.0.0.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::9]:7": "2001:db8:1:2::/64", "[fe80::1%eth0]:9": "fe80::/64", "": "", "@": "@",
	} {
		if got := addressGroup(addr); got != want {
			t.Errorf("%s: %s", addr, fmt.Sprintf("%q, not %q", got, want))
		}
	}
}
