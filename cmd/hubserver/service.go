package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/peeradapter/turnserver"
)

// serviceFlags is what can be configured of the hub's own duties: its hub
// databases, quotas, ICE and TURN, and where the databases are.
type serviceFlags struct {
	couchdb   string
	databases []string
	quotas    hub.Quotas
	limits    couchhttp.Limits
	relays    bool
	relay     hub.Relay

	iceServers  []string
	turnServers []string
	turnSecret  string
	turn        turnserver.Config
	turnIP      string
	turnPorts   string
	turnTargets []string
}

func (f *serviceFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.couchdb, "couchdb", "", "`URL` of a CouchDB server, with an administrator's name and password, that keeps all databases instead of --data")
	fl.StringArrayVar(&f.databases, "hub-database", []string{"hub"}, "hub database, and the roles that may do what there: `NAME [list=ROLES] [publish=ROLES] [open=ROLES] [signal=ROLES]`, ROLES with commas, * for everybody (repeatable)")

	fl.Float64Var(&f.quotas.Requests, "limit-requests", 1000, "requests a second of one user or address; -1: no limit, as with the other limits")
	fl.Float64Var(&f.quotas.Documents, "limit-documents", 1000, "documents that one user or address writes in a second")
	fl.Float64Var(&f.quotas.Signals, "limit-signals", 200, "signals that one user or address sends in a second")
	fl.IntVar(&f.quotas.Concurrent, "limit-concurrent", 128, "requests of one user or address at a time")
	fl.IntVar(&f.quotas.Feeds, "limit-feeds", 200, "waiting changes feeds of one user or address")
	fl.IntVar(&f.quotas.AllFeeds, "limit-all-feeds", 50_000, "waiting changes feeds of all")
	fl.IntVar(&f.quotas.Shares, "limit-shares", 256, "shares of one peer at a time; one user or address may have four times as many")
	fl.Int64Var(&f.quotas.ShareBytes, "limit-share-bytes", 2<<20, "bytes of the documents of one peer's shares; one user or address may have four times as many")
	fl.IntVar(&f.quotas.Waiting, "limit-waiting", 10_000, "signals of one peer, user or address that their recipients have not yet taken")
	fl.Int64Var(&f.quotas.WaitingBytes, "limit-waiting-bytes", 32<<20, "bytes of those signals")
	fl.IntVar(&f.quotas.Databases, "limit-databases", -1, "databases on the server")
	fl.Int64Var(&f.quotas.Memory, "limit-memory", 512<<20, "bytes held at a time for requests: their bodies, what is read from them, and queries")
	fl.DurationVar(&f.quotas.Upload, "limit-upload", time.Minute, "time that a request body may take besides a second for each KiB")
	fl.Int64Var(&f.limits.Document, "max-document-size", 8_000_000, "bytes of one document")
	fl.Int64Var(&f.limits.Body, "max-body-size", 64<<20, "bytes of one request body that is JSON")
	fl.Int64Var(&f.limits.Attachment, "max-attachment-size", 4<<30, "bytes of one attachment")

	fl.BoolVar(&f.relays, "relay", true, "pass on what peers that find no direct path say to each other; the hub cannot read it")
	fl.IntVar(&f.relay.Sessions, "relay-user-sessions", 32, "such connections of one user or address at a time")
	fl.IntVar(&f.relay.AllSessions, "relay-sessions", 1000, "such connections of all")
	fl.Float64Var(&f.relay.Bytes, "relay-bandwidth", 4<<20, "bytes a second passed on for one user or address")

	fl.StringSliceVar(&f.iceServers, "ice-server", nil, "`URL` of a STUN server for peers, like stun:stun.example.org:3478 (repeatable)")
	fl.StringSliceVar(&f.turnServers, "turn-server", nil, "`URL` of a TURN server that shares --turn-secret, like turn:turn.example.org:3478?transport=udp (repeatable)")
	fl.StringVar(&f.turnSecret, "turn-secret", "", "`secret` that TURN credentials are made with; by default random")
	fl.StringVar(&f.turn.UDP, "turn-udp", "", "`address` of the hub's own TURN server for UDP, like 0.0.0.0:3478")
	fl.StringVar(&f.turn.TCP, "turn-tcp", "", "`address` of the hub's own TURN server for TCP")
	fl.StringVar(&f.turnIP, "turn-ip", "", "`IP` address at which peers reach the hub's own TURN server")
	fl.StringVar(&f.turnPorts, "turn-ports", "49152-65535", "UDP ports of its relays, `FIRST-LAST`")
	fl.StringSliceVar(&f.turnTargets, "turn-target", nil, "`network` to which it relays although it is not public, like 192.168.0.0/16 (repeatable)")
	fl.IntVar(&f.turn.UserAllocations, "turn-user-relays", 32, "relays of one user at a time")
	fl.IntVar(&f.turn.Allocations, "turn-relays", 4096, "relays of all users")
	fl.Int64Var(&f.turn.UserBandwidth, "turn-bandwidth", 4<<20, "bytes a second relayed for one user")
	markSecret(fl, "turn-secret", "")
}

// configure fills in what the flags say, and starts the TURN server if there shall be one.
func (f *serviceFlags) configure(c *hub.Config) (*turnserver.Server, error) {
	c.Limits, c.Service.Quotas, c.Service.Shared = f.limits, f.quotas, f.couchdb != ""
	c.Service.Relay = f.relay
	c.Service.Relay.Off = !f.relays
	for _, text := range f.databases {
		databases, err := hub.ParseDatabases(text)
		if err != nil {
			return nil, usageError{fmt.Errorf("--hub-database: %w", err)}
		}
		c.Service.Databases = append(c.Service.Databases, databases...)
	}
	for _, u := range f.iceServers {
		c.Service.ICE.Servers = append(c.Service.ICE.Servers, hub.ICEServer{URLs: []string{u}})
	}
	c.Service.ICE.TURN, c.Service.ICE.Secret = f.turnServers, f.turnSecret
	if f.turn.UDP == "" && f.turn.TCP == "" {
		if len(f.turnServers) > 0 && f.turnSecret == "" {
			return nil, usageError{fmt.Errorf("--turn-server needs --turn-secret")}
		}
		return nil, nil
	}
	return f.startTURN(c)
}

// revsLimits keeps short what hub databases remember of shares, which are renewed all the time.
func (f *serviceFlags) revsLimits() map[string]int {
	limits := map[string]int{}
	for _, text := range f.databases {
		databases, _ := hub.ParseDatabases(text) // configure tells of errors
		for _, d := range databases {
			limits[d.Name] = 20
		}
	}
	return limits
}

func (f *serviceFlags) startTURN(c *hub.Config) (*turnserver.Server, error) {
	t := f.turn
	if f.turnSecret == "" {
		secret := make([]byte, 20)
		_, _ = rand.Read(secret) // never fails
		f.turnSecret = hex.EncodeToString(secret)
	}
	t.Secret, t.Logger = f.turnSecret, c.Logger
	var err error
	if t.PublicIP, err = f.publicIP(); err != nil {
		return nil, err
	}
	if t.MinPort, t.MaxPort, err = f.ports(); err != nil {
		return nil, err
	}
	for _, s := range f.turnTargets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, usageError{fmt.Errorf("--turn-target %s: want a network, like 192.168.0.0/16", s)}
		}
		t.Targets = append(t.Targets, p.Masked())
	}
	server, err := turnserver.Start(t)
	if err != nil {
		return nil, err
	}
	stats := server.Stats()
	c.Service.ICE.Secret = t.Secret
	c.Service.ICE.TURN = append(server.URLs(), f.turnServers...)
	c.Service.ICE.Stats = func() hub.TURNStats {
		return hub.TURNStats{Relays: stats.Allocations.Load(), Bytes: stats.Bytes.Load(), Dropped: stats.Dropped.Load()}
	}
	return server, nil
}

// publicIP is --turn-ip, or the address that the TURN server listens on.
func (f *serviceFlags) publicIP() (netip.Addr, error) {
	text := f.turnIP
	if text == "" {
		text, _, _ = net.SplitHostPort(f.turn.UDP + f.turn.TCP)
		if f.turn.UDP != "" {
			text, _, _ = net.SplitHostPort(f.turn.UDP)
		}
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.IsUnspecified() {
		return ip, usageError{fmt.Errorf("--turn-ip: say at which IP address peers reach this machine")}
	}
	return ip, nil
}

func (f *serviceFlags) ports() (first, last uint16, err error) {
	a, b, _ := strings.Cut(f.turnPorts, "-")
	from, err1 := strconv.ParseUint(a, 10, 16)
	to, err2 := strconv.ParseUint(b, 10, 16)
	if err1 != nil || err2 != nil || from == 0 || to < from {
		return 0, 0, usageError{fmt.Errorf("--turn-ports %s: want FIRST-LAST, like 49152-65535", f.turnPorts)}
	}
	return uint16(from), uint16(to), nil
}

// A served is where the databases are.
type served struct {
	couch.Store
	uuid  string
	close func() error
}

// openServed opens the databases of the data directory or of --couchdb.
func (m *Main) openServed(ctx context.Context) (*served, error) {
	if m.f.service.couchdb == "" {
		store, err := m.openStore()
		if err != nil {
			return nil, err
		}
		return &served{store, store.UUID(), store.Close}, nil
	}
	u, err := cli.ParseURL(m.f.service.couchdb)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, usageError{errors.New("--couchdb: want a URL like http://NAME:PASSWORD@127.0.0.1:5984, in NAME and PASSWORD / as %2F, ? as %3F, # as %23, @ as %40, : as %3A and % as %25")} // not the value: it may hold a password
	}
	uuid, err := couchUUID(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("the CouchDB server %s does not answer: %w", cli.Public(m.f.service.couchdb), err)
	}
	client := couchhttp.NewClient(u, nil, couchhttp.ClientOptions{})
	return &served{client, uuid, client.Close}, nil
}

// place says where the databases are: the CouchDB server, without its password, or the directory.
func (f *serviceFlags) place(dir string) string {
	if f.couchdb != "" {
		return cli.Public(f.couchdb)
	}
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// couchUUID returns what identifies a CouchDB server, so that all hubs in front
// of it say the same; of one that does not tell, a hash of its URL.
func couchUUID(ctx context.Context, u *url.URL) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	bare := *u
	bare.User = nil
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, bare.String(), nil)
	if err != nil {
		return "", err
	}
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var welcome struct {
		CouchDB string `json:"couchdb"`
		UUID    string `json:"uuid"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&welcome)
	switch {
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("status %d", resp.StatusCode)
	case err != nil:
		return "", fmt.Errorf("it is no CouchDB: %w", err)
	case welcome.UUID != "":
		return welcome.UUID, nil
	}
	sum := sha256.Sum256([]byte(bare.String()))
	return hex.EncodeToString(sum[:16]), nil
}
