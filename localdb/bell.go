package localdb

import (
	"context"
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

// pollLoop publishes what other processes write, as long as somebody waits.
func (d *database) pollLoop() {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
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
		err := d.view(context.Background(), func(c *sqlite.Conn) error {
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
