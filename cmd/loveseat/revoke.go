package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) revokeCommand() *cobra.Command {
	var reason string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke HUB SHARE [PEER]",
		Short: "Take a peer's access to a share away, or end the share",
		Long: `Tells the running 'loveseat share' of the same device key to cut a peer off at once,
also after restarts, or without PEER to end the share. PEER is a peer id, or the
beginning of one that has opened the share. While no 'loveseat share' answers, a peer's
access is taken away in the database, and that holds from when it is shared again.

The device key is that of the shared database's store, unless 'share' was given another
one: loveseat --identity ./data revoke http://127.0.0.1:5984/hub notes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 && len(args) != 3 {
				return usageError{fmt.Errorf("usage: %s (%d arguments were given)", cmd.UseLine(), len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			peer := ""
			if len(args) == 3 {
				if peer = args[2]; peer == "" {
					return usageError{errors.New("PEER is empty")}
				}
			}
			return m.runRevoke(cmd.Context(), args[0], args[1], peer, reason, asJSON)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what the peer is told, as `TEXT`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON event a line")
	return cmd
}

func (m *Main) runRevoke(ctx context.Context, hub, ref, who, reason string, asJSON bool) error {
	identity, err := m.identityDir()
	if err != nil {
		return err
	}
	peer, err := m.join(ctx, hub, identity)
	if err != nil {
		return err
	}
	defer peer.Close()
	r := m.reporter(asJSON)
	defer r.Close()
	err = peer.Revoke(ctx, ref, who, reason)
	switch {
	case errors.Is(err, couch.ErrForbidden):
		return fmt.Errorf("%w (this is peer %s; give the store of the shared database as --identity DIR)", err, share.ShortID(peer.ID()))
	case errors.Is(err, share.ErrNotServed) && ctx.Err() == nil:
		a := &absent{m: m, r: r, peer: peer, identity: identity, ref: ref, why: err}
		if who == "" {
			return a.withdraw(ctx)
		}
		return a.revoke(ctx, who, reason)
	case err != nil:
		return err
	}
	if who == "" {
		r.Event("ended", map[string]any{"share": ref}, "The share has ended.")
		return nil
	}
	r.Event("revoked", map[string]any{"share": ref, "peer": who}, cli.Sprintf("%s has no access any more.", who))
	return nil
}

func (m *Main) authorsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "authors DB DOC",
		Short: "Show which peers wrote the revisions of a document through a share",
		Long: `Shows the revisions of a document, and for each the peer that wrote it here first
through the share of DB by this device key; without one it is the owner's, came another
way, or is not remembered any more.`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runAuthors(cmd.Context(), args[0], args[1], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func (m *Main) runAuthors(ctx context.Context, path, doc string, asJSON bool) error {
	identity, err := m.identityDir(path)
	if err != nil {
		return err
	}
	id, err := share.LoadIdentity(identity)
	if err != nil {
		return err
	}
	local, err := m.openEnd(ctx, path, identity, false)
	if err != nil {
		return err
	}
	defer local.Close()
	all, err := share.Authors(ctx, local.db, id, doc)
	if err != nil {
		return err
	}
	r := m.reporter(asJSON)
	defer r.Close()
	for _, a := range all {
		who := a.Peer
		if who == "" {
			who = "-"
		}
		r.Event("revision", map[string]any{"rev": a.Rev, "peer": a.Peer, "leaf": a.Leaf}, cli.Sprintf("%s  %s", a.Rev, who))
	}
	return nil
}
