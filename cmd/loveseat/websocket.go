package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// refuseFlags refuses flags that would have no effect.
func refuseFlags(cmd *cobra.Command, why string, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			return usageError{fmt.Errorf("--%s %s", name, why)}
		}
	}
	return nil
}

// withoutHub refuses what means nothing where a share is served by WebSocket alone.
func (o *shareOptions) withoutHub(cmd *cobra.Command) error {
	if err := refuseFlags(cmd, "is about peers of a hub: share HUB DB --websocket ADDRESS serves them too", append([]string{"name", "info"}, networkNames...)...); err != nil {
		return err
	}
	if slices.ContainsFunc(o.Allow, func(id string) bool { return strings.HasPrefix(id, "user:") }) {
		return usageError{errors.New("--allow user:NAME needs a hub, which knows its users: share HUB DB --websocket ADDRESS, or --allow with peer ids (loveseat id)")}
	}
	return nil
}

// alone opens a local database and makes a peer whose hub nobody else sees, for
// a share that is served by other ways only. The caller closes both, the peer first.
func (m *Main) alone(ctx context.Context, path string) (*end, *joined, error) {
	identity, err := m.identityDir(path)
	if err != nil {
		return nil, nil, err
	}
	local, err := m.openEnd(ctx, path, identity, false)
	if err != nil {
		return nil, nil, err
	}
	peer, err := m.hermit(ctx, identity)
	if err != nil {
		_ = local.Close()
		return nil, nil, err
	}
	return local, peer, nil
}

func (m *Main) hermit(ctx context.Context, identity string) (_ *joined, err error) {
	id, err := share.LoadIdentity(identity)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "loveseat-share-")
	if err != nil {
		return nil, err
	}
	hub := closing(func() error { return os.RemoveAll(dir) })
	store, err := localdb.OpenStore(dir, localdb.Options{})
	if err == nil {
		hub = func() error { return errors.Join(store.Close(), os.RemoveAll(dir)) }
		err = store.Create(ctx, "hub")
	}
	var peer *share.Peer
	if err == nil {
		peer, err = share.Join(ctx, store.DB("hub"), share.Config{
			Identity: id, Logger: m.logger(),
			NewTransport: func(share.Signaler) (share.Transport, error) { return new(unreachable), nil },
		})
	}
	if err != nil {
		return nil, errors.Join(err, hub.Close())
	}
	return &joined{peer, id, hub}, nil
}

// An unreachable is a transport that leads nowhere.
type unreachable struct{ peeradapter.Memory }

// Listen implements [share.Transport].
func (u *unreachable) Listen(_ context.Context, self string) (net.Listener, error) {
	return u.Memory.Listen(self)
}

// Close implements [share.Transport].
func (u *unreachable) Close() error { return nil }

// serveWebSocket serves a share of id by WebSocket until ctx ends or that fails. invite is the secret of an invite, if there is one.
func (m *Main) serveWebSocket(ctx context.Context, r *reporter, id *share.Identity, s *share.Share, path, invite string, o *shareOptions) error {
	wire := peeradapter.ServeOptions{Secret: strings.ToLower(rand.Text()), WireOptions: peeradapter.WireOptions{Identity: id, Logger: m.logger()}}
	whom := "whoever has this URL"
	switch {
	case o.Invited:
		invite = "#" + invite
	case o.approve || len(o.Allow) > 0:
		whom = "those who are let in"
	default:
		invite = "#" + wire.Secret
	}
	wire.OnListen = func(address string) {
		address += invite
		r.Event("serving", map[string]any{"url": address, "peer": id.ID(), "db": s.DB(), "id": s.ID()},
			fmt.Sprintf("%s is served until %s to %s. Others open it with\n\n  loveseat open '%s'\n  loveseat sync %s '%s'\n",
				label(path), o.until(), whom, address, shellWord("./data/"+cli.Text(s.DB())), address))
	}
	if err := peeradapter.ServeShare(ctx, "ws://"+o.websocket, wire, s); err != nil {
		return fmt.Errorf("--websocket %s: %w", o.websocket, err)
	}
	return nil
}

// withAddress adds to `open` that it takes the URL of a database that is served without a hub.
func (m *Main) withAddress(cmd *cobra.Command, o *opening) *cobra.Command {
	cmd.Use = "open HUB SHARE | ws://PEER@HOST:PORT/DB#SECRET"
	args, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if len(given) == 1 && peeradapter.IsAddress(given[0]) {
			return nil
		}
		return args(cmd, given)
	}
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		if len(given) != 1 {
			return run(cmd, given)
		}
		if err := refuseFlags(cmd, "is about peers of a hub, which an address needs none of", networkNames...); err != nil {
			return err
		}
		return m.runOpenAddress(cmd.Context(), given[0], o)
	}
	return cmd
}

func (m *Main) runOpenAddress(ctx context.Context, address string, o *opening) error {
	if err := o.check(); err != nil {
		return err
	}
	identity, err := m.identityDir()
	if err != nil {
		return err
	}
	remote, err := m.openAddress(ctx, address, identity)
	if err != nil {
		return err
	}
	defer remote.Close()
	r := m.reporter(o.asJSON)
	defer r.Close()
	db := remote.DB("").Name()
	return serveOpened(ctx, openedAddress{remote}, db, o, func(local string) {
		r.Event("open", map[string]any{"url": local, "db": db, "peer": remote.Peer(), "route": remote.Route()},
			cli.Sprintf("%q is open until Ctrl-C (route %s). Try\n\n", cli.Name(db), remote.Route())+tryCurl(local))
	})
}

// openAddress opens what is served at an address that names a database.
func (m *Main) openAddress(ctx context.Context, address, identity string) (*peeradapter.Remote, error) {
	id, err := share.LoadIdentity(identity)
	if err != nil {
		return nil, err
	}
	remote, err := peeradapter.Open(ctx, address, peeradapter.WireOptions{Identity: id, Opening: m.opening, Logger: m.logger()})
	if err != nil {
		return nil, err
	}
	if remote.DB("").Name() == "" {
		_ = remote.Close()
		return nil, usageError{errors.New("the address names no database: ws://PEER@HOST:PORT/DB#SECRET")}
	}
	return remote, nil
}

func (m *Main) openAddressEnd(ctx context.Context, address, identity string) (*end, error) {
	remote, err := m.openAddress(ctx, address, identity)
	if err != nil {
		return nil, err
	}
	return &end{db: remote.DB(""), route: remote.Route, Closer: remote}, nil
}

// An openedAddress is the database of a Remote's URL.
type openedAddress struct{ *peeradapter.Remote }

func (o openedAddress) URL() *url.URL { return o.Remote.URL("") }
