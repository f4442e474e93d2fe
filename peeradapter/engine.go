package peeradapter

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/transport/v5"
	"github.com/pion/webrtc/v4"
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

const (
	// sctpRTOMax bounds how long a transfer rests after its path has come back. (60 s is the standard's.)
	sctpRTOMax = 2 * time.Second
	// iceChecks is how often a candidate pair is tried, every 200 ms: as long as a negotiation lasts.
	iceChecks = 75
)

// An engine makes peer connections that share a certificate, settings and, if
// Config.UDPPort says so, their UDP port.
type engine struct {
	api         *webrtc.API
	certificate webrtc.Certificate
	net         transport.Net
	filter      *filter
	port        *portMux // nil: a port for each connection
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
	e := &engine{certificate: *cert, net: c.net}
	if e.net == nil {
		if e.net, err = newNetwork(); err != nil {
			return nil, err
		}
	}
	if e.filter, err = newFilter(c.Interfaces, c.Networks); err != nil {
		return nil, err
	}
	s := e.settings(c)
	if c.UDPPort != 0 {
		if e.port, err = newPortMux(e.net, e.filter, c.UDPPort, loggerFactory{c.Logger}); err != nil {
			return nil, err
		}
		s.SetICEUDPMux(e.port)
	}
	// Without codecs and interceptors, which are for audio and video and cost memory and goroutines.
	s.DisableMediaEngineCopy(true)
	e.api = webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithMediaEngine(&webrtc.MediaEngine{}), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	return e, nil
}

// close gives the UDP port back. There are no connections any more.
func (e *engine) close() {
	if e.port != nil {
		_ = e.port.Close()
	}
}

func (e *engine) settings(c *Config) webrtc.SettingEngine {
	var s webrtc.SettingEngine
	s.LoggerFactory = loggerFactory{c.Logger}
	s.DetachDataChannels()
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(true) // peers on one host, also on one without a network
	s.SetInterfaceFilter(e.filter.keepInterface)
	s.SetIPFilter(e.filter.keepIP)
	s.SetICETimeouts(0, 0, 0) // see pulse
	s.SetSrflxAcceptanceMinWait(srflxWait)
	s.SetPrflxAcceptanceMinWait(prflxWait)
	s.SetRelayAcceptanceMinWait(relayWait)
	s.SetSCTPMaxReceiveBufferSize(receiveBuffer)
	s.SetSCTPRTOMax(sctpRTOMax)
	s.SetICEMaxBindingRequests(iceChecks)
	s.EnableSctpSnap(true)
	s.SetDTLSInsecureSkipHelloVerify(true) // the handshake starts only after ICE has verified the address
	s.SetNet(e.net)
	return s
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
