package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/share"
)

// opening is what the flags of open say.
type opening struct {
	listen  string
	origins []string
	asJSON  bool
}

func (m *Main) openCommand() *cobra.Command {
	var o opening
	cmd := &cobra.Command{
		Use:   "open HUB SHARE",
		Short: "Open a share as a CouchDB URL on loopback, until Ctrl-C",
		Long: `Open connects to a share and serves it as the URL of a CouchDB database on this
machine, for curl, PouchDB, Fauxton or any other CouchDB client, until Ctrl-C.

Web pages may use the URL if they come from this machine (http://localhost:3000) or, where
--origin names others, from those only. What the sharer answers is data: no script, cookie or
redirect of theirs gets to the browser.`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runOpen(cmd.Context(), args[0], args[1], &o)
		},
	}
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:0", "loopback `ADDRESS` of the URL; port 0: a free one")
	cmd.Flags().StringSliceVar(&o.origins, "origin", nil, "web `origin` whose pages may use the URL (repeatable; default: those on loopback)")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON event a line")
	return m.withAddress(cmd, &o)
}

// openingFlags adds the flags that say what sharers are shown to the commands that open shares.
func (m *Main) openingFlags(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "open", "sync", "verify", "conflicts":
			cmd.Flags().StringVar(&m.opening.Invite, "invite", "", "the `SECRET` of an invite (default: what follows # in the share's link)")
			cmd.Flags().Func("device", "the `NAME` of this device that a sharer sees who is asked to let it in", func(name string) error {
				m.opening.Info = map[string]string{"device": name}
				return nil
			})
		}
	}
}

// check refuses flags that cannot be meant.
func (o *opening) check() error {
	if !loopback(o.listen) {
		return usageError{fmt.Errorf("--listen %s: only a loopback address such as 127.0.0.1:5985 is allowed, since whoever reaches it gets the share", o.listen)}
	}
	for i, origin := range o.origins {
		u, err := url.Parse(strings.TrimSuffix(origin, "/"))
		if err != nil || u.Scheme == "" || u.Host == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
			return usageError{fmt.Errorf("--origin %.100q: want scheme and host, like https://example.org", cli.Public(origin))}
		}
		o.origins[i] = strings.ToLower(u.String())
	}
	return nil
}

func (m *Main) runOpen(ctx context.Context, hub, ref string, o *opening) error {
	if err := o.check(); err != nil {
		return err
	}
	identity, err := m.identityDir()
	if err != nil {
		return err
	}
	peer, err := m.join(ctx, hub, identity)
	if err != nil {
		return err
	}
	defer peer.Close()
	r := m.reporter(o.asJSON)
	defer r.Close()
	defer showConnections(peer.Peer, r)()
	remote, err := peer.OpenWith(ctx, ref, m.opening)
	if err != nil {
		return err
	}
	i := remote.Info()
	return serveOpened(ctx, remote, i.DB, o, func(address string) {
		code := peer.VerificationCode(i.Peer)
		r.Event("open", map[string]any{"url": address, "share": i.ID, "name": i.Name, "peer": i.Peer, "route": remote.Route(), "code": code},
			cli.Sprintf("%q of peer %s is open until Ctrl-C (route %s; verification code %s). Try\n\n",
				cli.Name(i.Name), share.ShortID(i.Peer), remote.Route(), code)+tryCurl(address))
	})
}

// An opened is a database on another peer.
type opened interface {
	URL() *url.URL
	HTTPClient() *http.Client
	Close() error
}

// serveOpened serves an opened database on loopback until ctx ends. ready is told its URL.
func serveOpened(ctx context.Context, remote opened, db string, o *opening, ready func(address string)) error {
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("%w: is another program using the port? Choose one with --listen 127.0.0.1:PORT", err)
	}
	server := &http.Server{Handler: newProxy(remote, o.origins), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	ready((&url.URL{Scheme: "http", Host: l.Addr().String()}).JoinPath(url.PathEscape(db)).String())
	select {
	case <-ctx.Done():
		_ = remote.Close() // ends requests under way
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(stop) != nil {
			_ = server.Close()
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	case err := <-served:
		return err
	}
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
