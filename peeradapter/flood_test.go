package peeradapter

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/share"
)

func frame(kind byte, length uint32) []byte {
	f := make([]byte, frameHeader)
	f[1] = kind
	binary.BigEndian.PutUint32(f[8:], length)
	return f
}

// A peer that pings without end is disconnected.
func TestPingFlood(t *testing.T) {
	p := new(post)
	ended := make(chan error, 1)
	a := newTransport(t, p, "a", Config{})
	b := newTransport(t, p, "b", Config{OnPeer: func(e PeerEvent) {
		if e.State == Closed {
			ended <- e.Err
		}
	}})
	go echo(listen(t, b, "b"))
	c := dial(t, a, "b")
	must(t, ping(c))
	l := c.(*stream).link
	for range maxPings + 1 {
		ping := frame(typePing, 1)
		ping[3] = 1 // SYN
		_, _ = l.conn.Write(ping)
	}
	if err := <-ended; !errors.Is(err, ErrFlood) {
		t.Error(err)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the stream ended as if nothing had happened")
	}
}

// inspect finds the pings however the frames are cut.
func TestInspect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []byte
		pings := 0
		for range rapid.IntRange(0, 50).Draw(t, "frames") {
			switch kind := rapid.ByteRange(0, 3).Draw(t, "kind"); kind {
			case typeData:
				body := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "body")
				all = append(append(all, frame(kind, uint32(len(body)))...), body...)
			case typePing:
				pings++
				fallthrough
			default:
				all = append(all, frame(kind, rapid.Uint32().Draw(t, "value"))...)
			}
		}
		f := &framer{unread: newUnread()}
		for len(all) > 0 {
			n := rapid.IntRange(1, len(all)).Draw(t, "cut")
			f.inspect(all[:n])
			all = all[n:]
		}
		if f.pings != pings || f.have != 0 || f.body != 0 {
			t.Fatalf("%d pings of %d, %d bytes of a header, %d of a body", f.pings, pings, f.have, f.body)
		}
	})
}

// FuzzSignal gives a transport's negotiation what strangers may send.
func FuzzSignal(f *testing.F) {
	f.Add(kindOffer, []byte(`{"v":1,"time":1,"sdp":"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sctp-port:5000\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 00\r\na=setup:actpass\r\n"}`))
	f.Add(kindCandidate, []byte(`{"v":1,"candidates":[{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":"0"}]}`))
	f.Add(kindBye, []byte(`{"v":1,"reason":"x"}`))
	e, err := newEngine(&Config{Logger: discard})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		in, err := readSignal(share.Signal{From: "x", To: "y", Session: "s", Kind: kind, Payload: payload})
		if err != nil {
			return
		}
		pc, err := e.newPeerConnection(nil, true)
		must(t, err)
		defer func() { _ = pc.GracefulClose() }()
		n := &negotiation{pc: pc, config: &Config{Logger: discard}, offer: &in}
		if kind == kindOffer {
			_, _ = n.description()
		}
		_ = n.receive(in)
	})
}
