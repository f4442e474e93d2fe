package main

import (
	"runtime/debug"
	"testing"
)

var garbage []byte

// Garbage is given back to the system when little is going on, and only then.
func TestMemoryGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // so that there is some
	freed := 0
	free := func() { freed++; debug.FreeOSMemory() }
	look := func(h heap, want int, when string) heap {
		t.Helper()
		if h = h.look(free); freed != want {
			t.Errorf("%s: memory was given back %d times, not %d", when, freed, want)
		}
		return h
	}
	debug.FreeOSMemory()
	h := heap{}.look(func() {})
	for range 64 {
		garbage = make([]byte, 1<<20)
	}
	garbage = nil
	h = look(h, 0, "busy")
	h = look(h, 1, "at rest")
	look(h, 1, "with nothing to give back")
}
