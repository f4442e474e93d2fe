package peeradapter

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A target is a listener, and an attacker's connection to it, in which it says what it wants.
type target struct {
	listener net.Listener
	conn     net.Conn
	link     func() *link // the victim's end
}

// targets are all carriers.
func targets(tb testing.TB) map[string]func(testing.TB) target {
	ctx := tb.Context()
	// of is the target of a listener of wires.
	of := func(l net.Listener, conn net.Conn, err error) target {
		tb.Helper()
		must(tb, err)
		tb.Cleanup(func() { _ = conn.Close(); _ = l.Close() })
		w, ok := l.(*wires)
		if !ok {
			w = l.(*WebSocketListener).wires
		}
		return target{l, conn, func() (found *link) {
			waitFor(tb, func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				for found = range w.links {
				}
				return found != nil
			})
			return found
		}}
	}
	pair := func(pair func(testing.TB) (net.Conn, net.Conn)) func(testing.TB) target {
		return func(tb testing.TB) target {
			near, far := pair(tb)
			l, err := ListenOn(far, WireOptions{Logger: discard})
			return of(l, near, err)
		}
	}
	ws := func(tb testing.TB, protocol string) (net.Listener, net.Conn) {
		l, err := ListenWebSocket("127.0.0.1:0", WireOptions{Logger: discard})
		must(tb, err)
		var below net.Conn
		c, err := dialWS(ctx, "ws://"+l.Addr().String(), nil, &websocket.DialOptions{Subprotocols: []string{protocol}}, &below)
		must(tb, err)
		return l, NewMessageConn(newWSChannel(c, below))
	}
	return map[string]func(testing.TB) target{
		"webrtc": func(tb testing.TB) target {
			p := new(post)
			a, b := newTransport(tb, p, "a", Config{Logger: discard}), newTransport(tb, p, "b", Config{Logger: discard})
			l := listen(tb, b, "b")
			c := dial(tb, a, "b")
			_ = c.Close()
			if s, err := l.Accept(); err == nil {
				_ = s.Close()
			}
			return target{l, a.link("b").conn.(*dcCarrier).dcConn, func() *link { return b.link("a") }}
		},
		"tcp": func(tb testing.TB) target {
			l, err := ListenTCP("127.0.0.1:0", WireOptions{Logger: discard})
			must(tb, err)
			c, err := net.Dial("tcp", l.Addr().String())
			must(tb, err)
			_, secured, err := secureClient(ctx, c, identity(tb), nil)
			return of(l, secured, err)
		},
		"websocket": func(tb testing.TB) target {
			l, c := ws(tb, protocolPlain)
			return of(l, c, nil)
		},
		"websocket with device keys": func(tb testing.TB) target {
			l, c := ws(tb, protocolSecure)
			_, secured, err := secureClient(ctx, c, identity(tb), nil)
			return of(l, secured, err)
		},
		"relay": func(tb testing.TB) target {
			a, b := MessagePipe()
			x, y, errX, errY := noisePair(tb, a, b)
			must(tb, errors.Join(errX, errY))
			l, err := ListenOn(y, WireOptions{Logger: discard})
			return of(l, x, err)
		},
		"messages": pair(messagePair),
		"pipes":    pair(pipePair),
		"net.Pipe": pair(func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() }),
	}
}

// eachTarget runs an attack on every carrier but those named, at the same time.
func eachTarget(t *testing.T, attack func(*testing.T, target), but ...string) {
	for name, make := range targets(t) {
		if slices.Contains(but, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, make(t))
		})
	}
}

const typeWindowUpdate = 1

// yamuxFrame is a frame's header.
func yamuxFrame(kind byte, flags uint16, stream, length uint32) []byte {
	f := []byte{0, kind}
	f = binary.BigEndian.AppendUint16(f, flags)
	f = binary.BigEndian.AppendUint32(f, stream)
	return binary.BigEndian.AppendUint32(f, length)
}

// ends waits until the victim has ended its link, and returns why.
func (g target) ends(t *testing.T, l *link) error {
	t.Helper()
	select {
	case <-l.ending:
		return l.err
	case <-time.After(time.Minute):
		t.Fatal("the connection goes on")
		return nil
	}
}

// A peer that opens streams without end gets so many, and the others are reset.
func TestStreamsWithoutEnd(t *testing.T) {
	eachTarget(t, func(t *testing.T, g target) {
		var mu sync.Mutex
		accepted := 0
		go func() {
			for {
				if _, err := g.listener.Accept(); err != nil {
					return
				}
				mu.Lock()
				accepted++
				mu.Unlock()
			}
		}()
		l := g.link()
		go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{g.conn}) }()
		_ = g.conn.SetWriteDeadline(time.Now().Add(time.Minute))
		const many = 1000
		for i := range uint32(many) {
			if _, err := g.conn.Write(yamuxFrame(typeWindowUpdate, flagSYN, 1001+2*i, 0)); err != nil {
				break // or the connection has ended, which is as good
			}
		}
		waitFor(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return accepted >= maxStreams || !l.alive()
		})
		if n := l.session.NumStreams(); n > maxStreams+backlog+1 {
			t.Errorf("%d streams", n)
		}
		mu.Lock()
		defer mu.Unlock()
		if accepted > maxStreams {
			t.Errorf("%d were accepted", accepted)
		}
	})
}

// goesOn says something every now and then until the victim has ended its link, so that
// it is not for silence that it ends.
func (g target) goesOn(t *testing.T, l *link, say []byte) error {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _ = g.conn.Write(say)
		select {
		case <-l.ending:
			return l.err
		case <-limit:
			t.Fatal("the connection goes on")
		case <-tick.C:
		}
	}
}

// A frame that is larger than the window ends the connection before it is read.
func TestHugeFrame(t *testing.T) {
	eachTarget(t, func(t *testing.T, g target) {
		accepted := make(chan struct{}, backlog)
		go func() {
			for {
				if _, err := g.listener.Accept(); err != nil {
					return
				}
				accepted <- struct{}{}
			}
		}()
		l := g.link()
		go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{g.conn}) }()
		_ = g.conn.SetWriteDeadline(time.Now().Add(time.Minute))
		_, err := g.conn.Write(yamuxFrame(typeWindowUpdate, flagSYN, 1001, 0))
		must(t, err)
		select { // the window is as large as it becomes
		case <-accepted:
		case <-time.After(time.Minute):
			t.Fatal("the stream is not accepted")
		}
		_, err = g.conn.Write(yamuxFrame(typeData, 0, 1001, 1<<31))
		must(t, err)
		_ = g.goesOn(t, l, make([]byte, 1024))
	})
}

// A peer that pings without end, or says nothing sensible, is disconnected.
func TestNonsense(t *testing.T) {
	garbage := make([]byte, 4096)
	_, _ = rand.Read(garbage)
	garbage[0] = 0xff // no version of yamux's
	another := yamuxFrame(typeWindowUpdate, 0, 1001, 0)
	another[0] = 1
	pings := make([]byte, 0, 2*maxPings*frameHeader)
	for i := range uint32(2 * maxPings) {
		pings = append(pings, yamuxFrame(typePing, flagSYN, 0, i)...)
	}
	for name, say := range map[string][]byte{
		"pings": pings, "garbage": garbage, "another version": another, "unknown frame": yamuxFrame(9, 0, 0, 0), "half a frame": garbage[1:5],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachTarget(t, func(t *testing.T, g target) {
				l := g.link()
				go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{g.conn}) }()
				_ = g.conn.SetWriteDeadline(time.Now().Add(time.Minute))
				if name == "half a frame" {
					_, _ = g.conn.Write(say)
					_ = g.conn.Close()
					_ = g.ends(t, l)
				} else if err := g.goesOn(t, l, say); name == "pings" && !errors.Is(err, ErrFlood) {
					t.Error(err)
				}
			})
		})
	}
}

// A message that is too long for a carrier of messages ends the connection.
func TestHugeMessage(t *testing.T) {
	for _, name := range []string{"websocket", "messages", "pipes"} {
		t.Run(name, func(t *testing.T) {
			g := targets(t)[name](t)
			l := g.link()
			_ = g.conn.(*messageConn).channel.Send(make([]byte, maxMessage+1))
			if err := g.ends(t, l); name != "pipes" && !errors.Is(err, ErrFlood) {
				t.Error(err)
			}
		})
	}
}

// What is written to a peer that does not read waits, without end to memory, and no
// longer than the connection: it can be closed at any time, and others are not held up.
func TestStalledReader(t *testing.T) {
	eachTarget(t, func(t *testing.T, g target) {
		ended := make(chan error, 1)
		go func() {
			c, err := g.listener.Accept()
			if err != nil {
				ended <- err
				return
			}
			for err == nil {
				_, err = c.Write(make([]byte, 64<<10))
			}
			ended <- err
		}()
		l := g.link()
		_ = g.conn.SetWriteDeadline(time.Now().Add(time.Minute))
		_, err := g.conn.Write(yamuxFrame(typeWindowUpdate, flagSYN, 1001, 1<<30)) // as large a window as it likes
		must(t, err)
		last, since := uint64(0), time.Now()
		waitFor(t, func() bool { // until nothing goes any more
			sent, _ := l.conn.traffic()
			if sent != last {
				last, since = sent, time.Now()
			}
			return time.Since(since) > 300*time.Millisecond
		})
		if last > 64<<20 {
			t.Errorf("%d bytes were taken from the writer", last)
		}
		start := time.Now()
		l.end(ErrPeerLost)
		<-l.done
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("it took %v to close", took)
		}
		if err := <-ended; err == nil {
			t.Error("the writer was told nothing")
		}
	}, "webrtc") // whose other end reads here; see TestWriterIsPaused
}

// impatient is a link that takes a peer for lost soon.
func impatient(tb testing.TB, c net.Conn) *link {
	tb.Helper()
	l, err := newNetLink("x", false, newNetCarrier(c, ""), discard)
	must(tb, err)
	l.keepAlive, l.silence = 20*time.Millisecond, 200*time.Millisecond
	go l.run(func(s *stream) { _ = s.Close() })
	tb.Cleanup(func() { l.end(nil); <-l.done })
	return l
}

// A peer that takes all and answers nothing is lost, however much is sent to it; one that answers is not.
func TestSilentPeer(t *testing.T) {
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){
		"net.Pipe": func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() },
		"messages": messagePair, "unix": socketPair,
	} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			l := impatient(t, near)
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{far})
			}()
			s, err := l.open(t.Context(), new(sync.WaitGroup))
			must(t, err)
			go func() {
				for err == nil { // as a feed's heartbeat
					_, err = s.Write([]byte("\n"))
					time.Sleep(10 * time.Millisecond)
				}
			}()
			if err := (target{}).ends(t, l); !errors.Is(err, ErrPeerLost) {
				t.Error(err)
			}
			_ = far.Close()
			<-drained
		})
	}
	near, far := messagePair(t)
	_ = listening(t)(ListenOn(far, WireOptions{Logger: discard}))
	l, err := newNetLink("x", false, newNetCarrier(near, ""), discard)
	must(t, err)
	l.keepAlive = time.Millisecond
	go l.run(func(s *stream) { _ = s.Close() })
	waitFor(t, func() bool { return l.pinged.Load() != 0 }) // it answers
	if !l.alive() {
		t.Errorf("a quiet peer is lost: %v", l.err)
	}
	l.end(nil)
	<-l.done
}
