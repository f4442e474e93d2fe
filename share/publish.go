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
)

// ErrTakenOver ends a share when another process of the same identity shares
// the same database: the hub has one document for both, and the newer one keeps it.
var ErrTakenOver = errors.New("another process of this peer shares the same database")

// A Share is a database that is published in a hub and served to its peers.
type Share struct {
	peer   *Peer
	id     string
	base   string   // the id of its first audience, by which its lists are kept
	turn   string   // see audience
	owner  couch.DB // the database, past what openers see of it
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
	locals    *locals
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
// The share's id is the same for the same identity and database, so that links and
// replications outlive the process; when the database is shared again and somebody is left out to whom it
// was shared before ([ShareOptions] Allow, Approve, Invited), it is another one. Errors: 400 for a bad name or
// info, 412 already_shared, the hub's and the database's errors.
func (p *Peer) Share(ctx context.Context, db *kivik.DB, o ShareOptions) (*Share, error) {
	s, err := p.begin(ctx, couchkivik.From(db), o)
	if err != nil {
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

// begin makes a share that is served, one at a time: what is refused because the database is
// shared already must not note another audience.
func (p *Peer) begin(ctx context.Context, db couch.DB, o ShareOptions) (*Share, error) {
	p.sharing.Lock()
	defer p.sharing.Unlock()
	s, err := p.newShare(ctx, db, o)
	if err != nil {
		return nil, err
	}
	if err := p.serve(s); err != nil {
		s.cancel(nil)
		return nil, err
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
	name := o.pool.nonce(databaseName(info))
	s.owner, s.base = db, shareID(p.ID(), shareNonce(name))
	if err := p.server.free(s.base); err != nil {
		return nil, err
	}
	state, err := loadAccess(ctx, db, s.base)
	if err != nil {
		return nil, err
	}
	if s.admission, err = newAdmission(&s.o, state); err != nil {
		return nil, err
	}
	s.admission.claim = p.standings.claim
	if err := state.start(ctx, s.admission.allow); err != nil {
		return nil, err
	}
	if o.pool.Topic == "" {
		if s.turn, err = audienceOf(s.admission).turn(ctx, db, s.base); err != nil {
			return nil, fmt.Errorf("keep for whom the database is shared: %w", err)
		}
	}
	s.nonce = turnNonce(name, s.turn)
	s.id = shareID(p.ID(), s.nonce)
	s.log = p.log.With("share", s.id)
	if err := s.guard(db); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(p.ctx)
	return s, nil
}

// guard puts what decides on requests before the database.
func (s *Share) guard(db couch.DB) error {
	o := &s.o
	limits, err := newLimits(o.Selector, o.DocIDs)
	if err != nil {
		return err
	}
	if limits != nil {
		s.db = &filtered{db: db, limits: *limits}
	}
	s.throttles.o = o.Limits
	s.locals = newLocals(db, s.base, s.log)
	s.locals.claim = s.peer.standings.claim
	s.ledger, s.refused = newLedger(db, s.base, s.log), &refusedWrites{}
	s.api = couchhttp.NewServer(couchhttp.ServerOptions{
		Store: oneStore{s.dbName, &view{db: s.db, access: s.access, owner: db, onWrite: o.OnWrite, onRefused: s.noteRefused, ledger: s.ledger, locals: s.locals}},
		UUID:  s.id, Authorize: s.authorize, Logger: s.log, Client: peerOfRequest,
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
