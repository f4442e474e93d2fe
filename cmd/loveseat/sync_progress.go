package main

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/replicate"
)

// syncProgress puts the two directions of a sync together for the display, and
// the replications of a live one that had to begin anew.
type syncProgress struct {
	r *reporter

	mu      sync.Mutex
	runs    int                           // that were begun
	before  replicate.Result              // what earlier ones did
	last    map[string]replicate.Progress // by direction
	trouble string                        // that was told last
}

func newSyncProgress(r *reporter) *syncProgress {
	return &syncProgress{r: r, last: map[string]replicate.Progress{}}
}

// begin is called before each replication.
func (s *syncProgress) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	for _, p := range s.last {
		s.before = s.before.And(p.Counts)
	}
	clear(s.last)
}

// began reports whether there was a replication.
func (s *syncProgress) began() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs > 0
}

// show takes the progress of one direction.
func (s *syncProgress) show(p replicate.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[p.Direction] = p
	if p.State == replicate.Running || p.State == replicate.Idle {
		s.trouble = ""
	}
	done, bytes := s.before.DocsWritten, s.before.Bytes
	var pending int64
	var left time.Duration
	for _, d := range s.last {
		done += d.Counts.DocsWritten
		bytes += max(d.Source.Bytes, d.Counts.Bytes)
		pending += max(0, d.Pending)
		left = max(left, d.ETA)
	}
	s.r.Detailed("syncing", done, done+pending, bytes, left, s.details(left))
	if p.State == replicate.Retrying || p.State == replicate.Stalled {
		s.tell(p)
	}
}

// details are what --json tells beyond the numbers of the bar: each direction, with what goes on at either end.
func (s *syncProgress) details(left time.Duration) map[string]any {
	all := make([]replicate.Progress, 0, len(s.last))
	for _, name := range slices.Sorted(maps.Keys(s.last)) {
		p := s.last[name]
		p.Counts.Errors = nil
		all = append(all, p)
	}
	return map[string]any{"eta_seconds": left.Seconds(), "directions": all}
}

// tell says at once what holds the sync up; it goes on by itself.
func (s *syncProgress) tell(p replicate.Progress) {
	err := cmp.Or(p.Err, errors.New("no answer"))
	s.r.Warn(string(p.State), map[string]any{"direction": p.Direction, "stage": p.Stage, "end": p.End, "error": err.Error(), "attempt": p.Attempt, "wait_seconds": p.Wait.Seconds()},
		cli.Sprintf("%s, %s at the %s: %v; trying again", cmp.Or(p.Direction, "sync"), p.Stage, p.End, err))
}

// waiting says that the ends cannot be reached for now, once for the same reason.
func (s *syncProgress) waiting(err error, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err.Error() == s.trouble {
		return
	}
	s.trouble = err.Error()
	s.r.Warn("waiting", map[string]any{"error": s.trouble, "wait_seconds": wait.Seconds()}, cli.Sprintf("waiting, and trying again until Ctrl-C: %v", err))
}
