// Package sharer is a sharer whose wire does what Loveseat's own never would: it publishes
// a share as any other, and answers those who open it with bytes of the test's own.
package sharer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/share"
)

// A Handler answers one request by writing to w whatever it likes. The connection is closed when it returns false.
type Handler func(w io.Writer, r *http.Request) bool

// Share joins a hub through the transport that config makes, and shares db. What openers ask is answered by h.
// The share ends when the peer, which it returns too, is closed.
func Share(ctx context.Context, hub, db *kivik.DB, config share.Config, h Handler) (*share.Peer, *share.Share, error) {
	honest := config.NewTransport
	config.NewTransport = func(s share.Signaler) (share.Transport, error) {
		t, err := honest(s)
		return &transport{t, h}, err
	}
	p, err := share.Join(ctx, hub, config)
	if err != nil {
		return nil, nil, err
	}
	s, err := p.Share(ctx, db, share.ShareOptions{})
	if err != nil {
		_ = p.Close()
		return nil, nil, err
	}
	return p, s, nil
}

// Answer makes a whole answer of a head without its length, such as "200 OK\nContent-Type: text/html", and a body.
func Answer(head, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", strings.ReplaceAll(head, "\n", "\r\n"), len(body), body)
}

// Database is the answer to who asks for the database, as openers do first.
var Database = Answer("200 OK\nContent-Type: application/json", `{"db_name":"notes","uuid":"evil","doc_count":0,"update_seq":"0","instance_start_time":"0"}`)

type transport struct {
	share.Transport
	handle Handler
}

// Listen implements [share.Transport].
func (t *transport) Listen(ctx context.Context, self string) (net.Listener, error) {
	l, err := t.Transport.Listen(ctx, self)
	if err != nil {
		return nil, err
	}
	return &listener{Listener: l, handle: t.handle}, nil
}

// A listener answers what it accepts itself.
type listener struct {
	net.Listener
	handle Handler
	tasks  sync.WaitGroup
}

// Close implements [net.Listener]. The connections end with it.
func (l *listener) Close() error {
	err := l.Listener.Close()
	l.tasks.Wait()
	return err
}

// Accept implements [net.Listener]; it returns at the end only.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.tasks.Go(func() { l.serve(c) })
	}
}

func (l *listener) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if !l.handle(c, q) {
			return
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return
		}
	}
}
