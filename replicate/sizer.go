package replicate

import "sync"

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
