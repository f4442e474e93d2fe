package share

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// RemoteInfo is what a sharer knows of a peer that opens its share.
type RemoteInfo struct {
	Share  string          `json:"share"`            // share id
	Name   string          `json:"name"`             // of the share
	Peer   string          `json:"peer"`             // peer id, verified
	Route  string          `json:"route"`            // how its packets travel: see [Conn]
	User   string          `json:"user,omitempty"`   // the hub's user whom the peer belongs to, as the hub says; "" if it does not
	Info   json.RawMessage `json:"info,omitempty"`   // what the peer tells of itself, see [OpenOptions]: not verified
	Invite string          `json:"invite,omitempty"` // id of the invite that has let it in
	// Predecessors are the peer ids it had before, verified, the oldest first: see [Identity.Rotate].
	Predecessors []string `json:"predecessors,omitempty"`

	links []keyLink // between keys, its own and more
}

// ids are all the peer ids that the peer has had, and at last the one it has.
func (i *RemoteInfo) ids() []string { return append(slices.Clone(i.Predecessors), i.Peer) }

// A remote is a peer process that has a share open: it has connections that asked for it.
type remote struct {
	info     RemoteInfo // guarded by Share.mu
	streams  map[*stream]struct{}
	decided  chan struct{} // closed when it is decided whether it is admitted
	refused  error
	notified bool            // of being opened
	ctx      context.Context // ends when it has left or is cut off
	cancel   context.CancelCauseFunc
}

// serve answers one request for the share.
func (s *Share) serve(w http.ResponseWriter, r *http.Request, st *stream) {
	if err := s.over(); err != nil {
		refuse(w, err)
		return
	}
	t, err := s.throttles.begin(st.peer)
	if err != nil {
		couchhttp.WriteError(retryHeader(w, err), couch.AsError(err))
		return
	}
	defer s.throttles.end(t)
	// Unsharing and revoking end the request as its peer's going away does.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	rm, err := s.admit(ctx, st, r.Header)
	if err != nil {
		refuse(w, err)
		return
	}
	st.welcome()
	stop := context.AfterFunc(rm.ctx, func() { cancel(context.Cause(rm.ctx)) })
	defer stop()
	w, r = t.pace(ctx, w, r.WithContext(ctx))
	if s.serveMessage(w, r, st) {
		return
	}
	s.api.ServeHTTP(w, r)
}

var errUnshared = couch.NotFound("No longer shared.")

// over is why the share has ended, nil if it has not.
func (s *Share) over() error {
	if s.ctx.Err() == nil {
		return nil
	}
	if e := new(couch.Error); errors.As(context.Cause(s.ctx), &e) {
		return e
	}
	return errUnshared
}

// admit lets a peer in, after deciding on it when it comes for the first time.
func (s *Share) admit(ctx context.Context, st *stream, h http.Header) (*remote, error) {
	s.mu.Lock()
	rm := s.remotes[st.address]
	first := rm == nil
	if first {
		rm = &remote{
			info:    RemoteInfo{Share: s.id, Name: s.name, Peer: st.peer, Route: st.route(), Predecessors: predecessors(h, st.peer)},
			streams: map[*stream]struct{}{}, decided: make(chan struct{}),
		}
		rm.ctx, rm.cancel = context.WithCancelCause(s.ctx)
		s.remotes[st.address] = rm
	}
	if _, known := rm.streams[st]; !known {
		rm.streams[st] = struct{}{}
		st.join(s, rm)
	}
	s.mu.Unlock()
	if first {
		s.decide(ctx, rm, st, h)
	}
	select {
	case <-rm.decided:
	case <-rm.ctx.Done():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if rm.ctx.Err() != nil {
		return nil, s.cause(rm)
	}
	return rm, rm.refused
}

// cause is why a remote was cut off.
func (s *Share) cause(rm *remote) error {
	if err := s.over(); err != nil {
		return err
	}
	return context.Cause(rm.ctx)
}

// join notes that a stream is used for a share, which will be told when it
// closes: never before the request that is being served has ended.
func (st *stream) join(s *Share, rm *remote) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.joined = append(st.joined, func() { s.leave(st, rm) })
}

// decide finds out whether a peer is admitted. Who is refused is decided on anew when it comes again.
func (s *Share) decide(ctx context.Context, rm *remote, st *stream, h http.Header) {
	defer close(rm.decided)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(rm.ctx, cancel)
	defer stop()
	info, err := s.welcome(ctx, rm.info, h)
	s.mu.Lock()
	rm.info = info
	if err == nil && rm.ctx.Err() == nil && s.revokes(rm) { // in the meantime
		err = s.admission.state.meets(info.Peer, info.links)
	}
	if err != nil {
		rm.refused = refusal(err)
		if s.remotes[st.address] == rm {
			delete(s.remotes, st.address)
		}
	} else {
		rm.notified = true
		s.peer.standings.letIn(info.Peer)
	}
	s.mu.Unlock()
	if err != nil {
		if why := s.admission.state.revoked(info.Peer); why != nil {
			s.cut(why, func(other *remote) bool { return other != rm && s.revokes(other) }) // more keys may have turned out to be revoked
		}
		s.event(ShareEvent{Kind: Refused, Remote: info, Err: err})
		return
	}
	s.event(ShareEvent{Kind: Opened, Remote: info})
}

// welcome asks all who have a say, and completes what is known of the peer.
func (s *Share) welcome(ctx context.Context, i RemoteInfo, h http.Header) (_ RemoteInfo, err error) {
	if i.Info, err = openInfo(h); err != nil {
		return i, err
	}
	if s.admission.users != nil || s.o.Approve != nil || s.o.OnRemote != nil && s.o.pool.Topic == "" {
		i.User = s.peer.userOf(ctx, i.Peer)
	}
	i.links = append(linksOf(i.Peer, i.Predecessors), s.peer.dir.links(i.ids()...)...)
	if err := s.admission.decide(ctx, &i, h.Get(inviteHeader)); err != nil {
		return i, err
	}
	if s.o.OnRemote != nil {
		return i, s.o.OnRemote(i)
	}
	return i, nil
}

// refusal is the answer that carries a reason: 403, unless it says otherwise.
func refusal(err error) error {
	if errors.As(err, new(*couch.Error)) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return couch.AsError(err)
	}
	return couch.Forbidden(err.Error())
}

// leave takes notice that a stream has closed; with its last one a peer has closed the share.
func (s *Share) leave(st *stream, rm *remote) {
	s.mu.Lock()
	delete(rm.streams, st)
	last := len(rm.streams) == 0
	if last {
		rm.cancel(nil)
		if s.remotes[st.address] == rm {
			delete(s.remotes, st.address)
		}
	}
	tell, info := last && rm.notified, rm.info
	s.mu.Unlock()
	if tell {
		s.event(ShareEvent{Kind: Closed, Remote: info})
	}
}

// cut ends the requests of those that have the share open and closes their
// streams; if they come again they are decided on anew.
func (s *Share) cut(reason error, which func(*remote) bool) {
	s.mu.Lock()
	var streams []*stream
	for address, rm := range s.remotes {
		if !which(rm) {
			continue
		}
		delete(s.remotes, address)
		rm.cancel(reason)
		for st := range rm.streams {
			streams = append(streams, st)
		}
	}
	s.mu.Unlock()
	for _, st := range streams {
		_ = st.conn.Close()
	}
}

// Revoke takes a peer's access away, given by its id, or an older or a newer one that it has had: its requests
// under way are cut off, and later ones, also after a restart and with other keys of the
// same peer (see [Identity.Rotate]), get 403 with the reason, until [Share.Admit].
func (s *Share) Revoke(ctx context.Context, peer, reason string) error {
	if err := checkRevocation(peer, reason); err != nil {
		return err
	}
	if err := s.admission.state.revoke(ctx, peer, reason, s.knownLinks(peer)...); err != nil {
		return err
	}
	s.cut(s.admission.state.revoked(peer), s.revokes)
	s.event(ShareEvent{Kind: Revoked, Remote: RemoteInfo{Share: s.id, Name: s.name, Peer: peer}})
	return nil
}

// revokes reports whether a peer that has the share open may not any more, by any of its keys. s.mu is held.
func (s *Share) revokes(rm *remote) bool {
	return s.admission.state.meets(rm.info.Peer, rm.info.links) != nil
}

// knownLinks returns the links between a peer's keys that are not on the lists yet.
func (s *Share) knownLinks(peer string) []keyLink {
	links := s.peer.dir.links(peer)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rm := range s.remotes {
		if slices.Contains(rm.info.ids(), peer) {
			links = append(links, rm.info.links...)
		}
	}
	return links
}

func checkRevocation(peer, reason string) error {
	if len(reason) > 1024 {
		return couch.BadRequest("The reason is limited to 1 KiB.")
	}
	if !peerPrefix(peer) || len(peer) != peerIDLen {
		return couch.BadRequest(peer + " is no peer id.")
	}
	return nil
}

// Admit lets a peer in for good, whatever the share asks of others; it takes a revocation back.
func (s *Share) Admit(ctx context.Context, peer string) error {
	if !peerPrefix(peer) || len(peer) != peerIDLen {
		return couch.BadRequest(peer + " is no peer id.")
	}
	return s.admission.state.admit(ctx, peer)
}

// Revoked returns the peers whose access was taken away, and when.
func (s *Share) Revoked() map[string]time.Time {
	revoked := s.admission.state.now.Load().Revoked
	out := make(map[string]time.Time, len(revoked))
	for peer, r := range revoked {
		out[peer] = r.At
	}
	return out
}

// authorize is the share's access rule: what is not listed is denied.
func (s *Share) authorize(r *http.Request, a couchhttp.Access) error {
	err := s.rule(a)
	if err != nil && (a.Op == couchhttp.OpWriteDoc || a.Op == couchhttp.OpWriteDesign) && a.Doc != "" && s.refused != nil {
		peer, _ := PeerFromContext(r.Context())
		s.noteRefused(peer, []RefusedWrite{{Peer: peer, ID: a.Doc, Reason: err.Reason}})
	}
	if err == nil {
		return nil
	}
	return err
}

func (s *Share) rule(a couchhttp.Access) *couch.Error {
	switch a.Op {
	case couchhttp.OpWelcome, couchhttp.OpListDBs, couchhttp.OpInfo, couchhttp.OpRead, couchhttp.OpReadLocal, couchhttp.OpWriteLocal:
		return nil
	case couchhttp.OpWriteDoc:
		if s.access == ReadWrite || a.Doc == "" { // "": _bulk_docs, whose documents are asked about one by one
			return nil
		}
		return errReadOnly
	case couchhttp.OpWriteDesign:
		return errDesign
	}
	return couch.Forbidden("A share is for reading and replicating documents.")
}

var (
	errReadOnly = couch.Forbidden("This share is read-only.")
	errDesign   = couch.Forbidden("Design documents of a share are written by its owner alone.")
)
