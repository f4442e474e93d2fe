package peeradapter

import (
	"time"

	"github.com/pion/webrtc/v4"
)

// How much may be queued in a data channel, see waterMark.
const (
	maxWater    = 2 * receiveBuffer // what is in flight, and as much again
	minWater    = 128 << 10
	queueTime   = 25 * time.Millisecond
	measureTime = 50 * time.Millisecond
)

// A waterMark decides how much may be queued in a data channel: what it delivers in
// a round trip and queueTime. With less it would run dry; behind more, a small request
// would wait for longer beside a transfer. It belongs to the one who writes.
type waterMark struct {
	rtt   func() time.Duration
	since time.Time // when the measurement under way began
	acked uint64    // bytes that had been delivered then
	full  bool      // the writer has waited since
	high  uint64
}

func newWaterMark(dc *webrtc.DataChannel) waterMark {
	ice := dc.Transport().Transport().ICETransport()
	return waterMark{high: maxWater, rtt: func() time.Duration {
		pair, _ := ice.GetSelectedCandidatePairStats()
		return time.Duration(pair.CurrentRoundTripTime * float64(time.Second))
	}}
}

// reached reports whether the writer must wait: so many bytes are queued of those written.
func (w *waterMark) reached(written, queued uint64) bool {
	now, acked := time.Now(), written-queued
	if took := now.Sub(w.since); took >= measureTime {
		switch {
		case took > time.Second: // it was idle
			w.high = maxWater
		case w.full:
			rate := float64(acked-w.acked) / took.Seconds()
			w.high = min(maxWater, max(minWater, uint64(rate*(w.rtt()+queueTime).Seconds())))
		}
		w.since, w.acked, w.full = now, acked, false
	}
	if queued < w.high {
		return false
	}
	w.full = true
	return true
}
