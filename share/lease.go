package share

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// How a share lives in the hub: its document is a lease, which is renewed until the share ends.

// publish writes the share document: a new lease.
func (s *Share) publish(ctx context.Context) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	info, err := s.db.Info(ctx)
	if err != nil {
		return err
	}
	if err := s.takenOver(ctx); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		published := time.Now().Truncate(time.Millisecond) // as documents have it
		if !published.After(s.published) {                 // readers ignore what is no newer than they have
			published = s.published.Add(time.Millisecond)
		}
		doc, err := s.peer.id.newShareDoc(shareDoc{Share: hubdoc.Share{
			Name: s.name, Info: s.info, DB: s.dbName, Instance: s.peer.instance, Nonce: s.nonce, Access: s.access,
			DocCount: info.DocCount, UpdateSeq: string(info.UpdateSeq),
			Admission: s.admission.published(), Filtered: s.o.Selector != nil || s.o.DocIDs != nil,
		}, published: published, expires: s.leaseEnd(published), until: s.until})
		if err != nil {
			return err
		}
		doc.Rev = s.rev
		rev, err := write(ctx, s.peer.hub, doc)
		if err == nil {
			s.rev, s.published = rev, published
			s.peer.dir.apply(doc.ID, doc)
			return nil
		}
		if !errors.Is(err, couch.ErrConflict) || attempt == 2 {
			return err
		}
		if err := s.catchUp(ctx); err != nil {
			return err
		}
	}
}

// catchUp reads the revision of the share document that is in the hub: of this share's
// last process, or written by someone who must not. Errors: [ErrTakenOver].
func (s *Share) catchUp(ctx context.Context) error {
	doc, err := s.peer.hub.Get(ctx, shareDocPrefix+s.id, couch.GetOptions{})
	if errors.Is(err, couch.ErrNotFound) {
		s.rev = couch.Rev{}
		return nil
	}
	if err != nil {
		return err
	}
	there, err := parseShare(doc)
	newer := err == nil && there.published.After(s.published) // otherwise not ours, or an old one
	if newer && !s.published.IsZero() && there.Instance != s.peer.instance {
		return ErrTakenOver
	}
	s.rev = doc.Rev
	if newer {
		s.published = there.published
	}
	return nil
}

// minRenewal is how soon the document is written again when it disappears from the hub.
const minRenewal = 5 * time.Second

// leaseEnd is until when a share document is good: never longer than the share.
func (s *Share) leaseEnd(published time.Time) time.Time {
	end := published.Add(s.peer.lease)
	if !s.until.IsZero() && end.After(s.until) {
		end = s.until
	}
	return end
}

// renew keeps the lease until the share ends.
func (s *Share) renew() {
	defer close(s.done)
	var authors sync.WaitGroup
	authors.Go(func() { s.ledger.run(s.ctx) })
	authors.Go(func() { s.locals.run(s.ctx) })
	defer authors.Wait()
	defer s.cancel(nil)
	err := s.renewals()
	s.publishing.Lock()
	begun := !s.published.IsZero()
	s.publishing.Unlock()
	if begun {
		s.event(ShareEvent{Kind: Ended, Err: err})
	}
}

// renewals returns why the share has ended, nil after Unshare.
func (s *Share) renewals() error {
	var expiry <-chan time.Time
	if !s.until.IsZero() {
		t := time.NewTimer(time.Until(s.until))
		defer t.Stop()
		expiry = t.C
	}
	lease := s.peer.lease
	wait, retryIn := jitter(lease/3), time.Second
	var err error
	for s.await(wait, err == nil, expiry) {
		by := time.Now().Add(max(lease/3, 10*time.Second))
		if !s.until.IsZero() && by.After(s.until) {
			by = s.until
		}
		ctx, cancel := context.WithDeadline(s.ctx, by)
		err = s.publish(ctx)
		cancel()
		switch {
		case s.ctx.Err() != nil || s.expired():
		case err == nil:
			wait, retryIn = jitter(lease/3), time.Second
		case errors.Is(err, ErrTakenOver):
			s.stop()
			return err
		default:
			s.log.Warn("share not renewed", "err", err, "retry_in", retryIn)
			s.event(ShareEvent{Kind: Failed, Err: err})
			wait, retryIn = jitter(retryIn), min(2*retryIn, max(lease/6, time.Second))
		}
	}
	if s.ctx.Err() == nil {
		s.end(errExpired)
	}
	if err := s.over(); !errors.Is(err, couch.ErrNotFound) { // not after Unshare
		return err
	}
	return nil
}

func (s *Share) expired() bool { return !s.until.IsZero() && !time.Now().Before(s.until) }

// end ends serving for a reason, which openers are told from now on, and takes the
// document from the hub as well as it can.
func (s *Share) end(reason *couch.Error) {
	s.cancel(reason)
	_ = s.api.Close()
	s.cut(reason, everybody)
	ctx, cancel := context.WithTimeout(s.peer.ctx, closeTime)
	defer cancel()
	if err := s.unpublish(ctx); err != nil {
		s.log.Warn("the document of a share that has ended stays in the hub until it expires", "err", err)
	}
}

func everybody(*remote) bool { return true }

// await waits for the next renewal, which comes sooner if a document that was
// written disappears. false: the share has ended.
func (s *Share) await(wait time.Duration, written bool, expiry <-chan time.Time) bool {
	due := time.NewTimer(wait)
	defer due.Stop()
	var soon <-chan time.Time
	if written && wait > minRenewal {
		soon = time.After(minRenewal)
	}
	for watching := false; ; {
		known, changed := s.peer.dir.get(s.id)
		if watching && known == nil {
			return s.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-soon:
			watching = true
		case <-due.C:
			return s.ctx.Err() == nil && !s.expired()
		case <-expiry:
			return false
		case <-s.ctx.Done():
			return false
		}
	}
}
