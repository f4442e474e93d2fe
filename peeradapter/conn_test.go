package peeradapter

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pion/datachannel"
	"golang.org/x/net/nettest"
)

func TestDataChannelConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b, stop := rawPair(t, nil)
		return a, b, stop, nil
	})
}

func TestStreamConn(t *testing.T) {
	p := new(post)
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
	l := listen(t, b, "b")
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		c := dial(t, a, "b")
		s, err := l.Accept()
		return c, s, func() { _ = c.Close(); _ = s.Close() }, err
	})
}

// A deadline that pion fires late, after it was moved, must not end a later Read.
func TestStaleReadDeadline(t *testing.T) {
	a, b, stop := rawPair(t, nil)
	defer stop()
	for i := range 200 {
		must(t, a.SetReadDeadline(time.Now().Add(time.Duration(i%5)*100*time.Microsecond)))
		_, err := a.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("%v is no net.Error", err)
		}
		must(t, a.SetReadDeadline(time.Time{}))
		_, err = b.Write([]byte("x"))
		must(t, err)
		_, err = io.ReadFull(a, make([]byte, 1))
		must(t, err)
	}
}

// A lateChannel fires a deadline once after it was moved, as pion does now and then.
type lateChannel struct {
	datachannel.ReadWriteCloserDeadliner
	fired bool
}

func (c *lateChannel) Read(p []byte) (int, error) {
	if !c.fired {
		c.fired = true
		return 0, os.ErrDeadlineExceeded
	}
	return copy(p, "x"), nil
}

func (c *lateChannel) SetReadDeadline(time.Time) error { return nil }

func TestLateReadDeadline(t *testing.T) {
	c := &dcConn{channel: new(lateChannel), ended: make(chan struct{})}
	must(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
	if n, err := c.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// Close ends a Read that waits, on either kind of connection.
func TestCloseEndsRead(t *testing.T) {
	a, _, stop := rawPair(t, nil)
	defer stop()
	p := new(post)
	x, y := newTransport(t, p, "x", Config{}), newTransport(t, p, "y", Config{})
	listen(t, y, "y")
	for _, c := range []net.Conn{a, dial(t, x, "y")} {
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		time.Sleep(10 * time.Millisecond) // so that it most likely waits
		must(t, c.Close())
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%T: still reading", c)
		}
	}
}

// The writer waits when much is queued, instead of queueing all of it.
func TestWriterIsPaused(t *testing.T) {
	a, _, stop := rawPair(t, nil)
	defer stop()
	must(t, a.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
	n, err := a.Write(make([]byte, 64<<20)) // nobody reads
	if !errors.Is(err, os.ErrDeadlineExceeded) || n > receiveBuffer+maxWater+messageSize {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	if q := a.buffered(); q > maxWater+messageSize {
		t.Errorf("%d bytes are queued", q)
	}
}

func TestMessageTooLong(t *testing.T) {
	a, b, stop := rawPair(t, nil)
	defer stop()
	_, err := a.channel.Write(make([]byte, readSize+1))
	if err != nil {
		t.Skip("the sender refuses it already:", err)
	}
	if _, err := b.Read(make([]byte, 10)); !errors.Is(err, errMessageTooLong) {
		t.Errorf("read: %v", err)
	}
}

func TestTransferBothWays(t *testing.T) {
	p := new(post)
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
	l := listen(t, b, "b")
	c := dial(t, a, "b")
	s, err := l.Accept()
	must(t, err)
	data := make([]byte, 6<<20)
	_, _ = rand.Read(data)
	want := sha256.Sum256(data)
	var wg sync.WaitGroup
	for _, end := range []net.Conn{c, s} {
		wg.Go(func() {
			if _, err := end.Write(data); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			got := sha256.New()
			if _, err := io.CopyN(got, end, int64(len(data))); err != nil {
				t.Error(err)
			}
			if [32]byte(got.Sum(nil)) != want {
				t.Error("what arrived is different")
			}
		})
	}
	wg.Wait()
}

// A stream that nobody reads must not hold up another.
func TestSlowReader(t *testing.T) {
	p := new(post)
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
	l := listen(t, b, "b")
	stuck := dial(t, a, "b")
	_, err := l.Accept() // and never read
	must(t, err)
	go func() { _, _ = stuck.Write(make([]byte, 64<<20)) }()
	go echo(l)
	for range 20 {
		c := dial(t, a, "b")
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		must(t, ping(c))
		_ = c.Close()
	}
	_ = stuck.Close()
}

// A context bounds the dial only: who cancels it right afterwards keeps the stream.
func TestStreamOutlivesDial(t *testing.T) {
	p := new(post)
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
	go echo(listen(t, b, "b"))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				c, err := a.DialContext(ctx, "", "b")
				cancel()
				if err == nil {
					err = errors.Join(ping(c), c.Close())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestCloseDelivers(t *testing.T) {
	p := new(post)
	a, b := newTransport(t, p, "a", Config{}), newTransport(t, p, "b", Config{})
	l := listen(t, b, "b")
	c := dial(t, a, "b")
	const size = 256 << 10
	_, err := c.Write(make([]byte, size))
	must(t, err)
	s, err := l.Accept()
	must(t, err)
	must(t, c.Close())
	must(t, a.Close())
	if n, err := io.CopyN(io.Discard, s, size); n != size {
		t.Errorf("%d bytes arrived, %v", n, err)
	}
}
