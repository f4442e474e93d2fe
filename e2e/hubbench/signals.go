package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/e2e/signed"
)

const (
	signalPeers   = 50
	signalRate    = 2100 // a second, of which 2,000 are wanted
	signalSeconds = 10
)

// signals sends signals between peers at a steady rate and measures how long each takes to be told to its recipient.
func (b *bench) signals(ctx context.Context) error {
	hub, err := b.startHub(ctx, "signals")
	if err != nil {
		return err
	}
	defer hub.stop()
	peers := make([]*signed.Peer, signalPeers)
	m := &mail{sent: map[string]time.Time{}, all: make(chan struct{}), want: signalRate * signalSeconds}
	var feeds crew
	defer func() { feeds.close() }()
	for i := range peers {
		if peers[i], err = signed.New(); err != nil {
			return err
		}
		c, err := listen(hub.addr, "", "/hub/_changes?feed=continuous&since=now&include_docs=true&heartbeat=30000", peers[i].Proof("http://"+hub.addr, "hub", "GET"))
		if err != nil {
			return err
		}
		feeds = append(feeds, c)
		go m.receive(c)
	}
	// Making signals is the work of the peers' machines, so it is done before.
	ids, puts := make([]string, m.want), make([][]byte, m.want)
	for n := range puts {
		var body []byte
		if ids[n], body, err = peers[n%signalPeers].Signal(peers[(n+1)%signalPeers], n); err != nil {
			return err
		}
		puts[n] = request("PUT", "/hub/"+ids[n], string(body), peers[n%signalPeers].Proof("http://"+hub.addr, "hub", "PUT"))
	}
	before, begun := hub.cpu(), time.Now()
	if err := m.send(hub.addr, ids, puts); err != nil {
		return err
	}
	took, cost := time.Since(begun), (hub.cpu()-before)/time.Duration(m.want)
	select {
	case <-m.all:
	case <-time.After(10 * time.Second):
		return fmt.Errorf("%d of %d signals came", len(m.took), m.want)
	}
	slices.Sort(m.took)
	rate, p99 := float64(m.want)/took.Seconds(), percentile(m.took, 99)
	b.row("signals through the hub, signatures checked", fmt.Sprintf("%.0f/s", rate), "≥ 2000/s", rate >= 2000, fmt.Sprintf("%s of the hub's processor time each", cost.Round(time.Microsecond)))
	b.row("signals, send to receive", "p99 "+p99.String(), "< 100ms", p99 < 100*time.Millisecond, "p50 "+percentile(m.took, 50).String())
	return nil
}

func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)].Round(100 * time.Microsecond)
}

// listen opens a changes feed and reads the head of its answer.
func listen(addr, from, path string, headers ...string) (*conn, error) {
	c, err := dial(addr, from)
	if err != nil {
		return nil, err
	}
	if _, err = c.Write(request("GET", path, "", headers...)); err == nil {
		var status int
		if status, _, err = c.head(); err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
	}
	if err != nil {
		c.Close()
	}
	return c, err
}

// mail is the signals under way.
type mail struct {
	want int
	all  chan struct{} // closed when all have come

	mu   sync.Mutex
	sent map[string]time.Time
	took []time.Duration
}

// send puts each signal at its time, with as many connections as that takes.
func (m *mail) send(addr string, ids []string, puts [][]byte) error {
	c, err := newCrew(addr, 64)
	if err != nil {
		return err
	}
	defer c.close()
	begun := time.Now()
	errs := make([]error, len(c))
	var wg sync.WaitGroup
	for who := range c {
		wg.Go(func() {
			for n := who; n < len(puts) && errs[who] == nil; n += len(c) {
				due := begun.Add(time.Duration(n) * time.Second / signalRate)
				time.Sleep(time.Until(due))
				m.mu.Lock()
				m.sent[ids[n]] = due // a hub that is late does not slow its peers down
				m.mu.Unlock()
				status, err := c[who].do(puts[n])
				if err == nil && status != 201 {
					err = fmt.Errorf("status %d", status)
				}
				errs[who] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// receive notes when the signals of a feed come, until it ends.
func (m *mail) receive(c *conn) {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil && !strings.Contains(err.Error(), "buffer full") {
			return
		}
		at := bytes.Index(line, []byte(`"id":"signal:`))
		if at < 0 || len(line) < at+6+36 {
			continue
		}
		id, now := string(line[at+6:at+6+36]), time.Now()
		m.mu.Lock()
		if sent, ok := m.sent[id]; ok {
			delete(m.sent, id)
			if m.took = append(m.took, now.Sub(sent)); len(m.took) == m.want {
				close(m.all)
			}
		}
		m.mu.Unlock()
	}
}
