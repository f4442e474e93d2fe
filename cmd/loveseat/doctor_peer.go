package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// ice looks for the addresses at which peers may reach this one.
func (d *doctor) ice(ctx context.Context) {
	servers, err := d.iceServers(ctx)
	if err != nil {
		d.fail("ice", "Look at the hub's log.", "the hub does not tell its STUN and TURN servers: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	c := d.m.network
	c.Logger = d.m.logger()
	c.ICEServers = func(context.Context) ([]peeradapter.ICEServer, error) { return servers, nil }
	found, err := peeradapter.Probe(ctx, c)
	if err != nil {
		d.fail("ice", "WebRTC needs UDP sockets: look at --interface, --network and --udp-port, and at what this machine allows.", "no ICE candidates: %v", err)
		return
	}
	d.hosts(found)
	d.stun(servers, found)
	d.turn(ctx, servers)
}

func (d *doctor) iceServers(ctx context.Context) ([]peeradapter.ICEServer, error) {
	server, name, err := splitURL(d.hub.String())
	if err != nil {
		return nil, err
	}
	client, err := kivik.New(peeradapter.HTTPDriver, server)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return peeradapter.HubICEServers(ctx, client.DB(name))
}

func (d *doctor) hosts(found []peeradapter.Candidate) {
	var v4, v6, all []string
	for _, c := range found {
		switch {
		case c.Kind != "host" || loopback(c.Address+":0") || loopback("["+c.Address+"]:0"):
		case strings.Contains(c.Address, ":"):
			v6 = append(v6, c.Address)
		default:
			v4 = append(v4, c.Address)
		}
	}
	if all = append(v4, v6...); len(all) == 0 {
		d.warn("host", "Peers on other machines cannot be reached directly: look at the network, and at --interface and --network.", "no address but loopback (of %d candidates)", len(found))
		return
	}
	d.ok("host", "%d IPv4 and %d IPv6 addresses: %s", len(v4), len(v6), strings.Join(all, ", "))
}

// stun tells whether a STUN server has seen this peer from outside. A TURN server is one too.
func (d *doctor) stun(servers []peeradapter.ICEServer, found []peeradapter.Candidate) {
	for _, c := range found {
		if c.Kind == "srflx" {
			d.ok("srflx", "seen from outside as %s", c.Address)
			return
		}
	}
	if urls := iceURLs(servers, "stun:", "stuns:"); len(urls) > 0 {
		d.warn("srflx", "Without an outside address behind a NAT is reached by relays alone: UDP to the STUN server must be allowed. (On a public address, or on the STUN server's own network, all is well.)",
			"no outside address from %s", strings.Join(urls, ", "))
		return
	}
	d.warn("srflx", "Peers in other networks may not get through to this one: name a STUN server in the hub's configuration.", "the hub names no STUN server")
}

func iceURLs(servers []peeradapter.ICEServer, schemes ...string) (urls []string) {
	for _, s := range servers {
		for _, u := range s.URLs {
			for _, scheme := range schemes {
				if strings.HasPrefix(u, scheme) {
					urls = append(urls, u)
				}
			}
		}
	}
	return urls
}

// turn asks each TURN server for a relay.
func (d *doctor) turn(ctx context.Context, servers []peeradapter.ICEServer) {
	if len(iceURLs(servers, "turn:", "turns:")) == 0 {
		d.warn("turn", "Where NATs let no direct path through, only the hub's relay is left: hubserver brings a TURN server of its own (--turn-udp).", "the hub names no TURN server")
		return
	}
	for _, s := range servers {
		for _, u := range iceURLs([]peeradapter.ICEServer{s}, "turn:", "turns:") {
			d.allocate(ctx, s, u)
		}
	}
}

func (d *doctor) allocate(ctx context.Context, s peeradapter.ICEServer, url string) {
	ctx, cancel := context.WithTimeout(ctx, answerTime/2)
	defer cancel()
	began := time.Now()
	relay, err := peeradapter.ProbeTURN(ctx, s, url)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		d.fail("turn", "The hub's operator must open its port, and firewalls on the way must let it through.", "%s does not answer", url)
	case err != nil:
		d.fail("turn", "If it is about credentials, the TURN server and the hub must have the same secret, and the same time.", "%s gives no relay: %v", url, err)
	default:
		d.ok("turn", "%s gives the relay %s in %v", url, relay, time.Since(began).Round(100*time.Microsecond))
	}
}

// relay asks the hub for a ticket to its own relay.
func (d *doctor) relay(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	header := http.Header{"Content-Type": {"application/json"}}
	if id, err := share.LoadIdentity(d.identity); err == nil {
		header.Set(hubdoc.ProofHeader, id.RelayProof(d.hub, d.db))
	}
	var answer struct{ Ticket string }
	_, err := d.ask(ctx, http.MethodPost, d.db+"/_relay", bytes.NewReader(fmt.Appendf(nil, `{"session":%q,"side":"open"}`, rand.Text())), header, &answer)
	switch {
	case err == nil && answer.Ticket != "":
		d.ok("relay", "the hub relays where there is no other path")
	case statusOf(err) == http.StatusForbidden || statusOf(err) == http.StatusUnauthorized:
		d.fail("relay", "Ask the hub's operator for the rights to signal and to open shares in the hub database.", "the hub's relay refuses: %v", err)
	default:
		d.warn("relay", "Peers that find no path by WebRTC cannot connect through this hub: only Loveseat's own has a relay, unless it is turned off.", "the hub has no relay")
	}
}

const echoes = 5 // requests whose quickest is the round trip

// share opens a share and asks the sharer a few times.
func (d *doctor) share(ctx context.Context, peer *share.Peer, ref string) {
	ctx, cancel := context.WithTimeout(ctx, 2*checkTime)
	defer cancel()
	began := time.Now()
	remote, err := peer.Open(ctx, ref)
	switch {
	case statusOf(err) == http.StatusNotFound:
		d.fail("share", "Its sharer must be running (loveseat ls HUB lists what is shared).", "%v", err)
		return
	case statusOf(err) == http.StatusForbidden:
		d.fail("share", "Ask its sharer to let this peer in: loveseat id shows who it is.", "the sharer refuses: %v", err)
		return
	case err != nil:
		d.fail("share", "If no path was found: look at srflx, turn and relay above, on the sharer's machine too.", "%v", err)
		return
	}
	defer remote.Close()
	opened := time.Since(began)
	var best time.Duration
	for range echoes {
		began := time.Now()
		if err := echo(ctx, remote); err != nil {
			d.fail("share", "The connection broke at once: look at the sharer's output.", "opened, but the sharer does not answer: %v", err)
			return
		}
		if took := time.Since(began); best == 0 || took < best {
			best = took
		}
	}
	d.ok("share", "%q is open (route %s) after %v; a round trip takes %v", remote.Info().Name, remote.Route(), opened.Round(time.Millisecond), best.Round(10*time.Microsecond))
}

func echo(ctx context.Context, remote *share.Remote) error {
	u := remote.URL()
	u.Path, u.RawPath = "/", ""
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := remote.HTTPClient().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}
