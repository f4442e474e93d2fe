package couchhttp

import (
	"net/http"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// WriteError answers {"error":…,"reason":…} with the error's status, for
// handlers around a [Server].
func WriteError(w http.ResponseWriter, e *couch.Error) { writeError(w, e) }

// WriteJSON answers with a JSON text, for handlers around a [Server].
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	_ = writeJSON(w, status, body) // nothing is left to tell a client that is gone
}

// bodyTime is the header in which CouchDB tells how many milliseconds it took to read the request's body.
const bodyTime = "X-Couchdb-Body-Time"

// What every answer has; shared, because nothing is ever written into the value of a header.
var (
	serverHeader = []string{"Loveseat (CouchDB/" + Version + " API)"}
	// Clients learn that they may compress what they send (RFC 9110 section 12.5.3).
	acceptEncoding = []string{"zstd, gzip"}
	noTime         = []string{"0"}
)

// CommonHeaders sets what every answer has. Names are spelled as net/http keeps them.
func CommonHeaders(h http.Header) {
	h["Server"], h["Accept-Encoding"], h[bodyTime] = serverHeader, acceptEncoding, noTime
}

// overrides are the methods that a POST can stand for.
var overrides = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT", "COPY"}

// WithMethodOverride returns the request with the method that its header
// X-HTTP-Method-Override names, for clients that can send GET and POST only. As
// in CouchDB only POST is overridden, and HEAD is answered with a body, because
// the client that sent POST waits for one.
func WithMethodOverride(r *http.Request) *http.Request {
	m := r.Header.Get("X-HTTP-Method-Override")
	if m == "" || r.Method != http.MethodPost || !slices.Contains(overrides, m) {
		return r
	}
	if m == http.MethodHead {
		m = http.MethodGet
	}
	out := *r
	out.Method = m
	return &out
}
