package evil

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RSS is the memory that a process has in use now, and at most since it began; 0 if it cannot be told.
func RSS(pid int) (now, peak int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		for name, to := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &peak} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				*to = kb << 10
			}
		}
	}
	return now, peak
}

// cpu is the processor time that a process has used.
func cpu(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100 // of USER_HZ
}

// A gauge follows the memory of a process.
type gauge struct {
	pid   int
	least int64
	most  int64
	stop  chan struct{}
	done  sync.WaitGroup
}

func watch(pid int) *gauge {
	g := &gauge{pid: pid, stop: make(chan struct{})}
	g.least, _ = RSS(pid)
	g.done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			now, _ := RSS(pid)
			g.most = max(g.most, now)
			select {
			case <-g.stop:
				return
			case <-tick.C:
			}
		}
	})
	return g
}

// end returns by how much the memory grew at most.
func (g *gauge) end() int64 {
	close(g.stop)
	g.done.Wait()
	return max(0, g.most-g.least)
}

// within is nil if a process grew by no more than it may.
func (t *Target) within(what string, grew, may int64) error {
	if t.Alone && grew > may {
		return fmt.Errorf("%s took %d MiB, may take %d", what, grew>>20, may>>20)
	}
	return nil
}

// room is by how much the hub may grow: --limit-memory and a quarter, and what the collector has not taken yet.
func (t *Target) room() int64 { return t.Memory + t.Memory/4 + 64<<20 }

// rests is nil when a process soon has nothing to do any more: within a second and a half a fifth of a second goes
// by in which it uses less than half a core.
func (t *Target) rests(ctx context.Context, pid int) error {
	if !t.Alone {
		return nil
	}
	const window = 200 * time.Millisecond
	began, at := time.Now(), cpu(pid)
	for time.Since(began) < Prompt {
		before := cpu(pid)
		if !pause(ctx, window) {
			return ctx.Err()
		}
		if cpu(pid)-before < window/2 {
			return nil
		}
	}
	return fmt.Errorf("it has burned %v of processor time in the %v after the client left, and goes on", cpu(pid)-at, Prompt)
}

// pause waits, since there is nothing to wait for but that nothing happens.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// size is the number of bytes in a directory.
func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
