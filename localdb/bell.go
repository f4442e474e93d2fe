package localdb

import (
	"context"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// pollEvery is how often a database somebody waits on is looked at for the
// writes of other processes.
const pollEvery = 100 * time.Millisecond

// A bell wakes everybody who listens.
type bell struct {
	mu      sync.Mutex
	rung    chan struct{}
	waiting int  // feeds that wait
	polling bool // pollLoop runs
}

// listen returns a channel that the next ring closes.
func (b *bell) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung == nil {
		b.rung = make(chan struct{})
	}
	return b.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}

// wait returns when the bell has rung since listen, with nil, or when the
// context ends or the database is closed. A nil timeout never fires.
func (d *database) wait(ctx context.Context, rung <-chan struct{}, timeout <-chan time.Time) (timedOut bool, err error) {
	d.bell.mu.Lock()
	d.bell.waiting++
	if !d.bell.polling {
		select {
		case <-d.done: // close may be past waiting for goroutines
		default:
			d.bell.polling = true
			d.wg.Go(d.pollLoop)
		}
	}
	d.bell.mu.Unlock()
	defer func() {
		d.bell.mu.Lock()
		d.bell.waiting--
		d.bell.mu.Unlock()
	}()
	select {
	case <-rung:
		return false, nil
	case <-timeout:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-d.done:
		return false, d.translate(errClosed)
	}
}

// A glance is what the files of a database tell without being opened. Every
// commit of any process changes it, as far as the file system's clock is fine enough.
type glance struct {
	sizes  [2]int64 // of the file and its log
	latest time.Time
}

func (d *database) glance() (g glance) {
	for i, path := range []string{d.path, d.path + "-wal"} {
		info, err := os.Stat(path)
		if err != nil {
			g.sizes[i] = -1
			continue
		}
		g.sizes[i] = info.Size()
		if t := info.ModTime(); t.After(g.latest) {
			g.latest = t
		}
	}
	return g
}

// glanceTrust is how old the last change must be for an unchanged glance to be
// believed: two commits may carry the same time.
const glanceTrust = 5 * time.Second

// pollLoop publishes what other processes write, as long as somebody waits. It
// lets a database sleep whose files do not change.
func (d *database) pollLoop() {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last glance
	for {
		select {
		case <-d.done:
			return
		case <-tick.C:
		}
		d.bell.mu.Lock()
		if d.bell.waiting == 0 {
			d.bell.polling = false
			d.bell.mu.Unlock()
			return
		}
		d.bell.mu.Unlock()
		now := d.glance()
		if now == last && time.Since(now.latest) > glanceTrust && runtime.GOOS != "windows" { // it tells times of open files late
			continue
		}
		last = now
		err := d.peek(context.Background(), func(c *sqlite.Conn) error {
			n, err := readCounters(c, d.uuid)
			if err == nil {
				d.published(n.seq)
			}
			return err
		})
		if err != nil {
			d.bell.ring() // feeds meet the same error and report it
		}
	}
}
