package peeradapter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/loveseat-db/loveseat/share"
)

func TestUnorderedSignals(t *testing.T) {
	p := &post{route: func(share.Signal) []time.Duration {
		var d []time.Duration
		for range 1 + rand.IntN(3) {
			d = append(d, rand.N(30*time.Millisecond))
		}
		return d
	}}
	for i := range 10 {
		a, b := newTransport(t, p, fmt.Sprint("a", i), Config{}), newTransport(t, p, fmt.Sprint("b", i), Config{})
		go echo(listen(t, b, fmt.Sprint("b", i)))
		must(t, ping(dial(t, a, fmt.Sprint("b", i))))
	}
	p.wg.Wait()
}

func TestForeignSignals(t *testing.T) {
	p := new(post)
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
	go echo(listen(t, b, "b"))
	c := dial(t, a, "b")
	must(t, ping(c))
	for _, from := range []string{"a", "x"} {
		for _, kind := range []string{kindOffer, kindAnswer, kindCandidate, kindBye, "?"} {
			for _, payload := range []string{"", "{", `{"v":2}`, `{"v":1}`, `{"v":1,"time":1,"sdp":"v=0\r\nm=application 9 x y\r\n"}`,
				`{"v":1,"time":1,"sdp":"v=0\r\nm=audio 9 x y\r\n"}`, `{"v":1,"candidates":[{"candidate":"x"}]}`, strings.Repeat("x", maxPayload+1)} {
				must(t, p.mailbox(from).Send(t.Context(), share.Signal{To: "b", Session: "s", Kind: kind, Payload: []byte(payload)}))
			}
		}
	}
	must(t, ping(c))
	must(t, ping(dial(t, a, "b")))
}

func TestConnectErrors(t *testing.T) {
	lost := func(kinds ...string) func(share.Signal) []time.Duration {
		return func(s share.Signal) []time.Duration {
			if strings.Contains(strings.Join(kinds, " "), s.Kind) {
				return nil
			}
			return []time.Duration{0}
		}
	}
	noServers := errors.New("no servers")
	for name, c := range map[string]struct {
		config    Config
		route     func(share.Signal) []time.Duration
		listening bool
		stage     Stage
		err       error
	}{
		"servers": {Config{ICEServers: func(context.Context) ([]ICEServer, error) { return nil, noServers }}, nil, true, StageServers, noServers},
		"offline": {Config{}, lost(kindOffer), true, StageAnswer, context.DeadlineExceeded},
		"silent":  {Config{}, lost(kindAnswer), true, StageAnswer, context.DeadlineExceeded},
		"private": {Config{}, nil, false, StageAnswer, ErrRefused},
		"no path": {Config{RelayOnly: true}, nil, true, StageICE, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			p := &post{route: c.route}
			c.config.Timeout = time.Second
			a, b := newTransport(t, p, "a", c.config), newTransport(t, p, "b", Config{RelayOnly: c.config.RelayOnly})
			if c.listening {
				go echo(listen(t, b, "b"))
			}
			_, err := a.DialContext(t.Context(), "", "b")
			var ce *ConnectError
			if !errors.As(err, &ce) || ce.Stage != c.stage || ce.Peer != "b" || !errors.Is(err, c.err) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOwnAttemptAfterPeers(t *testing.T) {
	var lost atomic.Bool
	answered := make(chan struct{})
	p := &post{route: func(s share.Signal) []time.Duration {
		if s.Kind == kindAnswer && !lost.Swap(true) {
			close(answered)
			return nil
		}
		return []time.Duration{0}
	}}
	z, b := newTransport(t, p, "z", Config{}), newTransport(t, p, "b", Config{Timeout: time.Second})
	go echo(listen(t, z, "z"))
	go echo(listen(t, b, "b"))
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = z.DialContext(t.Context(), "", "b") })
	<-answered
	must(t, ping(dial(t, b, "z")))
	wg.Wait()
}

func TestEarlyCandidates(t *testing.T) {
	p := new(post)
	b := newTransport(t, p, "b", Config{})
	listen(t, b, "b")
	pc, err := b.engine.newPeerConnection(nil, false)
	must(t, err)
	defer func() { _ = pc.GracefulClose() }()
	_, err = pc.CreateDataChannel(channelLabel, nil)
	must(t, err)
	offer, err := pc.CreateOffer(nil)
	must(t, err)

	mid := "0"
	found := []webrtc.ICECandidateInit{{Candidate: "candidate:1 1 udp 2130706431 127.0.0.1 9 typ host", SDPMid: &mid}}
	b.receive(share.Signal{From: "a", To: "b", Session: "s", Kind: kindCandidate, Payload: message{Candidates: found}.payload()})
	b.receive(share.Signal{From: "a", To: "b", Session: "other", Kind: kindCandidate, Payload: message{Candidates: found}.payload()})
	b.receive(share.Signal{From: "a", To: "b", Session: "s", Kind: kindOffer, Payload: message{SDP: offer.SDP, Time: 1}.payload()})
	b.mu.Lock()
	if len(b.early) != 1 || b.early[0].Session != "other" {
		t.Errorf("left: %+v", b.early)
	}
	b.mu.Unlock()

	answerer, err := b.engine.newPeerConnection(nil, false)
	must(t, err)
	defer func() { _ = answerer.GracefulClose() }()
	n := &negotiation{pc: answerer, config: &b.config}
	n.addCandidates(found)
	must(t, n.setRemote(webrtc.SDPTypeOffer, offer.SDP))
	if n.taken != 1 {
		t.Errorf("%d candidates were taken", n.taken)
	}
}

func TestReadSignal(t *testing.T) {
	const media = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
	offer := func(sdp string) []byte { return message{SDP: sdp, Time: 1}.payload() }
	for name, c := range map[string]struct {
		kind    string
		payload []byte
		ok      bool
	}{
		"data channel":        {kindOffer, offer(media), true},
		"and audio":           {kindOffer, offer(media + "m=audio 9 RTP/AVP 0\r\n"), false},
		"only video":          {kindAnswer, offer("v=0\r\nm=video 9 RTP/AVP 0\r\n"), false},
		"no media":            {kindAnswer, offer("v=0\r\n"), false},
		"too many candidates": {kindOffer, offer(media + strings.Repeat("a=candidate:x\r\n", maxCandidates+1)), false},
		"bye":                 {kindBye, message{Reason: "x"}.payload(), true},
		"long reason":         {kindBye, message{Reason: strings.Repeat("x", 2000)}.payload(), false},
		"other version":       {kindBye, []byte(`{"v":2}`), false},
		"no JSON":             {kindBye, []byte(`{`), false},
		"too long":            {kindOffer, offer(media + strings.Repeat("a=x\r\n", maxPayload/5)), false},
		"candidates":          {kindCandidate, message{Candidates: make([]webrtc.ICECandidateInit, maxCandidates)}.payload(), true},
		"many candidates":     {kindCandidate, message{Candidates: make([]webrtc.ICECandidateInit, maxCandidates+1)}.payload(), false},
	} {
		if _, err := readSignal(share.Signal{Session: "s", Kind: c.kind, Payload: c.payload}); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
