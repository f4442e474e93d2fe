package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// tuneMemory trades memory for speed, unless the environment says how: a replication has little alive and makes much
// garbage, so collecting it less often saves a tenth to a sixth of the time for some 30 MiB. The limit keeps a large heap as small as ever.
func tuneMemory(getenv func(string) string) {
	if getenv("GOGC") == "" && getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(250)
		debug.SetMemoryLimit(256 << 20)
		go func() {
			for h := (heap{}); ; h = h.look(debug.FreeOSMemory) {
				time.Sleep(restTime)
			}
		}()
	}
}

const (
	restTime    = 15 * time.Second
	restAllocs  = 16 << 20 // bytes in restTime: who makes less garbage is at rest
	restGarbage = 8 << 20  // so much is not worth collecting
)

// A heap is what was seen of the process's memory: all that was allocated since its start.
type heap struct{ allocated uint64 }

// look calls free if little is going on and a third of the memory is garbage: a process that keeps 200 idle
// peers makes so little of it that it would wait for an hour's worth, and a busy one collects by itself.
func (h heap) look(free func()) heap {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	now, live, objects := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()
	if now-h.allocated < restAllocs && objects > live+max(live/3, restGarbage) {
		free()
	}
	return heap{now}
}
