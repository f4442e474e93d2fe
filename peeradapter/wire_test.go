package peeradapter

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/loveseat-db/loveseat/share"
)

// A way is a transport: a listener, and a function that dials it.
type way struct {
	listen func(testing.TB) net.Listener
	dial   func(context.Context, net.Listener) (net.Conn, error)
}

// overWire makes a way of one connection over which the streams are opened.
func overWire(tb testing.TB, connect func(context.Context, net.Listener) (*Wire, error)) func(context.Context, net.Listener) (net.Conn, error) {
	var once sync.Once
	var w *Wire
	var err error
	return func(ctx context.Context, l net.Listener) (net.Conn, error) {
		once.Do(func() {
			if w, err = connect(ctx, l); err == nil {
				tb.Cleanup(func() { _ = w.Close() })
			}
		})
		if err != nil {
			return nil, err
		}
		return w.DialContext(ctx, "", "")
	}
}

func identity(tb testing.TB) *share.Identity {
	tb.Helper()
	id, err := share.NewIdentity()
	must(tb, err)
	return id
}

// ways are all transports. Each call makes them anew.
func ways(tb testing.TB) map[string]way {
	server, client := identity(tb), identity(tb)
	trusting := WireOptions{Identity: client, Peers: []string{server.ID()}}
	serving := WireOptions{Identity: server, Peers: []string{client.ID()}}
	var memory Memory
	// pair is the way over a pair of connections.
	pair := func(conns func(testing.TB) (net.Conn, net.Conn)) way {
		var near net.Conn
		return way{
			func(tb testing.TB) net.Listener {
				var far net.Conn
				near, far = conns(tb)
				return listening(tb)(ListenOn(far, WireOptions{}))
			},
			overWire(tb, func(ctx context.Context, _ net.Listener) (*Wire, error) { return NewWire(ctx, near, WireOptions{}) }),
		}
	}
	return map[string]way{
		"webrtc": func() way {
			p := new(post)
			a, b := newTransport(tb, p, "a", Config{}), newTransport(tb, p, "b", Config{})
			return way{
				func(tb testing.TB) net.Listener { return listen(tb, b, "b") },
				func(ctx context.Context, _ net.Listener) (net.Conn, error) { return a.DialContext(ctx, "", "b") },
			}
		}(),
		"tcp": {
			func(tb testing.TB) net.Listener { return listening(tb)(ListenTCP("127.0.0.1:0", serving)) },
			overWire(tb, func(ctx context.Context, l net.Listener) (*Wire, error) {
				return DialTCP(ctx, l.Addr().String(), trusting)
			}),
		},
		"websocket": {
			func(tb testing.TB) net.Listener { return listening(tb)(ListenWebSocket("127.0.0.1:0", WireOptions{})) },
			overWire(tb, func(ctx context.Context, l net.Listener) (*Wire, error) {
				return DialWebSocket(ctx, "ws://"+l.Addr().String(), WireOptions{})
			}),
		},
		"websocket with device keys": {
			func(tb testing.TB) net.Listener { return listening(tb)(ListenWebSocket("127.0.0.1:0", serving)) },
			overWire(tb, func(ctx context.Context, l net.Listener) (*Wire, error) {
				return DialWebSocket(ctx, "ws://"+l.Addr().String(), trusting)
			}),
		},
		"memory": {
			func(tb testing.TB) net.Listener { return listening(tb)(memory.Listen("m")) },
			func(ctx context.Context, _ net.Listener) (net.Conn, error) { return memory.DialContext(ctx, "", "m") },
		},
		"messages": pair(messagePair),
		"pipes":    pair(pipePair),
		"net.Pipe": pair(func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() }),
		"unix":     pair(socketPair),
	}
}

func messagePair(testing.TB) (net.Conn, net.Conn) {
	a, b := MessagePipe()
	return NewMessageConn(a), NewMessageConn(b)
}

// pipePair is connected by pipes, as a child process by its standard input and output.
func pipePair(tb testing.TB) (net.Conn, net.Conn) {
	ar, bw, err := os.Pipe()
	must(tb, err)
	br, aw, err := os.Pipe()
	must(tb, err)
	end := func(r, w *os.File) net.Conn {
		return NewMessageConn(MessageStream(r, w, func() error { return errors.Join(r.Close(), w.Close()) }))
	}
	return end(ar, aw), end(br, bw)
}

func socketPair(tb testing.TB) (net.Conn, net.Conn) {
	l, err := net.Listen("unix", filepath.Join(tb.TempDir(), "s"))
	must(tb, err)
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	must(tb, err)
	b, err := l.Accept()
	must(tb, err)
	return a, b
}

func listening(tb testing.TB) func(net.Listener, error) net.Listener {
	return func(l net.Listener, err error) net.Listener {
		tb.Helper()
		must(tb, err)
		tb.Cleanup(func() { _ = l.Close() })
		return l
	}
}

// Every transport is a listener and a dial function, whose connections pass for TCP's.
func TestWays(t *testing.T) {
	for name, w := range ways(t) {
		if name == "webrtc" { // TestStreamConn
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := w.listen(t)
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				accepted := make(chan net.Conn, 1)
				go func() {
					if c, err := l.Accept(); err == nil {
						accepted <- c
					}
				}()
				near, err := w.dial(ctx, l)
				if err != nil {
					return nil, nil, nil, err
				}
				select {
				case far := <-accepted:
					return near, far, func() { _ = near.Close(); _ = far.Close() }, nil
				case <-ctx.Done():
					return nil, nil, nil, ctx.Err()
				}
			})
		})
	}
}

// A connection over messages passes for TCP's, too, without streams in it.
func TestMessageConn(t *testing.T) {
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){"memory": messagePair, "pipes": pipePair} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				a, b := pair(t)
				return a, b, func() { _ = a.Close(); _ = b.Close() }, nil
			})
		})
	}
}

// What was written before the end arrives, on every transport, and the end is seen.
func TestWaysDeliver(t *testing.T) {
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	want := sha256.Sum256(data)
	for name, w := range ways(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := w.listen(t)
			got := make(chan [32]byte, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					close(got)
					return
				}
				h := sha256.New()
				if _, err := io.Copy(h, c); err != nil {
					t.Error(err)
				}
				_ = c.Close()
				got <- [32]byte(h.Sum(nil))
			}()
			c, err := w.dial(t.Context(), l)
			must(t, err)
			_, err = c.Write(data)
			must(t, err)
			must(t, c.Close())
			if <-got != want {
				t.Error("what arrived is different")
			}
		})
	}
}

// Who connects and says nothing, or is not let in, gives its place up; beyond the places there are none.
func TestWiresAreBounded(t *testing.T) {
	o := WireOptions{Logger: discard, MaxPeers: 2, patience: 200 * time.Millisecond}
	l := listening(t)(ListenTCP("127.0.0.1:0", o))
	go echo(l)
	var idle []net.Conn
	for range 5 {
		c, err := net.Dial("tcp", l.Addr().String())
		must(t, err)
		defer c.Close()
		idle = append(idle, c)
	}
	for _, c := range idle {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) {
			t.Fatal("a silent connection is kept")
		}
	}
	waitFor(t, func() bool { // the places are free again
		w, err := DialTCP(t.Context(), l.Addr().String(), WireOptions{Logger: discard})
		if err != nil {
			return false
		}
		defer w.Close()
		c, err := w.DialContext(t.Context(), "", "")
		return err == nil && ping(c) == nil
	})
	proving := listening(t)(ListenWebSocket("127.0.0.1:0", WireOptions{Logger: discard, prove: true, patience: 200 * time.Millisecond}))
	w, err := DialWebSocket(t.Context(), "ws://"+proving.Addr().String(), WireOptions{Logger: discard})
	must(t, err)
	defer w.Close()
	select {
	case <-w.Done():
	case <-time.After(time.Minute):
		t.Error("who shows no secret is kept")
	}
}
