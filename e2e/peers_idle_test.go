package e2e

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// TestPeerBarsIdle lets peers open a share and do nothing. What 200 of them cost the sharer, less than 100 MB
// and 2 % of a core, is demanded by LOVESEAT_BARS=1 go test -run PeerBars -v ./peeradapter ./e2e.
func TestPeerBarsIdle(t *testing.T) {
	peers, settled, watched, demand := 10, time.Duration(0), time.Second, os.Getenv("LOVESEAT_BARS") != ""
	if demand {
		peers, settled, watched = 200, 30*time.Second, time.Minute // the sharer gives memory back when it is at rest
	}
	w := newWorldFor(t, 10*time.Minute)
	hub := w.hub("hub", "--limit-feeds", "1000", "--limit-concurrent", "1000")
	w.edit("alice/notes", `{"_id":"a"}`)
	s := w.share(hub.db, "alice/notes")
	before := w.resident(s.Pid())
	w.openIdle(hub.url, s.ID, peers)
	<-time.After(settled)
	cpu, start := w.cpuTime(s.Pid()), time.Now()
	<-time.After(watched)
	memory := w.resident(s.Pid())
	load := (w.cpuTime(s.Pid()) - cpu).Seconds() / time.Since(start).Seconds() * 100
	t.Logf("%d idle peers: %d MB (%d MB without, %d KB each), %.2f %% of a core", peers, memory>>20, before>>20, (memory-before)>>10/int64(peers), load)
	if demand && (memory > 100<<20 || load > 2) {
		t.Errorf("%d MB, %.2f %%", memory>>20, load)
	}
}

// openIdle opens a share by so many peers, each of which keeps it open until the test ends.
func (w *world) openIdle(server, id string, n int) {
	w.Helper()
	quiet := slog.New(slog.DiscardHandler)
	client, err := kivik.New(peeradapter.HTTPDriver, server)
	w.ok(err)
	var opening sync.WaitGroup
	peers := make([]*share.Peer, n)
	failed := make(chan error, n)
	turn := make(chan struct{}, 4)
	for i := range peers {
		opening.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			peer, err := peeradapter.Join(w.ctx, client.DB("hub"), peeradapter.Options{HubURL: server + "/hub", Logger: quiet})
			if err != nil {
				failed <- err
				return
			}
			peers[i] = peer
			for range 3 { // a machine that is very busy may take too long for one
				var remote *share.Remote
				if remote, err = peer.Open(w.ctx, id); err == nil {
					err = remote.DB().Get(w.ctx, "a").Err()
					break
				}
			}
			if err != nil {
				failed <- fmt.Errorf("peer %d: %w", i, err)
			}
		})
	}
	opening.Wait()
	w.Cleanup(func() {
		var closing sync.WaitGroup
		for _, p := range peers {
			if p != nil {
				closing.Go(func() { _ = p.Close() })
			}
		}
		closing.Wait()
		_ = client.Close()
	})
	select {
	case err := <-failed:
		w.Fatal(err)
	default:
	}
}

// resident is a process's resident set.
func (w *world) resident(pid int) int64 {
	w.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	w.ok(err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	w.ok(err)
	return kb << 10
}

// cpuTime is what a process has used, in the kernel's ticks of 10 ms.
func (w *world) cpuTime(pid int) time.Duration {
	w.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	w.ok(err)
	_, rest, _ := strings.Cut(string(stat), ") ")
	var ticks int64
	for _, field := range strings.Fields(rest)[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		w.ok(err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
