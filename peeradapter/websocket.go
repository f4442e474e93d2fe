package peeradapter

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// The subprotocols of a WebSocket (RFC 6455 section 1.9), whose binary messages are
// a byte stream as [MessageChannel] says: yamux, or TLS with device keys and yamux in it.
const (
	protocolPlain  = "loveseat"
	protocolSecure = "loveseat.tls"
)

// A wsChannel is a WebSocket as a message channel.
type wsChannel struct {
	conn   *websocket.Conn
	below  net.Conn // the TCP connection, nil if it is not known
	ctx    context.Context
	cancel context.CancelFunc
	in     chan []byte

	once    sync.Once
	closing chan struct{}
	done    chan struct{} // closed when the reader has ended
	err     error         // why, if the other side is to blame
}

func newWSChannel(conn *websocket.Conn, below net.Conn) *wsChannel {
	c := &wsChannel{conn: conn, below: below, in: make(chan []byte), closing: make(chan struct{}), done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	conn.SetReadLimit(-1) // see read
	go c.run()
	return c
}

// run reads until the end. Once the channel is closing it only waits for the other side to close, too.
func (c *wsChannel) run() {
	defer close(c.done)
	defer close(c.in)
	buf := make([]byte, maxMessage+1)
	for {
		msg, err := c.read(buf)
		if err != nil {
			return
		}
		select {
		case c.in <- msg:
		case <-c.closing:
		}
	}
}

func (c *wsChannel) read(buf []byte) ([]byte, error) {
	kind, r, err := c.conn.Reader(c.ctx)
	if err != nil {
		return nil, err
	}
	n, err := io.ReadFull(r, buf)
	switch {
	case err == nil:
		c.err = errMessageTooLong
		return nil, c.err
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, err
	case kind != websocket.MessageBinary:
		c.err = fmt.Errorf("%w: a text", ErrFlood)
		return nil, c.err
	}
	return bytes.Clone(buf[:n:n]), nil
}

func (c *wsChannel) Send(msg []byte) error {
	return c.conn.Write(c.ctx, websocket.MessageBinary, msg)
}

func (c *wsChannel) Messages() <-chan []byte { return c.in }

// Err tells why Messages was closed, nil if that is no fault of the other side.
func (c *wsChannel) Err() error { return c.err }

func (c *wsChannel) NetConn() net.Conn { return c.below }

// Close waits for the other side to close, too, for a second at most.
func (c *wsChannel) Close() error {
	c.once.Do(func() {
		close(c.closing)
		limit := time.AfterFunc(time.Second, c.cancel)
		_ = c.conn.Close(websocket.StatusNormalClosure, "")
		limit.Stop()
		c.cancel()
		<-c.done
	})
	return nil
}

// A WebSocketListener accepts the streams of peers that connect by WebSocket. It is an
// [http.Handler], for a program that has an HTTP server already.
type WebSocketListener struct{ *wires }

// NewWebSocketListener returns a listener whose connections come by its ServeHTTP, with
// the URL's path and host of the caller's choice. Origins and peers are those of o; o.TLS is not used.
func NewWebSocketListener(o WireOptions) (*WebSocketListener, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &WebSocketListener{newWires(messageAddr{}, o, func() {})}, nil
}

// belowKey is the context key of the net.Conn that a request came over.
type belowKey struct{}

// ServeHTTP takes over a request for a WebSocket, and returns when it has ended.
// Others are answered with 4xx: 403 for a page of a foreign origin, 426 for what is no WebSocket.
func (l *WebSocketListener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A page of any origin can open a WebSocket, also to a name that it has made to
	// mean this machine: what says it has an origin is a browser, and not welcome unless named.
	if origins := r.Header["Origin"]; len(origins) > 0 && (len(origins) > 1 || !slices.Contains(l.options.Origins, strings.ToLower(origins[0]))) {
		http.Error(w, "Pages of this origin may not connect.", http.StatusForbidden)
		return
	}
	tcp, _ := r.Context().Value(belowKey{}).(net.Conn)
	v := l.visit(tcp)
	gated := v != nil
	if !gated { // it comes from another server than ours
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		r = r.WithContext(ctx)
		if v = l.arrive(r.RemoteAddr, nil, cancel); v == nil {
			http.Error(w, "This listener is closed.", http.StatusServiceUnavailable)
			return
		}
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{protocolSecure, protocolPlain}})
	if gated && err == nil {
		if v = l.take(tcp); v == nil { // it is closed
			_ = ws.CloseNow()
			return
		}
	}
	if err != nil { // answered
		if !gated {
			v.leave()
		}
		return
	}
	if ws.Subprotocol() == "" {
		_ = ws.Close(websocket.StatusPolicyViolation, "the subprotocol loveseat or loveseat.tls is missing")
		v.leave()
		return
	}
	conn := NewMessageConn(newWSChannel(ws, tcp))
	stop := context.AfterFunc(r.Context(), func() { _ = conn.Close() })
	defer stop()
	l.serve(v, conn, "websocket", ws.Subprotocol() == protocolSecure)
}

// ListenWebSocket accepts the streams of peers that [DialWebSocket] address ("host:port"),
// ws: or, with a certificate in o.TLS, wss:. Peers with a device key show it in a TLS
// 1.3 handshake inside of the WebSocket, whatever is outside.
func ListenWebSocket(address string, o WireOptions) (net.Listener, error) {
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	l, err := NewWebSocketListener(o)
	if err == nil {
		err = l.options.checkOpen(tcp.Addr())
	}
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	srv := &http.Server{
		Handler: l, ReadHeaderTimeout: l.options.patience, IdleTimeout: l.options.patience, MaxHeaderBytes: 16 << 10, ConnState: l.connState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, belowKey{}, c) },
		ErrorLog:    slogLogger(l.options.Logger),
	}
	l.addr = tcp.Addr()
	l.stop = func() { _ = srv.Close() }
	tcp = gate{tcp, l.wires}
	if o.TLS != nil {
		c := o.TLS.Clone()
		c.NextProtos = []string{"http/1.1"}
		tcp = tls.NewListener(tcp, c)
	}
	l.wg.Go(func() { _ = srv.Serve(tcp) })
	return l, nil
}

// DialWebSocket connects to a listener of [ListenWebSocket]: "ws://[PEER@]HOST:PORT/". With
// the id of the peer, there or in o.Peers, the two show each other their device keys, and
// what they say is encrypted from end to end. Without, the host must be on loopback or the URL wss:.
func DialWebSocket(ctx context.Context, address string, o WireOptions) (*Wire, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
		return nil, errNoURL
	}
	if peer := u.User.Username(); peer != "" {
		o.Peers = []string{peer}
	}
	u.User, u.Fragment = nil, ""
	protocol := protocolPlain
	if o.Peers != nil {
		protocol = protocolSecure
	}
	var below net.Conn
	ws, err := dialWS(ctx, u.String(), o.TLS, &websocket.DialOptions{Subprotocols: []string{protocol}}, &below)
	if err != nil {
		return nil, err
	}
	conn := NewMessageConn(newWSChannel(ws, below))
	switch {
	case ws.Subprotocol() != protocol:
		err = errors.New("peeradapter: what answers is no Loveseat")
	case o.Peers == nil && u.Scheme == "ws" && (below == nil || !onLoopback(below.RemoteAddr())):
		err = errWhom
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return newWire(ctx, conn, "websocket", o.Peers != nil, o)
}

var errNoURL = errors.New("peeradapter: not a URL like ws://HOST:PORT/, wss://HOST/ or tcp://PEER@HOST:PORT") // without it: it may hold a secret

// dialWS opens a WebSocket and tells the TCP connection below it.
func dialWS(ctx context.Context, url string, c *tls.Config, o *websocket.DialOptions, below *net.Conn) (*websocket.Conn, error) {
	tr := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: c, TLSHandshakeTimeout: handshakeTime,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: handshakeTime}).DialContext(ctx, network, addr)
			*below = conn
			return conn, err
		},
	}
	defer tr.CloseIdleConnections()
	o.HTTPClient = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, url, o) //nolint:bodyclose // the connection is the body
	if err != nil && resp != nil {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		err = &wsRefused{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return ws, err
}

// A wsRefused is an answer to the request for a WebSocket that is none.
type wsRefused struct {
	status int
	text   string
}

func (e *wsRefused) Error() string { return fmt.Sprintf("no WebSocket: %d %s", e.status, e.text) }
