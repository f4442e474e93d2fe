package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/replicate"
)

func (m *Main) conflictsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "conflicts DB",
		Short: "List documents with conflicts, the winning revision first",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runConflicts(cmd.Context(), args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON event a line")
	return cmd
}

func (m *Main) runConflicts(ctx context.Context, arg string, asJSON bool) error {
	identity, err := m.identityDir(arg)
	if err != nil {
		return err
	}
	db, err := m.openEnd(ctx, arg, identity, false)
	if err != nil {
		return err
	}
	defer db.Close()
	r := m.reporter(asJSON)
	defer r.Close()
	return replicate.Conflicts(ctx, db.db, func(c replicate.Conflict) error {
		revs := make([]string, len(c.Leaves))
		for i, leaf := range c.Leaves {
			revs[i] = leaf.Rev.String()
		}
		r.Event("conflict", map[string]any{"id": c.ID, "revs": revs}, cli.Sprintf("%s: %s", cli.Name(c.ID), strings.Join(revs, ", ")))
		return nil
	})
}
