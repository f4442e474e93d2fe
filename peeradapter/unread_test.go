package peeradapter

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// fill opens streams and sends so much in each, as far as the victim's window lets it, until all
// is sent or the connection ends. It returns how many bytes were taken.
func (g target) fill(first uint32, streams, each int, end uint16) (sent int) {
	body := make([]byte, each)
	_ = g.conn.SetWriteDeadline(time.Now().Add(time.Minute))
	for i := range streams {
		id := first + 2*uint32(i)
		frame := append(yamuxFrame(typeData, flagSYN, id, uint32(each)), body...)
		for len(frame) > 0 {
			n := min(len(frame), messageSize)
			if _, err := g.conn.Write(frame[:n]); err != nil {
				return sent
			}
			sent += n
			frame = frame[n:]
		}
		if end != 0 {
			_, _ = g.conn.Write(yamuxFrame(typeWindowUpdate, end, id, 0))
		}
	}
	return sent
}

const initialWindow = 256 << 10 // of yamux

// What a peer sends and nobody reads is bounded in all streams together, and by less
// until somebody has let it in.
func TestUnreadIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		limit   int
		strange bool
	}{"of a peer": {maxUnread, false}, "of a stranger": {maxUnproven, true}} {
		t.Run(name, func(t *testing.T) {
			eachTarget(t, func(t *testing.T, g target) {
				l := g.link()
				if tt.strange {
					l.welcome.Store(false)
					l.strange()
				}
				go acceptAll(g.listener, func(net.Conn) {})
				go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{g.conn}) }()
				sent := make(chan int, 1)
				go func() { sent <- g.fill(1001, maxStreams+backlog, initialWindow, 0) }()
				if err := g.ends(t, l); !errors.Is(err, ErrFlood) {
					t.Error(err)
				}
				_ = g.conn.Close()
				if n := <-sent; n < tt.limit/2 {
					t.Errorf("ended after %d bytes", n)
				}
			}, "webrtc") // its buffers hold more than one goroutine fills in a test's time
		})
	}
}

// Streams that nobody reads but closes leave nothing behind, whoever closes them first.
func TestUnreadOfClosedStreams(t *testing.T) {
	for name, end := range map[string]uint16{"closed": flagFIN, "reset": flagRST} {
		t.Run(name, func(t *testing.T) {
			eachTarget(t, func(t *testing.T, g target) {
				l := g.link()
				go acceptAll(g.listener, func(c net.Conn) { _ = c.Close() })
				go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{g.conn}) }()
				u := l.frames.unread
				for round := range uint32(4) {
					g.fill(1001+200*round, 50, initialWindow, end)
					waitFor(t, func() bool {
						u.mu.Lock()
						defer u.mu.Unlock()
						return u.total == 0 && (len(u.streams) == 0 || !l.alive())
					})
				}
				if !l.alive() {
					t.Error(l.err)
				}
			}, "webrtc")
		})
	}
}

func acceptAll(l net.Listener, each func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		each(c)
	}
}
