package share

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A server answers the requests that come over a transport's streams. Each
// stream is a connection of net/http's server; the HTTP Host picks the share.
type server struct {
	transport Transport
	address   string
	log       *slog.Logger
	http      *http.Server

	mu     sync.Mutex
	shares map[string]*Share    // by share id
	conns  map[net.Conn]*stream // open ones
	open   sync.WaitGroup       // a count for each of conns
}

// A stream is one accepted connection.
type stream struct {
	conn    net.Conn
	address string // of the peer, verified; "" if the transport does not say
	peer    string
	route   func() string

	mu     sync.Mutex
	joined []func() // what tells the shares that have been asked for over it of its end
}

type contextKey int

const streamKey contextKey = iota

// PeerFromContext returns the verified peer id of who makes a request of a
// share. ok is false for a context that is not of such a request.
func PeerFromContext(ctx context.Context) (peer string, ok bool) {
	s, ok := ctx.Value(streamKey).(*stream)
	if !ok || s.peer == "" {
		return "", false
	}
	return s.peer, true
}

// peerOfRequest names who makes a request.
func peerOfRequest(r *http.Request) string {
	peer, _ := PeerFromContext(r.Context())
	return peer
}

func newServer(ctx context.Context, t Transport, address string, log *slog.Logger) *server {
	s := &server{transport: t, address: address, log: log, shares: map[string]*Share{}, conns: map[net.Conn]*stream{}}
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       s.connContext,
		ConnState:         s.connState,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// run serves until ctx ends, listening again if the transport's listener fails.
// It returns when every connection has ended.
func (s *server) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() })
	defer func() {
		stop()
		_ = s.http.Close()
		s.open.Wait()
	}()
	for wait := time.Second; ; wait = min(2*wait, feedRetryMax) {
		began := time.Now()
		err := s.listen(ctx)
		if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
			return
		}
		if time.Since(began) > feedRetryMax {
			wait = time.Second
		}
		s.log.Error("shares cannot be reached: the listener failed", "err", err, "retry_in", wait)
		if !pause(ctx, jitter(wait)) {
			return
		}
	}
}

func (s *server) listen(ctx context.Context) error {
	l, err := s.transport.Listen(ctx, s.address)
	if err != nil {
		return err
	}
	defer l.Close()
	return s.http.Serve(l)
}

func (s *server) connContext(ctx context.Context, c net.Conn) context.Context {
	st := &stream{conn: c, route: func() string { return "" }}
	if pc, ok := c.(Conn); ok {
		st.address, st.peer, st.route = pc.Peer(), peerOf(pc.Peer()), pc.Route
	}
	s.mu.Lock()
	s.conns[c] = st
	s.mu.Unlock()
	s.open.Add(1)
	return context.WithValue(ctx, streamKey, st)
}

func (s *server) connState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	s.mu.Lock()
	st := s.conns[c]
	delete(s.conns, c)
	s.mu.Unlock()
	if st == nil {
		return
	}
	st.mu.Lock()
	joined := st.joined
	st.joined = nil
	st.mu.Unlock()
	for _, leave := range joined {
		leave()
	}
	s.open.Done()
}

// ServeHTTP implements [http.Handler].
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st, _ := r.Context().Value(streamKey).(*stream)
	s.mu.Lock()
	share := s.shares[r.Host]
	s.mu.Unlock()
	switch {
	case st == nil || st.peer == "":
		refuse(w, couch.Forbidden("The transport does not tell who asks."))
	case share == nil:
		refuse(w, couch.NotFound("No such share."))
	default:
		share.serve(w, r, st)
	}
}

// refuse answers with an error and closes the connection.
func refuse(w http.ResponseWriter, err error) {
	e := couch.AsError(err)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Connection", "close")
	retryHeader(w, err).WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e)
}

// retryHeader adds Retry-After for an error that asks to wait.
func retryHeader(w http.ResponseWriter, err error) http.ResponseWriter {
	if after := couch.RetryAfter(err); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds()+0.999)))
	}
	return w
}

// add makes a share reachable. Errors: 412 if it is already.
func (s *server) add(share *Share) error {
	if err := s.free(share.base); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares[share.id] = share
	return nil
}

// free reports, as an error, that a database is being served, whatever its audience.
func (s *server) free(base string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, is := range s.shares {
		if is.base == base && is.ctx.Err() == nil { // one that has expired is there to say so
			return &couch.Error{Status: http.StatusPreconditionFailed, Code: "already_shared", Reason: "This database is shared already, as " + is.id + "."}
		}
	}
	return nil
}

func (s *server) remove(share *Share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shares[share.id] == share {
		delete(s.shares, share.id)
	}
}

// all returns the shares that are being served.
func (s *server) all() []*Share {
	s.mu.Lock()
	defer s.mu.Unlock()
	var shares []*Share
	for _, share := range s.shares {
		shares = append(shares, share)
	}
	return shares
}
