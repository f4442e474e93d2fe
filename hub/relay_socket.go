package hub

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// A relaySocket is one side of a session.
type relaySocket struct {
	ws     *websocket.Conn
	conn   net.Conn // below it, for a peer that does not answer
	client *relayClient
}

// A hijacker tells which connection a request was taken over with.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = c
	return c, rw, err
}

// join is GET /{db}/_relay?ticket=…: the WebSocket of one side. It returns when
// the session has ended.
func (r *relays) join(w http.ResponseWriter, req *http.Request) {
	if !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
		notUpgrade(w)
		return
	}
	t := r.take(req.URL.Query().Get("ticket"))
	if t == nil {
		refuse(w, req, errTicket)
		return
	}
	defer r.running.Done()
	// Pages of any origin: who has no business here has no ticket.
	h := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(h, req, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err == nil {
		ws.SetReadLimit(-1) // see read
		stop := context.AfterFunc(t.session.ctx, func() { _ = h.conn.Close() })
		r.serve(t, &relaySocket{ws, h.conn, t.client})
		stop()
		_ = h.conn.Close()
		_ = ws.CloseNow()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.session.open--
	r.release(t)
}

// serve waits for the other side and passes on what this one sends.
func (r *relays) serve(t *relayTicket, here *relaySocket) {
	s := t.session
	defer s.cancel() // one side's end is the other's
	r.mu.Lock()
	s.sockets = append(s.sockets, here)
	if len(s.sockets) == 2 {
		s.idle = time.AfterFunc(r.c.idle(), s.cancel)
		close(s.joined)
	}
	r.mu.Unlock()
	wait := time.NewTimer(relayWait)
	defer wait.Stop()
	select {
	case <-s.joined:
		there := s.sockets[0]
		if there == here {
			there = s.sockets[1]
		}
		r.pass(s, here, there)
		s.idle.Stop()
	case <-wait.C:
		here.close(s, websocket.StatusTryAgainLater, "the other side did not come")
	case <-s.ctx.Done():
	}
}

// pass copies messages from one socket to the other until one of them ends, and
// then closes the other in order: what was sent to it arrives.
func (r *relays) pass(s *relaySession, from, to *relaySocket) {
	buf := make([]byte, relayMessage)
	for {
		n, err := from.read(s.ctx, buf)
		if err == nil {
			err = from.pay(s.ctx, n)
		}
		if err == nil {
			r.bytes.Add(int64(n)) // before it arrives: who has it finds it counted
			err = to.ws.Write(s.ctx, websocket.MessageBinary, buf[:n])
		}
		if err != nil {
			break
		}
		s.idle.Reset(r.c.idle())
	}
	to.close(s, websocket.StatusNormalClosure, "")
}

// close closes a socket in order, or after a second without.
func (s *relaySocket) close(of *relaySession, code websocket.StatusCode, reason string) {
	late := time.AfterFunc(time.Second, of.cancel)
	defer late.Stop()
	_ = s.ws.Close(code, reason)
}

var errRelayMessage = errors.New("not a binary message of at most 64 KiB")

// read reads one message into buf.
func (s *relaySocket) read(ctx context.Context, buf []byte) (int, error) {
	kind, r, err := s.ws.Reader(ctx)
	if err != nil {
		return 0, err
	}
	if kind != websocket.MessageBinary {
		return 0, errRelayMessage
	}
	n, err := io.ReadFull(r, buf)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return n, nil
	case err != nil:
		return 0, err
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return 0, errRelayMessage
	}
	return n, nil
}

// pay waits until the client may send n bytes more.
func (s *relaySocket) pay(ctx context.Context, n int) error {
	if s.client == nil || n == 0 {
		return nil
	}
	return s.client.bytes.WaitN(ctx, n)
}
