package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/e2e/signed"
)

const (
	feedWrites = 5
	quiet      = 5 * time.Second
)

// waiting has thousands of clients wait for changes and measures how soon a write reaches them.
func (b *bench) waiting(ctx context.Context) error {
	if have, err := raiseFiles(); err != nil || have < b.feeds+200 {
		return fmt.Errorf("%d feeds need as many open files, and this process may have %d (ulimit -n): %w", b.feeds, have, err)
	}
	hub, err := b.startHub(ctx, "feeds")
	if err != nil {
		return err
	}
	defer hub.stop()
	if _, err := once(hub.addr, request("PUT", "/db", "", basic)); err != nil {
		return err
	}
	p, err := signed.New()
	if err != nil {
		return err
	}
	if err := b.audience(ctx, hub, "shares of a hub database", "/hub", nil, func(n int) ([]byte, error) {
		id, body, err := p.Share(n)
		return request("PUT", "/hub/"+id, string(body), p.Proof("http://"+hub.addr, "hub", "PUT")), err
	}); err != nil {
		return err
	}
	return b.audience(ctx, hub, "documents of a database", "/db", []string{basic}, func(n int) ([]byte, error) {
		return request("PUT", fmt.Sprintf("/db/%d", n), body(n), basic), nil
	})
}

// audience opens the feeds of a database and measures what reaches them.
func (b *bench) audience(ctx context.Context, hub *server, what, path string, headers []string, write func(n int) ([]byte, error)) error {
	empty := hub.rss()
	heard := make(chan time.Time, b.feeds*feedWrites)
	feeds, err := b.open(hub.addr, path+"/_changes?feed=continuous&since=now&heartbeat=30000", headers, heard)
	defer feeds.close()
	if err != nil {
		return err
	}
	time.Sleep(time.Second) // what opening them left to do
	before := hub.cpu()
	select {
	case <-time.After(quiet):
	case <-ctx.Done():
		return ctx.Err()
	}
	idle := float64(hub.cpu()-before) / float64(quiet) * 100
	before = hub.cpu()
	waits, err := hear(hub.addr, b.feeds, heard, write)
	if err != nil {
		return err
	}
	p99, rss, cost := percentile(waits, 99), hub.rss(), (hub.cpu()-before)/time.Duration(len(waits))
	b.row(fmt.Sprintf("a write reaches %d feeds, %s", b.feeds, what), "p99 "+p99.String(), "< 1s", p99 < time.Second, "p50 "+percentile(waits, 50).String()+", the last after "+percentile(waits, 100).String()+", "+cost.Round(time.Microsecond).String()+" of the hub's processor time for each feed")
	b.row("  memory of the hub then", fmt.Sprintf("%d MiB", rss>>20), "< 1536 MiB", rss < 1536<<20, fmt.Sprintf("%.1f MiB for 1,000 feeds", float64(rss-empty)/float64(b.feeds)*1000/(1<<20)))
	b.row("  one processor's share while nothing is written", fmt.Sprintf("%.1f %%", idle), "< 5 %", idle < 5, "")
	return nil
}

// open opens the feeds, from several addresses of this machine because each has so many ports only.
func (b *bench) open(addr, path string, headers []string, heard chan<- time.Time) (crew, error) {
	feeds := make(crew, b.feeds)
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(feeds) && errs[w] == nil; i += len(errs) {
				if feeds[i], errs[w] = listen(addr, fmt.Sprintf("127.0.0.%d", 2+i/5000), path, headers...); errs[w] == nil {
					go hearing(feeds[i], heard)
				}
			}
		})
	}
	wg.Wait()
	feeds = slices.DeleteFunc(feeds, func(c *conn) bool { return c == nil })
	for _, err := range errs {
		if err != nil {
			return feeds, fmt.Errorf("%d feeds are open: %w", len(feeds), err)
		}
	}
	return feeds, nil
}

// hearing notes when rows come, until the feed ends.
func hearing(c *conn, heard chan<- time.Time) {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 40 { // no heartbeat and no head of a chunk
			heard <- time.Now()
		}
	}
}

// hear writes some times and waits until all feeds have heard.
func hear(addr string, feeds int, heard <-chan time.Time, write func(n int) ([]byte, error)) ([]time.Duration, error) {
	var waits []time.Duration
	for n := range feedWrites {
		put, err := write(n)
		if err != nil {
			return nil, err
		}
		begun := time.Now()
		if _, err := once(addr, put); err != nil {
			return nil, err
		}
		late := time.After(time.Minute)
		for range feeds {
			select {
			case at := <-heard:
				waits = append(waits, at.Sub(begun))
			case <-late:
				return nil, fmt.Errorf("%d of %d feeds heard of a write", len(waits)-n*feeds, feeds)
			}
		}
	}
	slices.Sort(waits)
	return waits, nil
}
