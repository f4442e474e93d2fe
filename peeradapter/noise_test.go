package peeradapter

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

func sealingKey(tb testing.TB) *ecdh.PrivateKey {
	tb.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	must(tb, err)
	return key
}

var testName = relayName{"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "a.1", "b.2"}

// noisePair makes an encrypted connection over what lies between a and b.
func noisePair(tb testing.TB, a, b MessageChannel) (x, y net.Conn, errX, errY error) {
	tb.Helper()
	ka, kb := sealingKey(tb), sealingKey(tb)
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		y, errY = noiseConn(ctx, b, noiseConfig(testName, false, kb, ka.PublicKey(), nil))
	}()
	x, errX = noiseConn(ctx, a, noiseConfig(testName, true, ka, kb.PublicKey(), nil))
	<-done
	return x, y, errX, errY
}

func TestNoiseConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := MessagePipe()
		x, y, errX, errY := noisePair(t, a, b)
		return x, y, func() { _ = x.Close(); _ = y.Close() }, errors.Join(errX, errY)
	})
}

// A wire is a channel whose messages somebody on the way may change, drop, repeat and read.
type tapped struct {
	MessageChannel
	tap  func(n int, msg []byte) [][]byte // what becomes of the n-th message
	sent int
	seen bytes.Buffer
}

func (c *tapped) Send(msg []byte) error {
	c.sent++
	for _, m := range c.tap(c.sent-1, bytes.Clone(msg)) {
		c.seen.Write(m)
		if err := c.MessageChannel.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// Who relays can neither read nor change what is said, nor end it in order.
func TestNoiseTampering(t *testing.T) {
	pass := func(msg []byte) [][]byte { return [][]byte{msg} }
	var held []byte
	for name, tap := range map[string]func(int, []byte) [][]byte{
		"a bit": func(n int, msg []byte) [][]byte {
			if n == 2 {
				msg[3] ^= 1
			}
			return pass(msg)
		},
		"dropped": func(n int, msg []byte) [][]byte {
			if n == 2 {
				return nil
			}
			return pass(msg)
		},
		"repeated": func(n int, msg []byte) [][]byte {
			if n == 2 {
				return [][]byte{msg, bytes.Clone(msg)}
			}
			return pass(msg)
		},
		"swapped": func(n int, msg []byte) [][]byte {
			switch n {
			case 2:
				held = msg
				return nil
			case 3:
				return [][]byte{msg, held}
			}
			return pass(msg)
		},
		"cut short": func(n int, msg []byte) [][]byte {
			if n == 2 {
				msg = msg[:20]
			}
			return pass(msg)
		},
		"ended": func(n int, msg []byte) [][]byte {
			if n == 2 {
				return [][]byte{{}}
			}
			return pass(msg)
		},
		"too long": func(n int, msg []byte) [][]byte {
			if n == 2 {
				msg = make([]byte, maxMessage+1)
			}
			return pass(msg)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := MessagePipe()
			x, y, errX, errY := noisePair(t, &tapped{MessageChannel: a, tap: tap}, b)
			must(t, errors.Join(errX, errY))
			defer x.Close()
			defer y.Close()
			go func() {
				for range 4 {
					_, _ = x.Write([]byte("a secret of some length"))
				}
				_ = x.(*messageConn).CloseWrite()
			}()
			_ = y.SetReadDeadline(time.Now().Add(time.Minute))
			got, err := io.ReadAll(y)
			if !errors.Is(err, errTampered) && !errors.Is(err, ErrFlood) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// The handshake fails with another key, name or role, and when it is changed.
func TestNoiseHandshake(t *testing.T) {
	ka, kb, ke := sealingKey(t), sealingKey(t), sealingKey(t)
	for name, c := range map[string]struct {
		own   *ecdh.PrivateKey
		other *ecdh.PublicKey
		name  relayName
		ok    bool
	}{
		"good":              {kb, ka.PublicKey(), testName, true},
		"another initiator": {kb, ke.PublicKey(), testName, false},
		"another responder": {ke, ka.PublicKey(), testName, false},
		"another session":   {kb, ka.PublicKey(), relayName{"XBCDEFGHIJKLMNOPQRSTUVWXYZ", "a.1", "b.2"}, false},
		"another address":   {kb, ka.PublicKey(), relayName{testName.session, "a.1", "b.3"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := MessagePipe()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done := make(chan error, 1)
			go func() {
				y, err := noiseConn(ctx, b, noiseConfig(c.name, false, c.own, c.other, nil))
				if err == nil {
					defer y.Close()
				}
				done <- err
			}()
			x, err := noiseConn(ctx, a, noiseConfig(testName, true, ka, kb.PublicKey(), nil))
			if err == nil {
				defer x.Close()
			}
			if errY := <-done; (err == nil) != c.ok || (errY == nil) != c.ok || !c.ok && !errors.Is(errY, errTampered) {
				t.Errorf("%v, %v", err, errY)
			}
		})
	}
}

// What goes over the wire shows nothing of what is said.
func TestNoiseIsSecret(t *testing.T) {
	a, b := MessagePipe()
	wire := &tapped{MessageChannel: a, tap: func(_ int, msg []byte) [][]byte { return [][]byte{msg} }}
	x, y, errX, errY := noisePair(t, wire, b)
	must(t, errors.Join(errX, errY))
	defer y.Close()
	go func() {
		_, _ = x.Write(bytes.Repeat([]byte("a secret "), 10_000))
		_ = x.Close()
	}()
	got, err := io.ReadAll(y)
	must(t, err)
	if len(got) != 90_000 || bytes.Contains(wire.seen.Bytes(), []byte("secret")) || wire.seen.Len() < 90_000 {
		t.Errorf("%d bytes arrived, %d were sent", len(got), wire.seen.Len())
	}
}
