package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) doctorCommand() *cobra.Command {
	var asJSON bool
	var store, origin string
	cmd := &cobra.Command{
		Use:   "doctor HUB [SHARE]",
		Short: "Find out what is in the way of connections",
		Long: `Doctor tries, one after the other, what a connection needs: the hub and the rights
there, its changes feed, the clock, whether web pages may use it, the ways to other peers (ICE candidates, TURN, the hub's
relay), this machine's disk, and with SHARE that share. Each line says ok, warning or failed, and what
to do about it. It ends with status 1 if something failed.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runDoctor(cmd.Context(), append(args, "")[:2], store, origin, asJSON)
		},
	}
	cmd.Flags().StringVar(&store, "store", "", "`directory` of a local store to look at as well")
	cmd.Flags().StringVar(&origin, "origin", "", "`ORIGIN` of web pages that must be let in, such as https://example.org (default: any of this machine is tried, as a hint)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

// A doctor runs the checks of one command and tells their results.
type doctor struct {
	m        *Main
	r        *reporter
	hub      *url.URL // of the hub database, with credentials if there are any
	db       string   // its name
	identity string   // directory of the device key
	origin   string   // --origin
	failed   int
}

// checkTime bounds one check, and answerTime the wait for what may stay away: a signal to
// oneself, a TURN server. Tests wait longer, on machines that are busy.
var checkTime, answerTime = 20 * time.Second, 20 * time.Second

func (m *Main) runDoctor(ctx context.Context, args []string, store, origin string, asJSON bool) error {
	hub, ref := args[0], args[1]
	if !isURL(hub) {
		return usageError{fmt.Errorf("%.100q is not the URL of a hub database, such as http://127.0.0.1:5984/hub", cli.Public(hub))}
	}
	if u, err := url.Parse(origin); origin != "" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
		return usageError{fmt.Errorf("--origin %.100q: want scheme and host, like https://example.org", cli.Public(origin))}
	}
	identity, err := m.identityDir()
	if err != nil {
		return err
	}
	d := &doctor{m: m, r: m.reporter(asJSON), identity: identity, origin: origin}
	defer d.r.Close()
	if d.hub, d.db, err = doctorURL(m.withCredentials(hub)); err != nil {
		return err
	}
	d.disk("disk", identity)
	if store != "" {
		d.store(ctx, store)
	}
	if d.reach(ctx) && d.server(ctx) {
		d.cors(ctx)
		d.peers(ctx, ref)
	}
	if d.failed > 0 {
		return fmt.Errorf("%d of the checks failed", d.failed)
	}
	return ctx.Err()
}

// doctorURL splits the URL of a hub database.
func doctorURL(hub string) (*url.URL, string, error) {
	_, name, err := splitURL(hub)
	if err != nil {
		return nil, "", err
	}
	u, err := cli.ParseURL(hub)
	return u, name, err
}

// The results of a check.
const (
	checkOK      = "ok"
	checkWarning = "warning"
	checkFailed  = "failed"
)

// tell prints one line: what was found, and what to do about it ("": nothing).
func (d *doctor) tell(check, status, found, advice string) {
	if status == checkFailed {
		d.failed++
	}
	fields := map[string]any{"check": check, "status": status, "found": found}
	line := cli.Sprintf("%-8s %-9s %s", status, check, found)
	if advice != "" {
		fields["advice"] = advice
		line += "\n" + fmt.Sprintf("%18s %s", "", advice)
	}
	d.r.Event("check", fields, line)
}

func (d *doctor) ok(check, format string, args ...any) {
	d.tell(check, checkOK, fmt.Sprintf(format, args...), "")
}

func (d *doctor) fail(check, advice, format string, args ...any) bool {
	d.tell(check, checkFailed, fmt.Sprintf(format, args...), advice)
	return false
}

func (d *doctor) warn(check, advice, format string, args ...any) {
	d.tell(check, checkWarning, fmt.Sprintf(format, args...), advice)
}

// peers joins the hub and tries what peers do there.
func (d *doctor) peers(ctx context.Context, ref string) {
	short, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	peer, err := d.m.join(short, d.hub.String(), d.identity)
	if err != nil {
		d.fail("join", "Without joining the hub no share can be found: look at the lines above.", "cannot join the hub: %v", err)
		return
	}
	defer peer.Close()
	d.feed(ctx, peer.Peer)
	d.ice(ctx)
	d.relay(ctx)
	if ref != "" {
		d.share(ctx, peer.Peer, ref)
	}
}

// slowSignal is what a signal may take before a connection through the hub feels slow.
const slowSignal = 2 * time.Second

func (d *doctor) feed(ctx context.Context, peer *share.Peer) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	took, err := peer.Echo(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		d.fail("feed", "Peers find each other by the hub's _changes feed: let proxies pass answers on as they come (nginx: proxy_buffering off), and see the hub's log.", "a signal to oneself did not come back within %v", answerTime)
	case err != nil:
		d.fail("feed", "To connect, a peer must be allowed to write signals into the hub database: ask its operator for that right.", "cannot write a signal: %v", err)
	case took > slowSignal:
		d.warn("feed", "Connections take several such round trips to come up: a nearer hub, or one that is less busy, makes them faster.", "a signal to oneself took %v", took.Round(time.Millisecond))
	default:
		d.ok("feed", "a signal to oneself took %v", took.Round(100*time.Microsecond))
	}
}
