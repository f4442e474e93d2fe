package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) shareCommand() *cobra.Command {
	var o shareOptions
	cmd := &cobra.Command{
		Use:   "share HUB DB",
		Short: "Share a local database with the peers of a hub, until Ctrl-C",
		Args:  exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runShare(cmd.Context(), args[0], args[1], o)
		},
	}
	cmd.Flags().StringVar(&o.name, "name", "", "what others see (default: the database's name)")
	cmd.Flags().StringVar(&o.info, "info", "", "any `JSON` for others to see")
	cmd.Flags().BoolVar(&o.readOnly, "read-only", false, "others may read and pull only")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON event a line")
	return cmd
}

type shareOptions struct {
	name, info     string
	readOnly, json bool
}

func (m *Main) runShare(ctx context.Context, hub, path string, o shareOptions) error {
	so := share.ShareOptions{Name: o.name, ReadOnly: o.readOnly}
	if o.info != "" {
		if !json.Valid([]byte(o.info)) {
			return usageError{fmt.Errorf("--info is no JSON: %.60s", o.info)}
		}
		so.Info = json.RawMessage(o.info)
	}
	local, peer, err := m.joinWith(ctx, hub, path, false)
	if err != nil {
		return err
	}
	defer local.Close()
	defer peer.Close()

	r := m.reporter(o.json)
	defer r.Close()
	ended := make(chan error, 1)
	published := make(chan struct{}) // holds events back: "shared" comes first
	so.OnEvent = func(e share.ShareEvent) {
		<-published
		showShareEvent(r, e)
		if e.Kind == share.Ended && e.Err != nil {
			ended <- e.Err
		}
	}
	s, err := peer.Share(ctx, local.db, so)
	if err != nil {
		return err
	}
	r.Event("shared", map[string]any{"id": s.ID(), "name": s.Name(), "link": s.Link(), "peer": peer.ID()},
		fmt.Sprintf("%s is shared as %q by peer %s until Ctrl-C. Others open it with\n\n  loveseat open %s %s\n  loveseat sync ./data/%s %s\n",
			path, s.Name(), share.ShortID(peer.ID()), redact(hub), s.ID(), local.db.Name(), s.Link()))
	close(published)
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return fmt.Errorf("%s is not shared any more: %w", path, err)
	}
}

func showShareEvent(r *reporter, e share.ShareEvent) {
	fields := map[string]any{"share": e.Remote.Share, "name": e.Remote.Name, "peer": e.Remote.Peer, "route": e.Remote.Route}
	who := share.ShortID(e.Remote.Peer)
	switch e.Kind {
	case share.Opened:
		r.Event("opened", fields, fmt.Sprintf("%s opened the share (%s)", who, e.Remote.Route))
	case share.Closed:
		r.Event("closed", fields, fmt.Sprintf("%s closed the share", who))
	case share.Refused:
		fields["reason"] = e.Err.Error()
		r.Event("refused", fields, fmt.Sprintf("%s was refused: %v", who, e.Err))
	case share.Failed:
		r.Warn("renewal_failed", map[string]any{"error": e.Err.Error()}, fmt.Sprintf("the hub cannot be told that the share is alive, trying again: %v", e.Err))
	}
}
