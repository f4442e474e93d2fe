package share

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// ShareOptions says how a database is shared. The zero value shares it under
// its own name, to read and write, with every peer of the hub.
type ShareOptions struct {
	// Name is what others see and may open it by: 1 to 256 bytes of printable
	// text. It need not be unique. "": the database's name.
	Name string
	// Info is any JSON value for the others to see, at most 32 KiB. nil: none.
	Info any
	// ReadOnly lets others read and pull only.
	ReadOnly bool

	// Who may open it. With none of the following three all peers of the hub
	// may; otherwise those that one of them lets in, and those admitted for good.

	// Allow lists peer ids, or their first four groups at least, and users of the
	// hub as "user:NAME": then the hub is believed who a peer belongs to. Only
	// hubs of Loveseat tell that, and only to who is signed in there and no administrator.
	Allow []string
	// Approve is asked about the others, and may ask a person: ctx ends when the
	// peer does not wait any more. [Always] is remembered. An error refuses the peer,
	// which gets 403 with its text.
	Approve func(ctx context.Context, peer RemoteInfo) (Approval, error)
	// Invited admits peers with an invite, see [Share.Invite].
	Invited bool

	// OnRemote has the last word about each peer that opens the share and is
	// admitted; an error refuses it: the peer gets 403 with the error's text and
	// is disconnected. It may take its time (Close waits for it). A peer that has
	// closed the share is asked about again when it comes back.
	OnRemote func(RemoteInfo) error
	// Expires ends the share: requests under way are cut off, later ones refused. zero: it does not end.
	Expires time.Time

	// What they may see and do. They see the revisions that match Selector (Mango)
	// and whose ids are among DocIDs, and write no others, whatever way they ask.

	// Selector is a Mango selector as JSON. nil: all.
	Selector json.RawMessage
	// DocIDs are the documents that are shared, 10,000 at most. nil: all.
	DocIDs []string
	// OnWrite decides on each document that a peer writes, replicated ones too; an
	// error refuses it (403) and not the others. It is called concurrently.
	OnWrite func(ctx context.Context, w Write) error
	// Limits bounds what each peer may ask.
	Limits PeerLimits

	// OnEvent is told of what happens to the share, one event at a time. It
	// must not call the share's methods, nor block for long.
	OnEvent func(ShareEvent)
	// Handlers answer the custom requests of openers, by name: see [Share.Handle].
	Handlers map[string]Handler

	pool poolInfo // of a pool's share
}

// EventKind is what happened to a share.
type EventKind string

// The kinds of events, of a share served here ...
const (
	Opened  EventKind = "opened"  // a peer has opened it
	Closed  EventKind = "closed"  // and closed it, or was cut off
	Refused EventKind = "refused" // a peer was not admitted
	Failed  EventKind = "failed"  // renewing it in the hub failed; it is tried again
	Ended   EventKind = "ended"   // it is not shared any more: Err tells why, nil after Unshare
	Revoked EventKind = "revoked" // a peer's access was taken away

	WriteRefused EventKind = "write_refused" // documents of a peer were refused
)

// ShareEvent is something that happened to a share that is served here.
type ShareEvent struct {
	Kind   EventKind
	Remote RemoteInfo     // Opened, Closed, Refused, Revoked, WriteRefused
	Err    error          // Refused, Failed, Ended
	Writes []RefusedWrite // WriteRefused
}

// ErrTakenOver ends a share when another process of the same identity shares
// the same database: the hub has one document for both, and the newer one keeps it.
var ErrTakenOver = errors.New("another process of this peer shares the same database")

// A Share is a database that is published in a hub and served to its peers.
type Share struct {
	peer   *Peer
	id     string
	name   string
	info   json.RawMessage
	dbName string
	nonce  string
	access Access
	o      ShareOptions
	db     couch.DB // what openers see of it
	api    *couchhttp.Server
	log    *slog.Logger

	ctx    context.Context // ends with the share
	cancel context.CancelCauseFunc
	until  time.Time     // when it ends by itself; zero: it does not
	done   chan struct{} // closed when the renewals have ended

	events sync.Mutex // held while OnEvent is called

	messages  messages
	admission *admission
	throttles throttles
	ledger    *ledger
	refused   *refusedWrites

	mu      sync.Mutex
	remotes map[string]*remote // by address

	publishing sync.Mutex // guards the following, and the hub's document
	rev        couch.Rev
	published  time.Time // of the last revision; zero: none yet
	removed    bool
}

// Share publishes a database in the hub and serves it to the hub's peers until
// [Share.Unshare] or [Peer.Close]; the caller owns db, which must stay open for so long.
//
// The share's id is always the same for the same identity and database, so that
// links and replications outlive the process. Errors: 400 for a bad name or
// info, 412 already_shared, the hub's and the database's errors.
func (p *Peer) Share(ctx context.Context, db *kivik.DB, o ShareOptions) (*Share, error) {
	s, err := p.newShare(ctx, couchkivik.From(db), o)
	if err != nil {
		return nil, err
	}
	if err := p.serve(s); err != nil {
		s.cancel(nil)
		return nil, err
	}
	if !p.start(s.renew) {
		s.stop()
		return nil, ErrClosed
	}
	if err := s.publish(ctx); err != nil {
		s.stop()
		<-s.done
		return nil, fmt.Errorf("publish the share: %w", err)
	}
	return s, nil
}

// newShare checks the options and puts a share together.
func (p *Peer) newShare(ctx context.Context, db couch.DB, o ShareOptions) (*Share, error) {
	info, err := db.Info(ctx)
	if err != nil {
		return nil, err
	}
	s := &Share{peer: p, o: o, db: db, dbName: info.Name, name: cmp.Or(o.Name, info.Name), access: ReadWrite, remotes: map[string]*remote{}, done: make(chan struct{})}
	if o.ReadOnly {
		s.access = ReadOnly
	}
	if err := checkName(s.name); err != nil {
		return nil, err
	}
	if s.info, err = encodeInfo(o.Info); err != nil {
		return nil, err
	}
	if err := s.handleAll(o.Handlers); err != nil {
		return nil, err
	}
	if s.until = o.Expires; !s.until.IsZero() && !time.Now().Before(s.until) {
		return nil, couch.BadRequest("The share's time is over before it begins.")
	}
	s.nonce = shareNonce(o.pool.nonce(databaseName(info)))
	s.id = shareID(p.ID(), s.nonce)
	s.log = p.log.With("share", s.id)
	if err := s.guard(ctx, db); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(p.ctx)
	return s, nil
}

// guard puts what decides on requests before the database.
func (s *Share) guard(ctx context.Context, db couch.DB) error {
	o := &s.o
	limits, err := newLimits(o.Selector, o.DocIDs)
	if err != nil {
		return err
	}
	if limits != nil {
		s.db = &filtered{db: db, limits: *limits}
	}
	state, err := loadAccess(ctx, db, s.id)
	if err != nil {
		return err
	}
	if s.admission, err = newAdmission(o, state); err != nil {
		return err
	}
	s.throttles.o = o.Limits
	s.ledger, s.refused = newLedger(db, s.id, s.log), &refusedWrites{}
	s.api = couchhttp.NewServer(couchhttp.ServerOptions{
		Store: oneStore{s.dbName, &view{DB: s.db, access: s.access, owner: db, onWrite: o.OnWrite, onRefused: s.noteRefused, ledger: s.ledger}},
		UUID:  s.id, Authorize: s.authorize, Logger: s.log,
		Limits: couchhttp.Limits{Body: o.Limits.Body, Document: o.Limits.Document, Attachment: o.Limits.Attachment},
	})
	return nil
}

func encodeInfo(info any) (json.RawMessage, error) {
	if info == nil {
		return nil, nil
	}
	b, err := json.Marshal(info)
	if err == nil {
		_, err = canonical("", append(append([]byte(`{"info":`), b...), '}')) // can it be signed?
	}
	switch {
	case err != nil:
		return nil, couch.BadRequest("info: " + err.Error())
	case len(b) > maxInfo:
		return nil, couch.BadRequest("A share's info is limited to 32 KiB.")
	}
	return b, nil
}

// ID returns the share's id.
func (s *Share) ID() string { return s.id }

// Name returns the name it is shared under.
func (s *Share) Name() string { return s.name }

// Link returns the share's link, see [Link]; in a hub that has no URL, the share's id.
func (s *Share) Link() string { return cmp.Or(s.peer.link(s.id), s.id) }

// Done is closed when the database is not shared any more.
func (s *Share) Done() <-chan struct{} { return s.done }

func (s *Share) event(e ShareEvent) {
	s.log.Debug("share "+string(e.Kind), "peer", ShortID(e.Remote.Peer), "err", e.Err)
	if s.o.OnEvent == nil {
		return
	}
	s.events.Lock()
	defer s.events.Unlock()
	s.o.OnEvent(e)
}

// publish writes the share document: a new lease.
func (s *Share) publish(ctx context.Context) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	info, err := s.db.Info(ctx)
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		published := time.Now()
		if !published.After(s.published) { // readers ignore what is older than they have
			published = s.published.Add(time.Millisecond)
		}
		published = published.Truncate(time.Millisecond)
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

// stop ends serving: requests under way are cut off.
func (s *Share) stop() {
	s.peer.server.remove(s)
	s.cancel(nil)
	_ = s.api.Close()
	s.cut(errUnshared, everybody)
}

// Unshare ends the share: requests under way are cut off, and its document is
// removed from the hub. It is idempotent. If the hub cannot be told, which is the error,
// the document expires with its lease.
func (s *Share) Unshare(ctx context.Context) error {
	s.stop()
	<-s.done
	return s.unpublish(ctx)
}

// unpublish removes the share's document from the hub.
func (s *Share) unpublish(ctx context.Context) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.removed {
		return nil
	}
	docID := shareDocPrefix + s.id
	for attempt := 0; ; attempt++ {
		_, err := write(ctx, s.peer.hub, &couch.Doc{ID: docID, Rev: s.rev, Deleted: true})
		switch {
		case err == nil || errors.Is(err, couch.ErrNotFound):
			s.removed = true
			s.peer.dir.apply(docID, nil)
			return nil
		case !errors.Is(err, couch.ErrConflict) || attempt == 2:
			return fmt.Errorf("unshare: %w", err)
		}
		if err := s.catchUp(ctx); err != nil {
			if errors.Is(err, ErrTakenOver) {
				return nil
			}
			return fmt.Errorf("unshare: %w", err)
		}
		if s.rev.IsZero() {
			s.removed = true
			return nil // removed already
		}
	}
}
