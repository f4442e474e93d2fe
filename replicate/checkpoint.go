package replicate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

const (
	maxHistory = 50
	saveEvery  = 25              // batches, at the latest
	graceTime  = 3 * time.Second // for the last checkpoint of a cancelled run
)

// A replicationLog is the body of _local/{replication id} on both ends.
// https://docs.couchdb.org/en/stable/replication/protocol.html#retrieve-replication-logs-from-source-and-target
//
// Each checkpoint has a session id of its own, not only each run. So if one end
// loses its latest checkpoints (restored from a backup, a crash), the newest session
// that both logs know still names exactly what both ends agreed on.
type replicationLog struct {
	SessionID     string    `json:"session_id"`
	SourceLastSeq couch.Seq `json:"source_last_seq"`
	Version       int       `json:"replication_id_version"`
	History       []session `json:"history"`
	// SourceReadOnly says that the source refuses checkpoints, so that its log being
	// empty does not mean that it was lost.
	SourceReadOnly bool `json:"source_read_only,omitempty"`
}

// A session is one entry of a log's history, newest first.
type session struct {
	SessionID        string    `json:"session_id"`
	StartTime        string    `json:"start_time"`
	EndTime          string    `json:"end_time"`
	StartLastSeq     couch.Seq `json:"start_last_seq"`
	EndLastSeq       couch.Seq `json:"end_last_seq"`
	RecordedSeq      couch.Seq `json:"recorded_seq"`
	MissingChecked   int64     `json:"missing_checked"`
	MissingFound     int64     `json:"missing_found"`
	DocsRead         int64     `json:"docs_read"`
	DocsWritten      int64     `json:"docs_written"`
	DocWriteFailures int64     `json:"doc_write_failures"`
}

// checkpoints reads and writes the logs of a run.
type checkpoints struct {
	r     *run
	id    string
	run   string // prefix of session ids
	start couch.Seq

	from       string // the source's identity
	identified bool   // it is more than a name

	due chan struct{} // asks keep for a checkpoint

	mu       sync.Mutex // one write at a time
	n        int
	source   logEnd
	target   logEnd
	history  []session // that both ends agree on, and what this run added
	saved    couch.Seq
	disabled bool
}

// A logEnd is the log document of one end.
type logEnd struct {
	db       couch.Locals
	at       where
	rev      couch.Rev
	readOnly bool
}

func newCheckpoints(r *run, from, to *couch.Info) *checkpoints {
	return &checkpoints{
		r: r, id: replicationID(from, to, r.o), run: rand.Text(), from: identity(from), disabled: r.o.NoCheckpoint || r.o.nameless(), identified: from.UUID != "", due: make(chan struct{}, 1),
		source: logEnd{db: r.source, at: where{"checkpoint", sourceEnd}},
		target: logEnd{db: r.target, at: where{"checkpoint", targetEnd}},
	}
}

// read returns the sequence to start after. now is the source's present one.
func (c *checkpoints) read(ctx context.Context, now couch.Seq) (couch.Seq, error) {
	c.start = couch.Seq(c.r.o.Since)
	if c.disabled {
		return c.start, nil
	}
	source, err := c.get(ctx, &c.source)
	if err != nil {
		return "", err
	}
	target, err := c.get(ctx, &c.target)
	if err != nil {
		return "", err
	}
	if target != nil && !c.identified {
		target.SourceReadOnly = false // it may be another source of the same name
	}
	if seq, history := commonAncestor(source, target, now); seq != "" {
		c.start, c.history, c.saved = seq, history, seq
	}
	return c.start, nil
}

// get reads one log; nil if there is none or it is not readable as one.
func (c *checkpoints) get(ctx context.Context, end *logEnd) (log *replicationLog, err error) {
	err = c.r.try(ctx, end.at, func(ctx context.Context, _ *attempt) error {
		doc, err := end.db.GetLocal(ctx, c.id)
		switch status := statusOf(err); {
		case status == 404:
			return nil
		case status == 401 || status == 403:
			end.readOnly = true
			return nil
		case err != nil:
			return err
		}
		end.rev = doc.Rev
		var l replicationLog
		if json.Unmarshal(doc.Body, &l) == nil && l.Version == logVersion {
			log = &l
		}
		return nil
	})
	return log, err
}

// commonAncestor returns the newest checkpoint that both logs know, and the
// history from there on; "" if there is none.
func commonAncestor(source, target *replicationLog, now couch.Seq) (couch.Seq, []session) {
	if target == nil {
		return "", nil
	}
	if source == nil {
		if target.SourceReadOnly && len(target.History) > 0 && !wentBack(target.History[0].RecordedSeq, now) {
			return target.History[0].RecordedSeq, target.History
		}
		return "", nil
	}
	recorded := make(map[string]couch.Seq, len(target.History))
	for _, s := range target.History {
		recorded[s.SessionID] = s.RecordedSeq
	}
	for i, s := range source.History {
		if seq, ok := recorded[s.SessionID]; ok && seq == s.RecordedSeq {
			return seq, source.History[i:]
		}
	}
	return "", nil
}

// wentBack reports whether a source that cannot keep a log is certainly an older
// one than its checkpoint: sequences are opaque, but most begin with a number.
func wentBack(checkpoint, now couch.Seq) bool {
	return number(now) >= 0 && number(checkpoint) > number(now)
}

// number is what a sequence begins with, -1 if that is no number.
func number(s couch.Seq) int64 {
	digits, _, _ := strings.Cut(string(s), "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// batches tells how many batches are done.
func (c *checkpoints) batches(n int64) {
	if n%saveEvery == 0 {
		select {
		case c.due <- struct{}{}:
		default:
		}
	}
}

// keep writes checkpoints at intervals, until the returned function is called.
func (c *checkpoints) keep(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(c.r.o.CheckpointInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-c.due:
			case <-ctx.Done():
				return
			}
			_ = c.save(ctx) // reported; the next tick tries again
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// last writes the last checkpoint, in a short grace time if ctx has ended.
func (c *checkpoints) last(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceTime)
	defer cancel()
	for failures := 1; failures < 5; failures++ {
		if err := c.save(ctx); err == nil || statusOf(err) == 404 || errors.Is(err, couch.ErrClosed) {
			return // it is written, or that end is gone
		}
		select {
		case <-time.After(c.r.o.Retry.wait(failures, 0)):
		case <-ctx.Done():
			return
		}
	}
}

// save records how far the target is, first there: the target's log never tells less than the source's.
// A failure costs only the next run some comparing.
func (c *checkpoints) save(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	seq := c.r.report.seq()
	if c.disabled || seq == c.saved || seq == "" || seq == c.start && c.saved == "" {
		return nil
	}
	log := c.next(seq)
	ends := []*logEnd{&c.target, &c.source}
	for i := 0; i < len(ends); i++ {
		end, was := ends[i], c.source.readOnly
		if err := c.put(ctx, end, log); err != nil {
			if ctx.Err() == nil {
				c.r.report.retrying(end.at, err, 1, c.r.o.CheckpointInterval)
			}
			return err
		}
		c.r.report.recovered(end.at)
		if c.target.readOnly { // the source's log alone says nothing about the target
			c.disabled = true
			return nil
		}
		if end == &c.source && end.readOnly && !was {
			ends = append(ends, &c.target) // it has to say so
		}
	}
	c.history, c.saved = log.History, seq
	return nil
}

func (c *checkpoints) next(seq couch.Seq) *replicationLog {
	c.n++
	counts := c.r.report.counts()
	s := session{
		SessionID: c.run + "-" + strconv.Itoa(c.n),
		StartTime: counts.Start.UTC().Format(time.RFC1123), EndTime: time.Now().UTC().Format(time.RFC1123),
		StartLastSeq: c.start, EndLastSeq: seq, RecordedSeq: seq,
		MissingChecked: counts.MissingChecked, MissingFound: counts.MissingFound,
		DocsRead: counts.DocsRead, DocsWritten: counts.DocsWritten, DocWriteFailures: counts.DocWriteFailures,
	}
	return &replicationLog{
		SessionID: s.SessionID, SourceLastSeq: seq, Version: logVersion,
		History: thin(append([]session{s}, c.history...)), SourceReadOnly: c.source.readOnly,
	}
}

// thin keeps a history short: of the older half every other entry goes, so that
// the gaps grow with age and an end restored from an old backup finds one of its own.
func thin(h []session) []session {
	if len(h) <= maxHistory {
		return h
	}
	out := h[: maxHistory/2 : maxHistory/2]
	for i := maxHistory / 2; i < len(h); i += 2 {
		out = append(out, h[i])
	}
	return out
}

// put writes one log. Another replication of the same id may have written it in
// between: then its revision is read and the write repeated.
func (c *checkpoints) put(ctx context.Context, end *logEnd, log *replicationLog) error {
	if end.readOnly {
		return nil
	}
	log.SourceReadOnly = c.source.readOnly
	body, err := json.Marshal(log)
	if err != nil {
		return err
	}
	for range 5 {
		ctx, cancel := context.WithTimeout(ctx, c.r.o.StallTimeout)
		rev, err := end.db.PutLocal(ctx, &couch.Doc{ID: c.id, Rev: end.rev, Body: body})
		if err == nil {
			end.rev = rev
			cancel()
			return nil
		}
		switch status := statusOf(err); {
		case status == 401 || status == 403:
			end.readOnly = true
			cancel()
			return nil
		case status != 409:
			cancel()
			return err
		}
		end.rev = couch.Rev{}
		if doc, err := end.db.GetLocal(ctx, c.id); err == nil {
			end.rev = doc.Rev
		}
		cancel()
	}
	return errors.New("the checkpoint is being written by others")
}
