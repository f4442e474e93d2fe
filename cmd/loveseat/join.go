package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) joinCommand() *cobra.Command {
	var o share.PoolOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "join HUB DB TOPIC",
		Short: "Replicate live with all peers of a hub that join a topic, until Ctrl-C",
		Long: `Replicates a local database, which is made if need be, live with those of all peers of
a hub that join the same topic, until Ctrl-C. Whoever may use the hub may join.`,
		Args: exactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runJoin(cmd.Context(), args[0], args[1], args[2], o, asJSON)
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "", "what others see (default: the database's name)")
	cmd.Flags().IntVar(&o.MaxPeers, "max-peers", 0, "pull from so many peers at a time (default 8)")
	cmd.Flags().BoolVar(&o.DesignDocs, "design-docs", false, "take over others' design documents too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON event a line")
	return cmd
}

func (m *Main) runJoin(ctx context.Context, hub, path, topic string, o share.PoolOptions, asJSON bool) error {
	local, peer, err := m.joinWith(ctx, hub, path, true)
	if err != nil {
		return err
	}
	defer local.Close()
	defer peer.Close()
	r := m.reporter(asJSON)
	defer r.Close()
	defer showConnections(peer.Peer, r)()
	pool, err := peer.Join(ctx, topic, local.db, o)
	if err != nil {
		return err
	}
	r.Event("joined", map[string]any{"topic": topic, "share": pool.Share().ID(), "peer": peer.ID()},
		fmt.Sprintf("%s replicates with all who join %q, until Ctrl-C. Others do so with\n\n  loveseat join %s %s %s\n%s",
			label(path), topic, m.hubWord(hub), shellWord("./data/"+cli.Text(local.db.Name())), shellWord(topic), m.hubHint(hub)))
	told := make(chan struct{})
	go func() {
		defer close(told)
		for e := range pool.Errors() {
			r.Warn("error", map[string]any{"share": e.Share, "peer": e.Peer, "error": e.Err.Error()}, cli.Text(e.Error()))
		}
	}()
	showPool(r, pool.Updates(ctx))
	if err := pool.Close(); err != nil { // Ctrl-C is how it ends, whether or not the hub is there
		r.Warn("error", map[string]any{"share": pool.Share().ID(), "peer": peer.ID(), "error": err.Error()}, cli.Sprintf("others will miss this peer only after a while: %v", err))
	}
	<-told
	return nil
}

// showPool tells of members whose states change.
func showPool(r *reporter, updates func(func([]share.PoolPeer) bool)) {
	was := map[string]share.PoolPeer{}
	say := func(p share.PoolPeer, state string) {
		r.Event(state, map[string]any{"share": p.Share.ID, "name": p.Share.Name, "peer": p.Share.Peer, "route": p.Route},
			cli.Sprintf("%s (%s): %s", share.ShortID(p.Share.Peer), cli.Name(p.Share.Name), state))
	}
	for peers := range updates {
		now := make(map[string]share.PoolPeer, len(peers))
		for _, p := range peers {
			now[p.Share.ID] = p
			if p.State != was[p.Share.ID].State {
				say(p, string(p.State))
			}
		}
		for id, p := range was {
			if _, there := now[id]; !there {
				say(p, "gone")
			}
		}
		was = now
	}
}
