package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestAcknowledgedWritesSurvive: clients write to the hub, which is killed again and
// again. Every acknowledged write is there, and the changes feed goes on where it was.
func TestAcknowledgedWritesSurvive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	ask[any](w, http.MethodPut, hub.url+"/db", "")
	acked := map[string]string{} // revisions by id
	since := "0"
	for round := range 10 {
		fresh := w.writeUntilKilled(hub, round)
		hub = w.hubAt(hub.addr(), "hub")
		heard := w.changes(hub.url+"/db", since)
		for id, rev := range fresh {
			if heard.revs[id] != rev {
				t.Errorf("round %d: %s %s was acknowledged, the changes since %s have %q", round, id, rev, since, heard.revs[id])
			}
			acked[id] = rev
		}
		for id, rev := range heard.revs {
			acked[id] = rev // it was written, and the answer was lost
		}
		since = heard.last
	}
	all := w.changes(hub.url+"/db", "0")
	for id, rev := range acked {
		if all.revs[id] != rev {
			t.Errorf("%s %s is lost: %q", id, rev, all.revs[id])
		}
	}
	if n := w.docCount(hub.url + "/db"); n != int64(len(all.revs)) || len(all.revs) != len(acked) {
		t.Errorf("doc_count %d, %d changes, %d known", n, len(all.revs), len(acked))
	}
	t.Logf("%d writes in 10 rounds", len(acked))
}

// writeUntilKilled writes with 8 clients until some hundred writes are acknowledged, kills the hub
// while they go on, and returns what was acknowledged.
func (w *world) writeUntilKilled(hub *hub, round int) map[string]string {
	w.Helper()
	var mu sync.Mutex
	var n atomic.Int64
	many := int64(100 + 70*round)
	acked := map[string]string{}
	enough := make(chan struct{})
	ctx, cancel := context.WithTimeout(w.ctx, waitTime)
	defer cancel()
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d-%d", round, c, i)
				rev, err := put(ctx, hub.url+"/db/"+id)
				if err != nil {
					return // the hub is dead
				}
				mu.Lock()
				acked[id] = rev
				mu.Unlock()
				if n.Add(1) == many {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
	}
	hub.Kill()
	clients.Wait()
	if n.Load() < many {
		w.Fatalf("only %d writes were acknowledged: %s", len(acked), hub.Stderr())
	}
	return acked
}

// put writes a document and returns its revision if that is acknowledged.
func put(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(`{"text":"lorem ipsum"}`))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var ok struct{ Rev string }
	if err := json.NewDecoder(resp.Body).Decode(&ok); err != nil || resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("%s: %w", resp.Status, err)
	}
	return ok.Rev, nil
}

type heard struct {
	revs map[string]string
	last string
}

// changes reads a changes feed, whose sequences must rise strictly.
func (w *world) changes(url, since string) heard {
	w.Helper()
	feed := ask[struct {
		Results []struct {
			Seq, ID string
			Changes []struct{ Rev string }
		}
		Last string `json:"last_seq"`
	}](w, http.MethodGet, url+"/_changes?since="+since, "")
	h := heard{map[string]string{}, feed.Last}
	before := w.number(since)
	for _, c := range feed.Results {
		seq := w.number(c.Seq)
		if seq <= before {
			w.Errorf("the sequence %s of %s comes after %d", c.Seq, c.ID, before)
		}
		before = seq
		if _, twice := h.revs[c.ID]; twice {
			w.Errorf("%s comes twice", c.ID)
		}
		h.revs[c.ID] = c.Changes[0].Rev
	}
	return h
}

// number is the number at the start of an update sequence.
func (w *world) number(seq string) int64 {
	w.Helper()
	digits, _, _ := strings.Cut(seq, "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	w.ok(err)
	return n
}
