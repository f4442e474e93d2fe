package replicate

import (
	"log/slog"
	"slices"
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

	Pending   int64         `json:"pending"`          // changes of the source not yet looked at; -1 if it does not tell
	Rate      float64       `json:"rate"`             // documents written per second, lately
	BytesRate float64       `json:"bytes_per_second"` // read from the source per second, lately
	ETA       time.Duration `json:"-"`                // until Pending is looked at, at the rate of lately; -1 if not known
	Source    EndProgress   `json:"source"`
	Target    EndProgress   `json:"target"`
	Counts    Result        `json:"counts"` // so far, without Errors
}

// EndProgress is what goes on at one end.
type EndProgress struct {
	Stage    string `json:"stage,omitempty"` // of the latest call under way, as in [Error]; "": none
	Calls    int    `json:"calls"`           // under way
	Failures int64  `json:"failures"`        // calls that failed
	Docs     int64  `json:"docs"`            // read from a source, written to a target
	// Bytes are those of documents and attachments: at the source as they come,
	// again if they come again; at the target when they are written.
	Bytes int64 `json:"bytes"`
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
	calls   [2][]*string // stages of the calls under way at source and target, the latest last
	rows    int64        // changes looked at
	docs    meter        // of documents written
	bytes   meter        // of bytes read
	looked  meter        // of changes looked at
	telling sync.Mutex
}

func newReporter(o Options) *reporter {
	log := o.Logger
	if o.direction != "" {
		log = log.With("direction", o.direction)
	}
	r := &reporter{tell: o.OnProgress, log: log, behind: true}
	r.now.Direction, r.now.Pending = o.direction, -1
	now := time.Now()
	r.now.Counts.Start = now
	r.docs.at, r.bytes.at, r.looked.at = now, now, now
	return r
}

// measured is how things stand, with the rates. r.mu is held.
func (r *reporter) measured(now time.Time) Progress {
	p := r.now
	p.Rate = r.docs.read(now, p.Counts.DocsWritten)
	p.BytesRate = r.bytes.read(now, p.Counts.BytesRead)
	p.Source.Docs, p.Source.Bytes = p.Counts.DocsRead, p.Counts.BytesRead
	p.Target.Docs, p.Target.Bytes = p.Counts.DocsWritten, p.Counts.Bytes
	for i, end := range []*EndProgress{&p.Source, &p.Target} {
		if end.Calls = len(r.calls[i]); end.Calls > 0 {
			end.Stage = *r.calls[i][end.Calls-1]
		}
	}
	p.ETA = eta(p.Pending, r.looked.read(now, r.rows))
	if p.State == Idle || p.State == Complete {
		p.ETA = 0
	}
	return p
}

// progress is how things stand now.
func (r *reporter) progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.measured(time.Now())
}

// began notes a call to an end, until the returned function is called.
func (r *reporter) began(at where) (ended func(failed bool)) {
	i, end := 0, &r.now.Source
	if at.end == targetEnd {
		i, end = 1, &r.now.Target
	}
	stage := &at.stage
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[i] = append(r.calls[i], stage)
	return func(failed bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls[i] = slices.DeleteFunc(r.calls[i], func(s *string) bool { return s == stage })
		if failed {
			end.Failures++
		}
	}
}

// read counts bytes that came from the source.
func (r *reporter) read(n int64) {
	r.change(false, func(p *Progress) { p.Counts.BytesRead += n })
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
	p := r.measured(now)
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

// front tells that everything up to seq is written, with so many changes after it.
func (r *reporter) front(seq couch.Seq, pending int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Counts.LastSeq, r.now.Pending = string(seq), pending
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
func (r *reporter) batch(chunks, rows int) (n int64) {
	r.mu.Lock()
	r.active -= chunks
	r.rows += int64(rows)
	news := r.active == 0 && !r.behind
	r.mu.Unlock()
	r.change(news, func(p *Progress) {
		p.Counts.Batches++
		n = p.Counts.Batches
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
