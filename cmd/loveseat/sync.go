package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
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

With --live it goes on with changes as they are made, and through whatever happens to the connection: it waits for
a hub or a share that is away, also at the start, and says so.

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

// A syncRun is one `loveseat sync`.
type syncRun struct {
	m        *Main
	r        *reporter
	a, b     string // the arguments
	identity string
	o        syncOptions
	start    time.Time
	sum      summary
	progress *syncProgress
}

func (m *Main) runSync(ctx context.Context, a, b string, o syncOptions) error {
	identity, err := m.identityDir(a, b)
	if err != nil {
		return err
	}
	r := m.reporter(o.json)
	defer r.Close()
	m.events = r
	s := &syncRun{m: m, r: r, a: a, b: b, identity: identity, o: o, start: time.Now(), progress: newSyncProgress(r)}
	if o.live {
		err = s.live(ctx)
	} else {
		err = s.once(ctx)
	}
	interrupted := o.live && ctx.Err() != nil // Ctrl-C is how a live sync ends
	if interrupted {
		err = nil
	}
	if s.progress.began() {
		s.done(err)
	}
	return err
}

// once opens both ends and replicates.
func (s *syncRun) once(ctx context.Context) error {
	a, err := s.m.openEnd(ctx, s.a, s.identity, s.o.create && !s.o.push)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := s.m.openEnd(ctx, s.b, s.identity, s.o.create && !s.o.pull)
	if err != nil {
		return err
	}
	defer b.Close()
	s.progress.begin()
	err = s.replicate(ctx, a, b)
	for _, e := range []*end{a, b} {
		if e.route != nil {
			s.sum.Route = e.route()
		}
	}
	return err
}

func (s *syncRun) replicate(ctx context.Context, a, b *end) (err error) {
	ro := s.o.Options
	ro.Live, ro.OnProgress = s.o.live, s.progress.show
	var both replicate.SyncResult
	switch {
	case s.o.push:
		both.Pushed, err = replicate.Run(ctx, a.db, b.db, ro)
	case s.o.pull:
		both.Pulled, err = replicate.Run(ctx, b.db, a.db, ro)
	default:
		both, err = replicate.Sync(ctx, a.db, b.db, ro)
	}
	s.sum.Pushed, s.sum.Pulled = s.sum.Pushed.And(both.Pushed), s.sum.Pulled.And(both.Pulled)
	return err
}

// done prints the last event.
func (s *syncRun) done(err error) {
	s.sum.Seconds = time.Since(s.start).Seconds()
	event := "complete"
	if err != nil {
		event, s.sum.Error = "failed", err.Error()
	}
	s.r.Done(event, s.sum, s.sum.sentence(label(s.a), label(s.b)))
}

func (s *summary) sentence(a, b string) string {
	var t strings.Builder
	for _, d := range []struct {
		from, to string
		r        replicate.Result
	}{{a, b, s.Pushed}, {b, a, s.Pulled}} {
		if d.r.Start.IsZero() {
			continue
		}
		_, _ = fmt.Fprintf(&t, "%s → %s: %d documents, %s", d.from, d.to, d.r.DocsWritten, size(d.r.Bytes))
		if d.r.DocWriteFailures > 0 {
			_, _ = fmt.Fprintf(&t, ", %d refused", d.r.DocWriteFailures)
		}
		t.WriteByte('\n')
		for _, e := range d.r.Errors[:min(5, len(d.r.Errors))] {
			t.WriteString(cli.Sprintf("  %s: %s: %s\n", cli.Name(e.ID), e.Error, e.Reason))
		}
	}
	n := s.Pushed.DocsWritten + s.Pulled.DocsWritten
	_, _ = fmt.Fprintf(&t, "%.1f s, %.0f documents/s", s.Seconds, float64(n)/max(s.Seconds, 0.001))
	if s.Route != "" {
		_, _ = fmt.Fprintf(&t, ", route %s", s.Route)
	}
	return t.String()
}
