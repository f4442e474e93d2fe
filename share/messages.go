package share

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/fair"
)

// Custom messages are requests at the root of a share's host, beside its database:
//
//	POST /_request/NAME   JSON -> application/json, or application/x-ndjson (a [Stream])
//	POST /_broadcast      JSON -> 202
//	GET  /_broadcast      application/x-ndjson: {"from":PEER,"message":…} a line

// A Handler answers the requests that openers make by a name ([Remote.Request]).
// from is verified; body is JSON of at most 1 MiB. ctx ends when the opener
// cancels the request or goes away, and when the share ends.
//
// The opener gets the JSON of what is returned, or, if that is a [Stream], of
// each of its values. An error reaches it with its text and the status that its
// method HTTPStatus() int tells, which the errors of databases have; otherwise 500.
// A handler that panics costs its caller a 500, and nobody else anything.
// Handlers are called concurrently.
type Handler func(ctx context.Context, from RemoteInfo, body json.RawMessage) (any, error)

// A Stream is an answer of any number of values, each sent to the opener when it is
// yielded; an error ends it and reaches the opener. yield returns false when nobody listens any more.
type Stream iter.Seq2[any, error]

// Limits on custom messages.
const (
	maxRequest      = 1 << 20  // bytes of a request's JSON
	maxAnswer       = 16 << 20 // bytes of an answer's, or of one value's of a stream
	maxBroadcast    = 16 << 10 // bytes of a broadcast message's
	maxMessageName  = 128
	maxPeerRequests = 32               // under way at a time, by one peer
	maxRequests     = 512              // by all: then whoever has most loses its oldest
	requestReadTime = 30 * time.Second // for the body of a request
)

// messages are the custom messages of a share. The zero value is ready for use.
type messages struct {
	mu       sync.Mutex
	handlers map[string]Handler
	running  map[string]int // requests and feeds under way, by peer
	places   fair.Places    // of these
	hearers  map[*hearer]struct{}
}

// Handle registers what answers requests of a name, in place of what did before;
// nil: nothing does (openers get 404). It may be called at any time; see
// [ShareOptions] for handlers that are there from the beginning.
func (s *Share) Handle(name string, h Handler) error {
	if !validMessageName(name) {
		return couch.BadRequest("A request's name must be 1 to 128 bytes of printable text without a slash.")
	}
	m := &s.messages
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.handlers == nil {
		m.handlers = map[string]Handler{}
	}
	m.handlers[name] = h
	if h == nil {
		delete(m.handlers, name)
	}
	return nil
}

func (s *Share) handleAll(handlers map[string]Handler) error {
	for name, h := range handlers {
		if err := s.Handle(name, h); err != nil {
			return err
		}
	}
	return nil
}

func validMessageName(name string) bool {
	return checkName(name) == nil && len(name) <= maxMessageName && !strings.Contains(name, "/") && name != "." && name != ".."
}

func (m *messages) handler(name string) Handler {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.handlers[name]
}

var errRequests = &couch.Error{Status: http.StatusTooManyRequests, Code: "too_many_requests", Reason: "Too many requests are under way."}

// begin counts a request of a peer; end must follow. cancel ends it when others need its place.
// Errors: 429 if it has too many under way.
func (m *messages) begin(peer string, claim func() fair.Claim, cancel func(error)) (end func(), err *couch.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.places.Max = maxRequests
	if m.running[peer] >= maxPeerRequests {
		return nil, errRequests
	}
	place := m.places.Take(claim, func() { cancel(errRequests) })
	if place == nil {
		return nil, errRequests
	}
	if m.running == nil {
		m.running = map[string]int{}
	}
	m.running[peer]++
	return func() {
		place.Leave()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.running[peer]--; m.running[peer] == 0 {
			delete(m.running, peer)
		}
	}, nil
}

// serveMessage answers a custom message of a peer that has been admitted. false: it is none.
func (s *Share) serveMessage(w http.ResponseWriter, r *http.Request, st *stream) bool {
	name, isRequest := strings.CutPrefix(r.URL.Path, "/_request/")
	if !isRequest && r.URL.Path != "/_broadcast" {
		return false
	}
	from := s.remoteInfo(st)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	r = r.WithContext(ctx)
	end, refused := s.messages.begin(from.Peer, func() fair.Claim { return s.peer.standings.claim(from.Peer) }, cancel)
	if refused != nil {
		couchhttp.WriteError(w, refused)
		return true
	}
	defer end()
	switch {
	case isRequest && r.Method == http.MethodPost:
		s.serveRequest(w, r, from, name)
	case !isRequest && r.Method == http.MethodPost:
		s.serveBroadcast(w, r, from, st.address)
	case !isRequest && r.Method == http.MethodGet:
		s.serveHearer(w, r, st.address)
	default:
		couchhttp.WriteError(w, &couch.Error{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Reason: "Only POST allowed"})
	}
	return true
}

// remoteInfo is what is known of the peer that has opened a stream.
func (s *Share) remoteInfo(st *stream) RemoteInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rm := s.remotes[st.address]; rm != nil {
		return rm.info
	}
	return RemoteInfo{Share: s.id, Name: s.name, Peer: st.peer}
}

func (s *Share) serveRequest(w http.ResponseWriter, r *http.Request, from RemoteInfo, name string) {
	h := s.messages.handler(name)
	if h == nil {
		couchhttp.WriteError(w, couch.NotFound("Nothing here answers such requests."))
		return
	}
	body, err := readMessage(w, r, maxRequest)
	if err != nil {
		couchhttp.WriteError(w, handlerError(err))
		return
	}
	answer, err := s.call(r.Context(), h, from, body)
	if stream, ok := answer.(Stream); ok && err == nil {
		s.serveStream(w, r, stream)
		return
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(answer)
	}
	if err != nil {
		couchhttp.WriteError(w, handlerError(err))
		return
	}
	couchhttp.WriteJSON(w, http.StatusOK, append(text, '\n'))
}

// call calls a handler; its panic is an error.
func (s *Share) call(ctx context.Context, h Handler, from RemoteInfo, body json.RawMessage) (answer any, err error) {
	defer s.recovered(&err)
	return h(ctx, from, body)
}

var errPanicked = &couch.Error{Status: http.StatusInternalServerError, Code: "internal_server_error", Reason: "The handler failed."}

// handlerError is a handler's error as it goes over the wire.
func handlerError(err error) *couch.Error {
	var e *couch.Error
	var s interface{ HTTPStatus() int }
	if !errors.As(err, &e) && errors.As(err, &s) && s.HTTPStatus() >= 400 && s.HTTPStatus() <= 599 {
		code := strings.ReplaceAll(strings.ToLower(http.StatusText(s.HTTPStatus())), " ", "_")
		return &couch.Error{Status: s.HTTPStatus(), Code: cmp.Or(code, "unknown_error"), Reason: err.Error()}
	}
	return couch.AsError(err)
}

// recovered turns a panic into an error, and logs where it was. It is deferred.
func (s *Share) recovered(err *error) {
	if v := recover(); v != nil {
		s.log.Error("a handler of custom messages panicked", "panic", v, "stack", string(debug.Stack()))
		*err = errPanicked
	}
}

func (s *Share) serveStream(w http.ResponseWriter, r *http.Request, stream Stream) {
	lines := newLines(w)
	if err := s.drain(stream, lines); err != nil && r.Context().Err() == nil {
		_ = lines.fail(handlerError(err))
	}
}

// drain sends what a stream yields. The error is the stream's: of a peer that has gone it is nil.
func (s *Share) drain(stream Stream, lines *lines) (err error) {
	defer s.recovered(&err)
	for v, err := range stream {
		if err != nil {
			return err
		}
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if lines.write(text) != nil {
			return nil //nolint:nilerr // the opener has gone
		}
	}
	return nil
}

// readMessage reads the JSON of a request.
func readMessage(w http.ResponseWriter, r *http.Request, limit int64) (json.RawMessage, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(requestReadTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = rc.SetReadDeadline(time.Time{})
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, couch.TooLarge("too_large", "The message is longer than the limit.")
	case err != nil:
		return nil, couch.BadRequest("The message was not sent whole.")
	case !json.Valid(body):
		return nil, couch.BadRequest("The message is not JSON.")
	}
	return body, nil
}

// lines writes an answer of JSON values, one a line (application/x-ndjson), each at once.
type lines struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	l := &lines{w, http.NewResponseController(w)}
	_ = l.rc.Flush()
	return l
}

// write sends a line; an empty one is a heartbeat.
func (l *lines) write(text []byte) error {
	if _, err := l.w.Write(append(text, '\n')); err != nil {
		return err
	}
	return l.rc.Flush()
}

// fail sends the last line of an answer that failed midway.
func (l *lines) fail(e *couch.Error) error {
	text, err := json.Marshal(failure{&e.Code, &e.Reason, e.Status})
	if err != nil {
		return err
	}
	return l.write(text)
}

// A failure is the last line of an answer that failed midway.
type failure struct {
	Code   *string `json:"error"`
	Reason *string `json:"reason"`
	Status int     `json:"status,omitempty"` // what it would have been, had it failed at once
}
