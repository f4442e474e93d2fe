package replicate

import (
	"log/slog"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// State is what a replication is doing.
type State string

// The states of a replication.
const (
	Starting State = "starting" // comparing checkpoints
	Running  State = "running"
	Idle     State = "idle"     // live, and everything there was is copied
	Retrying State = "retrying" // a call failed and is tried again after Progress.Wait
	Stalled  State = "stalled"  // nothing moved for Options.StallTimeout; the call is given up and tried again
	Complete State = "complete"
	Failed   State = "failed" // with Progress.Err; also a replication that was cancelled
)

// Progress is how a replication stands.
type Progress struct {
	Direction string `json:"direction,omitempty"` // of a [Sync]: "push" or "pull"
	State     State  `json:"state"`
	// Stage and End say what is being retried or hangs: see [Error].
	Stage   string        `json:"stage,omitempty"`
	End     string        `json:"end,omitempty"`
	Err     error         `json:"-"`
	Attempt int           `json:"attempt,omitempty"` // failures in a row
	Wait    time.Duration `json:"-"`                 // until the next attempt

	Pending int64   `json:"pending"` // changes of the source not yet looked at; -1 if it does not tell
	Rate    float64 `json:"rate"`    // documents written per second, lately
	Counts  Result  `json:"counts"`  // so far, without Errors
}

// reportEvery is how often at most OnProgress hears of numbers alone.
const reportEvery = 200 * time.Millisecond

// A reporter keeps the counts of a run and tells of them.
type reporter struct {
	tell func(Progress)
	log  *slog.Logger

	mu      sync.Mutex
	now     Progress
	errors  []DocError
	behind  bool // the reader has not caught up
	active  int  // what the reader has found and is not done yet
	ended   bool
	said    time.Time
	rateAt  time.Time // when the rate was last worked out
	rateWas int64     // documents written by then
	telling sync.Mutex
}

func newReporter(o Options) *reporter {
	log := o.Logger
	if o.direction != "" {
		log = log.With("direction", o.direction)
	}
	r := &reporter{tell: o.OnProgress, log: log, behind: true}
	r.now.Direction, r.now.Pending = o.direction, -1
	r.now.Counts.Start = time.Now()
	return r
}

// change changes the state of things and tells of it: always if it is news.
func (r *reporter) change(news bool, f func(*Progress)) {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return
	}
	f(&r.now)
	now := time.Now()
	if r.tell == nil || !news && now.Sub(r.said) < reportEvery {
		r.mu.Unlock()
		return
	}
	r.said = now
	if d := now.Sub(r.rateAt); d >= reportEvery {
		if r.rateAt.IsZero() {
			d = now.Sub(r.now.Counts.Start)
		}
		r.now.Rate = float64(r.now.Counts.DocsWritten-r.rateWas) / max(d.Seconds(), 1e-3)
		r.rateAt, r.rateWas = now, r.now.Counts.DocsWritten
	}
	p := r.now
	r.telling.Lock() // in this order, so that the calls come in the order of the changes
	r.mu.Unlock()
	defer r.telling.Unlock()
	r.tell(p)
}

func (r *reporter) state(s State) {
	r.change(true, func(p *Progress) { p.become(s) })
}

// become makes s the state and forgets the trouble before it.
func (p *Progress) become(s State) {
	p.State = s
	p.Stage, p.End, p.Err, p.Attempt, p.Wait = "", "", nil, 0, 0
}

// count adds to the counts.
func (r *reporter) count(f func(*Result)) {
	r.change(false, func(p *Progress) { f(&p.Counts) })
}

func (r *reporter) setSeq(seq couch.Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Counts.LastSeq = string(seq)
}

func (r *reporter) seq() couch.Seq {
	r.mu.Lock()
	defer r.mu.Unlock()
	return couch.Seq(r.now.Counts.LastSeq)
}

// queued tells that the reader has found something.
func (r *reporter) queued() {
	r.mu.Lock()
	r.active++
	news := r.now.State == Starting || r.now.State == Idle
	r.mu.Unlock()
	if news {
		r.state(Running)
	}
}

// batch counts a batch that is done, of so many things that were queued, and returns the count.
func (r *reporter) batch(chunks int, pending int64) (n int64) {
	r.mu.Lock()
	r.active -= chunks
	news := r.active == 0 && !r.behind
	r.mu.Unlock()
	r.change(news, func(p *Progress) {
		p.Counts.Batches++
		n = p.Counts.Batches
		p.Pending = pending
		r.settle(p)
	})
	return n
}

// settle makes Running Idle if nothing is under way. r.mu is held.
func (r *reporter) settle(p *Progress) {
	if p.State == Running && r.active == 0 && !r.behind {
		p.State = Idle
	}
}

// caughtUp tells that the reader of a live run has come to the end of what there was.
func (r *reporter) caughtUp() {
	r.change(true, func(p *Progress) {
		r.behind = false
		if p.State == Starting {
			p.State = Running
		}
		r.settle(p)
	})
}

func (r *reporter) retrying(at where, err error, failures int, wait time.Duration) {
	r.log.Warn("replication: trying again", "stage", at.stage, "end", at.end, "attempt", failures, "wait", wait, "error", err)
	r.change(true, func(p *Progress) {
		p.State, p.Stage, p.End, p.Err, p.Attempt, p.Wait = Retrying, at.stage, at.end, err, failures, wait
	})
}

func (r *reporter) stalled(at where) {
	r.log.Warn("replication: stalled", "stage", at.stage, "end", at.end)
	r.change(true, func(p *Progress) {
		p.State, p.Stage, p.End, p.Err = Stalled, at.stage, at.end, ErrStalled
	})
}

// recovered tells that what was retried works again.
func (r *reporter) recovered(at where) {
	r.mu.Lock()
	troubled := (r.now.State == Retrying || r.now.State == Stalled) && r.now.Stage == at.stage && r.now.End == at.end
	r.mu.Unlock()
	if !troubled {
		return
	}
	r.change(true, func(p *Progress) {
		p.become(Running)
		r.settle(p)
	})
}

// refused counts a document that was not copied.
func (r *reporter) refused(id string, rev couch.Rev, err *couch.Error) {
	r.log.Info("replication: document not copied", "id", id, "rev", rev.String(), "error", err.Code, "reason", err.Reason)
	r.change(false, func(p *Progress) {
		p.Counts.DocWriteFailures++
		if len(r.errors) < maxErrors {
			r.errors = append(r.errors, DocError{id, rev.String(), err.Code, err.Reason})
		}
	})
}

func (r *reporter) counts() Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.Counts
}

func (r *reporter) finish(err error) Result {
	r.change(true, func(p *Progress) {
		p.State, p.Err, p.Counts.End = Complete, err, time.Now()
		if err != nil {
			p.State = Failed
		} else {
			p.Pending = 0
		}
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	result := r.now.Counts
	result.Errors = r.errors
	return result
}
