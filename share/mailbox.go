package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/fair"
)

// A mailbox is the [Signaler] of one process: signals are documents of the hub.
type mailbox struct {
	hub     couch.DB
	id      *Identity
	address string
	sealKey func(ctx context.Context, peer string) ([]byte, error) // of a sharer
	trash   *trash
	log     *slog.Logger

	standings *standings

	mu       sync.Mutex
	sessions sessions
	swept    time.Time

	delivery  sync.Mutex // held while receivers are called
	receivers map[*receiver]struct{}
	received  int      // how many of them are not aside
	early     []Signal // came before there was any of those
}

type receiver struct {
	fn    func(Signal)
	aside bool
}

const maxEarly = 256

// Send implements [Signaler]: it seals and signs s and writes it to the hub,
// again if that fails for a reason that may pass, until ctx ends.
//
// The recipient's sealing key is known from its earlier signals in the session, or
// else from its share document. Errors: the hub's; not_found (404) if the recipient is unknown.
func (m *mailbox) Send(ctx context.Context, s Signal) error {
	s.From = m.address
	if err := checkSignal(s); err != nil {
		return err
	}
	m.mu.Lock()
	keys, ok := m.sessions.keysOf(s.To, s.Session)
	m.mu.Unlock()
	switch {
	case ok:
	case peerOf(s.To) == m.id.ID():
		keys = m.id.Keys()
	default:
		var err error
		if keys.Seal, err = m.sealKey(ctx, peerOf(s.To)); err != nil {
			return err
		}
	}
	now := time.Now()
	m.mu.Lock()
	seq := m.sessions.number(s.To, s.Session, now)
	m.mu.Unlock()
	doc, err := m.id.newSignalDoc(s, seq, keys.Seal, now)
	if err != nil {
		return err
	}
	return retry(ctx, func() error {
		_, err := write(ctx, m.hub, doc)
		if errors.Is(err, couch.ErrConflict) {
			return nil // an attempt before this one was carried out: the id is random
		}
		return err
	})
}

// Receive implements [Signaler].
func (m *mailbox) Receive(ctx context.Context, fn func(Signal)) error {
	defer m.listen(&receiver{fn: fn})()
	<-ctx.Done()
	return ctx.Err()
}

// overhear calls fn with each signal, as Receive does, until stop is called; but
// those that came before a transport received wait for it all the same.
func (m *mailbox) overhear(fn func(Signal)) (stop func()) {
	return m.listen(&receiver{fn: fn, aside: true})
}

func (m *mailbox) listen(r *receiver) (stop func()) {
	m.delivery.Lock()
	defer m.delivery.Unlock()
	for _, s := range m.early {
		r.fn(s)
	}
	if !r.aside {
		m.early, m.received = nil, m.received+1
	}
	if m.receivers == nil {
		m.receivers = map[*receiver]struct{}{}
	}
	m.receivers[r] = struct{}{}
	return func() {
		m.delivery.Lock()
		defer m.delivery.Unlock()
		delete(m.receivers, r)
		if !r.aside {
			m.received--
		}
	}
}

// apply takes a signal document from the hub. Those to this process are
// delivered if they are good, and deleted in any case; the others are not its business.
func (m *mailbox) apply(d *couch.Doc) {
	if !bytes.Contains(d.Body, []byte(m.address)) {
		return // most are to others: a search costs less than parsing
	}
	s, err := parseSignal(d)
	if err != nil || s.To != m.address {
		return
	}
	if err := m.take(s, d); err != nil {
		m.log.Warn("signal refused", "from", ShortID(s.From), "kind", s.Kind, "err", err)
	}
	m.trash.add(d)
}

func (m *mailbox) take(s *signalDoc, d *couch.Doc) error {
	now := time.Now()
	if age := now.Sub(s.time); age > signalAge || age < -signalAge {
		return fmt.Errorf("stale: sent %v ago by the sender's clock", age.Round(time.Second))
	}
	sig, err := m.id.openSignal(s, d.Body)
	if err != nil {
		return err
	}
	ready, err := m.order(sig, s, now)
	if err != nil {
		return err
	}
	m.deliver(ready)
	return nil
}

// order returns the signals whose turn has come with this one.
func (m *mailbox) order(sig Signal, s *signalDoc, now time.Time) ([]Signal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.swept) > time.Minute {
		m.swept = now
		m.sessions.forget(now, sessionIdle)
	}
	return m.sessions.accept(sig, s.Seq, s.Keys, now)
}

// deliver calls the receivers under a lock: after Receive has returned, its fn is not called.
func (m *mailbox) deliver(signals []Signal) {
	m.delivery.Lock()
	defer m.delivery.Unlock()
	for _, s := range signals {
		if m.received == 0 {
			m.early = append(m.early, s)
		}
		if len(m.early) > maxEarly {
			m.early = fair.Drop(m.early, func(s Signal) fair.Claim { return fair.Claim{Group: peerOf(s.From)} })
		}
		for r := range m.receivers {
			r.fn(s)
		}
	}
}

// sweep deletes signals from and to this peer that are stale: of processes that ended without doing so.
func (m *mailbox) sweep(ctx context.Context) error {
	return eachDoc(ctx, m.hub, signalDocPrefix, func(d *couch.Doc) {
		s, err := parseSignal(d)
		if err != nil || peerOf(s.To) != m.id.ID() && peerOf(s.From) != m.id.ID() {
			return
		}
		if time.Since(s.time) > 2*signalAge {
			m.trash.add(d)
		}
	})
}

// retry calls fn until it succeeds, fails for good, or ctx ends; then its last error counts.
func retry(ctx context.Context, fn func() error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := fn()
		if err == nil || permanent(err) {
			return err
		}
		if !pause(ctx, max(jitter(wait), couch.RetryAfter(err))) {
			return err
		}
	}
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool {
	var e *couch.Error
	if !errors.As(err, &e) {
		return false // the network
	}
	return e.Status >= 400 && e.Status < 500 && e.Status != 408 && e.Status != 429
}

// jitter is d give or take a quarter, so that many peers do not act as one.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// whenWoken calls do some time after each wake, for more to come, and once more, for at most
// last, when ctx ends; then it returns.
func whenWoken(ctx context.Context, wake <-chan struct{}, linger, last time.Duration, do func(context.Context)) {
	for {
		select {
		case <-wake:
			if pause(ctx, linger) {
				do(ctx)
				continue
			}
		case <-ctx.Done():
		}
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), last)
		defer cancel()
		do(ending)
		return
	}
}
