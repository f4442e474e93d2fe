package peeradapter

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/fair"
	"github.com/loveseat-db/loveseat/share"
)

// Connections without a hub: any net.Conn (TCP, TLS, a pipe, a WebSocket or another
// message channel) carries streams as a data channel does. There the peers show each
// other their device keys in a TLS 1.3 handshake (see tcp.go), or, on a WebSocket
// and where the caller has seen to it, they do not: then Peer is "".

// WireOptions say how connections without a hub are made. The zero value is for
// this machine alone.
type WireOptions struct {
	// Identity is this process's device key; nil: a new one that lives in memory.
	Identity *share.Identity
	// Peers are the ids of the peers that may connect; dialling, of the one that must
	// answer. nil: whoever is on this machine.
	Peers []string
	// Anyone lets peers of any id connect to an address that is not on loopback: whoever serves asks who they are.
	Anyone bool
	// TLS has the certificate of a wss: listener, or the authorities that a dialler believes. nil: the system's.
	TLS *tls.Config
	// Origins are the web origins ("https://example.org") whose pages may connect
	// to a WebSocket. nil: none.
	Origins []string
	// MaxPeers bounds the connections of a listener's peers; 0: 256. Those that have not shown yet that they
	// are welcome do not count: there are 256 at most, for five seconds each.
	MaxPeers int
	// Opening is what [Open] shows a share that is served, see [ServeShare]. An invite there goes before the URL's secret.
	Opening share.OpenOptions
	// Logger gets what is worth knowing for debugging; nil: [slog.Default].
	Logger *slog.Logger

	prove    bool          // who connects must show soon that it is welcome: see ServeOptions.Secret
	patience time.Duration // from the first byte to that; 0: proofTime
}

const (
	handshakeTime = 10 * time.Second // for who dials
	proofTime     = 5 * time.Second  // for who is dialled
)

func (o WireOptions) withDefaults() (WireOptions, error) {
	o.MaxPeers = cmp.Or(o.MaxPeers, 256)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.patience = cmp.Or(o.patience, proofTime)
	var err error
	if o.Identity == nil {
		o.Identity, err = share.NewIdentity()
	}
	return o, err
}

// admit decides on a peer id, "" if it is unknown, that connects to a listener.
func (o *WireOptions) admit(peer string) error {
	if o.Peers != nil && !slices.Contains(o.Peers, peer) {
		return ErrRefused
	}
	return nil
}

// errOpen is what a listener says that anybody in the network could use.
var errOpen = errors.New("peeradapter: this address can be reached from other machines: say which peers may connect, or listen on loopback")

// checkOpen refuses to listen for everybody outside of this machine.
func (o *WireOptions) checkOpen(a net.Addr) error {
	if o.Peers != nil || o.Anyone || onLoopback(a) {
		return nil
	}
	return errOpen
}

func onLoopback(a net.Addr) bool {
	if a.Network() == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// A wires is a listener for the streams of connections without a hub.
type wires struct {
	*listener
	addr    net.Addr
	options WireOptions
	ctx     context.Context // ends with the listener
	cancel  context.CancelFunc
	stop    func() // accepts no more

	strangers fair.Places
	peers     fair.Places

	wg     sync.WaitGroup
	mu     sync.Mutex
	links  map[*link]struct{}  // nil: closed
	visits map[net.Conn]*visit // that came through a gate and were not taken over yet
}

func newWires(addr net.Addr, o WireOptions, stop func()) *wires {
	w := &wires{addr: addr, options: o, links: make(map[*link]struct{}), visits: make(map[net.Conn]*visit), stop: stop}
	w.strangers.Max = maxStrangers
	w.peers.Max, w.peers.Firm = o.MaxPeers, rankWelcome
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.listener = newListener(addr.String(), w.end)
	return w
}

// Addr returns the address that is listened on.
func (w *wires) Addr() net.Addr { return w.addr }

// Close ends all connections, after what was written to them has been delivered
// or two seconds have passed, and returns when every goroutine has exited.
func (w *wires) Close() error {
	err := w.listener.Close()
	w.wg.Wait()
	return err
}

func (w *wires) end() {
	w.mu.Lock()
	links, visits := w.links, w.visits
	w.links, w.visits = nil, nil
	w.mu.Unlock()
	w.cancel()
	for l := range links {
		l.end(nil)
	}
	w.stop()
	for c, v := range visits {
		_ = c.Close()
		v.leave()
	}
}

// serve runs a connection that has arrived until it ends. secure asks for device keys.
func (w *wires) serve(v *visit, conn net.Conn, path string, secure bool) {
	defer v.leave()
	log := w.options.Logger
	peer, conn, err := w.handshake(conn, secure)
	if err == nil {
		err = w.options.admit(peer)
	}
	var l *link
	if err == nil {
		l, err = newNetLink(peer, true, newNetCarrier(conn, path), log)
	}
	if err != nil {
		log.Debug("connection refused", "from", conn.RemoteAddr(), "peer", peer, "err", err)
		_ = conn.Close()
		return
	}
	v.mu.Lock()
	v.link, l.visit = l, v
	v.mu.Unlock()
	w.mu.Lock()
	if w.links != nil {
		w.links[l] = struct{}{}
	} else {
		l.end(nil)
	}
	w.mu.Unlock()
	if w.options.prove {
		l.strange()
	} else {
		l.letIn()
	}
	l.run(func(s *stream) { w.deliver(s, l.ending) })
	w.mu.Lock()
	delete(w.links, l)
	w.mu.Unlock()
	log.Debug("connection closed", "peer", peer, "err", l.err)
}

func (w *wires) handshake(conn net.Conn, secure bool) (string, net.Conn, error) {
	if !secure {
		return "", conn, nil
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.options.patience)
	defer cancel()
	return secureServer(ctx, conn, w.options.Identity)
}

// A Wire is a connection to another process, made without a hub, over which
// streams are opened.
type Wire struct {
	link *link
	wg   sync.WaitGroup
}

// NewWire opens streams over conn, which it owns, to a process that serves the other end,
// see [ListenOn]. With o.Peers or o.Identity the two ends show each other their device keys.
func NewWire(ctx context.Context, conn net.Conn, o WireOptions) (*Wire, error) {
	return newWire(ctx, conn, "", o.Identity != nil || o.Peers != nil, o)
}

func newWire(ctx context.Context, conn net.Conn, path string, secure bool, o WireOptions) (*Wire, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	peer := ""
	if secure {
		ctx, cancel := context.WithTimeout(ctx, handshakeTime)
		defer cancel()
		if peer, conn, err = secureClient(ctx, conn, o.Identity, o.Peers); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	l, err := newNetLink(peer, false, newNetCarrier(conn, path), o.Logger)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	w := &Wire{link: l}
	w.wg.Go(func() { l.run(func(s *stream) { _ = s.Close() }) })
	return w, nil
}

// DialContext opens a stream; network and addr are ignored. Errors: why the
// connection was lost, [net.ErrClosed].
func (w *Wire) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	s, err := w.link.open(ctx, &w.wg)
	if err != nil {
		return nil, fmt.Errorf("peeradapter: dial: %w", err)
	}
	return s, nil
}

// Peer returns the verified peer id of the other end, "" if it has shown none.
func (w *Wire) Peer() string { return w.link.peer }

// Done is closed when the connection ends.
func (w *Wire) Done() <-chan struct{} { return w.link.ending }

// Close ends the connection, after what was written has been delivered or two
// seconds have passed, and returns when every goroutine has exited.
func (w *Wire) Close() error {
	w.link.end(nil)
	<-w.link.done
	w.wg.Wait()
	return nil
}

// ListenOn accepts the streams of one connection, which it owns, whose other end is a
// [Wire]. With o.Peers or o.Identity the two ends show each other their device keys.
// Accept fails when the connection has ended.
func ListenOn(conn net.Conn, o WireOptions) (net.Listener, error) {
	secure := o.Identity != nil || o.Peers != nil
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w := newWires(conn.LocalAddr(), o, func() {})
	v := w.arrive("", nil, func() { _ = conn.Close() })
	go func() {
		w.serve(v, conn, "", secure)
		_ = w.listener.Close()
	}()
	return w, nil
}

const acceptPause = 100 * time.Millisecond // after a failure to accept, as of too many open files

// pauseFor waits; false: ctx has ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
