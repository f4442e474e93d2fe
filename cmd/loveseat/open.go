package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) openCommand() *cobra.Command {
	var listen string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "open HUB SHARE",
		Short: "Open a share as a CouchDB URL on loopback, until Ctrl-C",
		Long: `Open connects to a share and serves it as the URL of a CouchDB database on this
machine, for curl, PouchDB, Fauxton or any other CouchDB client, until Ctrl-C.`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runOpen(cmd.Context(), args[0], args[1], listen, asJSON)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "loopback `ADDRESS` of the URL; port 0: a free one")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON event a line")
	return cmd
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

func (m *Main) runOpen(ctx context.Context, hub, ref, listen string, asJSON bool) error {
	if !loopback(listen) {
		return usageError{fmt.Errorf("--listen %s: only a loopback address such as 127.0.0.1:5985 is allowed, since whoever reaches it gets the share", listen)}
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
	r := m.reporter(asJSON)
	defer r.Close()
	defer showConnections(peer.Peer, r)()
	remote, err := peer.OpenWith(ctx, ref, m.opening)
	if err != nil {
		return err
	}
	i := remote.Info()
	return serveOpened(ctx, remote, i.DB, listen, func(address string) {
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
func serveOpened(ctx context.Context, remote opened, db, listen string, ready func(address string)) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("%w: is another program using the port? Choose one with --listen 127.0.0.1:PORT", err)
	}
	server := &http.Server{Handler: proxy(remote), ReadHeaderTimeout: 10 * time.Second}
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

// proxy forwards CouchDB's HTTP API to an opened share, as it is. Pages of other
// origins are kept out, also those whose name resolves to this machine (DNS rebinding).
func proxy(remote opened) http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = remote.URL().Scheme, remote.URL().Host
			r.Out.Host = remote.URL().Host
			r.Out.Header.Del("Origin")
			r.Out.Header.Del("Authorization") // of this loopback address; the peer has its own proof
			r.Out.Header.Del("Cookie")
		},
		Transport:     remote.HTTPClient().Transport,
		FlushInterval: -1, // changes feeds
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return
			}
			e := couch.AsError(err)
			if !errors.As(err, new(*couch.Error)) {
				e = &couch.Error{Status: http.StatusBadGateway, Code: "bad_gateway", Reason: "The peer cannot be reached: " + err.Error()}
			}
			couchhttp.WriteError(w, e)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !loopback(net.JoinHostPort(host, "0")) {
			couchhttp.WriteError(w, couch.Forbidden("This address is for programs on this machine: ask for it as 127.0.0.1 or localhost."))
			return
		}
		origin, err := url.Parse(r.Header.Get("Origin"))
		if r.Header.Get("Origin") != "" && (err != nil || !loopback(net.JoinHostPort(origin.Hostname(), "0"))) {
			couchhttp.WriteError(w, couch.Forbidden("Pages of "+r.Header.Get("Origin")+" may not use this share."))
			return
		}
		if allowOrigin(w, r) {
			return
		}
		forward.ServeHTTP(w, r)
	})
}

// allowOrigin adds CORS headers for pages on loopback, and answers a preflight itself (true).
// https://fetch.spec.whatwg.org/#http-cors-protocol
func allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "ETag, Content-Type, Cache-Control, Accept-Ranges, Server")
	h.Add("Vary", "Origin")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, PUT, POST, HEAD, DELETE, COPY")
	h.Set("Access-Control-Allow-Headers", "Accept, Content-Type, If-Match, If-None-Match, Range, X-Requested-With")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
