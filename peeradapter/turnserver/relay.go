package turnserver

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/turn/v5"
	"golang.org/x/time/rate"
)

// Stats is what a server has done since it was started.
type Stats struct {
	Allocations atomic.Int64 // relays at the moment
	Bytes       atomic.Int64 // relayed, both ways
	Dropped     atomic.Int64 // packets beyond a user's bandwidth
}

// users counts what users have.
type users struct {
	max, all  int
	bandwidth int64

	mu    sync.Mutex
	total int
	of    map[string]*userQuota
}

// A userQuota is what one user has at the moment.
type userQuota struct {
	relays int
	rate   *rate.Limiter // nil: no limit
}

// may reports whether a user may have one more relay.
func (u *users) may(user string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	q := u.of[user]
	return u.total < u.all && (q == nil || q.relays < u.max)
}

var errQuota = errors.New("TURN: too many relays")

// take counts a relay. What may has said may be out of date by now.
func (u *users) take(user string) (*userQuota, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	q := u.of[user]
	if q == nil {
		q = &userQuota{}
		if u.bandwidth > 0 {
			q.rate = rate.NewLimiter(rate.Limit(u.bandwidth), int(max(u.bandwidth, 64<<10)))
		}
	}
	if u.total >= u.all || q.relays >= u.max {
		return nil, errQuota
	}
	if u.of == nil {
		u.of = map[string]*userQuota{}
	}
	u.of[user] = q
	q.relays++
	u.total++
	return q, nil
}

func (u *users) release(user string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.total--
	q := u.of[user]
	if q.relays--; q.relays == 0 {
		delete(u.of, user)
	}
}

// relays makes the sockets of allocations.
type relays struct{ s *Server }

func (r *relays) Validate() error { return nil }

const portAttempts = 32

// AllocatePacketConn opens a relay.
func (r *relays) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	s := r.s
	q, err := s.users.take(c.UserID)
	if err != nil {
		return nil, nil, err
	}
	network := "udp4"
	if s.c.PublicIP.Is6() {
		network = "udp6"
	}
	if c.Network != "" && c.Network != network && c.Network != "udp" {
		s.users.release(c.UserID)
		return nil, nil, errors.New("TURN: no relay of this address family")
	}
	conn, err := s.bind(network)
	if err != nil {
		s.users.release(c.UserID)
		return nil, nil, err
	}
	s.stats.Allocations.Add(1)
	relay := &relay{PacketConn: conn, s: s, quota: q, user: c.UserID}
	port := conn.LocalAddr().(*net.UDPAddr).Port
	s.ports.set(uint16(port), true)
	return relay, &net.UDPAddr{IP: s.c.PublicIP.AsSlice(), Port: port}, nil
}

func (s *Server) bind(network string) (conn net.PacketConn, err error) {
	var lc net.ListenConfig
	for range portAttempts {
		port := int(s.c.MinPort) + rand.IntN(int(s.c.MaxPort)-int(s.c.MinPort)+1)
		if conn, err = lc.ListenPacket(context.Background(), network, ":"+strconv.Itoa(port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

var errNoTCP = errors.New("TURN: relays are UDP")

// AllocateListener refuses: peers speak UDP to each other.
func (r *relays) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNoTCP
}

// AllocateConn refuses: peers speak UDP to each other.
func (r *relays) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) { return nil, errNoTCP }

// A relay is the socket of one allocation. It drops what is beyond its user's bandwidth.
type relay struct {
	net.PacketConn
	s      *Server
	quota  *userQuota
	user   string
	closed sync.Once
}

func (r *relay) pass(n int) bool {
	if r.quota.rate != nil && !r.quota.rate.AllowN(time.Now(), n) {
		r.s.stats.Dropped.Add(1)
		return false
	}
	r.s.stats.Bytes.Add(int64(n))
	return true
}

func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := r.PacketConn.ReadFrom(p)
		if err != nil || r.s.reaches(from) && r.pass(n) {
			return n, from, err
		}
	}
}

func (r *relay) WriteTo(p []byte, to net.Addr) (int, error) {
	if !r.s.reaches(to) || !r.pass(len(p)) {
		return len(p), nil
	}
	return r.PacketConn.WriteTo(p, to)
}

func (r *relay) Close() error {
	r.closed.Do(func() {
		r.s.ports.set(uint16(r.LocalAddr().(*net.UDPAddr).Port), false)
		r.s.users.release(r.user)
		r.s.stats.Allocations.Add(-1)
	})
	return r.PacketConn.Close()
}
