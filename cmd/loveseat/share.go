package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) shareCommand() *cobra.Command {
	var o shareOptions
	cmd := &cobra.Command{
		Use:   "share HUB DB",
		Short: "Share a local database with the peers of a hub, until Ctrl-C",
		Long: `Shares a local database with the peers of a hub, until Ctrl-C.

All peers of the hub may open it, unless --allow, --approve or --invite is given:
then those whom one of them lets in. "always" as the answer to --approve is remembered,
and so are invites and what 'loveseat revoke' has taken away.`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runShare(cmd.Context(), args[0], args[1], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "what others see (default: the database's name)")
	f.StringVar(&o.info, "info", "", "any `JSON` for others to see")
	f.BoolVar(&o.ReadOnly, "read-only", false, "others may read and pull only")
	f.StringVar(&o.selector, "selector", "", "share only documents that match this Mango selector, as `JSON`")
	f.StringSliceVar(&o.DocIDs, "doc-ids", nil, "share only the documents with these `IDS`, separated by commas")
	f.StringSliceVar(&o.Allow, "allow", nil, "let these `PEERS` in: their ids, or the first four groups of them, or user:NAME for a user of the hub, separated by commas")
	f.BoolVar(&o.approve, "approve", false, "ask here whether to let a peer in; with --json by an event \"asks\", answered by a line on standard input, "+answerForm)
	f.BoolVar(&o.Invited, "invite", false, "let in who has the invite link that is printed")
	f.DurationVar(&o.expires, "expires", 0, "end the share after this `TIME`, such as 24h")
	f.BoolVar(&o.json, "json", false, "print one JSON event a line")
	return cmd
}

type shareOptions struct {
	share.ShareOptions
	info, selector string
	approve, json  bool
	expires        time.Duration
}

// settle makes share's options of the flags.
func (o *shareOptions) settle() error {
	for _, f := range []struct {
		name, value string
		to          func(json.RawMessage)
	}{
		{"info", o.info, func(v json.RawMessage) { o.Info = v }},
		{"selector", o.selector, func(v json.RawMessage) { o.Selector = v }},
	} {
		if f.value == "" {
			continue
		}
		if !json.Valid([]byte(f.value)) {
			return usageError{fmt.Errorf("--%s is no JSON: %.60s", f.name, f.value)}
		}
		f.to(json.RawMessage(f.value))
	}
	if o.expires < 0 {
		return usageError{errors.New("--expires is in the past")}
	}
	if o.expires > 0 {
		o.Expires = time.Now().Add(o.expires)
	}
	return nil
}

func (m *Main) runShare(ctx context.Context, hub, path string, o shareOptions) error {
	if err := o.settle(); err != nil {
		return err
	}
	r := m.reporter(o.json)
	defer r.Close()
	published := make(chan struct{}) // holds events and questions back: "shared" comes first
	var self *share.Peer             // when that is closed
	if o.approve {
		ask, err := m.newAsker(r)
		if err != nil {
			return err
		}
		o.Approve = func(ctx context.Context, i share.RemoteInfo) (share.Approval, error) {
			<-published
			return ask.approve(ctx, i, self.VerificationCode(i.Peer))
		}
	}
	local, peer, err := m.joinWith(ctx, hub, path, false)
	if err != nil {
		return err
	}
	defer local.Close()
	defer peer.Close()
	defer showConnections(peer, r)()
	self = peer

	ended := make(chan error, 1)
	o.OnEvent = func(e share.ShareEvent) {
		<-published
		showShareEvent(r, e, peer)
		if e.Kind == share.Ended && e.Err != nil {
			ended <- e.Err
		}
	}
	s, err := peer.Share(ctx, local.db, o.ShareOptions)
	if err != nil {
		close(published)
		return err
	}
	fields := map[string]any{"id": s.ID(), "name": s.Name(), "link": s.Link(), "peer": peer.ID()}
	link := s.Link()
	if o.Invited {
		var invite share.Invite
		if link, invite, err = s.Invite(ctx, share.InviteOptions{Label: "loveseat share", Expires: o.Expires}); err != nil {
			close(published)
			return err
		}
		fields["invite"], fields["invite_id"] = link, invite.ID
	}
	r.Event("shared", fields,
		fmt.Sprintf("%s is shared as %q by peer %s until %s. Others open it with\n\n  loveseat open %s '%s'\n  loveseat sync ./data/%s '%s'\n",
			path, s.Name(), share.ShortID(peer.ID()), o.until(), redact(hub), shortest(o.Invited, s.ID(), link), local.db.Name(), link))
	close(published)
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		if errors.Is(err, share.ErrExpired) || errors.Is(err, share.ErrRevoked) {
			r.Event("ended", map[string]any{"reason": err.Error()}, fmt.Sprintf("%s is not shared any more: %v", path, err))
			return nil
		}
		return fmt.Errorf("%s is not shared any more: %w", path, err)
	}
}

func (o *shareOptions) until() string {
	if o.Expires.IsZero() {
		return "Ctrl-C"
	}
	return o.Expires.Format("2006-01-02 15:04 MST") + " or Ctrl-C"
}

// shortest is what is enough to open a share: its id, or the link if that has an invite.
func shortest(invited bool, id, link string) string {
	if invited {
		return link
	}
	return id
}

func showShareEvent(r *reporter, e share.ShareEvent, self *share.Peer) {
	fields := map[string]any{"share": e.Remote.Share, "name": e.Remote.Name, "peer": e.Remote.Peer, "route": e.Remote.Route}
	if e.Remote.User != "" {
		fields["user"] = e.Remote.User
	}
	if e.Remote.Info != nil {
		fields["info"] = e.Remote.Info
	}
	who := share.ShortID(e.Remote.Peer)
	switch e.Kind {
	case share.Opened:
		code := self.VerificationCode(e.Remote.Peer)
		fields["code"] = code
		r.Event("opened", fields, fmt.Sprintf("%s opened the share (%s; verification code %s)", who, e.Remote.Route, code))
	case share.Closed:
		r.Event("closed", fields, fmt.Sprintf("%s closed the share", who))
	case share.Refused:
		fields["reason"] = e.Err.Error()
		r.Event("refused", fields, fmt.Sprintf("%s was refused: %v", who, e.Err))
	case share.Revoked:
		r.Event("revoked", fields, fmt.Sprintf("the access of %s was revoked", who))
	case share.WriteRefused:
		fields["writes"] = e.Writes
		w := e.Writes[len(e.Writes)-1]
		r.Event("write_refused", fields, fmt.Sprintf("%d writes of %s were refused, the last of %s: %s", len(e.Writes), who, shown(w.ID), shown(w.Reason)))
	case share.Failed:
		r.Warn("renewal_failed", map[string]any{"error": e.Err.Error()}, fmt.Sprintf("the hub cannot be told that the share is alive, trying again: %v", e.Err))
	}
}
