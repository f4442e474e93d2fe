package peeradapter

import (
	"time"

	"github.com/loveseat-db/loveseat/share"
)

var _ share.Monitor = (*Transport)(nil)

// emit tells of a connection: the log, Config.OnPeer and who watches, one event at a time.
func (t *Transport) emit(l *link, state PeerState) {
	e := PeerEvent{Peer: l.peer, State: state, Route: l.route()}
	if state == Closed {
		e.Route, e.Err = "", l.err
	}
	t.config.Logger.Info("peer connection", "peer", l.peer, "state", state, "route", e.Route, "err", e.Err)
	c := share.ConnectionEvent{State: share.ConnectionState(state), Connection: l.connection(), Err: e.Err}
	c.Route = e.Route
	t.events.Lock()
	defer t.events.Unlock()
	t.config.OnPeer(e)
	for w := range t.watchers {
		w.fn(c)
	}
}

type watcher struct{ fn func(share.ConnectionEvent) }

// WatchConnections implements [share.Monitor].
func (t *Transport) WatchConnections(fn func(share.ConnectionEvent)) (stop func()) {
	w := &watcher{fn}
	t.events.Lock()
	defer t.events.Unlock()
	if t.watchers == nil {
		t.watchers = make(map[*watcher]struct{})
	}
	t.watchers[w] = struct{}{}
	return func() {
		t.events.Lock()
		defer t.events.Unlock()
		delete(t.watchers, w)
	}
}

// Connections implements [share.Monitor].
func (t *Transport) Connections() []share.Connection {
	t.mu.Lock()
	var links []*link
	for _, p := range t.peers {
		if l := p.live(); l != nil {
			links = append(links, l)
		}
	}
	t.mu.Unlock()
	all := make([]share.Connection, len(links))
	for i, l := range links {
		all[i] = l.connection()
	}
	return all
}

// connection is what is known of the link.
func (l *link) connection() share.Connection {
	c := share.Connection{
		Address: l.peer, Route: l.route(), Incoming: l.incoming, Since: l.since,
		Streams: l.session.NumStreams(), RTT: l.rtt(),
	}
	c.Sent, c.Received = l.conn.traffic()
	return c
}

// rtt is that of the last ping or, before there was one, ICE check; 0: not known.
func (l *link) rtt() time.Duration {
	if took := l.pinged.Load(); took != 0 || l.pc == nil {
		return time.Duration(took)
	}
	pair, ok := iceOf(l.pc).GetSelectedCandidatePairStats()
	if !ok {
		return 0
	}
	return time.Duration(pair.CurrentRoundTripTime * float64(time.Second))
}
