package peeradapter

import (
	"io"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

// rawPair connects two data channels within the process, without signaling.
func rawPair(tb testing.TB, change func(*Config)) (a, b *dcConn, stop func()) {
	tb.Helper()
	c := Config{Logger: slog.Default()}
	if change != nil {
		change(&c)
	}
	var pcs [2]*webrtc.PeerConnection
	for i := range pcs {
		e, err := newEngine(&c)
		must(tb, err)
		pcs[i], err = e.newPeerConnection(nil, false)
		must(tb, err)
	}
	conns := [2]chan *dcConn{make(chan *dcConn, 1), make(chan *dcConn, 1)}
	open := func(i int, dc *webrtc.DataChannel) {
		dc.OnOpen(func() {
			c, err := newDCConn(dc, peerAddr("x"), peerAddr("y"))
			if err != nil {
				tb.Error(err)
			}
			conns[i] <- c
		})
	}
	dc, err := pcs[0].CreateDataChannel(channelLabel, nil)
	must(tb, err)
	open(0, dc)
	pcs[1].OnDataChannel(func(dc *webrtc.DataChannel) { open(1, dc) })
	describe(tb, pcs[0], pcs[1], pcs[0].CreateOffer)
	describe(tb, pcs[1], pcs[0], func(*webrtc.OfferOptions) (webrtc.SessionDescription, error) {
		return pcs[1].CreateAnswer(nil)
	})
	a, b = <-conns[0], <-conns[1]
	return a, b, func() {
		_ = a.Close()
		_ = b.Close()
		_ = pcs[0].GracefulClose()
		_ = pcs[1].GracefulClose()
	}
}

// describe gives to the description that from makes, with all its candidates.
func describe(tb testing.TB, from, to *webrtc.PeerConnection, make func(*webrtc.OfferOptions) (webrtc.SessionDescription, error)) {
	tb.Helper()
	d, err := make(nil)
	must(tb, err)
	done := webrtc.GatheringCompletePromise(from)
	must(tb, from.SetLocalDescription(d))
	<-done
	must(tb, to.SetRemoteDescription(*from.LocalDescription()))
}

// BenchmarkRawDataChannel is the ceiling: one pion data channel within a
// process, without multiplexing and HTTP. MB/s are those of one direction.
func BenchmarkRawDataChannel(b *testing.B) {
	x, y, stop := rawPair(b, nil)
	defer stop()
	const chunk = 256 << 10
	b.SetBytes(chunk)
	b.ReportAllocs()
	go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{x}) }() // the open ACK
	cpu := cpuTime()
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, chunk)
		for range b.N {
			if _, err := x.Write(buf); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	_, err := io.CopyN(io.Discard, struct{ io.Reader }{y}, int64(b.N)*chunk)
	must(b, err)
	must(b, <-done)
	b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/float64(b.N*chunk/1024), "cpu-us/KB")
}

// cpuTime is what this process has used, which other processes disturb less than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
