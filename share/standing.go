package share

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/fair"
)

// standings are what a process knows of the peers that want something of it, for when
// places run short: see [Doorkeeper]. The zero value is ready for use.
type standings struct {
	own    string // this peer
	shares func() []*Share
	ask    chan string // peers whose user is to be asked of the hub

	mu     sync.Mutex
	users  map[string]knownUser // by peer
	opened map[string]time.Time // peers that were let in, and when last
}

type knownUser struct {
	name string // "": the hub does not say
	at   time.Time
}

const (
	userAge    = 10 * time.Minute // then the hub is asked again
	maxUsers   = 10_000
	maxAsking  = 1000
	userAskers = 4
	maxOpened  = 2000
)

// The ranks of a [Standing].
const (
	rankStranger = iota
	rankOpened
	rankListed
	rankOwn // of this peer's other processes
)

// run asks the hub whom peers belong to, until ctx ends.
func (d *standings) run(ctx context.Context, userOf func(context.Context, string) string) {
	var wg sync.WaitGroup
	for range userAskers {
		wg.Go(func() {
			for {
				select {
				case peer := <-d.ask:
					d.know(peer, userOf(ctx, peer))
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
}

// know notes what the hub says of a peer.
func (d *standings) know(peer, user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users == nil {
		d.users = map[string]knownUser{}
	}
	if len(d.users) >= maxUsers {
		d.forget()
	}
	d.users[peer] = knownUser{user, time.Now()}
}

// forget makes room for users: those who were asked about long ago go first, then any. d.mu is held.
func (d *standings) forget() {
	for peer, u := range d.users {
		if time.Since(u.at) > userAge {
			delete(d.users, peer)
		}
	}
	for peer := range d.users {
		if len(d.users) < maxUsers*7/8 {
			return
		}
		delete(d.users, peer)
	}
}

// user returns a peer's user as far as it is known, and sees to it that it will be.
func (d *standings) user(peer string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, ok := d.users[peer]
	if !ok || time.Since(u.at) > userAge {
		select {
		case d.ask <- peer:
			if d.users == nil {
				d.users = map[string]knownUser{}
			}
			if len(d.users) < maxUsers {
				d.users[peer] = knownUser{u.name, time.Now()} // asked for once
			}
		default: // later
		}
	}
	return u.name
}

// group is who a peer's places count for.
func (d *standings) group(peer string) string {
	if user := d.user(peer); user != "" {
		return userPrefix + user
	}
	return peer
}

// of tells what is known of a peer.
func (d *standings) of(peer string) Standing {
	s := Standing{Group: d.group(peer)}
	d.mu.Lock()
	if _, ok := d.opened[peer]; ok {
		s.Rank = rankOpened
	}
	d.mu.Unlock()
	if peer == d.own {
		return Standing{peer, rankOwn}
	}
	for _, share := range d.shares() {
		if share.admission.names(peer, s.Group) {
			s.Rank = rankListed
		}
	}
	return s
}

func (d *standings) claim(peer string) fair.Claim {
	s := d.of(peer)
	return fair.Claim{Group: s.Group, Rank: s.Rank}
}

// letIn notes that a peer has opened a share.
func (d *standings) letIn(peer string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened == nil {
		d.opened = map[string]time.Time{}
	}
	if d.opened[peer] = time.Now(); len(d.opened) <= maxOpened {
		return
	}
	all := slices.SortedFunc(maps.Keys(d.opened), func(a, b string) int { return d.opened[a].Compare(d.opened[b]) })
	claims := make([]fair.Claim, len(all))
	for i, p := range all {
		claims[i].Group = p
		if u := d.users[p].name; u != "" {
			claims[i].Group = userPrefix + u
		}
	}
	for _, i := range fair.Order(claims)[:maxOpened/8] {
		delete(d.opened, all[i])
	}
}

// Standing implements [Doorkeeper].
func (m *mailbox) Standing(address string) Standing { return m.standings.of(peerOf(address)) }

var _ Doorkeeper = (*mailbox)(nil)
