package peeradapter

import (
	"context"
	"net"
	"testing"

	"github.com/pion/turn/v5"

	"github.com/loveseat-db/loveseat/share"
)

// Peers that hide their addresses meet at a TURN server, and say so.
func TestRelay(t *testing.T) {
	servers := turnServer(t)
	c := Config{ICEServers: func(context.Context) ([]ICEServer, error) { return servers, nil }, RelayOnly: true}
	p := new(post)
	a, b := newTransport(t, p, "a", c), newTransport(t, p, "b", c)
	go echo(listen(t, b, "b"))
	conn := dial(t, a, "b")
	must(t, ping(conn))
	if r := conn.(share.Conn).Route(); r != "relay" {
		t.Errorf("route %q", r)
	}
	if s, _ := b.Stats("a"); s.Route != "relay" {
		t.Errorf("%+v", s)
	}
}

// turnServer runs a TURN server on loopback.
func turnServer(t *testing.T) []ICEServer {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	s, err := turn.NewServer(turn.ServerConfig{
		Realm: "test",
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, "secret"), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"},
		}},
	})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return []ICEServer{{URLs: []string{"turn:" + conn.LocalAddr().String()}, Username: "u", Credential: "secret"}}
}
