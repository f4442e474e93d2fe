package share

import (
	"context"
	"errors"
	"net/http"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// RemoteInfo is what a sharer knows of a peer that opens its share.
type RemoteInfo struct {
	Share string `json:"share"` // share id
	Name  string `json:"name"`  // of the share
	Peer  string `json:"peer"`  // peer id, verified
	Route string `json:"route"` // how its packets travel: see [Conn]
}

// A remote is a peer process that has a share open: it has connections that asked for it.
type remote struct {
	info     RemoteInfo
	streams  map[*stream]struct{}
	decided  chan struct{} // closed when OnRemote has decided
	refused  *couch.Error
	notified bool // of being opened
}

// serve answers one request for the share.
func (s *Share) serve(w http.ResponseWriter, r *http.Request, st *stream) {
	// Unsharing ends the request as its peer's going away does.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stop := context.AfterFunc(s.ctx, func() { cancel(errUnshared) })
	defer stop()
	if err := s.admit(ctx, st); err != nil {
		refuse(w, couch.AsError(err))
		return
	}
	s.api.ServeHTTP(w, r.WithContext(ctx))
}

var errUnshared = couch.NotFound("No longer shared.")

// admit lets a peer in, after asking OnRemote when it comes for the first time.
func (s *Share) admit(ctx context.Context, st *stream) error {
	s.mu.Lock()
	rm := s.remotes[st.address]
	first := rm == nil
	if first {
		rm = &remote{
			info:    RemoteInfo{Share: s.id, Name: s.name, Peer: st.peer, Route: st.route()},
			streams: map[*stream]struct{}{}, decided: make(chan struct{}),
		}
		s.remotes[st.address] = rm
	}
	if _, known := rm.streams[st]; !known {
		rm.streams[st] = struct{}{}
		st.join(s)
	}
	s.mu.Unlock()
	if first {
		s.decide(rm)
	}
	select {
	case <-rm.decided:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if rm.refused != nil {
		return rm.refused
	}
	return nil
}

// join notes that a stream is used for a share, which will be told when it
// closes: never before the request that is being served has ended.
func (st *stream) join(s *Share) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.shares = append(st.shares, s)
}

// decide asks OnRemote.
func (s *Share) decide(rm *remote) {
	defer close(rm.decided)
	if s.o.OnRemote != nil {
		if err := s.o.OnRemote(rm.info); err != nil {
			rm.refused = refusal(err)
			s.event(ShareEvent{Kind: Refused, Remote: rm.info, Err: err})
			return
		}
	}
	s.event(ShareEvent{Kind: Opened, Remote: rm.info})
	s.mu.Lock()
	rm.notified = true
	s.mu.Unlock()
}

// refusal is the answer that carries OnRemote's reason: 403, unless it says otherwise.
func refusal(err error) *couch.Error {
	var e *couch.Error
	if errors.As(err, &e) {
		return e
	}
	return couch.Forbidden(err.Error())
}

// leave takes notice that a stream has closed; with its last one a peer has closed the share.
func (s *Share) leave(st *stream) {
	s.mu.Lock()
	rm := s.remotes[st.address]
	if rm == nil {
		s.mu.Unlock()
		return
	}
	delete(rm.streams, st)
	last := len(rm.streams) == 0
	if last {
		delete(s.remotes, st.address)
	}
	tell := last && rm.notified
	s.mu.Unlock()
	if tell {
		s.event(ShareEvent{Kind: Closed, Remote: rm.info})
	}
}

// disconnect closes the streams of all peers that have the share open.
func (s *Share) disconnect() {
	s.mu.Lock()
	var streams []*stream
	for _, rm := range s.remotes {
		for st := range rm.streams {
			streams = append(streams, st)
		}
	}
	s.mu.Unlock()
	for _, st := range streams {
		_ = st.conn.Close()
	}
}

// authorize is the share's access rule: what is not listed is denied.
func (s *Share) authorize(_ *http.Request, a couchhttp.Access) error {
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
