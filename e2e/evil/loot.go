package evil

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A Loot looks through every byte that the hostile side receives for what it must never get.
type Loot struct {
	secrets map[string]string // by the secret, what it is
	longest int

	mu    sync.Mutex
	found map[string]int // by what it is and where it came from
	bytes atomic.Int64
}

// NewLoot returns a Loot that knows secrets: by the text that must not be seen, what it is.
func NewLoot(secrets map[string]string) *Loot {
	l := &Loot{secrets: secrets, found: map[string]int{}}
	for s := range secrets {
		l.longest = max(l.longest, len(s))
	}
	return l
}

// Bytes is how many were received.
func (l *Loot) Bytes() int64 { return l.bytes.Load() }

// Err tells which secrets were received, nil if none was.
func (l *Loot) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.found) == 0 {
		return nil
	}
	return fmt.Errorf("the hostile side has got %s", strings.Join(slices.Sorted(maps.Keys(l.found)), ", "))
}

// Search tells which secrets a text holds, such as a log; nil: none.
func (l *Loot) Search(where, text string) error {
	var errs []error
	for secret, what := range l.secrets {
		if strings.Contains(text, secret) {
			errs = append(errs, fmt.Errorf("%s is in %s", what, where))
		}
	}
	return errors.Join(errs...)
}

// A stream of bytes is searched across its pieces.
type search struct {
	l    *Loot
	from string
	tail []byte
}

func (s *search) see(p []byte) {
	s.l.bytes.Add(int64(len(p)))
	text := append(s.tail, p...)
	for secret, what := range s.l.secrets {
		if bytes.Contains(text, []byte(secret)) {
			s.l.mu.Lock()
			s.l.found[what+" from "+s.from]++
			s.l.mu.Unlock()
		}
	}
	s.tail = append(s.tail[:0], text[max(0, len(text)-s.l.longest+1):]...)
}

// A lootedConn is a connection of the hostile side.
type lootedConn struct {
	net.Conn
	search
}

// Conn looks through what is read from c.
func (l *Loot) Conn(c net.Conn, from string) net.Conn {
	return &lootedConn{c, search{l: l, from: from}}
}

func (c *lootedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.see(p[:n])
	return n, err
}

// A Tap passes connections of the hostile side on to a server, and looks through what comes back.
type Tap struct {
	l    net.Listener
	loot *Loot
	to   string
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil: closed
}

// NewTap takes a port of its own, under which the server has to know itself: it is the hub's as much as its own.
func NewTap() (*Tap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &Tap{l: l, conns: map[net.Conn]struct{}{}}, nil
}

// Addr is the host and port that lead to the server, past the tap.
func (t *Tap) Addr() string { return t.l.Addr().String() }

// Lead has the tap pass connections on to the server at an address.
func (t *Tap) Lead(loot *Loot, to string) {
	t.loot, t.to = loot, to
	t.wg.Go(t.run)
}

func (t *Tap) run() {
	for {
		c, err := t.l.Accept()
		if err != nil {
			return
		}
		t.wg.Go(func() { t.pass(c) })
	}
}

func (t *Tap) keep(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns != nil {
		t.conns[c] = struct{}{}
	}
	return t.conns != nil
}

func (t *Tap) drop(c net.Conn) {
	t.mu.Lock()
	delete(t.conns, c)
	t.mu.Unlock()
	_ = c.Close()
}

func (t *Tap) pass(near net.Conn) {
	defer t.drop(near)
	far, err := net.Dial("tcp", t.to)
	if err != nil {
		return
	}
	defer t.drop(far)
	if !t.keep(near) || !t.keep(far) {
		return
	}
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, _ = io.Copy(far, near)
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(near, t.loot.Conn(far, "the hub"))
	_ = near.Close()
	<-up
}

// Close ends all connections and waits for them.
func (t *Tap) Close() {
	_ = t.l.Close()
	t.mu.Lock()
	for c := range t.conns {
		_ = c.Close()
	}
	t.conns = nil
	t.mu.Unlock()
	t.wg.Wait()
}
