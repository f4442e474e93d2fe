package replicate

import (
	"sync"
	"time"
)

// A sizer chooses how many documents to ask for at a time, by the size of those that came before.
type sizer struct {
	mu      sync.Mutex
	max     int64 // bytes
	average float64
}

func (s *sizer) limit(bytes int64) { s.max = bytes }

// count returns how many of n documents to ask for: at least one.
func (s *sizer) count(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.average == 0 {
		return n
	}
	return max(1, min(n, int(float64(s.max)/s.average)))
}

// add notes that n documents took so many bytes.
func (s *sizer) add(n int, bytes int64) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := float64(bytes) / float64(n)
	if s.average == 0 {
		s.average = latest
	}
	s.average += (latest - s.average) / 4
}

// A pacer chooses how many changes are taken together: fewer while that takes
// long, so that a slow link shows progress, loses little to an interruption and gets checkpoints.
type pacer struct {
	max int

	mu  sync.Mutex
	now int // 0: max
}

const (
	slowBatch  = 4 * time.Second
	quickBatch = time.Second
	minBatch   = 16
)

func (p *pacer) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == 0 {
		return p.max
	}
	return p.now
}

// took notes how long a batch of n changes took.
func (p *pacer) took(n int, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == 0 {
		p.now = p.max
	}
	switch {
	case d > slowBatch:
		p.now = min(p.now, max(n/2, min(minBatch, p.max)))
	case d < quickBatch && n >= p.now:
		p.now = min(p.now*2, p.max)
	}
}
