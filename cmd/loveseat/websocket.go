package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// withWebSocket adds to `share` that the database is served by WebSocket, beside the hub or without one.
func (m *Main) withWebSocket(cmd *cobra.Command) *cobra.Command {
	var address string
	cmd.Use = "share HUB DB | --websocket ADDRESS DB"
	cmd.Flags().StringVar(&address, "websocket", "", "serve DB to programs that know its URL at this `ADDRESS` (127.0.0.1:5986), beside HUB or without one")
	args, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if address != "" && len(given) == 1 {
			return nil
		}
		return args(cmd, given)
	}
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		if address == "" {
			return run(cmd, given)
		}
		if err := wholeDatabase(cmd); err != nil {
			return err
		}
		path := given[len(given)-1]
		group, ctx := errgroup.WithContext(cmd.Context())
		group.Go(func() error { return m.runWebSocket(ctx, cmd, address, path) })
		if len(given) == 2 {
			cmd.SetContext(ctx)
			group.Go(func() error { return run(cmd, given) })
		}
		return group.Wait()
	}
	return cmd
}

// wholeDatabase refuses the flags of a share that a WebSocket knows nothing of: it serves all to whoever has the URL.
func wholeDatabase(cmd *cobra.Command) error {
	for _, name := range []string{"selector", "doc-ids", "allow", "approve", "invite", "expires", "write"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			return usageError{fmt.Errorf("--%s goes with HUB only: --websocket serves the whole database to whoever has its URL", name)}
		}
	}
	return nil
}

func (m *Main) runWebSocket(ctx context.Context, cmd *cobra.Command, address, path string) error {
	identity, err := m.identityDir(path)
	if err != nil {
		return err
	}
	local, err := m.openEnd(ctx, path, identity, false)
	if err != nil {
		return err
	}
	defer local.Close()
	id, err := share.LoadIdentity(identity)
	if err != nil {
		return err
	}
	asJSON, _ := cmd.Flags().GetBool("json")
	r := m.reporter(asJSON)
	defer r.Close()
	o := peeradapter.ServeOptions{Secret: strings.ToLower(rand.Text()), WireOptions: peeradapter.WireOptions{Identity: id, Logger: m.logger()}}
	o.ReadOnly, _ = cmd.Flags().GetBool("read-only")
	o.OnListen = func(address string) {
		full := address + "#" + o.Secret
		r.Event("serving", map[string]any{"url": full, "peer": id.ID(), "db": local.db.Name()},
			fmt.Sprintf("%s is served until Ctrl-C to whoever has this URL. Others open it with\n\n  loveseat open '%s'\n  loveseat sync ./data/%s '%s'\n",
				path, full, local.db.Name(), full))
	}
	err = peeradapter.Serve(ctx, "ws://"+address, o, local.db)
	if err != nil {
		return fmt.Errorf("--websocket %s: %w", address, err)
	}
	return nil
}

// withAddress adds to `open` that it takes the URL of a database that is served without a hub.
func (m *Main) withAddress(cmd *cobra.Command) *cobra.Command {
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
		return m.runOpenAddress(cmd, given[0])
	}
	return cmd
}

func (m *Main) runOpenAddress(cmd *cobra.Command, address string) error {
	listen, _ := cmd.Flags().GetString("listen")
	if !loopback(listen) {
		return usageError{fmt.Errorf("--listen %s: only a loopback address such as 127.0.0.1:5985 is allowed, since whoever reaches it gets the database", listen)}
	}
	identity, err := m.identityDir()
	if err != nil {
		return err
	}
	remote, err := m.openAddress(cmd.Context(), address, identity)
	if err != nil {
		return err
	}
	defer remote.Close()
	asJSON, _ := cmd.Flags().GetBool("json")
	r := m.reporter(asJSON)
	defer r.Close()
	db := remote.DB("").Name()
	return serveOpened(cmd.Context(), openedAddress{remote}, db, listen, func(local string) {
		r.Event("open", map[string]any{"url": local, "db": db, "peer": remote.Peer(), "route": remote.Route()},
			fmt.Sprintf("%q is open until Ctrl-C (route %s). Try\n\n  curl %s\n  curl '%s/_all_docs?limit=5'\n", db, remote.Route(), local, local))
	})
}

// openAddress opens what is served at an address that names a database.
func (m *Main) openAddress(ctx context.Context, address, identity string) (*peeradapter.Remote, error) {
	id, err := share.LoadIdentity(identity)
	if err != nil {
		return nil, err
	}
	remote, err := peeradapter.Open(ctx, address, peeradapter.WireOptions{Identity: id, Logger: m.logger()})
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

// A relayFlag is --relay.
type relayFlag peeradapter.RelayMode

// Set implements pflag.Value.
func (f *relayFlag) Set(s string) error {
	switch mode := peeradapter.RelayMode(s); mode {
	case "auto":
		*f = ""
	case peeradapter.RelayHub, peeradapter.RelayOff:
		*f = relayFlag(mode)
	default:
		return errors.New("want auto, hub or off")
	}
	return nil
}

func (f *relayFlag) String() string {
	if *f == "" {
		return "auto"
	}
	return string(*f)
}

// Type implements pflag.Value.
func (f *relayFlag) Type() string { return "mode" }
