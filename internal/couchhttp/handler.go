// Package couchhttp is CouchDB's HTTP API, both ends: [Server] serves a
// [couch.Store], and [Client] is one, spoken to over HTTP. The hub serves it on
// TCP, a share on the streams of a peer connection; neither end can tell.
//
// The API is that of https://docs.couchdb.org/en/stable/api/, with CouchDB 3's
// status codes, headers and wording.
package couchhttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/labstack/echo/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// Version is the version of CouchDB whose API this is.
const Version = "3.5.2"

// ServerOptions configures a [Server]. Only Store is needed.
type ServerOptions struct {
	Store couch.Store
	// UUID identifies the server across restarts and addresses: clients that
	// replicate make it part of their checkpoints.
	UUID string
	// Release is the version of Loveseat that GET / names as the vendor's.
	Release string
	// Authorize decides on every operation before it is carried out; its
	// error is the answer. A request that writes several documents is asked
	// about as a whole (Access.Doc is "") and then for each document. nil
	// allows everything.
	Authorize func(r *http.Request, a Access) error
	Limits    Limits
	// Client names who makes a request, who may hold half of Limits.Memory. nil: they are all one.
	Client func(*http.Request) string
	// Varies reports whether what a database tells depends on who asks, so that
	// its changes feed has no ETag. nil: none does.
	Varies func(db string) bool
	// Logger is told of bugs (panics, unexpected errors). nil: slog.Default.
	Logger *slog.Logger
	// TempDir is where large attachments of multipart bodies wait until they
	// are written. "": the system's.
	TempDir string
}

// Limits bounds what a client may send. Zero values are the defaults.
type Limits struct {
	Document   int64 // bytes of one document without its attachments: 8 MB, as in CouchDB
	Body       int64 // bytes of a JSON request body, decompressed: 64 MB
	Attachment int64 // bytes of one attachment: 4 GiB
	Bulk       int   // documents of _bulk_docs, _bulk_get and keys of other requests: 10,000, as in CouchDB
	Memory     int64 // bytes that the requests under way hold together, of bodies, of what is read from them and of queries: 512 MiB
}

func (l *Limits) setDefaults() {
	if l.Document <= 0 {
		l.Document = 8_000_000
	}
	if l.Body <= 0 {
		l.Body = 64 << 20
	}
	if l.Attachment <= 0 {
		l.Attachment = 4 << 30
	}
	if l.Bulk <= 0 {
		l.Bulk = 10_000
	}
	if l.Memory <= 0 {
		l.Memory = 512 << 20
	}
}

// A Server serves CouchDB's HTTP API. It is an [http.Handler].
type Server struct {
	o       ServerOptions
	handler http.Handler
	started string          // instance_start_time, in seconds
	feeds   context.Context // ends when changes feeds shall
	end     context.CancelFunc
	memory  *work.Memory

	compactions compactions
}

// NewServer returns a server of o.Store, which the caller owns.
func NewServer(o ServerOptions) *Server {
	o.Limits.setDefaults()
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Server{o: o, started: "0", memory: work.NewMemory(o.Limits.Memory, memoryWait, errMemory, errTooLarge)}
	s.feeds, s.end = context.WithCancel(context.Background())
	s.compactions.ctx = s.feeds
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) { s.fail(c.Response().Writer, c.Request(), err) }
	for _, r := range s.routes() {
		s.register(e, r)
	}
	s.handler = compressed(s.recovered(e))
	return s
}

// Close ends the changes feeds that wait, as if their timeouts had come, and
// makes later ones end at once. Compactions end, half done. Requests under way
// are not interrupted.
func (s *Server) Close() error {
	s.end()
	s.compactions.close()
	return nil
}

// ServeHTTP answers one request of the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	CommonHeaders(w.Header())
	s.handler.ServeHTTP(w, withCleanPath(WithMethodOverride(r)))
}

// withCleanPath makes the path one that the router splits at the slashes the
// client wrote bare: escaped, and without the empty segments that CouchDB ignores.
func withCleanPath(r *http.Request) *http.Request {
	if isClean(r.URL) {
		return r
	}
	path := plain(r.URL.EscapedPath())
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	u := *r.URL
	u.RawPath = path
	out := r.WithContext(r.Context())
	out.URL = &u
	return out
}

// isClean reports whether nothing has to be done to a path, as most often.
func isClean(u *url.URL) bool {
	for i := 0; i < len(u.Path); i++ {
		if c := u.Path[i]; !unreserved(c) && (c != '/' || i > 0 && u.Path[i-1] == '/') {
			return false
		}
	}
	return u.RawPath == "" && (len(u.Path) < 2 || !strings.HasSuffix(u.Path, "/"))
}

// plain decodes the characters that need no escape (RFC 3986 section 6.2.2.2), so
// that %5Fdesign is _design to the router and to access rules alike.
func plain(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	b := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if c, err := strconv.ParseUint(path[i+1:i+3], 16, 8); err == nil && unreserved(byte(c)) {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, path[i])
	}
	return string(b)
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

// recovered turns a bug into a 500 and a line in the log. An answer that has
// begun is cut off, so that no client takes the part for the whole.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tw := &trackedWriter{ResponseWriter: w}
		defer tw.noDeadline()
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler) // net/http's way to cut an answer off
			}
			s.o.Logger.Error("bug", "panic", v, "method", r.Method, "path", r.URL.Path, "stack", string(debug.Stack()))
			if tw.started {
				panic(http.ErrAbortHandler)
			}
			writeError(w, &couch.Error{Status: 500, Code: "internal_server_error", Reason: "The server met a bug; see its log."})
		}()
		next.ServeHTTP(tw, r)
	})
}

// maxStall is how long a client may take nothing of an answer that is being
// sent. Rows are read from the database while they are sent, and a reader that
// never ends keeps the database from tidying up. Tests wait less.
var maxStall = time.Minute

// smallAnswer is how many bytes net/http holds back until the handler has
// returned (bufferBeforeChunkingSize): so far nothing can stall, and a deadline
// would only cost, as much as reading the document from the database's cache.
const smallAnswer = 2 << 10

// A trackedWriter knows whether the answer has begun, and gives up on clients that stall.
type trackedWriter struct {
	http.ResponseWriter
	started  bool
	written  int64
	extended time.Time
}

func (w *trackedWriter) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *trackedWriter) Write(b []byte) (int, error) {
	w.started = true
	if w.written += int64(len(b)); w.written > smallAnswer {
		w.extend()
	}
	return w.ResponseWriter.Write(b)
}

// extend sets the deadline anew, at most every second. Not every connection has one.
func (w *trackedWriter) extend() {
	if now := time.Now(); now.Sub(w.extended) > time.Second {
		w.extended = now
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(maxStall))
	}
}

func (w *trackedWriter) noDeadline() {
	if !w.extended.IsZero() {
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Time{})
	}
}

// FlushError is what http.ResponseController looks for.
func (w *trackedWriter) FlushError() error {
	w.extend()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *trackedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// compressed adds Content-Encoding zstd or gzip for clients that accept it. An
// answer of less than a packet is not worth it.
func compressed(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.CompressionLevel(1), gzhttp.MinSize(1024), gzhttp.SetContentType(false), gzhttp.ContentTypeFilter(compressible))
	if err != nil {
		panic(err) // constant options
	}
	return wrap(next)
}

// compressible reports whether a media type is text. Other attachments keep their
// Content-Length and their ranges.
func compressible(mediaType string) bool {
	mediaType, _, _ = strings.Cut(strings.ToLower(mediaType), ";")
	switch mediaType = strings.TrimSpace(mediaType); mediaType {
	case "application/json", "application/xml", "application/javascript", "application/x-ndjson":
		return true
	}
	return strings.HasPrefix(mediaType, "text/") || strings.HasSuffix(mediaType, "+xml") || strings.HasSuffix(mediaType, "+json")
}

// fail answers with err, or cuts the answer off if it has begun or nobody is there to read it.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var routing *echo.HTTPError
	switch {
	case !errors.As(err, &routing):
	case routing.Code == http.StatusMethodNotAllowed: // one that HTTP does not know
		err = notAllowed(w, "COPY,DELETE,GET,HEAD,POST,PUT")
	default:
		err = &couch.Error{Status: routing.Code, Code: errorCode(routing.Code), Reason: http.StatusText(routing.Code)}
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	e := couch.AsError(err)
	if e.Status >= 500 {
		s.o.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if known := new(couch.Error); e.Status == http.StatusInternalServerError && !errors.As(err, &known) {
		e = &couch.Error{Status: e.Status, Code: e.Code, Reason: "The server failed; see its log."} // files and such are not the client's business
	}
	if tw, ok := w.(*trackedWriter); ok && tw.started {
		s.o.Logger.Warn("answer cut off", "method", r.Method, "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
	if after := couch.RetryAfter(err); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds()+1)))
	}
	writeError(w, e)
}

// errorCode makes an error code of a status that has none of CouchDB's.
func errorCode(status int) string {
	return strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_")
}
