package share

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// PeerLimits bounds what each peer may ask of a share. Zero values are the defaults.
type PeerLimits struct {
	// Requests is how many a peer may begin in a second, on average; of twice as
	// many at once the rest are refused (429). 0: no limit.
	Requests float64
	// Concurrent is how many requests of a peer may be under way, waiting changes
	// feeds among them; more are refused (429). 0: 256.
	Concurrent int
	// Body, Document and Attachment bound the bytes of a request's JSON body, of
	// one document and of one attachment (413). 0: 64 MB, 8 MB, 4 GiB.
	Body, Document, Attachment int64
	// Bandwidth is how many bytes of bodies a peer may move in a second in each
	// direction; it waits for the rest. 0: no limit. At least 4096.
	Bandwidth int64
}

const (
	defaultConcurrent = 256
	minBandwidth      = 4096
	burstBytes        = 64 << 10
)

// throttles are the limits of all peers of a share.
type throttles struct {
	o  PeerLimits
	mu sync.Mutex
	by map[string]*throttle // by peer id
}

// A throttle is what a peer has used of its limits.
type throttle struct {
	running  int // guarded by throttles.mu
	used     time.Time
	requests *rate.Limiter // nil: no limit
	up, down *rate.Limiter
}

const maxThrottles = 10_000

// begin counts a request of a peer. Errors: 429.
func (t *throttles) begin(peer string) (*throttle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.by[peer]
	if p == nil {
		p = t.add(peer)
	}
	p.used = time.Now()
	if p.running >= cmp.Or(t.o.Concurrent, defaultConcurrent) {
		return nil, tooMany("Too many requests are under way.")
	}
	if p.requests != nil && !p.requests.Allow() {
		return nil, tooMany("Too many requests; slow down.")
	}
	p.running++
	return p, nil
}

func (t *throttles) end(p *throttle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.running--
	p.used = time.Now()
}

func tooMany(reason string) error {
	return &couch.RetryLater{Err: &couch.Error{Status: http.StatusTooManyRequests, Code: "too_many_requests", Reason: reason}, After: time.Second}
}

// add makes a peer's throttle; those of peers that are long idle are forgotten.
func (t *throttles) add(peer string) *throttle {
	if t.by == nil {
		t.by = map[string]*throttle{}
	}
	if len(t.by) >= maxThrottles {
		for id, p := range t.by {
			if p.running == 0 && time.Since(p.used) > time.Minute {
				delete(t.by, id)
			}
		}
		for id, p := range t.by { // then any that rest
			if len(t.by) < maxThrottles*15/16 {
				break
			}
			if p.running == 0 {
				delete(t.by, id)
			}
		}
	}
	p := &throttle{}
	if t.o.Requests > 0 {
		p.requests = rate.NewLimiter(rate.Limit(t.o.Requests), max(1, int(2*t.o.Requests)))
	}
	if t.o.Bandwidth > 0 {
		perSecond := rate.Limit(max(t.o.Bandwidth, minBandwidth))
		p.up, p.down = rate.NewLimiter(perSecond, burstBytes), rate.NewLimiter(perSecond, burstBytes)
	}
	t.by[peer] = p
	return p
}

// pace makes a request's bodies keep to the bandwidth.
func (p *throttle) pace(ctx context.Context, w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
	if p.up == nil {
		return w, r
	}
	out := r.WithContext(ctx)
	if r.Body != nil {
		out.Body = &pacedBody{r.Body, ctx, p.up}
	}
	return &pacedWriter{w, ctx, p.down}, out
}

type pacedBody struct {
	io.ReadCloser
	ctx context.Context
	l   *rate.Limiter
}

func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), burstBytes)])
	if n > 0 {
		if wait := b.l.WaitN(b.ctx, n); wait != nil {
			return n, wait
		}
	}
	return n, err
}

type pacedWriter struct {
	http.ResponseWriter
	ctx context.Context
	l   *rate.Limiter
}

func (w *pacedWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), burstBytes/4)]
		if err := w.l.WaitN(w.ctx, len(part)); err != nil {
			return n, err
		}
		m, err := w.ResponseWriter.Write(part)
		n += m
		if err != nil {
			return n, err
		}
		p = p[m:]
	}
	return n, nil
}

// Unwrap is what http.ResponseController looks for.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
