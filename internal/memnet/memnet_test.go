package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := Pipe()
		return a, b, func() { _ = a.Close(); _ = b.Close() }, nil
	})
}

func TestConnOverNetwork(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		var n Network
		a, b := connect(t, &n, "x")
		return a, b, func() { _ = a.Close(); _ = b.Close() }, nil
	})
}

// connect returns the dialled and the accepted end of a new connection.
func connect(t *testing.T, n *Network, addr string) (*Conn, *Conn) {
	t.Helper()
	l, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	c, err := n.DialContext(t.Context(), "", addr)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Conn), (<-accepted).(*Conn)
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		n.SetLatency(50 * time.Millisecond)
		a, b := connect(t, &n, "x")
		start := time.Now()
		mustWrite(t, a, "ping")
		mustRead(t, b, "ping")
		mustWrite(t, b, "pong")
		mustRead(t, a, "pong")
		if rtt := time.Since(start); rtt != 100*time.Millisecond {
			t.Errorf("round trip took %v", rtt)
		}
	})
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		a, b := connect(t, &n, "x")
		n.Stall("x", true)
		mustWrite(t, a, "late")
		_ = b.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a stalled connection delivered: %v", err)
		}
		_ = b.SetReadDeadline(time.Time{})
		go n.Stall("x", false)
		mustRead(t, b, "late")

		n.Stall("x", true)
		_ = a.SetWriteDeadline(time.Now().Add(time.Hour))
		if k, err := a.Write(make([]byte, BufferSize+1)); k != BufferSize || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("wrote %d, %v", k, err)
		}
	})
}

func TestCut(t *testing.T) {
	var n Network
	a, b := connect(t, &n, "x")
	mustWrite(t, a, "lost")
	n.Cut("x")
	for _, c := range []*Conn{a, b} {
		if _, err := c.Read(make([]byte, 9)); !errors.Is(err, ErrCut) {
			t.Errorf("read: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, ErrCut) {
			t.Errorf("write: %v", err)
		}
	}
}

func TestCloseDrains(t *testing.T) {
	a, b := Pipe()
	mustWrite(t, a, "last words")
	_ = a.Close()
	if all, err := io.ReadAll(b); string(all) != "last words" || err != nil {
		t.Errorf("%q, %v", all, err)
	}
	if _, err := b.Write([]byte("x")); err == nil {
		t.Error("wrote to a closed end")
	}
}

func TestListener(t *testing.T) {
	var n Network
	if _, err := n.DialContext(t.Context(), "", "x"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialled nobody: %v", err)
	}
	l, _ := n.Listen("x")
	if _, err := n.Listen("x"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listened twice: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.DialContext(ctx, "", "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled dial: %v", err)
	}
	_ = l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if _, err := n.Listen("x"); err != nil {
		t.Errorf("the name is not free again: %v", err)
	}
	if len(n.conns) != 0 {
		t.Errorf("%d connections are left", len(n.conns))
	}
}

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.Copy(c, strings.NewReader(s)); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v", got, err)
	}
}
