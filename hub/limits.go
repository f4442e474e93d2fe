package hub

import (
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// Quotas bound what one client may do, so that none starves the others: a user,
// or the address of who is not signed in (of IPv6, its /64). Administrators are
// free of them. 0 is the default that is named, a negative number no limit.
type Quotas struct {
	Requests   float64 // a second, with five seconds' worth at once: 1000
	Documents  float64 // written a second, with ten seconds' worth at once: 1000
	Signals    float64 // sent a second, with ten seconds' worth at once: 200
	Concurrent int     // requests under way, waiting feeds apart: 128
	Feeds      int     // waiting changes feeds: 200
	AllFeeds   int     // waiting changes feeds of all clients, administrators included: 50,000
	Shares     int     // of one peer at a time: 256
	ShareBytes int64   // of their documents: 2 MiB
	// Four times as many shares and bytes are of one user or address, whatever the peers.
	Waiting      int           // signals of one peer, user or address that are not yet removed: 10,000
	WaitingBytes int64         // of them: 32 MiB
	Databases    int           // on the server, whoever makes them: no limit
	Memory       int64         // bytes held at a time for the requests of all clients, half of them for one: see [couchhttp.Limits]. 512 MiB
	Upload       time.Duration // that a request body may take besides a second for each KiB: 1 minute
}

func (q *Quotas) setDefaults() {
	or(&q.Requests, 1000)
	or(&q.Documents, 1000)
	or(&q.Signals, 200)
	or(&q.Concurrent, 128)
	or(&q.Feeds, 200)
	or(&q.AllFeeds, 50_000)
	or(&q.Shares, 256)
	or(&q.ShareBytes, 2<<20)
	or(&q.Waiting, 10_000)
	or(&q.WaitingBytes, 32<<20)
	or(&q.Databases, -1)
	or(&q.Memory, 512<<20)
	or(&q.Upload, time.Minute)
}

func or[T comparable](v *T, byDefault T) {
	if *v == *new(T) {
		*v = byDefault
	}
}

// A limiter counts what clients do.
type limiter struct {
	q Quotas

	mu      sync.Mutex
	clients map[string]*usage
	feeds   int
	swept   time.Time
}

// usage is what one client does.
type usage struct {
	requests, documents, signals *rate.Limiter
	feeds, busy                  int
	seen                         time.Time
}

func newLimiter(q Quotas) *limiter {
	q.setDefaults()
	return &limiter{q: q, clients: map[string]*usage{}}
}

// memory is what the API may hold for requests.
func (l *limiter) memory() int64 {
	if l.q.Memory < 0 {
		return math.MaxInt64
	}
	return l.q.Memory
}

func newRate(perSecond float64, seconds float64) *rate.Limiter {
	if perSecond < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond*seconds)))
}

// idle is after how long a client that does nothing is forgotten: all it may do at once is then free again.
const idle = 30 * time.Second

// of returns a client's usage. l.mu is held.
func (l *limiter) of(client string) *usage {
	now := time.Now()
	if now.Sub(l.swept) > idle {
		l.swept = now
		for c, u := range l.clients {
			if u.feeds == 0 && u.busy == 0 && now.Sub(u.seen) > idle {
				delete(l.clients, c)
			}
		}
	}
	u := l.clients[client]
	if u == nil {
		u = &usage{requests: newRate(l.q.Requests, 5), documents: newRate(l.q.Documents, 10), signals: newRate(l.q.Signals, 10)}
		l.clients[client] = u
	}
	u.seen = now
	return u
}

// tooMany is 429. CouchDB has no words for it; these are Cloudant's.
func tooMany(what string, after time.Duration) error {
	return &couch.RetryLater{Err: &couch.Error{Status: http.StatusTooManyRequests, Code: "too_many_requests", Reason: "You have too many " + what + "."}, After: after}
}

// spend takes one from a rate, or tells when there will be one.
func spend(r *rate.Limiter, what string) error {
	now := time.Now()
	res := r.ReserveN(now, 1)
	wait := res.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	res.CancelAt(now)
	return tooMany(what+" a second", wait)
}

// document counts a document that is written.
func (l *limiter) document(c *caller) error {
	if c.admin || c.client == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return spend(l.of(c.client).documents, "written documents")
}

// signal counts a signal that is sent.
func (l *limiter) signal(c *caller) error {
	if c.admin || c.client == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return spend(l.of(c.client).signals, "signals")
}

// enter counts a request that begins; the client calls leave when it has ended.
func (l *limiter) enter(c *caller, feed bool) (leave func(), err error) {
	if c.admin && !feed {
		return func() {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if feed && over(l.feeds, l.q.AllFeeds) {
		return nil, tooMany("fellow clients that wait for changes", 10*time.Second)
	}
	u := &usage{} // an administrator's, who is not counted
	if !c.admin {
		u = l.of(c.client)
		if err := spend(u.requests, "requests"); err != nil {
			return nil, err
		}
		switch {
		case feed && over(u.feeds, l.q.Feeds):
			return nil, tooMany("changes feeds open", 5*time.Second)
		case !feed && over(u.busy, l.q.Concurrent):
			return nil, tooMany("requests under way", time.Second)
		}
	}
	of := &u.busy
	if feed {
		of = &u.feeds
		l.feeds++
	}
	*of++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		*of--
		if feed {
			l.feeds--
		}
	}, nil
}

func over(n, limit int) bool { return limit >= 0 && n >= limit }

// isFeed reports whether a request is for a changes feed that waits.
func isFeed(r *http.Request) bool {
	if !strings.HasSuffix(strings.TrimRight(r.URL.Path, "/"), "/_changes") {
		return false
	}
	switch r.URL.Query().Get("feed") {
	case "longpoll", "continuous", "eventsource", "live":
		return true
	}
	return false
}

// clientOf names the client for the quotas.
func clientOf(l *login) string {
	if l.Name != "" {
		return "user " + l.Name
	}
	return "address " + l.from.counted().String()
}

// limited holds a request against the client's quotas.
func (h *Hub) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r.Context())
		leave, err := h.service.quotas.enter(&c, isFeed(r))
		if err != nil {
			writeLater(w, err)
			return
		}
		defer leave()
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = h.service.quotas.upload(w, r)
		}
		next.ServeHTTP(w, r)
	})
}

// writeLater answers with an error and its Retry-After.
func writeLater(w http.ResponseWriter, err error) {
	retryAfter(w, err)
	couchhttp.WriteError(w, couch.AsError(err))
}

// limitedAccess counts the documents that are written into databases that are not hub databases.
func (h *Hub) limitedAccess(r *http.Request, a couchhttp.Access) error {
	if a.Doc == "" || a.Op != couchhttp.OpWriteDoc && a.Op != couchhttp.OpWriteLocal {
		return nil
	}
	c := callerOf(r.Context())
	return h.service.quotas.document(&c)
}
