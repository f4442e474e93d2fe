package peeradapter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func udpPair(t *testing.T) (*udpConn, *udpConn, netip.AddrPort) {
	t.Helper()
	var conns [2]*udpConn
	for i := range conns {
		c, err := (&network{}).ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		must(t, err)
		u, ok := c.(*udpConn)
		if !ok {
			t.Skip("this system has no UDP offload")
		}
		conns[i] = u
		t.Cleanup(func() { _ = c.Close() })
	}
	return conns[0], conns[1], conns[1].LocalAddr().(*net.UDPAddr).AddrPort()
}

// Packets of all sizes arrive as they were sent, in order, from where they were sent.
func TestTrains(t *testing.T) {
	a, b, to := udpPair(t)
	sizes := []int{1, 1200, 1200, 1200, 300, 1200, 1400, 1400, 20, 1200, 1200, 1199, 1201}
	const rounds = 50
	go func() {
		for i := range rounds * len(sizes) {
			_, _ = a.WriteToAddrPort(packet(i, sizes), to)
		}
	}()
	_ = b.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 2000)
	for i := range rounds * len(sizes) {
		n, from, err := b.ReadFromAddrPort(buf)
		must(t, err)
		if !bytes.Equal(buf[:n], packet(i, sizes)) || from.Port() != a.LocalAddr().(*net.UDPAddr).AddrPort().Port() {
			t.Fatalf("packet %d: %d bytes from %v", i, n, from)
		}
	}
}

func packet(i int, sizes []int) []byte {
	p := bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)])
	if len(p) >= 4 {
		binary.BigEndian.PutUint32(p, uint32(i))
	}
	return p
}

// Close always returns, whoever writes; what was written before is sent.
func TestUDPClose(t *testing.T) {
	for range 200 {
		a, b, to := udpPair(t)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for {
					if _, err := a.WriteToAddrPort(make([]byte, 1200), to); errors.Is(err, net.ErrClosed) {
						return
					}
				}
			})
		}
		_, _, err := b.ReadFromAddrPort(make([]byte, 2000))
		must(t, err)
		_ = a.Close()
		_ = a.Close()
		wg.Wait()
		_ = b.Close()
	}
}
