package peeradapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/share"
)

var _ share.Transport = (*Transport)(nil)

// A Transport connects this peer to others by WebRTC: one peer connection with
// each, which carries the streams that either side opens. It is a [share.Transport].
type Transport struct {
	config   Config
	engine   *engine
	signaler share.Signaler
	ctx      context.Context // ends with the transport
	cancel   context.CancelFunc
	wg       sync.WaitGroup // of every goroutine; Add only while not closed, or from one of them

	events   sync.Mutex // held while OnPeer and watchers are called
	watchers map[*watcher]struct{}

	mu       sync.Mutex
	closed   bool
	peers    map[string]*peer
	listener *listener
	clock    int64     // the time in our last offer
	early    []inbound // candidates that came before their offer
	crowd    crowd

	relay  *relaying          // nil: the hub relays nothing
	relays map[*link]struct{} // through the hub
}

// New returns a transport that negotiates through signaler, from which it
// receives from now on. The caller closes it.
func New(c Config, signaler share.Signaler) (*Transport, error) {
	t := &Transport{config: c.withDefaults(), signaler: signaler, peers: make(map[string]*peer)}
	t.crowd.init(signaler, t.config.MaxPeers)
	var err error
	if t.engine, err = newEngine(&t.config); err != nil {
		return nil, err
	}
	if t.relay, err = newRelaying(t.config.Relay, signaler); err != nil {
		t.engine.close()
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Go(t.receiveAll)
	t.wg.Go(t.watchNetwork)
	return t, nil
}

// Listen accepts the streams that peers open to this one, whose address is
// self, until the listener is closed; that closes the connections which peers
// have opened. There can be one listener at a time.
func (t *Transport) Listen(_ context.Context, self string) (net.Listener, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, net.ErrClosed
	}
	if t.listener != nil {
		return nil, errors.New("peeradapter: this transport listens already")
	}
	t.listener = newListener(self, t.unlisten)
	return t.listener, nil
}

func (t *Transport) unlisten() {
	t.mu.Lock()
	t.listener = nil
	var links []*link
	for _, p := range t.peers {
		if p.link != nil && p.link.incoming {
			links = append(links, p.link)
		}
	}
	for l := range t.relays {
		if l.incoming {
			links = append(links, l)
		}
	}
	t.mu.Unlock()
	for _, l := range links {
		l.end(nil)
	}
	for _, l := range links {
		<-l.done
	}
}

// DialContext opens a stream to the peer with the address addr, over the
// connection there is or a new one; several dials wait for the same one. network
// is ignored. Errors: a [*ConnectError], why the connection was lost, [net.ErrClosed].
func (t *Transport) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	if !t.begin() {
		return nil, net.ErrClosed
	}
	defer t.wg.Done()
	if l := t.own(addr); l != nil {
		return dialOwn(ctx, l)
	}
	for try := 0; ; try++ {
		l, err := t.connect(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("peeradapter: dial: %w", err)
		}
		s, err := l.open(ctx, &t.wg)
		if err == nil {
			return s, nil
		}
		if l.alive() || ctx.Err() != nil || try > 0 {
			return nil, fmt.Errorf("peeradapter: dial: %w", err)
		}
	}
}

// own returns this transport's listener if it has the address addr, otherwise nil.
func (t *Transport) own(addr string) *listener {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listener != nil && t.listener.addr == peerAddr(addr) {
		return t.listener
	}
	return nil
}

// begin counts the caller as a goroutine of the transport, if it is not closed.
func (t *Transport) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.wg.Add(1)
	}
	return !t.closed
}

// Close ends all connections, after what was written to them has been delivered
// or two seconds have passed, and returns when every goroutine has exited.
func (t *Transport) Close() error {
	t.mu.Lock()
	l := t.listener
	t.closed = true
	for _, p := range t.peers {
		if p.link != nil {
			p.link.end(nil)
		}
	}
	for l := range t.relays {
		l.end(nil)
	}
	t.mu.Unlock()
	t.cancel()
	if l != nil {
		_ = l.Close()
	}
	t.wg.Wait()
	t.engine.close()
	return nil
}

// receiveAll hears the signals to this peer, again if that fails.
func (t *Transport) receiveAll() {
	for t.ctx.Err() == nil {
		err := t.signaler.Receive(t.ctx, t.receive)
		if t.ctx.Err() != nil {
			return
		}
		t.config.Logger.Warn("cannot receive signals", "err", err)
		select {
		case <-time.After(time.Second):
		case <-t.ctx.Done():
		}
	}
}

// serve runs a link until it ends.
func (t *Transport) serve(l *link) {
	l.run(func(s *stream) {
		t.mu.Lock()
		to := t.listener
		t.mu.Unlock()
		if to == nil {
			_ = s.Close()
			return
		}
		to.deliver(s, l.ending)
	})
	t.forget(l)
	t.emit(l, Closed)
}

// now returns the time for an offer: later than any before. t.mu is held.
func (t *Transport) now() int64 {
	t.clock = max(t.clock+1, time.Now().UnixMilli())
	return t.clock
}
