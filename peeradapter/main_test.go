package peeradapter

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/loveseat-db/loveseat/share"
)

func TestMain(m *testing.M) {
	if self := os.Getenv(childEnv); self != "" {
		childMain(self)
		return
	}
	level := slog.LevelWarn
	if os.Getenv("LOVESEAT_DEBUG") != "" {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	goleak.VerifyTestMain(m)
}

var discard = slog.New(slog.DiscardHandler)

// A post is the mailboxes of all peers in a test.
type post struct {
	mu    sync.Mutex
	boxes map[string]map[*mailbox]func(share.Signal)
	// route decides what becomes of a signal: how often it is delivered, each time after a delay.
	route func(share.Signal) []time.Duration
	wg    sync.WaitGroup
}

type mailbox struct {
	*post
	self string
}

func (p *post) mailbox(self string) *mailbox { return &mailbox{p, self} }

func (m *mailbox) Send(ctx context.Context, s share.Signal) error {
	s.From = m.self
	m.mu.Lock()
	delays := []time.Duration{0}
	if m.route != nil {
		delays = m.route(s)
	}
	m.mu.Unlock()
	for _, d := range delays {
		if d == 0 {
			m.deliver(s)
		} else {
			m.wg.Add(1)
			time.AfterFunc(d, func() { defer m.wg.Done(); m.deliver(s) })
		}
	}
	return ctx.Err()
}

func (p *post) deliver(s share.Signal) {
	p.mu.Lock()
	var fns []func(share.Signal)
	for _, fn := range p.boxes[s.To] {
		fns = append(fns, fn)
	}
	p.mu.Unlock()
	for _, fn := range fns {
		fn(s)
	}
}

func (m *mailbox) Receive(ctx context.Context, fn func(share.Signal)) error {
	m.mu.Lock()
	if m.boxes == nil {
		m.boxes = make(map[string]map[*mailbox]func(share.Signal))
	}
	if m.boxes[m.self] == nil {
		m.boxes[m.self] = make(map[*mailbox]func(share.Signal))
	}
	m.boxes[m.self][m] = fn
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.boxes[m.self], m)
	return ctx.Err()
}

// newTransport makes a transport with the address self that lives until the test ends.
func newTransport(tb testing.TB, p *post, self string, c Config) *Transport {
	tb.Helper()
	t, err := New(c, p.mailbox(self))
	must(tb, err)
	tb.Cleanup(func() { _ = t.Close() })
	p.await(tb, self)
	return t
}

// await waits until somebody receives signals to self.
func (p *post) await(tb testing.TB, self string) {
	tb.Helper()
	waitFor(tb, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.boxes[self]) > 0
	})
}

func listen(tb testing.TB, t *Transport, self string) net.Listener {
	tb.Helper()
	l, err := t.Listen(tb.Context(), self)
	must(tb, err)
	tb.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(tb testing.TB, t *Transport, to string) net.Conn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	c, err := t.DialContext(ctx, "", to)
	must(tb, err)
	return c
}

// echo sends back what comes on every stream, until the listener is closed.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

func ping(c net.Conn) error {
	got := make([]byte, 4)
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != "ping" {
		return errors.New("got " + string(got))
	}
	return nil
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
