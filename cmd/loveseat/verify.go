package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/replicate"
)

func (m *Main) verifyCommand() *cobra.Command {
	var asJSON bool
	var o replicate.VerifyOptions
	cmd := &cobra.Command{
		Use:   "verify A B",
		Short: "Prove that A and B hold the same, or list the differences",
		Long: `Verify compares the leaf revisions of all documents of A and B, deleted ones
included, and ends with status 1 if there are differences. It reads both changes feeds and no documents:
a revision id is a digest of what the revision says, of its attachments and of the revision
before. It does not look at the stored bytes behind a revision, nor at _local documents and _security.`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runVerify(cmd.Context(), args[0], args[1], o, asJSON)
		},
	}
	cmd.Flags().IntVar(&o.Limit, "limit", 1000, "the most differences to list")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON event a line: each difference, then what was compared")
	return cmd
}

// verified is the events "equal" and "different".
type verified struct {
	A       replicate.Verified `json:"a"`
	B       replicate.Verified `json:"b"`
	Listed  int                `json:"differences"`
	More    bool               `json:"more"` // than those listed
	Seconds float64            `json:"seconds"`
}

var errDifferent = errors.New("the databases differ")

func (m *Main) runVerify(ctx context.Context, argA, argB string, o replicate.VerifyOptions, asJSON bool) error {
	identity, err := m.identityDir(argA, argB)
	if err != nil {
		return err
	}
	a, err := m.openEnd(ctx, argA, identity, false)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := m.openEnd(ctx, argB, identity, false)
	if err != nil {
		return err
	}
	defer b.Close()
	r := m.reporter(asJSON)
	defer r.Close()
	o.OnProgress = func(x, y int64) { r.Progress("comparing", min(x, y), -1, 0) }
	start := time.Now()
	found, err := replicate.Verify(ctx, a.db, b.db, o)
	if err != nil {
		return err
	}
	r.Close()
	for _, d := range found.Diffs {
		r.Event("difference", d, cli.Sprintf("%s: %s", cli.Name(d.ID), strings.Join(nonEmpty(only("A", d.OnlyA), only("B", d.OnlyB)), "; ")))
	}
	sum := verified{found.A, found.B, len(found.Diffs), found.More, time.Since(start).Seconds()}
	if found.Equal {
		r.Event("equal", sum, fmt.Sprintf("equal: %d documents with %d leaf revisions (%.1f s)", sum.A.Docs, sum.A.Leaves, sum.Seconds))
		return nil
	}
	count := fmt.Sprint(sum.Listed)
	if sum.More {
		count = "more than " + count
	}
	r.Event("different", sum, fmt.Sprintf("different: %s documents; A has %d with %d leaf revisions, B has %d with %d (%.1f s)",
		count, sum.A.Docs, sum.A.Leaves, sum.B.Docs, sum.B.Leaves, sum.Seconds))
	return errDifferent
}

func only(end string, revs []replicate.Rev) string {
	if len(revs) == 0 {
		return ""
	}
	names := make([]string, len(revs))
	for i, rev := range revs {
		names[i] = rev.String()
	}
	return "only in " + end + ": " + strings.Join(names, ", ")
}

func nonEmpty(all ...string) (out []string) {
	for _, s := range all {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
