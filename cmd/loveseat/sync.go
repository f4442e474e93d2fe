package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/replicate"
)

func (m *Main) syncCommand() *cobra.Command {
	var o syncOptions
	var selector string
	cmd := &cobra.Command{
		Use:   "sync A B",
		Short: "Replicate two ways between A and B",
		Long: `Sync replicates A to B (push) and B to A (pull). Each is a local database, the URL of
a database on a CouchDB-compatible server, or a share link. What is missing is made.
A second sync copies only what is new.

--doc-ids, --selector and --filter select documents by their winners; a sync that selects
otherwise is another one with checkpoints of its own, and compares from the beginning. --filter runs
at the source, which must be a server with JavaScript, such as CouchDB.`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.push && o.pull {
				o.push, o.pull = false, false
			}
			if o.Since != "" && o.Since != "now" && !o.push && !o.pull {
				return usageError{errors.New("--since is a sequence of one database: give --push or --pull with it")}
			}
			if err := o.selection(selector); err != nil {
				return err
			}
			return m.runSync(cmd.Context(), args[0], args[1], o)
		},
	}
	cmd.Flags().BoolVar(&o.live, "live", false, "go on with changes as they are made, until Ctrl-C")
	cmd.Flags().BoolVar(&o.push, "push", false, "only from A to B")
	cmd.Flags().BoolVar(&o.pull, "pull", false, "only from B to A")
	cmd.Flags().StringSliceVar(&o.DocIDs, "doc-ids", nil, "only the documents with these `IDS`, separated by commas")
	cmd.Flags().StringVar(&selector, "selector", "", "only documents that match this Mango selector, as `JSON`")
	cmd.Flags().StringVar(&o.DesignFilter, "filter", "", "only documents that pass this filter function, `DESIGN/NAME`, of the source")
	cmd.Flags().StringToStringVar(&o.QueryParams, "param", nil, "a parameter of --filter, `NAME=VALUE`; may be given again")
	cmd.Flags().StringVar(&o.Since, "since", "", "only changes after this update `SEQUENCE` of the source, with --push or --pull, or after \"now\"")
	cmd.Flags().BoolVar(&o.WinnersOnly, "winners", false, "only winning revisions, no conflicts")
	cmd.Flags().BoolVar(&o.create, "create", true, "make a database that is missing")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON event a line")
	return cmd
}

type syncOptions struct {
	live, push, pull, create, json bool
	replicate.Options              // what is copied
}

// selection takes the selector and refuses what does not go together.
func (o *syncOptions) selection(selector string) error {
	ways := 0
	for _, given := range []bool{o.DocIDs != nil, selector != "", o.DesignFilter != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return usageError{errors.New("give one of --doc-ids, --selector and --filter")}
	case len(o.QueryParams) > 0 && o.DesignFilter == "":
		return usageError{errors.New("--param goes with --filter")}
	case selector != "" && !json.Valid([]byte(selector)):
		return usageError{fmt.Errorf("--selector %.100s is not JSON", selector)}
	case selector != "":
		o.Selector = json.RawMessage(selector)
	}
	return nil
}

// summary is the event "complete".
type summary struct {
	Pushed  replicate.Result `json:"pushed"`
	Pulled  replicate.Result `json:"pulled"`
	Route   string           `json:"route,omitempty"` // of an opened share
	Seconds float64          `json:"seconds"`
	Error   string           `json:"error,omitempty"`
}

func (m *Main) runSync(ctx context.Context, argA, argB string, o syncOptions) error {
	identity, err := m.identityDir(argA, argB)
	if err != nil {
		return err
	}
	a, err := m.openEnd(ctx, argA, identity, o.create && !o.push)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := m.openEnd(ctx, argB, identity, o.create && !o.pull)
	if err != nil {
		return err
	}
	defer b.Close()

	r := m.reporter(o.json)
	defer r.Close()
	start := time.Now()
	var s summary
	err = s.replicate(ctx, a, b, o, newSyncProgress(r, a, b).show)
	s.Seconds = time.Since(start).Seconds()
	for _, e := range []*end{a, b} {
		if e.route != nil {
			s.Route = e.route()
		}
	}
	interrupted := o.live && ctx.Err() != nil // Ctrl-C is how a live sync ends
	if err != nil && !interrupted {
		s.Error = err.Error()
	}
	event := "complete"
	if s.Error != "" {
		event = "failed"
	}
	r.Done(event, s, s.sentence(a, b))
	if interrupted {
		return nil
	}
	return err
}

func (s *summary) replicate(ctx context.Context, a, b *end, o syncOptions, progress func(replicate.Progress)) (err error) {
	ro := o.Options
	ro.Live, ro.OnProgress = o.live, progress
	switch {
	case o.push:
		s.Pushed, err = replicate.Run(ctx, a.db, b.db, ro)
	case o.pull:
		s.Pulled, err = replicate.Run(ctx, b.db, a.db, ro)
	default:
		var both replicate.SyncResult
		both, err = replicate.Sync(ctx, a.db, b.db, ro)
		s.Pushed, s.Pulled = both.Pushed, both.Pulled
	}
	return err
}

func (s *summary) sentence(a, b *end) string {
	var t strings.Builder
	for _, d := range []struct {
		from, to *end
		r        replicate.Result
	}{{a, b, s.Pushed}, {b, a, s.Pulled}} {
		if d.r.Start.IsZero() {
			continue
		}
		_, _ = fmt.Fprintf(&t, "%s → %s: %d documents, %s", d.from.label, d.to.label, d.r.DocsWritten, size(d.r.Bytes))
		if d.r.DocWriteFailures > 0 {
			_, _ = fmt.Fprintf(&t, ", %d refused", d.r.DocWriteFailures)
		}
		t.WriteByte('\n')
		for _, e := range d.r.Errors[:min(5, len(d.r.Errors))] {
			_, _ = fmt.Fprintf(&t, "  %s: %s: %s\n", e.ID, e.Error, e.Reason)
		}
	}
	n := s.Pushed.DocsWritten + s.Pulled.DocsWritten
	_, _ = fmt.Fprintf(&t, "%.1f s, %.0f documents/s", s.Seconds, float64(n)/max(s.Seconds, 0.001))
	if s.Route != "" {
		_, _ = fmt.Fprintf(&t, ", route %s", s.Route)
	}
	return t.String()
}

// syncProgress puts the two directions of a sync together for the display.
type syncProgress struct {
	r    *reporter
	a, b *end

	mu   sync.Mutex
	last map[string]replicate.Progress // by direction
}

func newSyncProgress(r *reporter, a, b *end) *syncProgress {
	return &syncProgress{r: r, a: a, b: b, last: map[string]replicate.Progress{}}
}

func (s *syncProgress) show(p replicate.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[p.Direction] = p
	var done, pending, bytes int64
	var left time.Duration
	for _, d := range s.last {
		done += d.Counts.DocsWritten
		bytes += max(d.Source.Bytes, d.Counts.Bytes)
		pending += max(0, d.Pending)
		left = max(left, d.ETA)
	}
	s.r.Detailed("syncing", done, done+pending, bytes, left, s.details(left))
	if p.State == replicate.Retrying || p.State == replicate.Stalled {
		s.trouble(p)
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

// trouble says at once what holds the sync up; it goes on by itself.
func (s *syncProgress) trouble(p replicate.Progress) {
	err := cmp.Or(p.Err, errors.New("no answer"))
	s.r.Warn(string(p.State), map[string]any{"direction": p.Direction, "stage": p.Stage, "end": p.End, "error": err.Error(), "attempt": p.Attempt, "wait_seconds": p.Wait.Seconds()},
		fmt.Sprintf("%s, %s at the %s: %v; trying again", cmp.Or(p.Direction, "sync"), p.Stage, p.End, err))
}
