package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) lsCommand() *cobra.Command {
	var watch, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls HUB",
		Short: "List what others share on a hub",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runLs(cmd.Context(), args[0], watch, asJSON)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "go on with what is new, changed and gone, until Ctrl-C")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array; with --watch one JSON event a line")
	return cmd
}

func (m *Main) runLs(ctx context.Context, hub string, watch, asJSON bool) error {
	identity, err := m.identityDir()
	if err != nil {
		return err
	}
	peer, err := m.join(ctx, hub, identity)
	if err != nil {
		return err
	}
	defer peer.Close()
	if watch {
		return m.watchShares(ctx, peer.Peer, asJSON)
	}
	shares, err := peer.Shares(ctx)
	if err != nil {
		return err
	}
	shares = slices.DeleteFunc(shares, func(s share.Info) bool { return s.Own })
	if asJSON {
		if shares == nil {
			shares = []share.Info{}
		}
		return json.NewEncoder(m.Stdout).Encode(shares)
	}
	if len(shares) == 0 {
		_, err := fmt.Fprintf(m.Stdout, "Nobody shares a database on %s. To share one:\n\n  loveseat share %s ./data/notes\n%s", cli.Public(hub), m.hubWord(hub), m.hubHint(hub))
		return err
	}
	w := tabwriter.NewWriter(m.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tDOCUMENTS\tACCESS\tPEER\tID")
	for _, s := range shares {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", cli.Name(s.Name), s.DocCount, cli.Name(string(s.Access)), share.ShortID(s.Peer), cli.Name(s.ID))
	}
	return w.Flush()
}

func (m *Main) watchShares(ctx context.Context, peer *share.Peer, asJSON bool) error {
	r := m.reporter(asJSON)
	defer r.Close()
	err := peer.Watch(ctx, func(e share.Event) error {
		switch {
		case e.Kind == share.Omitted:
			r.Event(string(e.Kind), struct{}{}, "the hub has more shares than are listed; open the others by their ids")
		case !e.Share.Own:
			r.Event(string(e.Kind), e.Share, cli.Sprintf("%-7s %s, %d documents, %s, peer %s, id %s",
				e.Kind, cli.Name(e.Share.Name), e.Share.DocCount, e.Share.Access, share.ShortID(e.Share.Peer), e.Share.ID))
		}
		return nil
	})
	if errors.Is(err, context.Canceled) {
		return nil // Ctrl-C is how it ends
	}
	return err
}
