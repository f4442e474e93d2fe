package peeradapter

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/go-kivik/kivik/v4"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"
)

// A Candidate is an address at which peers may reach this process (RFC 8445 section 5.1.1).
type Candidate struct {
	Kind     string `json:"kind"`     // "host", "srflx" (as seen from outside, by STUN) or "relay" (a TURN server's)
	Protocol string `json:"protocol"` // "udp" or "tcp"
	Address  string `json:"address"`
	Port     uint16 `json:"port"`
}

// Probe gathers the candidates that a connection made with c would have, as far
// as they are found before ctx ends: the rest are missing, without an error.
func Probe(ctx context.Context, c Config) ([]Candidate, error) {
	c = c.withDefaults()
	servers, err := c.ICEServers(ctx)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(&c)
	if err != nil {
		return nil, err
	}
	defer e.close()
	pc, err := e.newPeerConnection(servers, c.RelayOnly)
	if err != nil {
		return nil, err
	}
	defer func() { _ = pc.GracefulClose() }()
	return gather(ctx, pc)
}

func gather(ctx context.Context, pc *webrtc.PeerConnection) (found []Candidate, err error) {
	candidates := make(chan *webrtc.ICECandidate, 4*maxCandidates)
	pc.OnICECandidate(func(c *webrtc.ICECandidate) { put(candidates, c) })
	if _, err := pc.CreateDataChannel(channelLabel, nil); err != nil {
		return nil, err
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return nil, err
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		return nil, err
	}
	for {
		select {
		case c := <-candidates:
			if c == nil {
				return found, nil
			}
			found = append(found, Candidate{c.Typ.String(), c.Protocol.String(), c.Address, c.Port})
		case <-ctx.Done():
			return found, nil
		}
	}
}

// HubICEServers asks a hub for its STUN and TURN servers, as connections do. A
// server that is not Loveseat's has none.
func HubICEServers(ctx context.Context, hub *kivik.DB) ([]ICEServer, error) {
	h := newHubICE(hub)
	if h == nil {
		return nil, nil
	}
	servers, _, err := h.ask(ctx)
	return servers, err
}

// ProbeTURN asks the TURN server at rawURL ("turn:host:port?transport=udp", RFC
// 7065), one of s.URLs, for a relay with the credentials of s, gives it back, and
// returns its address. The error tells what the server says, or that it says nothing.
func ProbeTURN(ctx context.Context, s ICEServer, rawURL string) (relay string, err error) {
	server, conn, err := dialTURN(ctx, rawURL)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: server, TURNServerAddr: server, Conn: conn,
		Username: s.Username, Password: s.Credential, LoggerFactory: loggerFactory{slog.New(slog.DiscardHandler)},
	})
	if err != nil {
		return "", err
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		return "", err
	}
	allocated, err := client.Allocate()
	if err != nil {
		return "", cmp.Or(ctx.Err(), err)
	}
	defer allocated.Close()
	return allocated.LocalAddr().String(), nil
}

const turnDialTime = 10 * time.Second

// dialTURN opens what the server is spoken to over.
func dialTURN(ctx context.Context, rawURL string) (server string, conn net.PacketConn, err error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "turn" && u.Scheme != "turns" {
		return "", nil, fmt.Errorf("%.100q is not the URL of a TURN server", rawURL)
	}
	port := "3478"
	if u.Scheme == "turns" {
		port = "5349"
	}
	host, given, err := net.SplitHostPort(u.Opaque)
	if err != nil {
		host, given = u.Opaque, port
	}
	server = net.JoinHostPort(host, given)
	d := net.Dialer{Timeout: turnDialTime}
	switch transport := u.Query().Get("transport"); {
	case u.Scheme == "turns" && transport == "udp":
		return "", nil, errors.New("TURN over DTLS is not tried")
	case u.Scheme == "turns":
		c, err := (&tls.Dialer{NetDialer: &d, Config: &tls.Config{ServerName: host}}).DialContext(ctx, "tcp", server)
		if err != nil {
			return "", nil, err
		}
		return server, turn.NewSTUNConn(c), nil
	case transport == "tcp":
		c, err := d.DialContext(ctx, "tcp", server)
		if err != nil {
			return "", nil, err
		}
		return server, turn.NewSTUNConn(c), nil
	}
	addr, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		return "", nil, err
	}
	family := "udp4"
	if addr.IP.To4() == nil {
		family = "udp6"
	}
	conn, err = (&net.ListenConfig{}).ListenPacket(ctx, family, ":0")
	return addr.String(), conn, err
}
