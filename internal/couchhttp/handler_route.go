package couchhttp

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// An Op is a kind of operation, the unit of access rules. The zero Op is none,
// and a route without one is refused.
type Op int

// The operations.
const (
	_               Op = iota
	OpWelcome          // what the server is: /, /_up, /_uuids
	OpListDBs          // /_all_dbs, /_active_tasks
	OpCreateDB         // PUT /{db}
	OpDestroyDB        // DELETE /{db}
	OpInfo             // GET /{db} and other facts about a database
	OpRead             // documents, attachments, changes, queries
	OpWriteDoc         // documents and attachments
	OpWriteDesign      // design documents, which change what the database does
	OpReadLocal        // _local documents
	OpWriteLocal       // _local documents: checkpoints
	OpReadSecurity     // GET /{db}/_security
	OpWriteSecurity    // PUT /{db}/_security
	OpPurge            // POST /{db}/_purge: removes documents without a trace
	OpCompact          // POST /{db}/_compact
)

// Access is one operation that a request asks for.
type Access struct {
	Op  Op
	DB  string // "" for the server itself
	Doc string // document id, with its _design/ or _local/; "" when it is about no one document
}

// A route is one path pattern and what its methods do. HEAD is served by GET.
type route struct {
	path    string
	methods map[string]action
}

// An action carries out one method of a route.
type action struct {
	op    Op
	serve func(*call) error
}

// A call is one request being served.
type call struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	query url.Values
	db    string
	doc   string // document id
	att   string // attachment name
	index string // design document of an index, without _design/

	account  *work.Account   // nil: nothing was held
	unpacked couch.Unpacking // attachments that are packed within the body
}

// anyMethods are those the router shall know of every path, so that a wrong one
// is answered by the path it was meant for.
var anyMethods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "COPY", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "REPORT"}

func (s *Server) register(e *echo.Echo, r route) {
	if get, ok := r.methods["GET"]; ok {
		r.methods["HEAD"] = get
	}
	allow := cmp.Or(allowOrder[r.path], allowed(r.methods))
	h := func(c echo.Context) error {
		w, req := c.Response().Writer, c.Request()
		a, ok := r.methods[req.Method]
		if !ok {
			return notAllowed(w, allow)
		}
		call, err := s.newCall(w, req, c)
		if err != nil {
			return err
		}
		if err := call.authorize(a.op, call.doc); err != nil {
			return err
		}
		defer call.release()
		return a.serve(call)
	}
	for _, m := range anyMethods {
		e.Add(m, r.path, h)
	}
}

func notAllowed(w http.ResponseWriter, allow string) *couch.Error {
	w.Header().Set("Allow", allow)
	return &couch.Error{Status: 405, Code: "method_not_allowed", Reason: "Only " + allow + " allowed"}
}

func allowed(methods map[string]action) string {
	var names []string
	for m := range methods {
		names = append(names, m)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// unescape decodes one segment of a path, in which CouchDB takes a "+" for a space.
func unescape(s string) (string, error) {
	v, err := url.QueryUnescape(s)
	if err != nil {
		return "", couch.BadRequest("invalid percent-encoding")
	}
	return v, nil
}

// parseQuery reads a query string as CouchDB does: ";" parts parameters as "&" does, and of one that is given
// twice the last counts.
func parseQuery(raw string) (url.Values, error) {
	q, err := url.ParseQuery(strings.ReplaceAll(raw, ";", "&"))
	for name, values := range q {
		q[name] = values[len(values)-1:]
	}
	return q, err
}

// newCall decodes what the path and the query name.
func (s *Server) newCall(w http.ResponseWriter, r *http.Request, c echo.Context) (*call, error) {
	out := &call{s: s, w: w, r: r, unpacked: couch.Unpacking{Free: couch.FreeBody}}
	values := c.ParamValues()
	for i, name := range c.ParamNames() {
		v, err := unescape(values[i])
		if err != nil {
			return nil, err
		}
		switch name {
		case "db":
			out.db = v
		case "doc":
			out.doc = v
		case "ddoc":
			out.doc = "_design/" + v
		case "local":
			out.doc = "_local/" + v
		case "index":
			out.index = v
		case "*":
			out.att = v
		}
	}
	if r.URL.RawQuery == "" {
		return out, nil
	}
	var err error
	if out.query, err = parseQuery(r.URL.RawQuery); err != nil {
		return nil, couch.BadRequest("invalid query string")
	}
	return out, nil
}

// authorize asks whether the caller may do op; a write to a design or local
// document is an operation of its own.
func (c *call) authorize(op Op, doc string) error {
	switch {
	case strings.HasPrefix(doc, "_design/") && op == OpWriteDoc:
		op = OpWriteDesign
	case strings.HasPrefix(doc, "_local/") && op == OpWriteDoc:
		op = OpWriteLocal
	case strings.HasPrefix(doc, "_local/") && op == OpRead:
		op = OpReadLocal
	case op == 0:
		return couch.Forbidden("This operation has no access rule.")
	}
	if c.s.o.Authorize == nil {
		return nil
	}
	return c.s.o.Authorize(c.r, Access{Op: op, DB: c.db, Doc: doc})
}

// open returns the database that the path names. A name that no database can
// have, an endpoint of CouchDB that is not offered here among them, is not found.
func (c *call) open() (couch.DB, error) {
	if !validDBName(c.db) {
		return nil, couch.NotFound("Database does not exist.")
	}
	return c.s.o.Store.Open(c.r.Context(), c.db)
}

// flag reports whether a query parameter is "true".
func (c *call) flag(name string) bool { return c.query.Get(name) == "true" }

// origin is where the client finds the server: "https://example.org".
func (c *call) origin() string {
	if c.r.TLS != nil {
		return "https://" + c.r.Host
	}
	return "http://" + c.r.Host
}

// location is the absolute URL of a path made of these segments.
func (c *call) location(segments ...string) string {
	loc := c.origin()
	for _, s := range segments {
		loc += "/" + escapeLocation(s)
	}
	return loc
}

// escapeLocation escapes a segment as CouchDB's Location headers have it, a slash too.
func escapeLocation(s string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.:", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}
