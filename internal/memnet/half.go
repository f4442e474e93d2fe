package memnet

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A half is one direction of a connection: a bounded queue of segments, each
// readable from its time on.
type half struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	segments []segment
	size     int
	stalled  bool
	latency  time.Duration
	readErr  error // what the reader sees when no segment is left
	writeErr error
}

type segment struct {
	ready time.Time
	data  []byte
}

func newHalf() *half { return &half{changed: make(chan struct{})} }

// update changes the half under its lock and wakes everybody who waits on it.
func (h *half) update(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	h.wake()
}

func (h *half) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *half) stall(on bool)              { h.update(func() { h.stalled = on }) }
func (h *half) setLatency(d time.Duration) { h.update(func() { h.latency = d }) }

// end makes the reader see readErr (after what is queued, unless it is dropped) and the writer writeErr.
func (h *half) end(readErr, writeErr error, drop bool) {
	h.update(func() {
		if drop {
			h.segments, h.size = nil, 0
		}
		if h.readErr == nil || drop {
			h.readErr = readErr
		}
		if h.writeErr == nil {
			h.writeErr = writeErr
		}
	})
}

func (h *half) read(p []byte, closed, deadline <-chan struct{}) (int, error) {
	for {
		if err := ended(closed, deadline); err != nil {
			return 0, err
		}
		h.mu.Lock()
		changed := h.changed
		n, delay, err := h.take(p)
		h.mu.Unlock()
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		wait(changed, closed, deadline, delay)
	}
}

// take copies the bytes that are readable now. Otherwise it tells when there
// will be some (0: unknown), or that there will be none.
func (h *half) take(p []byte) (n int, delay time.Duration, err error) {
	if len(h.segments) == 0 {
		if h.stalled && !errors.Is(h.readErr, ErrCut) {
			return 0, 0, nil // the news of the end does not arrive either
		}
		return 0, 0, h.readErr
	}
	if h.stalled {
		return 0, 0, nil
	}
	for n < len(p) && len(h.segments) > 0 {
		s := &h.segments[0]
		if delay = time.Until(s.ready); delay > 0 && n == 0 {
			return 0, delay, nil
		} else if delay > 0 {
			break
		}
		k := copy(p[n:], s.data)
		n, s.data = n+k, s.data[k:]
		if len(s.data) == 0 {
			h.segments = h.segments[1:]
		}
	}
	h.size -= n
	h.wake()
	return n, 0, nil
}

// write queues as much of p as fits, at least a byte.
func (h *half) write(p []byte, closed, deadline <-chan struct{}) (int, error) {
	for {
		if err := ended(closed, deadline); err != nil {
			return 0, err
		}
		h.mu.Lock()
		changed, err := h.changed, h.writeErr
		n := min(len(p), BufferSize-h.size)
		if err == nil && n > 0 {
			h.segments = append(h.segments, segment{time.Now().Add(h.latency), append([]byte(nil), p[:n]...)})
			h.size += n
			h.wake()
		}
		h.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		wait(changed, closed, deadline, 0)
	}
}

func ended(closed, deadline <-chan struct{}) error {
	switch {
	case isClosed(closed):
		return net.ErrClosed
	case isClosed(deadline):
		return os.ErrDeadlineExceeded
	}
	return nil
}

func wait(changed, closed, deadline <-chan struct{}, delay time.Duration) {
	var ready <-chan time.Time
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		ready = t.C
	}
	select {
	case <-changed:
	case <-closed:
	case <-deadline:
	case <-ready:
	}
}
