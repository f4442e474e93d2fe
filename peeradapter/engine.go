package peeradapter

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

// How long a connection may be silent: ICE asks for a sign of life every
// second, calls the peer disconnected after iceDisconnected without one and
// failed iceFailed later. Failed connections are dropped at once.
const (
	iceKeepAlive    = time.Second
	iceDisconnected = 3 * time.Second
	iceFailed       = 4 * time.Second
)

// How long a direct path may take to be found before one through a NAT or a
// relay is taken. (pion's defaults are 0.5, 1 and 2 s, which each connection would cost.)
const (
	prflxWait = 50 * time.Millisecond // also: a browser's address, which it hides behind a .local name
	srflxWait = 150 * time.Millisecond
	relayWait = 800 * time.Millisecond
)

// receiveBuffer is the association's receive window: what the peer may have in
// flight. pion queues packets twice on their way to SCTP, in 1 MB each, and drops
// what does not fit: a burst that the processor cannot keep up with is lost, and the
// connection waits a second for its retransmission timer. With 8 MiB a loopback
// transfer lost hundreds of packets and made 18 to 58 MB/s, with 768 KiB none and 120 MB/s.
// The price is 15 MB/s at a round trip of 50 ms.
const receiveBuffer = 768 << 10

// An engine makes peer connections that share a certificate and settings.
type engine struct {
	api         *webrtc.API
	certificate webrtc.Certificate
}

func newEngine(c *Config) (*engine, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("peeradapter: making a key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("peeradapter: making a certificate: %w", err)
	}
	s, err := settings(c)
	if err != nil {
		return nil, err
	}
	// Without interceptors, which are for audio and video and have goroutines.
	return &engine{webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{})), *cert}, nil
}

func settings(c *Config) (webrtc.SettingEngine, error) {
	var s webrtc.SettingEngine
	s.LoggerFactory = loggerFactory{c.Logger}
	s.DetachDataChannels()
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(true)                                        // peers on one host, also on one without a network
	s.SetIPFilter(func(ip net.IP) bool { return !ip.Equal(net.IPv6loopback) }) // which would be one socket more for nothing
	s.SetICETimeouts(iceDisconnected, iceFailed, iceKeepAlive)
	s.SetSrflxAcceptanceMinWait(srflxWait)
	s.SetPrflxAcceptanceMinWait(prflxWait)
	s.SetRelayAcceptanceMinWait(relayWait)
	s.SetSCTPMaxReceiveBufferSize(receiveBuffer)
	s.EnableSctpSnap(true)
	s.SetDTLSInsecureSkipHelloVerify(true) // the handshake starts only after ICE has verified the address
	network, err := newNetwork()
	if err != nil {
		return s, err
	}
	s.SetNet(network)
	return s, nil
}

// newPeerConnection makes a peer connection that uses the given STUN and TURN
// servers, or, with relayOnly, the TURN servers alone.
func (e *engine) newPeerConnection(servers []ICEServer, relayOnly bool) (*webrtc.PeerConnection, error) {
	conf := webrtc.Configuration{Certificates: []webrtc.Certificate{e.certificate}}
	if relayOnly {
		conf.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	for _, s := range servers {
		conf.ICEServers = append(conf.ICEServers, webrtc.ICEServer{
			URLs: s.URLs, Username: s.Username, Credential: s.Credential,
		})
	}
	return e.api.NewPeerConnection(conf)
}
