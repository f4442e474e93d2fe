package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/replicate"
)

// PoolOptions adjusts a [Pool]. The zero value takes part with everybody who joins the topic.
type PoolOptions struct {
	// Name is what others see beside the topic. "": the database's name.
	Name string
	// Direction says which way documents go between this database and a peer's, by its verified peer id; nil: both ways
	// with all. It holds for the two whatever the peer's own says; what passes is what both allow.
	Direction func(peer string) PoolDirection
	// Accept is asked about a peer, by its verified peer id, before this pool pulls from
	// it and when it comes to pull from here; an error refuses it, and its text is told to
	// the peer. It may take its time, is called from several goroutines and again when
	// the peer comes back or some time after it was refused. nil: all are welcome.
	Accept func(peer string) error
	// MaxPeers bounds from how many peers the pool pulls at a time, and, as all choose
	// alike, how many pull from it: a topic with more members is a net in which changes travel through
	// others. Members that cannot be reached are replaced, for a while beyond that bound. It is even
	// (an odd one is rounded down) and the same for all members. Less than 2: 8.
	MaxPeers int
	// DesignDocs pulls design documents too. A peer that may write those has its code
	// run where the database's users run design functions; so they stay out by default.
	DesignDocs bool
	// Replication adjusts the pulls. Live, CreateTarget and Push are of no use here; a
	// Filter without DesignDocs is asked about all but design documents. What
	// a member does not pull, members that are not its source's neighbours may lack. A
	// Resolver ends the conflicts of this database as they come; its resolutions reach the
	// others as edits do, and are the same revisions wherever the same Resolver makes them. Its errors are
	// reported, and it is asked again after a while.
	Replication replicate.Options
}

// PoolDirection is the way that documents go between a database and another member's.
type PoolDirection int

// The directions between a pool and another member.
const (
	PoolBoth PoolDirection = iota
	PoolPull               // only from the other to here
	PoolPush               // only from here to the other
)

const defaultMaxPeers = 8

// A Pool is a database's membership in a topic: it replicates live with those of the other members.
//
// A member shares its database, to read only, under the info {"topic": …}, which
// everybody who may read the hub sees, and pulls from its neighbours, whose
// neighbour it is in turn. So each pair goes both ways without having to agree on
// who drives it (PoolOptions.Direction makes it one way); each member needs to trust no more than what it writes itself; and both directions
// resume inside large attachments, as only a pull can.
//
// It is safe for concurrent use.
type Pool struct {
	peer  *Peer
	topic string
	o     PoolOptions
	db    couch.DB
	share *Share

	ctx    context.Context // ends with Close, or with the Peer
	cancel context.CancelFunc
	tasks  sync.WaitGroup // the watch and the links
	closed chan struct{}
	once   sync.Once
	err    error // of Close, after closed

	errors    chan PoolError
	reporting sync.Mutex // held while errors is written to
	silent    bool       // errors is closed

	mu      sync.Mutex
	members map[string]*member // the other live ones, by share id
	met     bool               // some member has been connected
	news    chan struct{}      // closed at the next news
}

// Join takes part in a topic, 1 to 256 bytes of printable text, with a database
// until [Pool.Close] or [Peer.Close]: it replicates live with the databases of all
// peers that joined the topic. ctx bounds the call; the caller owns db, which must stay open for so long.
//
// A database may be in several topics, and in a [Share] besides. Errors: 400 for a bad topic
// or name, 412 already_shared for a topic that the process is in with it, the hub's and the database's.
func (p *Peer) Join(ctx context.Context, topic string, db *kivik.DB, o PoolOptions) (*Pool, error) {
	if err := checkName(topic); err != nil {
		return nil, couch.BadRequest("topic: " + couch.AsError(err).Reason)
	}
	if o.MaxPeers < 2 {
		o.MaxPeers = defaultMaxPeers
	}
	o.MaxPeers -= o.MaxPeers % 2
	pool := &Pool{
		peer: p, topic: topic, o: o, db: couchkivik.From(db), closed: make(chan struct{}),
		errors: make(chan PoolError, maxPoolErrors), members: map[string]*member{}, news: make(chan struct{}),
	}
	pool.ctx, pool.cancel = context.WithCancel(p.ctx)
	var err error
	pool.share, err = p.Share(ctx, db, ShareOptions{
		Name: o.Name, Info: poolInfo{topic}, ReadOnly: true, OnRemote: pool.welcome, OnEvent: pool.shareEvent, pool: poolInfo{topic},
	})
	if err != nil {
		pool.cancel()
		return nil, err
	}
	shares, err := p.Shares(ctx) // now, so that what is awaited next knows of them
	if err == nil {
		err = pool.begin(shares)
	}
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

// begin takes in the members there are and goes on watching.
func (p *Pool) begin(shares []Info) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range shares {
		p.note(Event{New, s})
	}
	p.choose()
	if p.o.Replication.Resolver != nil {
		if err := p.run(p.resolve); err != nil {
			return err
		}
	}
	return p.run(func() {
		_ = p.peer.Watch(p.ctx, func(e Event) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.note(e) {
				p.choose()
			}
			return nil
		})
	})
}

// run starts fn, which Close waits for, as the Peer's does.
func (p *Pool) run(fn func()) error {
	p.tasks.Add(1)
	if !p.peer.start(func() { defer p.tasks.Done(); fn() }) {
		p.tasks.Done()
		return ErrClosed
	}
	return nil
}

// poolInfo marks the share of a pool's member.
type poolInfo struct {
	Topic string `json:"topic"`
}

// nonce is of what a share's id is made: of the database, and of the topic if it is a pool's.
func (i poolInfo) nonce(database string) string {
	if i.Topic == "" {
		return database
	}
	return "pool\x00" + i.Topic + "\x00" + database
}

// in reports whether a share is of another member.
func (p *Pool) in(s Info) bool {
	var i poolInfo
	return s.ID != p.share.ID() && json.Unmarshal(s.Info, &i) == nil && i.Topic == p.topic
}

// welcome asks about a peer that comes to pull.
func (p *Pool) welcome(r RemoteInfo) error {
	if p.direction(r.Peer) == PoolPull {
		return couch.Forbidden("Documents go only from you to here.")
	}
	if p.o.Accept == nil {
		return nil
	}
	return p.o.Accept(r.Peer)
}

func (p *Pool) direction(peer string) PoolDirection {
	if p.o.Direction == nil {
		return PoolBoth
	}
	return p.o.Direction(peer)
}

// resolve ends conflicts until the pool is closed.
func (p *Pool) resolve() {
	for wait := poolRetryMin; ; wait = min(2*wait, poolRetryMax) {
		err := replicate.KeepResolvedDB(p.ctx, p.db, p.o.Replication.Resolver)
		if p.ctx.Err() != nil {
			return
		}
		p.report(PoolError{Peer: p.peer.ID(), Err: fmt.Errorf("resolve conflicts: %w", err)})
		pause(p.ctx, jitter(wait))
	}
}

// shareEvent reports what goes wrong with the pool's own share.
func (p *Pool) shareEvent(e ShareEvent) {
	switch e.Kind {
	case Refused:
		p.report(PoolError{Peer: e.Remote.Peer, Err: fmt.Errorf("refused: %w", e.Err)})
	case Failed, Ended:
		if e.Err != nil {
			p.report(PoolError{Peer: p.peer.ID(), Err: e.Err})
		}
	}
}

// options are those of a pull.
func (p *Pool) options() replicate.Options {
	o := p.o.Replication
	o.Live = true
	o.Push, o.Pull = o.Pull, nil // what a run copies is pushed, to itself
	if p.o.DesignDocs {
		return o
	}
	if o.FuncsVersion != "" || o.Filter == nil && o.Push == nil { // otherwise there are functions without a name
		o.FuncsVersion = "pool " + o.FuncsVersion
	}
	allowed := o.Filter
	o.Filter = func(id string, doc *replicate.Document) bool {
		return !strings.HasPrefix(id, "_design/") && (allowed == nil || allowed(id, doc))
	}
	return o
}

// Topic returns the topic.
func (p *Pool) Topic() string { return p.topic }

// Share returns the share as which the database takes part.
func (p *Pool) Share() *Share { return p.share }

// Close leaves the topic: it ends the pulls after their last checkpoints, unshares the
// database, and returns when all the pool's goroutines have exited. It is
// idempotent. The error tells that the hub could not be told: others find out when the lease expires.
func (p *Pool) Close() error {
	p.once.Do(func() {
		defer close(p.closed)
		p.cancel()
		p.tasks.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		p.err = p.share.Unshare(ctx)
		p.reporting.Lock()
		defer p.reporting.Unlock()
		p.silent = true
		close(p.errors)
	})
	<-p.closed
	return p.err
}

// refusedBy reports whether an error is the other side's refusal.
func refusedBy(err error) bool {
	var e *couch.Error
	return errors.As(err, &e) && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized)
}
