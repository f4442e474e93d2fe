package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// networkFlags adds the flags that say how peers are reached to the commands that
// connect to peers.
func networkFlags(root *cobra.Command, c *peeradapter.Config) {
	connects := map[string]bool{"share": true, "open": true, "sync": true, "join": true, "verify": true, "conflicts": true, "doctor": true}
	for _, cmd := range root.Commands() {
		if !connects[cmd.Name()] {
			continue
		}
		f := cmd.Flags()
		f.StringSliceVar(&c.Interfaces, "interface", nil, "connect to peers over these network `interfaces` only (eth0, 'wlan*'), or not over '!docker0'")
		f.StringSliceVar(&c.Networks, "network", nil, "connect to peers from these `addresses` only (192.168.0.0/16, fd00::/8), or not from '!10.8.0.0/16'")
		f.IntVar(&c.UDPPort, "udp-port", 0, "use one UDP `port` for all peers (default: a free port for each)")
		f.Var((*relayFlag)(&c.Relay.Mode), "relay", "talk to peers through the hub, encrypted from end to end: auto (where no direct path is found), hub or off")
		f.BoolVar(&c.RelayOnly, "relay-only", false, "connect to peers through TURN servers only: they do not learn this machine's address")
	}
}

// networkNames are the flags of networkFlags.
var networkNames = []string{"interface", "network", "udp-port", "relay", "relay-only"}

// showConnections prints an event, with --json, for whatever becomes of the connections to
// peers, until stop is called.
func showConnections(peer *share.Peer, r *reporter) (stop func()) {
	_, stop = background(context.Background(), func(ctx context.Context) error {
		return peer.WatchConnections(ctx, func(e share.ConnectionEvent) error {
			fields := map[string]any{"state": e.State, "connection": e.Connection}
			if e.Err != nil {
				fields["error"] = e.Err.Error()
			}
			r.Event("connection", fields, "")
			return nil
		})
	})
	return stop
}

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
