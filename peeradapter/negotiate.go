package peeradapter

import (
	"context"
	"fmt"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/loveseat-db/loveseat/share"
)

// The one data channel of a peer connection: ordered and reliable.
const (
	channelLabel    = "loveseat"
	channelProtocol = "yamux+http/1.1"
)

const (
	// The description is sent when gathering has ended or gatherGrace has passed,
	// which is enough for the candidates of this host; later ones follow in batches.
	gatherGrace = 5 * time.Millisecond
	batchWait   = 20 * time.Millisecond
)

// A negotiation is one session of signals, from offer to open data channel. The
// goroutine in run owns all of it but the channels, into which others put events.
type negotiation struct {
	peer, session string
	self          string // our address, if known
	of            string // the session of the connection that this is an ICE restart of; "": none
	transport     *Transport
	offer         *inbound // the offer to answer; nil: we are offering
	config        *Config
	engine        *engine
	sender        share.Signaler
	time          int64 // for our offer
	ctx           context.Context
	cancel        context.CancelCauseFunc

	inbox    chan inbound
	resend   chan struct{} // asks for the offer to be sent again
	outbox   chan share.Signal
	sent     chan error                // the outcome of each Send
	gathered chan *webrtc.ICECandidate // nil: the end
	states   chan webrtc.PeerConnectionState
	opened   chan *webrtc.DataChannel
	woken    <-chan struct{} // of a restart: the state of ICE has changed

	pc        *webrtc.PeerConnection
	ours      share.Signal // our offer or answer
	delivered bool         // it was sent
	described bool         // the peer's is set
	able      bool         // the peer knows restarts
	early     []webrtc.ICECandidateInit
	taken     int // candidates of the peer
}

func (t *Transport) newNegotiation(peer, session string, offer *inbound) *negotiation {
	ctx, cancel := context.WithCancelCause(t.ctx)
	return &negotiation{
		ctx: ctx, cancel: cancel, time: t.now(), transport: t, able: offer != nil && offer.Restarts,
		peer: peer, session: session, offer: offer, config: &t.config, engine: t.engine, sender: t.signaler,
		inbox: make(chan inbound, maxCandidates), resend: make(chan struct{}, 1),
		outbox: make(chan share.Signal, maxCandidates), sent: make(chan error, maxCandidates),
		gathered: make(chan *webrtc.ICECandidate, 2*maxCandidates),
		states:   make(chan webrtc.PeerConnectionState, 16), opened: make(chan *webrtc.DataChannel, 1),
	}
}

// link negotiates until the data channel is open. Errors: a *ConnectError.
func (n *negotiation) link() (*link, error) {
	ctx, cancel := context.WithTimeout(n.ctx, n.config.Timeout)
	defer n.cancel(nil)
	defer cancel()
	sender := make(chan struct{})
	go func() { defer close(sender); n.sendAll(ctx) }()
	l, err := n.negotiate(ctx)
	close(n.outbox)
	if err == nil {
		<-sender
		return l, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	err = &ConnectError{n.peer, n.stage(), err}
	cancel()
	<-sender
	if n.pc != nil {
		_ = n.pc.GracefulClose()
	}
	return nil, err
}

func (n *negotiation) negotiate(ctx context.Context) (*link, error) {
	if err := n.open(ctx); err != nil {
		return nil, err
	}
	if err := n.describe(ctx); err != nil {
		return nil, err
	}
	dc, err := n.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkChannel(dc); err != nil {
		return nil, err
	}
	conn, err := newDCConn(dc, peerAddr(n.self), peerAddr(n.peer))
	if err != nil {
		return nil, err
	}
	return newDCLink(n, conn)
}

// open makes the peer connection, whose events go into our channels.
func (n *negotiation) open(ctx context.Context) error {
	servers, err := n.config.ICEServers(ctx)
	if err != nil {
		return err
	}
	if n.pc, err = n.engine.newPeerConnection(servers, n.config.RelayOnly); err != nil {
		return err
	}
	gathered, states, opened := n.gathered, n.states, n.opened // the peer connection must not keep all of n
	n.pc.OnICECandidate(func(c *webrtc.ICECandidate) { put(gathered, c) })
	n.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) { put(states, s) })
	onOpen := func(dc *webrtc.DataChannel) { dc.OnOpen(func() { put(opened, dc) }) }
	if n.offer != nil {
		n.pc.OnDataChannel(onOpen)
		return nil
	}
	protocol := channelProtocol
	dc, err := n.pc.CreateDataChannel(channelLabel, &webrtc.DataChannelInit{Protocol: &protocol})
	if err == nil {
		onOpen(dc)
	}
	return err
}

// put sends without waiting: pion's callbacks must not block, and what does not
// fit is more than a session may have.
func put[T any](c chan<- T, v T) {
	select {
	case c <- v:
	default:
	}
}

// describe makes our description, an offer or the answer to one, and sends it.
func (n *negotiation) describe(ctx context.Context) error {
	d, err := n.description()
	if err != nil {
		return err
	}
	if err := n.pc.SetLocalDescription(d); err != nil {
		return err
	}
	n.gatherFor(ctx, gatherGrace)
	kind := d.Type.String()
	if n.of != "" && n.offer == nil {
		kind = kindRestart
	}
	n.ours = n.signal(kind, message{SDP: n.pc.LocalDescription().SDP, Time: n.time, Of: n.of, Restarts: true})
	put(n.outbox, n.ours)
	return nil
}

func (n *negotiation) description() (webrtc.SessionDescription, error) {
	if n.offer == nil {
		if err := n.retract(); err != nil {
			return webrtc.SessionDescription{}, err
		}
		return n.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: n.of != ""})
	}
	if err := n.setRemote(webrtc.SDPTypeOffer, n.offer.SDP); err != nil {
		return webrtc.SessionDescription{}, err
	}
	return n.pc.CreateAnswer(nil)
}

// gatherFor waits for the candidates that are found within d: they are in our description.
func (n *negotiation) gatherFor(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		select {
		case c := <-n.gathered:
			if c == nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// connect exchanges candidates until the channel is open or, in a restart, there is a path (nil).
func (n *negotiation) connect(ctx context.Context) (*webrtc.DataChannel, error) {
	var batch []webrtc.ICECandidateInit
	var flush <-chan time.Time
	for {
		var err error
		select {
		case dc := <-n.opened:
			return dc, nil
		case in := <-n.inbox:
			err = n.receive(in)
		case s := <-n.states:
			if s == webrtc.PeerConnectionStateFailed || s == webrtc.PeerConnectionStateClosed {
				err = fmt.Errorf("the peer connection has %s", s)
			}
		case c := <-n.gathered:
			if c != nil {
				batch = append(batch, c.ToJSON())
			}
			if c != nil && flush == nil {
				flush = time.After(batchWait)
			}
		case <-flush:
			put(n.outbox, n.signal(kindCandidate, message{Candidates: batch}))
			batch, flush = nil, nil
		case <-n.woken:
			if n.described && n.onPath() {
				return nil, nil
			}
		case <-n.resend:
			put(n.outbox, n.ours)
		case err = <-n.sent:
			n.delivered = true
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	}
}

// receive takes a signal of this session; one that does not fit its state is a duplicate.
func (n *negotiation) receive(in inbound) error {
	n.delivered = true // whatever Send says of it
	switch {
	case in.Kind == kindAnswer && n.offer == nil && !n.described:
		n.able = in.Restarts
		return n.setRemote(webrtc.SDPTypeAnswer, in.SDP)
	case in.Kind == kindCandidate:
		n.addCandidates(in.Candidates)
	case in.Kind == kindBye:
		return fmt.Errorf("%w: %s", ErrRefused, in.Reason)
	}
	return nil
}

func (n *negotiation) setRemote(kind webrtc.SDPType, sdp string) error {
	if err := n.pc.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: sdp}); err != nil {
		return err
	}
	n.described = true
	n.addCandidates(n.early)
	n.early = nil
	return nil
}

// addCandidates tries the peer's candidates once its description is known. One
// that leads nowhere or is not understood is no reason to give up.
func (n *negotiation) addCandidates(list []webrtc.ICECandidateInit) {
	if !n.described {
		n.early = append(n.early, list[:min(len(list), maxCandidates-len(n.early))]...)
		return
	}
	for _, c := range list {
		if n.taken++; n.taken > maxCandidates {
			return
		}
		if err := n.pc.AddICECandidate(c); err != nil {
			n.config.Logger.Debug("candidate ignored", "peer", n.peer, "err", err)
		}
	}
}

// onPath reports whether ICE has chosen a path since it was restarted.
func (n *negotiation) onPath() bool {
	pair, err := iceOf(n.pc).GetSelectedCandidatePair()
	return err == nil && pair != nil
}

// stage tells how far the negotiation is.
func (n *negotiation) stage() Stage {
	switch {
	case n.pc == nil:
		return StageServers
	case !n.delivered:
		return StageSignal
	case !n.described:
		return StageAnswer
	}
	switch n.pc.ICEConnectionState() {
	case webrtc.ICEConnectionStateConnected, webrtc.ICEConnectionStateCompleted:
	default:
		return StageICE
	}
	if n.pc.SCTP().Transport().State() != webrtc.DTLSTransportStateConnected {
		return StageDTLS
	}
	return StageChannel
}

func checkChannel(dc *webrtc.DataChannel) error {
	if dc.Label() != channelLabel || dc.Protocol() != channelProtocol || !dc.Ordered() ||
		dc.MaxRetransmits() != nil || dc.MaxPacketLifeTime() != nil {
		return fmt.Errorf("the peer opened the channel %.40q with the protocol %.40q", dc.Label(), dc.Protocol())
	}
	return nil
}

func (n *negotiation) signal(kind string, m message) share.Signal {
	return signal(n.peer, n.session, kind, m)
}

// sendAll sends the outbox in order, beside connect, so that a slow hub does not
// keep us from hearing the peer.
func (n *negotiation) sendAll(ctx context.Context) {
	for s := range n.outbox {
		if ctx.Err() == nil {
			put(n.sent, n.sender.Send(ctx, s))
		}
	}
}
