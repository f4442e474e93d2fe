package hub

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// Peers between which no direct path is found talk through the hub: each asks
// for a ticket of its side (POST /{db}/_relay) and opens a WebSocket with it (GET
// /{db}/_relay?ticket=…), and the hub passes binary messages on between the two that
// named the same session. What is in them is encrypted from end to end; the hub
// knows neither whose they are nor what.

// Relay bounds what goes through the hub between peers that find no direct
// path. 0 is the default that is named, a negative number no limit.
type Relay struct {
	Off         bool
	Sessions    int           // of one client at a time, see [Quotas]: 32
	AllSessions int           // at a time: 1000
	Bytes       float64       // that one client sends a second, with two seconds' worth at once: 4 MiB
	Idle        time.Duration // after which a session ends in which nothing is sent: 1 minute
}

func (c *Relay) setDefaults() {
	or(&c.Sessions, 32)
	or(&c.AllSessions, 1000)
	or(&c.Bytes, 4<<20)
	or(&c.Idle, time.Minute)
}

// idle is after how long a silent session ends.
func (c *Relay) idle() time.Duration {
	if c.Idle < 0 {
		return 1 << 62
	}
	return c.Idle
}

const (
	ticketLife   = 30 * time.Second
	relayWait    = 20 * time.Second // for the other side
	relayMessage = 64 << 10         // bytes, at most
)

// relays are the sessions of a hub.
type relays struct {
	c      Relay
	ctx    context.Context // ends with the hub
	cancel context.CancelFunc
	bytes  atomic.Int64 // passed on

	running sync.WaitGroup // sockets; Add only while not closed

	mu       sync.Mutex
	closed   bool
	tickets  map[string]*relayTicket
	sessions map[string]*relaySession // by database and name
	clients  map[string]*relayClient
}

// A relayTicket lets its bearer open one socket of a session.
type relayTicket struct {
	session *relaySession
	client  *relayClient // nil: an administrator, who is not counted
	until   time.Time
}

// A relayClient is what one client uses.
type relayClient struct {
	name    string
	tickets int // and sockets
	bytes   *rate.Limiter
}

// A relaySession joins two sockets.
type relaySession struct {
	key    string
	given  map[side]bool // tickets: one for each side, for ever
	unused int           // of them, not expired
	open   int           // sockets

	sockets []*relaySocket // in the order they came in
	joined  chan struct{}  // closed when there are two

	ctx    context.Context // ends with the session
	cancel context.CancelFunc
	idle   *time.Timer // cancels it; set when joined
}

func newRelays(c Relay) *relays {
	c.setDefaults()
	r := &relays{c: c, tickets: map[string]*relayTicket{}, sessions: map[string]*relaySession{}, clients: map[string]*relayClient{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// close ends all sessions and returns when their sockets are closed.
func (r *relays) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.running.Wait()
}

// count tells how many sessions have both sides.
func (r *relays) count() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		if s.open == 2 {
			n++
		}
	}
	return n
}

// endpoint is the relay of a hub database.
func (h *Hub) relay(d *hubDatabase) endpoint {
	return endpoint{[]string{"GET", "POST"}, forAll, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			h.service.relays.join(w, r)
			return
		}
		t, err := h.relayTicket(r, d)
		if err != nil {
			refuse(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		writeValue(w, struct {
			Ticket string `json:"ticket"`
			TTL    int    `json:"ttl"` // seconds
		}{t, int(ticketLife.Seconds())})
	}}
}

var (
	errNoRelay = couch.NotFound("This hub relays nothing.")
	errWho     = couch.Unauthorized("A relay is for who is signed in or proves to be a peer (header " + ProofHeader + ").")
)

// relayTicket is POST /{db}/_relay: whoever may open shares, or publish them, in the hub
// database gets the ticket of that side for the session that the body names:
// {"session": NAME, "side": "open" or "share"}.
func (h *Hub) relayTicket(r *http.Request, d *hubDatabase) (string, error) {
	c := callerOf(r.Context())
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	if err != nil {
		return "", err
	}
	var ask struct {
		Session string
		Side    side
	}
	malformed := json.Unmarshal(body, &ask) != nil || !sessionForm.MatchString(ask.Session) || ask.Side != opens && ask.Side != shares
	if malformed {
		ask.Side = either
	}
	if err := h.mayRelay(r, &c, d, ask.Side); err != nil {
		return "", err
	}
	if malformed {
		return "", couch.BadRequest("The body must be {\"session\":NAME,\"side\":SIDE}, a name of 26 to 64 letters, digits, - and _, and \"open\" or \"share\". Peers of earlier releases must be updated.")
	}
	return h.service.relays.ticket(&c, d.Name+"/"+ask.Session, ask.Side)
}

// sessionForm: whoever knows a session's name may take part, so it must not be guessed.
var sessionForm = regexp.MustCompile(`^[A-Za-z0-9_-]{26,64}$`)

func (h *Hub) mayRelay(r *http.Request, c *caller, d *hubDatabase, s side) error {
	if h.service.relays.c.Off {
		return errNoRelay
	}
	if !c.admin {
		sec, err := h.security.of(r.Context(), d.Name)
		if err != nil {
			return err
		}
		if !sec.member(&c.user) || !d.maySide(c, s) {
			return c.refusal()
		}
		if c.nobody && c.peer == "" {
			if c.err != nil {
				return c.err
			}
			return errWho
		}
	}
	return nil
}

// ticket gives out the ticket of one side of a session, which the first one makes. A session
// joins one that may open shares and one that may publish them, so neither needs the other's right.
func (r *relays) ticket(c *caller, key string, of side) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(time.Now())
	s := r.sessions[key]
	if s == nil {
		if over(len(r.sessions), r.c.AllSessions) {
			return "", tooMany("fellow clients that use the relay", 10*time.Second)
		}
		s = &relaySession{key: key, given: map[side]bool{}, joined: make(chan struct{})}
		s.ctx, s.cancel = context.WithCancel(r.ctx)
	}
	if s.given[of] {
		return "", couch.Forbidden("This side of the session is taken.")
	}
	client, err := r.client(c)
	if err != nil {
		r.forget(s)
		return "", err
	}
	s.given[of] = true
	s.unused++
	r.sessions[key] = s
	t := rand.Text()
	r.tickets[t] = &relayTicket{s, client, time.Now().Add(ticketLife)}
	return t, nil
}

// client counts a ticket of a client. r.mu is held.
func (r *relays) client(c *caller) (*relayClient, error) {
	if c.admin || c.client == "" {
		return nil, nil
	}
	u := r.clients[c.client]
	if u == nil {
		u = &relayClient{name: c.client, bytes: newRate(max(r.c.Bytes, relayMessage), 2)}
		if r.c.Bytes < 0 {
			u.bytes = newRate(-1, 0)
		}
	}
	if over(u.tickets, r.c.Sessions) {
		return nil, tooMany("relay sessions", 10*time.Second)
	}
	u.tickets++
	r.clients[c.client] = u
	return u, nil
}

// sweep forgets tickets that are too old. r.mu is held.
func (r *relays) sweep(now time.Time) {
	for name, t := range r.tickets {
		if now.After(t.until) {
			delete(r.tickets, name)
			t.session.unused--
			r.release(t)
		}
	}
}

// release gives back what a ticket holds. r.mu is held.
func (r *relays) release(t *relayTicket) {
	if c := t.client; c != nil {
		if c.tickets--; c.tickets == 0 {
			delete(r.clients, c.name)
		}
	}
	r.forget(t.session)
}

// forget drops a session that nobody uses or can use. r.mu is held.
func (r *relays) forget(s *relaySession) {
	if s.unused == 0 && s.open == 0 {
		s.cancel()
		delete(r.sessions, s.key)
	}
}

// take uses a ticket up.
func (r *relays) take(name string) *relayTicket {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(time.Now())
	t := r.tickets[name]
	if t == nil || r.closed {
		return nil
	}
	delete(r.tickets, name)
	t.session.unused--
	t.session.open++
	r.running.Add(1)
	return t
}

var errTicket = couch.Forbidden("The ticket is unknown, used or too old.")

func notUpgrade(w http.ResponseWriter) {
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	couchhttp.WriteError(w, &couch.Error{Status: http.StatusUpgradeRequired, Code: "upgrade_required", Reason: "A relay is a WebSocket."})
}
