package couchhttp

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// flushAt is how much of an answer is collected before it is sent on.
const flushAt = 32 << 10

// writeJSON sends a whole JSON answer. Of a small one net/http tells the length itself, at less cost.
func writeJSON(w http.ResponseWriter, status int, body []byte) error {
	jsonHeader(w)
	if body = append(body, '\n'); len(body) > smallAnswer {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

// The values of headers, shared as those of CommonHeaders.
var (
	jsonType    = []string{"application/json"}
	revalidated = []string{"must-revalidate"}
)

func jsonHeader(w http.ResponseWriter) {
	h := w.Header()
	if len(h["Content-Type"]) == 0 {
		h["Content-Type"] = jsonType
	}
	if len(h["Cache-Control"]) == 0 {
		h["Cache-Control"] = revalidated
	}
}

// writeError sends {"error":…,"reason":…}.
func writeError(w http.ResponseWriter, e *couch.Error) {
	h := w.Header()
	for _, k := range []string{"ETag", "Content-Type", "Content-Length", "Location", "Accept-Ranges", "Content-Range", "Content-Disposition"} {
		h.Del(k) // set for the answer that failed
	}
	_ = writeJSON(w, e.Status, append(appendError([]byte{'{'}, e), '}')) // nothing is left to tell a client that is gone
}

func appendError(b []byte, e *couch.Error) []byte {
	b = append(b, `"error":`...)
	b = couch.AppendString(b, e.Code)
	b = append(b, `,"reason":`...)
	return couch.AppendString(b, e.Reason)
}

// json sends v, for the small answers that are not on a hot path.
func (c *call) json(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeJSON(c.w, status, b)
}

// ok sends {"ok":true}.
func (c *call) ok(status int) error { return writeJSON(c.w, status, []byte(`{"ok":true}`)) }

// written sends {"ok":true,"id":…,"rev":…}.
func (c *call) written(status int, id string, rev couch.Rev) error {
	b := append(make([]byte, 0, 128), '{')
	return writeJSON(c.w, status, append(appendWritten(b, id, rev), '}'))
}

func appendWritten(b []byte, id string, rev couch.Rev) []byte {
	b = append(b, `"ok":true,"id":`...)
	b = couch.AppendString(b, id)
	b = append(b, `,"rev":`...)
	return couch.AppendString(b, rev.String())
}

// notModified answers 304 if the client has what etag names (If-None-Match).
func (c *call) notModified(etag string) bool {
	if !etagMatch(c.r.Header.Get("If-None-Match"), etag) {
		return false
	}
	c.w.Header().Set("ETag", etag)
	c.w.WriteHeader(http.StatusNotModified)
	return true
}

// An output collects a JSON answer and sends it in pieces. Until the first piece
// is sent an error can still become the answer.
type output struct {
	w     http.ResponseWriter
	buf   []byte
	sent  bool
	start func() // called before the first piece is sent; may be nil
}

func newOutput(w http.ResponseWriter) *output { return &output{w: w, buf: make([]byte, 0, 4<<10)} }

func (o *output) text(s string) { o.buf = append(o.buf, s...) }

// grown sends what is collected if it is enough for a piece.
func (o *output) grown() error {
	if len(o.buf) < flushAt {
		return nil
	}
	return o.send()
}

func (o *output) send() error {
	if !o.sent {
		if o.start != nil {
			o.start()
		}
		jsonHeader(o.w)
		o.sent = true
	}
	_, err := o.w.Write(o.buf)
	if o.buf = o.buf[:0]; cap(o.buf) > 4*flushAt { // a large document's, which nobody counts any more
		o.buf = nil
	}
	return err
}

// Write lets an output take a stream.
func (o *output) Write(p []byte) (int, error) {
	o.buf = append(o.buf, p...)
	return len(p), o.grown()
}

// flush sends what is collected through to the client at once. Nothing is held
// afterwards: thousands of feeds may wait.
func (o *output) flush() error {
	if err := o.send(); err != nil {
		return err
	}
	o.buf = nil
	return http.NewResponseController(o.w).Flush()
}

// end sends the rest.
func (o *output) end() error {
	if !o.sent {
		return writeJSON(o.w, http.StatusOK, o.buf)
	}
	o.text("\n")
	return o.send()
}
