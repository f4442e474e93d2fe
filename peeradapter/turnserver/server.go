// Package turnserver is a TURN server (RFC 8656) for the peers of a hub: it
// relays packets between peers that cannot reach each other. It is pion/turn, over UDP and TCP,
// with the credentials that the hub gives (TURN REST API), and with bounds: on
// allocations and bandwidth, and on where packets may be sent.
package turnserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

// Config configures a [Server]. Secret, PublicIP and one of UDP and TCP are needed.
type Config struct {
	Secret   string     // shared with who makes credentials, see hub.ICE
	Realm    string     // "": "loveseat"
	PublicIP netip.Addr // where peers reach this machine: what they are told of their relays
	UDP, TCP string     // addresses to listen on, "0.0.0.0:3478"; "": not

	// MinPort and MaxPort are the UDP ports of relays. 0: 49152 to 65535.
	MinPort, MaxPort uint16

	// Targets are address ranges to which packets are relayed although they
	// are not public: loopback, link-local and private ones are refused otherwise.
	Targets []netip.Prefix

	UserAllocations int   // relays of one user at a time; 0: 32
	Allocations     int   // of all users; 0: 4096
	UserBandwidth   int64 // bytes a second of one user, both ways together; 0: 4 MiB, -1: no limit

	Logger *slog.Logger // nil: slog.Default
}

// A Server relays until it is closed.
type Server struct {
	c     Config
	turn  *turn.Server
	udp   net.PacketConn
	tcp   *listener
	users users
	stats Stats

	ports      ports
	interfaces interfaces
}

// Start begins to listen and to relay.
func Start(c Config) (*Server, error) {
	c.setDefaults()
	switch {
	case c.Secret == "":
		return nil, errors.New("TURN: the secret is missing")
	case !c.PublicIP.IsValid():
		return nil, errors.New("TURN: the public address is missing")
	case c.UDP == "" && c.TCP == "":
		return nil, errors.New("TURN: nowhere to listen")
	case c.MinPort > c.MaxPort:
		return nil, errors.New("TURN: the relay's ports are none")
	}
	s := &Server{c: c, users: users{max: c.UserAllocations, all: c.Allocations, bandwidth: c.UserBandwidth}}
	conf := turn.ServerConfig{
		Realm: c.Realm, LoggerFactory: silent{}, AuthHandler: turn.LongTermTURNRESTAuthHandler(c.Secret, silentLogger()),
		QuotaHandler: func(user, _ string, _ net.Addr) bool { return s.users.may(user) },
	}
	if err := s.listen(&conf); err != nil {
		return nil, errors.Join(err, s.closeSockets())
	}
	var err error
	if s.turn, err = turn.NewServer(conf); err != nil {
		return nil, errors.Join(fmt.Errorf("TURN: %w", err), s.closeSockets())
	}
	return s, nil
}

func (c *Config) setDefaults() {
	if c.Realm == "" {
		c.Realm = "loveseat"
	}
	if c.MinPort == 0 {
		c.MinPort = 49152
	}
	if c.MaxPort == 0 {
		c.MaxPort = 65535
	}
	if c.UserAllocations == 0 {
		c.UserAllocations = 32
	}
	if c.Allocations == 0 {
		c.Allocations = 4096
	}
	if c.UserBandwidth == 0 {
		c.UserBandwidth = 4 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func (s *Server) listen(conf *turn.ServerConfig) error {
	relays, allowed := &relays{s: s}, s.allowed
	var lc net.ListenConfig
	if s.c.UDP != "" {
		conn, err := lc.ListenPacket(context.Background(), "udp", s.c.UDP)
		if err != nil {
			return fmt.Errorf("TURN: %w", err)
		}
		s.udp = conn
		conf.PacketConnConfigs = []turn.PacketConnConfig{{PacketConn: conn, RelayAddressGenerator: relays, PermissionHandler: allowed}}
	}
	if s.c.TCP != "" {
		ln, err := lc.Listen(context.Background(), "tcp", s.c.TCP)
		if err != nil {
			return fmt.Errorf("TURN: %w", err)
		}
		s.tcp = &listener{Listener: ln, conns: map[net.Conn]struct{}{}, max: s.c.Allocations}
		conf.ListenerConfigs = []turn.ListenerConfig{{Listener: s.tcp, RelayAddressGenerator: relays, PermissionHandler: allowed}}
	}
	return nil
}

// URLs returns the server's URLs for peers, as hub.ICE takes them.
func (s *Server) URLs() []string {
	var urls []string
	add := func(a net.Addr, transport string) {
		p := netip.MustParseAddrPort(a.String()).Port()
		urls = append(urls, fmt.Sprintf("turn:%s?transport=%s", netip.AddrPortFrom(s.c.PublicIP, p), transport))
	}
	if s.udp != nil {
		add(s.udp.LocalAddr(), "udp")
	}
	if s.tcp != nil {
		add(s.tcp.Addr(), "tcp")
	}
	return urls
}

// Stats tells what the server has done.
func (s *Server) Stats() *Stats { return &s.stats }

// Close ends all relays.
func (s *Server) Close() error {
	err := s.turn.Close()
	if s.tcp != nil {
		s.tcp.closeConns()
	}
	return err
}

func (s *Server) closeSockets() error {
	var errs []error
	if s.udp != nil {
		errs = append(errs, s.udp.Close())
	}
	if s.tcp != nil {
		errs = append(errs, s.tcp.Close())
	}
	return errors.Join(errs...)
}

// A listener knows its connections, so that they can be closed, and how many there may be.
type listener struct {
	net.Listener
	mu    sync.Mutex
	max   int
	conns map[net.Conn]struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		full := len(l.conns) >= l.max
		t := &tracked{Conn: c, l: l}
		if !full {
			l.conns[t] = struct{}{}
		}
		l.mu.Unlock()
		if !full {
			return t, nil
		}
		_ = c.Close()
	}
}

func (l *listener) closeConns() {
	l.mu.Lock()
	var conns []net.Conn
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

type tracked struct {
	net.Conn
	l *listener
}

func (c *tracked) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// silent gives pion loggers that say nothing: whatever strangers send would be a line.
type silent struct{}

func (silent) NewLogger(string) logging.LeveledLogger { return silentLogger() }

func silentLogger() logging.LeveledLogger {
	return logging.NewDefaultLeveledLoggerForScope("turn", logging.LogLevelDisabled, discard{})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
