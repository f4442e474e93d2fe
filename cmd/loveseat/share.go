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
	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) shareCommand() *cobra.Command {
	var o shareOptions
	cmd := &cobra.Command{
		Use:   "share HUB DB | --websocket ADDRESS DB",
		Short: "Share a local database with the peers of a hub, until Ctrl-C",
		Long: `Shares a local database with the peers of a hub, until Ctrl-C.

All peers of the hub may open it, unless --allow, --approve or --invite is given:
then those whom one of them lets in. "always" as the answer to --approve is remembered,
and so are invites and what 'loveseat revoke' has taken away.

--websocket ADDRESS serves it there too, with HUB or without one: to whoever has the URL that
is printed, or with --allow, --approve or --invite to those whom one of them lets in. All else
that limits a share holds there as well.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.websocket != "" && len(args) == 1 {
				return o.withoutHub(cmd)
			}
			return exactArgs(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				args = []string{"", args[0]}
			}
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
	f.StringVar(&o.websocket, "websocket", "", "serve DB by WebSocket at this `ADDRESS` (127.0.0.1:5986), beside HUB or without one")
	f.BoolVar(&o.json, "json", false, "print one JSON event a line")
	return cmd
}

type shareOptions struct {
	share.ShareOptions
	info, selector string
	approve, json  bool
	expires        time.Duration
	websocket      string // address
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
	local, peer, err := m.sharer(ctx, hub, path)
	if err != nil {
		return err
	}
	defer local.Close()
	defer peer.Close()
	defer showConnections(peer.Peer, r)()
	self = peer.Peer

	ended := make(chan error, 1)
	o.OnEvent = func(e share.ShareEvent) {
		<-published
		showShareEvent(r, e, peer.Peer)
		if e.Kind == share.Ended && e.Err != nil {
			ended <- e.Err
		}
	}
	s, err := peer.Share(ctx, local.db, o.ShareOptions)
	if err != nil {
		close(published)
		return err
	}
	secret, err := m.showShared(ctx, r, s, hub, path, &o)
	close(published)
	if err != nil {
		return err
	}
	var served <-chan error
	if o.websocket != "" {
		var stop func()
		served, stop = background(ctx, func(ctx context.Context) error { return m.serveWebSocket(ctx, r, peer.id, s, path, secret, &o) })
		defer stop()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	case err := <-ended:
		if errors.Is(err, share.ErrExpired) || errors.Is(err, share.ErrRevoked) {
			r.Event("ended", map[string]any{"reason": err.Error()}, cli.Sprintf("%s is not shared any more: %v", label(path), err))
			return nil
		}
		return fmt.Errorf("%s is not shared any more: %w", label(path), err)
	}
}

// sharer opens a local database and joins the hub, if there is one.
func (m *Main) sharer(ctx context.Context, hub, path string) (*end, *joined, error) {
	if hub == "" {
		return m.alone(ctx, path)
	}
	return m.joinWith(ctx, hub, path, false)
}

// background runs fn until it ends or stop is called, which waits for it. result tells what it returned.
func background(ctx context.Context, fn func(context.Context) error) (result <-chan error, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	results, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		results <- fn(ctx)
	}()
	return results, func() { cancel(); <-done }
}

// showShared makes the invite that is asked for, whose secret it returns, and tells how the
// share is opened in the hub, if there is one.
func (m *Main) showShared(ctx context.Context, r *reporter, s *share.Share, hub, path string, o *shareOptions) (secret string, err error) {
	fields := map[string]any{"id": s.ID(), "name": s.Name(), "link": s.Link(), "peer": s.Peer()}
	link := s.Link()
	if o.Invited {
		var invite share.Invite
		if link, invite, err = s.Invite(ctx, share.InviteOptions{Label: "loveseat share", Expires: o.Expires}); err != nil {
			return "", err
		}
		fields["invite"], fields["invite_id"] = link, invite.ID
		secret = link[strings.LastIndexByte(link, '#')+1:]
	}
	if hub == "" {
		return secret, nil
	}
	r.Event("shared", fields,
		fmt.Sprintf("%s is shared as %q by peer %s until %s. Others open it with\n\n  loveseat open %s '%s'\n  loveseat sync %s '%s'\n%s",
			label(path), s.Name(), share.ShortID(s.Peer()), o.until(), m.hubWord(hub), shortest(o.Invited, s.ID(), link), shellWord("./data/"+cli.Text(s.DB())), link, m.hubHint(hub)))
	return secret, nil
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
		r.Event("opened", fields, cli.Sprintf("%s opened the share (%s; verification code %s)", who, e.Remote.Route, code))
	case share.Closed:
		r.Event("closed", fields, fmt.Sprintf("%s closed the share", who))
	case share.Refused:
		fields["reason"] = e.Err.Error()
		r.Event("refused", fields, cli.Sprintf("%s was refused: %v", who, e.Err))
	case share.Revoked:
		r.Event("revoked", fields, fmt.Sprintf("the access of %s was revoked", who))
	case share.WriteRefused:
		fields["writes"] = e.Writes
		w := e.Writes[len(e.Writes)-1]
		r.Event("write_refused", fields, cli.Sprintf("%d writes of %s were refused, the last of %s: %s", len(e.Writes), who, cli.Name(w.ID), w.Reason))
	case share.Failed:
		r.Warn("renewal_failed", map[string]any{"error": e.Err.Error()}, cli.Sprintf("the hub cannot be told that the share is alive, trying again: %v", e.Err))
	}
}
