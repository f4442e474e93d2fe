package replicate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Retry says how failed calls are repeated: after Min, then twice as long each
// time up to Max, each shortened by up to half at random so that peers do not come in step.
// A server's Retry-After is respected. The zero value works.
type Retry struct {
	Min, Max time.Duration // 0: 200 ms, 10 s
	// Attempts is after how many failures of a call in a row a one-shot
	// replication ends; 0: 10. A live one goes on for ever.
	Attempts int
}

func (p Retry) withDefaults() Retry {
	p.Min = cmp.Or(max(0, p.Min), 200*time.Millisecond)
	p.Max = max(p.Min, cmp.Or(max(0, p.Max), 10*time.Second))
	p.Attempts = cmp.Or(max(0, p.Attempts), 10)
	return p
}

// wait is how long to wait after so many failures in a row.
func (p Retry) wait(failures int, asked time.Duration) time.Duration {
	d := p.Max
	if shift := failures - 1; shift < 20 && p.Min<<shift < p.Max {
		d = p.Min << shift
	}
	d -= rand.N(d/2 + 1)
	return max(d, asked)
}

// The ends of a replication.
const (
	sourceEnd = "source"
	targetEnd = "target"
)

// where says what a call is for.
type where struct{ stage, end string }

// Error is why a replication ended: the stage that failed and at which end.
type Error struct {
	Stage string // "create", "info", "checkpoint", "changes", "diff", "fetch", "attachment", "modify", "write", "resolve"
	End   string // "source" or "target"
	Err   error
}

func (e *Error) Error() string {
	return fmt.Sprintf("replication failed at the %s (%s): %v", e.End, e.Stage, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// ErrStalled is a call in which nothing moved for Options.StallTimeout.
var ErrStalled = errors.New("nothing moved")

// An attempt is one call under the watchdog.
type attempt struct {
	timer   *time.Timer
	timeout time.Duration
	moved   atomic.Bool
	over    atomic.Bool
}

// alive tells the watchdog that something moved. A connection may do so even after the call.
func (a *attempt) alive() {
	if !a.over.Load() {
		a.timer.Reset(a.timeout)
	}
}

// gained is alive, and what moved will not have to move again: the failures so far do not count any more.
func (a *attempt) gained() {
	a.moved.Store(true)
	a.alive()
}

// try calls f until it succeeds, fails for good, or has failed too often.
func (r *run) try(ctx context.Context, at where, f func(context.Context, *attempt) error) error {
	for failures, stalls := 0, 0; ; {
		moved, err := r.once(ctx, at, r.o.StallTimeout<<stalls, f)
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			r.report.recovered(at)
			return nil
		}
		if moved {
			failures = 0
		}
		if errors.Is(err, ErrStalled) && stalls < 3 {
			stalls++ // it may have been only slow
		}
		failures++
		if r.final(at, err) || !r.o.Live && failures >= r.o.Retry.Attempts {
			return &Error{at.stage, at.end, err}
		}
		if err := r.pause(ctx, at, err, failures); err != nil {
			return err
		}
	}
}

// pause waits before the next attempt.
func (r *run) pause(ctx context.Context, at where, err error, failures int) error {
	wait := r.o.Retry.wait(failures, couch.RetryAfter(err))
	r.report.retrying(at, err, failures, wait)
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *run) once(ctx context.Context, at where, timeout time.Duration, f func(context.Context, *attempt) error) (moved bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &attempt{timeout: timeout}
	a.timer = time.AfterFunc(a.timeout, func() {
		r.report.stalled(at)
		cancel(fmt.Errorf("%w for %v", ErrStalled, timeout))
	})
	ended := r.report.began(at)
	err = f(couch.WithMoving(ctx, a.alive), a)
	ended(err != nil)
	a.over.Store(true)
	a.timer.Stop()
	if err != nil && errors.Is(context.Cause(ctx), ErrStalled) {
		err = context.Cause(ctx)
	}
	return a.moved.Load(), err
}

// final reports whether err will not go away by trying again. A live replication
// gives up only what concerns the database as a whole, or what it asks of it.
func (r *run) final(at where, err error) bool {
	switch status := statusOf(err); {
	case status == 401 || status == 403 || status == 404:
		return true
	case at == fromSource && (status == 400 || status == 501): // a filter it does not know
		return true
	}
	return !r.o.Live && !transient(err)
}

// transient reports whether trying again may help: connections, servers in trouble or in a hurry.
func transient(err error) bool {
	status := statusOf(err)
	return status == 0 || status >= 500 && status != 501 || status == 408 || status == 429
}

// statusOf is 0 for what is not an answer of a database.
func statusOf(err error) int {
	var e *couch.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}
