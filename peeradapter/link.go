package peeradapter

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	"github.com/pion/webrtc/v4"
)

const (
	keepAlive  = 5 * time.Second  // how often the peer is asked whether it still listens
	silence    = 10 * time.Second // without an answer or any progress it is lost
	drainLimit = 2 * time.Second  // how long closing waits for the peer to take what was written
)

// A link is a connection to a peer: a peer connection and the streams in its data channel.
type link struct {
	peer     string
	incoming bool // the peer has offered it
	pc       *webrtc.PeerConnection
	conn     *dcConn
	session  *yamux.Session
	since    time.Time

	endOnce sync.Once
	ending  chan struct{} // closed when err is set
	err     error         // why it ends; nil: closed here
	gone    chan struct{} // closed when the association has ended
	done    chan struct{} // closed when everything is released
	slots   chan struct{} // one for each stream that the peer has opened
}

// newLink takes over what n has negotiated. The one who offered is yamux's client.
func newLink(n *negotiation, conn *dcConn) (*link, error) {
	l := &link{
		peer: n.peer, incoming: n.offer != nil, pc: n.pc, conn: conn, since: time.Now(),
		ending: make(chan struct{}), gone: make(chan struct{}), done: make(chan struct{}), slots: make(chan struct{}, maxStreams),
	}
	newSession := yamux.Client
	if l.incoming {
		newSession = yamux.Server
	}
	var err error
	if l.session, err = newSession(&framer{dcConn: conn}, muxConfig(n.config.Logger)); err != nil {
		return nil, err
	}
	n.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateFailed:
			l.end(ErrPeerLost)
		case webrtc.PeerConnectionStateClosed:
			l.end(ErrPeerClosed)
		}
	})
	n.pc.SCTP().OnClose(func(error) {
		close(l.gone)
		l.end(ErrPeerClosed)
	})
	return l, nil
}

// end begins the end of the link, for which run does the work.
func (l *link) end(err error) {
	l.endOnce.Do(func() {
		l.err = err
		close(l.ending)
	})
}

// alive reports whether streams can be opened.
func (l *link) alive() bool {
	select {
	case <-l.ending:
		return false
	case <-l.session.CloseChan():
		return false
	default:
		return true
	}
}

// run serves the link until it ends, and returns when all of it is released.
// accept takes the streams that the peer opens.
func (l *link) run(accept func(*stream)) {
	defer close(l.done)
	var wg sync.WaitGroup
	wg.Go(l.watch)
	wg.Go(func() { l.acceptAll(accept) })
	select {
	case <-l.ending:
	case <-l.session.CloseChan():
		l.end(l.conn.reason())
	}
	if l.err != nil {
		l.conn.fail(l.err)
	}
	_ = l.session.Close()
	l.linger()
	_ = l.pc.GracefulClose()
	wg.Wait()
}

// linger lets the one who closes the link deliver what was written, and the
// other wait for the association's end: pion needs 400 ms to close an
// association that was aborted, which who closes should not wait for.
func (l *link) linger() {
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	switch {
	case l.err == nil:
		l.conn.drain(goAway, limit.C, l.gone)
	case errors.Is(l.err, ErrPeerClosed):
		select {
		case <-l.gone:
		case <-limit.C:
		}
	}
}

func (l *link) acceptAll(accept func(*stream)) {
	for {
		s, err := l.session.AcceptStream()
		if err != nil || !l.acquire() {
			return
		}
		accept(&stream{Stream: s, link: l, release: func() { <-l.slots }})
	}
}

// watch ends the link when the peer answers no longer although its network does,
// as a frozen browser tab: no answer to a ping, and nothing else that moves. (On
// a slow path a ping waits behind megabytes.)
func (l *link) watch() {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	var pong <-chan struct{} // nil: no ping is under way
	last, moved := time.Now(), l.conn.moved()
	for {
		select {
		case <-l.ending:
			if pong != nil {
				<-pong // the session is being closed
			}
			return
		case <-pong:
			last, pong = time.Now(), nil
			continue
		case <-tick.C:
		}
		if now := l.conn.moved(); now != moved {
			last, moved = time.Now(), now
		}
		if time.Since(last) > silence {
			l.end(ErrPeerLost)
		} else if pong == nil {
			pong = l.ping()
		}
	}
}

// ping asks the peer for an answer; the channel is closed when it comes, or the session ends.
func (l *link) ping() <-chan struct{} {
	pong := make(chan struct{})
	go func() {
		defer close(pong)
		_, _ = l.session.Ping()
	}()
	return pong
}

// open opens a stream to the peer. It may outlast ctx only in a goroutine of wg.
func (l *link) open(ctx context.Context, wg *sync.WaitGroup) (*stream, error) {
	type result struct {
		s   *yamux.Stream
		err error
	}
	opened := make(chan result, 1)
	wg.Go(func() {
		s, err := l.session.OpenStream() // waits while the connection is congested
		opened <- result{s, err}
		if ctx.Err() != nil && err == nil {
			_ = s.Close()
		}
	})
	select {
	case r := <-opened:
		if errors.Is(r.err, yamux.ErrRemoteGoAway) {
			l.end(ErrPeerClosed)
		}
		if r.err != nil {
			return nil, l.cause(r.err)
		}
		return &stream{Stream: r.s, link: l}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cause returns why the link ended, if it did, and otherwise err.
func (l *link) cause(err error) error {
	if l.alive() {
		return err
	}
	<-l.ending // run sees to it
	if l.err != nil {
		return l.err
	}
	return net.ErrClosed
}

// acquire takes one of the places for streams that the peer has opened.
func (l *link) acquire() bool {
	select {
	case l.slots <- struct{}{}:
		return true
	case <-l.ending:
		return false
	}
}
