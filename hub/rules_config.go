package hub

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// Service configures the hub's own duties: its hub databases, what clients may
// use of it, and how peers find each other's addresses. The zero value works.
type Service struct {
	// Databases are the hub databases, made if they are missing. nil: one
	// named Config.Database, for every user who is signed in.
	Databases []Database
	Quotas    Quotas
	ICE       ICE
	Relay     Relay
	// Shared says that other hubs use the same store: then they take turns in expiry.
	Shared bool
	// SweepEvery is how often expired documents are looked for. 0: 30 seconds.
	SweepEvery time.Duration
}

// Counts are what a hub has done since it began, for its metrics.
type Counts struct {
	Shares  atomic.Int64 // share documents written, renewals included
	Signals atomic.Int64 // signals sent
	Purged  atomic.Int64 // expired documents and tombstones

	mu    sync.Mutex
	peers map[string]time.Time // by id, when they wrote last
}

// peerSeen is how long a peer counts after it has written something.
const peerSeen = time.Hour

const maxPeersSeen = 50_000

// saw counts a peer that has written something.
func (c *Counts) saw(peer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peers == nil {
		c.peers = map[string]time.Time{}
	}
	if _, known := c.peers[peer]; known || len(c.peers) < maxPeersSeen {
		c.peers[peer] = time.Now()
	}
}

// Peers returns how many peers have written something in the last hour.
func (c *Counts) Peers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, at := range c.peers {
		if time.Since(at) > peerSeen {
			delete(c.peers, p)
		}
	}
	return len(c.peers)
}

func (c *Counts) wrote(doc *couch.Doc) {
	switch {
	case doc.Deleted:
	case strings.HasPrefix(doc.ID, hubdoc.SharePrefix):
		c.Shares.Add(1)
	case strings.HasPrefix(doc.ID, hubdoc.SignalPrefix):
		c.Signals.Add(1)
	}
}

// A service is what carries out a hub's [Service].
type service struct {
	hubs    map[string]*hubDatabase
	quotas  *limiter
	ice     *ice
	relays  *relays
	counts  Counts
	sweeps  []*sweeper
	every   time.Duration
	running sync.WaitGroup
	stop    context.CancelFunc
}

// serviceOf checks the configuration, makes the hub databases and starts the
// sweepers, which end with [Hub.Close].
func serviceOf(ctx context.Context, c *Config) (*service, error) {
	s := &service{hubs: map[string]*hubDatabase{}, quotas: newLimiter(c.Service.Quotas), every: c.Service.SweepEvery}
	if s.every <= 0 {
		s.every = sweepEvery
	}
	run, stop := context.WithCancel(context.Background())
	s.stop, s.relays = stop, newRelays(c.Service.Relay)
	var err error
	if s.ice, err = newICE(c.Service.ICE); err != nil {
		return nil, err
	}
	if c.Service.Databases == nil {
		c.Service.Databases = []Database{{Name: c.Database}}
	}
	for _, d := range c.Service.Databases {
		if s.hubs[d.Name] != nil || strings.HasPrefix(d.Name, "_") {
			return nil, fmt.Errorf("hub database %q: the name is taken", d.Name)
		}
		if err := makeHub(ctx, c.Store, d.Name); err != nil {
			return nil, fmt.Errorf("hub database %q: %w", d.Name, err)
		}
		s.hubs[d.Name] = &hubDatabase{Database: d, quotas: s.quotas, held: holdings{q: &s.quotas.q}, counts: &s.counts, far: c.Service.Shared, bells: bells{ctx: run, running: &s.running}}
		w := &sweeper{name: d.Name, store: c.Store, log: c.Logger, counts: &s.counts}
		if c.Service.Shared {
			id := make([]byte, 8)
			_, _ = rand.Read(id) // never fails
			w.lease = &lease{id: "loveseat-expiry", owner: hex.EncodeToString(id)}
		}
		s.sweeps = append(s.sweeps, w)
	}
	for _, w := range s.sweeps {
		s.running.Go(func() { w.run(run, s.every) })
	}
	return s, nil
}

// hubSecurity is the _security of a new hub database: who may do what there is
// said by its rules. Without it CouchDB would admit administrators only.
const hubSecurity = `{"admins":{"names":[],"roles":["_admin"]},"members":{"names":[],"roles":[]}}`

// makeHub makes a hub database if it is missing. Another hub may be quicker.
func makeHub(ctx context.Context, store couch.Store, name string) error {
	_, err := store.Open(ctx, name)
	if !errors.Is(err, couch.ErrNotFound) {
		return err
	}
	if err := store.Create(ctx, name); err != nil {
		if couch.AsError(err).Status == http.StatusPreconditionFailed {
			return nil
		}
		return err
	}
	db, err := store.Open(ctx, name)
	if err != nil {
		return err
	}
	return db.SetSecurity(ctx, json.RawMessage(hubSecurity))
}

// close ends the sweepers and the bells.
func (s *service) close() {
	s.stop()
	s.relays.close()
	for _, h := range s.hubs {
		h.bells.mu.Lock()   // whoever starts to follow has done so, or will not
		h.bells.mu.Unlock() //nolint:staticcheck // SA2001: the wait is the point
	}
	s.running.Wait()
}

// Counts tells what the hub has done.
func (h *Hub) Counts() *Counts { return &h.service.counts }

// store is the store as requests see it.
func (s *service) store(store couch.Store) couch.Store {
	return ruledStore{Store: store, hubs: s.hubs}
}

// guard decides on an operation: by the _security of the database and, on a hub
// database, by its rules too; and it counts what is written.
func (h *Hub) guard(r *http.Request, a couchhttp.Access) error {
	c := callerOf(r.Context())
	if d := h.service.hubs[a.DB]; d != nil && !c.admin {
		if err := h.authorizeDB(r, loginOf(r.Context()), a, forMembers); err != nil {
			return err
		}
		return d.hubRule(&c, a)
	}
	if err := h.limitedAccess(r, a); err != nil {
		return err
	}
	return h.authorize(r, a)
}

var errNoName = errors.New("a hub database needs a name")

// ParseDatabases reads hub databases, see [ParseDatabase], with semicolons between them.
func ParseDatabases(s string) ([]Database, error) {
	var all []Database
	for part := range strings.SplitSeq(s, ";") {
		d, err := ParseDatabase(part)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}
