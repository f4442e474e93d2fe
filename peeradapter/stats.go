package peeradapter

import (
	"net/netip"
	"time"

	"github.com/pion/webrtc/v4"
)

// Stats is what is known of the connection to a peer.
type Stats struct {
	Route         string        // "host", "srflx" (through NATs, found by STUN) "relay" (through a TURN server) or "hub" (through the hub)
	Incoming      bool          // the peer has opened the connection
	Since         time.Time     // when it was opened
	RTT           time.Duration // of the last ping or, before there was one, ICE check; 0: not yet known
	BytesSent     uint64        // in the data channel
	BytesReceived uint64
	Streams       int // open now, in both directions
}

// Stats tells of the connection to a peer; false: there is none.
func (t *Transport) Stats(peer string) (Stats, bool) {
	l := t.link(peer)
	if l == nil {
		return Stats{}, false
	}
	s := Stats{
		Route: l.route(), Incoming: l.incoming, Since: l.since, Streams: l.session.NumStreams(), RTT: l.rtt(),
	}
	s.BytesSent, s.BytesReceived = l.conn.traffic()
	return s, true
}

// link returns the live link to a peer, or nil.
func (t *Transport) link(addr string) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[addr]; p != nil {
		return p.live()
	}
	return nil
}

func iceOf(pc *webrtc.PeerConnection) *webrtc.ICETransport {
	return pc.SCTP().Transport().ICETransport()
}

// route tells how the packets travel.
func (l *link) route() string { return l.conn.route() }

// route tells how the packets travel, as ICE calls it: a pair is as good as its worse end.
func (c *dcCarrier) route() string {
	pair, err := iceOf(c.pc).GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return "host"
	}
	return worse(routeOf(pair.Local), routeOf(pair.Remote))
}

// routeOf names a candidate's type. One that the peer's packets came from before
// its signal did (prflx) is behind a NAT only if it is a public address.
func routeOf(c *webrtc.ICECandidate) string {
	switch c.Typ {
	case webrtc.ICECandidateTypeRelay:
		return "relay"
	case webrtc.ICECandidateTypeSrflx:
		return "srflx"
	case webrtc.ICECandidateTypePrflx:
		if ip, err := netip.ParseAddr(c.Address); err != nil || !(ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()) {
			return "srflx"
		}
	}
	return "host"
}

func worse(a, b string) string {
	for _, route := range []string{"relay", "srflx"} {
		if a == route || b == route {
			return route
		}
	}
	return "host"
}
