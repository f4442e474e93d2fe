package peeradapter

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
	"github.com/pion/webrtc/v4"
)

const (
	keepAlive  = 5 * time.Second // how often the peer is asked whether it still listens
	silence    = 9 * time.Second // without an answer or any progress it is lost
	drainLimit = 2 * time.Second // how long closing waits for the peer to take what was written
)

// A link is a connection to a peer: a carrier, and the streams in it.
type link struct {
	peer     string
	incoming bool // the peer has offered it
	conn     carrier
	pc       *webrtc.PeerConnection // nil: it is not WebRTC
	path     *icePath               // the same
	pulse    *pulse                 // the same
	session  *yamux.Session
	frames   *framer // below the session
	since    time.Time

	endOnce sync.Once
	ending  chan struct{} // closed when err is set
	err     error         // why it ends; nil: closed here
	done    chan struct{} // closed when everything is released
	slots   chan struct{} // one for each stream that the peer has opened
	welcome atomic.Bool   // who serves has let the peer in
	seat    *seat         // of a transport's incoming link; nil: it has none
	visit   *visit        // of a listener's; the same

	keepAlive, silence time.Duration // see watch
	pinged             atomic.Int64  // round trip of the last ping, in nanoseconds; 0: none was answered yet

	betterOnce sync.Once
	better     chan struct{} // closed when new streams take another link
}

// newLink multiplexes a carrier. The one who offered or dialled it is yamux's client.
func newLink(peer string, incoming bool, conn carrier, c *yamux.Config) (*link, error) {
	l := &link{
		peer: peer, incoming: incoming, conn: conn, since: time.Now(), keepAlive: keepAlive, silence: silence,
		ending: make(chan struct{}), done: make(chan struct{}), better: make(chan struct{}), slots: make(chan struct{}, maxStreams),
	}
	newSession := yamux.Client
	if incoming {
		newSession = yamux.Server
	}
	var err error
	l.frames = &framer{carrier: conn, unread: newUnread()}
	l.session, err = newSession(l.frames, c)
	return l, err
}

// newDCLink takes over what n has negotiated.
func newDCLink(n *negotiation, conn *dcConn) (*link, error) {
	gone := make(chan struct{})
	l, err := newLink(n.peer, n.offer != nil, &dcCarrier{conn, n.pc, gone}, muxConfig(n.config.Logger))
	if err != nil {
		return nil, err
	}
	l.pc = n.pc
	l.path = newPath(n, l)
	l.pulse = &pulse{link: l, conn: conn, heard: time.Now()}
	n.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateFailed:
			l.end(ErrPeerLost)
		case webrtc.PeerConnectionStateClosed:
			l.endRead()
		}
	})
	n.pc.SCTP().OnClose(func(error) {
		close(gone)
		l.endRead()
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

// strange notes that nobody has let the peer in yet, who would say so.
func (l *link) strange() {
	if l.frames.unread.limit.Store(maxUnproven); l.welcome.Load() { // in the meantime
		l.frames.unread.limit.Store(maxUnread)
	}
}

// letIn notes that who serves has let the peer in.
func (l *link) letIn() {
	defer l.frames.unread.limit.Store(maxUnread)
	if !l.welcome.Swap(true) && l.visit != nil {
		l.visit.proven()
	}
}

// endRead ends the link because the peer has closed it: when all that it sent is
// read, and the channel says that it is at its end, or at the latest soon.
func (l *link) endRead() {
	time.AfterFunc(drainLimit, func() { l.end(ErrPeerClosed) })
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
	if l.pc != nil {
		wg.Go(l.path.run)
		wg.Go(l.pulse.run)
	} else {
		wg.Go(l.watch)
	}
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
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	l.conn.linger(l.err, limit.C)
	l.conn.release()
	wg.Wait()
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
// a slow path a ping waits behind megabytes.) A WebRTC peer has a pulse for that.
func (l *link) watch() {
	tick := time.NewTicker(l.keepAlive)
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
		switch now := l.conn.moved(); {
		case now != moved:
			last, moved = time.Now(), now // it lives: no need to ask
		case time.Since(last) > l.silence:
			l.end(ErrPeerLost)
		case pong == nil:
			pong = l.ping()
		}
	}
}

// ping asks the peer for an answer; the channel is closed when it comes, or the session ends.
func (l *link) ping() <-chan struct{} {
	pong := make(chan struct{})
	go func() {
		defer close(pong)
		if took, err := l.session.Ping(); err == nil {
			l.pinged.Store(int64(took))
		}
	}()
	return pong
}

// open opens a stream to the peer. It may outlast ctx only in a goroutine of wg.
func (l *link) open(ctx context.Context, wg *sync.WaitGroup) (*stream, error) {
	type result struct {
		s   *yamux.Stream
		err error
	}
	opened := make(chan result) // without a buffer: who gives up and who hands over agree
	wg.Go(func() {
		s, err := l.session.OpenStream() // waits while the connection is congested
		select {
		case opened <- result{s, err}:
		case <-ctx.Done():
			if err == nil {
				_ = s.Close()
			}
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
