package share

import (
	"context"
	"slices"
	"strings"
	"time"
)

// A Connection is what is known at the moment of the connection to another process.
type Connection struct {
	Peer     string        `json:"peer"`     // peer id, verified
	Address  string        `json:"address"`  // of the process, see [Transport]
	Route    string        `json:"route"`    // how its packets travel, see [Conn]
	Incoming bool          `json:"incoming"` // the other process made it
	Since    time.Time     `json:"since"`
	RTT      time.Duration `json:"rtt_ns"` // round trip; 0: not known
	Sent     uint64        `json:"bytes_sent"`
	Received uint64        `json:"bytes_received"`
	Streams  int           `json:"streams"`          // open now, in both directions
	Shares   []string      `json:"shares,omitempty"` // ids of the shares that are open over it, in both directions
}

// ConnectionState is what has become of a connection.
type ConnectionState string

// The states of a connection.
const (
	ConnectionOpened      ConnectionState = "connected"
	ConnectionInterrupted ConnectionState = "interrupted" // no packets come; another path is looked for
	ConnectionRestored    ConnectionState = "restored"    // they do again, perhaps by another route
	ConnectionClosed      ConnectionState = "closed"
)

// A ConnectionEvent tells of a change of a connection.
type ConnectionEvent struct {
	State ConnectionState
	Connection
	Err error // ConnectionClosed: why, nil if it was closed here
}

// A Monitor is a [Transport] that tells of its connections. (Peer and Shares are filled in by [Peer].)
type Monitor interface {
	// Connections returns a snapshot.
	Connections() []Connection
	// WatchConnections calls fn, which must not block, with each event until stop is called.
	WatchConnections(fn func(ConnectionEvent)) (stop func())
}

// Connections returns a snapshot of the connections to other processes, by peer;
// none if the transport is no [Monitor].
func (p *Peer) Connections() []Connection {
	m, ok := p.transport.(Monitor)
	if !ok {
		return nil
	}
	all, shares := m.Connections(), p.openShares()
	for i := range all {
		all[i].complete(shares)
	}
	slices.SortFunc(all, func(a, b Connection) int { return strings.Compare(a.Address, b.Address) })
	return all
}

// WatchConnections calls fn with each connection that is open, as [ConnectionOpened], then with what becomes
// of them and of new ones, until ctx or the peer ends, or fn returns an error; it returns
// why. Of events that come faster than fn returns, those beyond 256 are lost.
func (p *Peer) WatchConnections(ctx context.Context, fn func(ConnectionEvent) error) error {
	events := make(chan ConnectionEvent, 256)
	if m, ok := p.transport.(Monitor); ok {
		stop := m.WatchConnections(func(e ConnectionEvent) {
			select {
			case events <- e:
			default:
			}
		})
		defer stop()
	}
	told := map[connectionKey]bool{} // those that were open, until their events come or they end
	for _, c := range p.Connections() {
		told[c.key()] = true
		if err := fn(ConnectionEvent{State: ConnectionOpened, Connection: c}); err != nil {
			return err
		}
	}
	for {
		select {
		case e := <-events:
			again := told[e.key()] && e.State == ConnectionOpened
			if e.State == ConnectionOpened || e.State == ConnectionClosed {
				delete(told, e.key())
			}
			if again {
				continue
			}
			e.complete(p.openShares())
			if err := fn(e); err != nil {
				return err
			}
		case <-p.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A connectionKey tells the connections to a process apart.
type connectionKey struct {
	address string
	since   time.Time
}

func (c *Connection) key() connectionKey { return connectionKey{c.Address, c.Since} }

func (c *Connection) complete(shares map[string][]string) {
	c.Peer, c.Shares = peerOf(c.Address), shares[c.Address]
}

// openShares returns the ids of the open shares, ours and those of others, by the other process.
func (p *Peer) openShares() map[string][]string {
	open := make(map[string][]string)
	for _, s := range p.server.all() {
		s.mu.Lock()
		for address := range s.remotes {
			open[address] = append(open[address], s.id)
		}
		s.mu.Unlock()
	}
	p.mu.Lock()
	for r := range p.remotes {
		if s, _ := p.dir.get(r.id); s != nil {
			open[s.address()] = append(open[s.address()], r.id)
		}
	}
	p.mu.Unlock()
	for _, ids := range open {
		slices.Sort(ids)
	}
	return open
}
