package replicate

import (
	"math"
	"time"
)

// A meter tells at which rate a count has grown lately: a moment counts half as
// much after meterHalf.
type meter struct {
	at   time.Time // when it was last read; set before the first time
	was  int64
	rate float64 // per second
	used bool
}

const (
	meterHalf = 2 * time.Second
	meterStep = 200 * time.Millisecond // a rate over less than this says little
)

func (m *meter) read(now time.Time, count int64) float64 {
	d := now.Sub(m.at)
	if d < meterStep && m.used {
		return m.rate
	}
	latest := float64(count-m.was) / max(d.Seconds(), 1e-3)
	if d < meterStep {
		return latest // at the very beginning, better than nothing
	}
	keep := math.Exp2(-d.Seconds() / meterHalf.Seconds())
	if !m.used {
		keep = 0
	}
	m.at, m.was, m.rate, m.used = now, count, keep*m.rate+(1-keep)*latest, true
	return m.rate
}

// eta is how long pending things take at a rate per second, -1 if that is not known.
func eta(pending int64, rate float64) time.Duration {
	switch {
	case pending == 0:
		return 0
	case pending < 0 || rate < 1e-3:
		return -1
	}
	return time.Duration(min(float64(pending)/rate, 1e9) * float64(time.Second))
}
