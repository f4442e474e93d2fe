package hub

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// An upload is a request body that is cut when it comes too slowly, and that
// counts what is kept of it in memory.
type upload struct {
	io.ReadCloser
	l        *limiter
	r        *http.Request
	w        http.ResponseWriter
	start    time.Time
	deadline time.Time // when it was last set anew; zero: never
	read     int64
	held     int64 // of l.memory
	packed   bool  // compressed
}

// freeBody is how much of a body is not counted, so that small requests cost
// nothing: how many there are is bounded by Quotas.Concurrent.
const freeBody = 1 << 20

// memoryWait is how long a body waits for memory that others hold.
const memoryWait = 10 * time.Second

// slowest is how many bytes a second a body must bring after Quotas.Upload.
const slowest = 1 << 10

func (l *limiter) upload(w http.ResponseWriter, r *http.Request) *upload {
	return &upload{ReadCloser: r.Body, l: l, r: r, w: w, start: time.Now(),
		packed: r.Header.Get("Content-Encoding") != ""}
}

// streamed reports whether a body goes to the disk while it is read: that of an attachment, and multipart.
func streamed(r *http.Request) bool {
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "multipart/") {
		return true
	}
	path := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	n := 3 // database, document, attachment
	if len(path) > 1 && (path[1] == "_design" || path[1] == "_local") {
		n = 4
	}
	return r.Method == http.MethodPut && len(path) >= n
}

func (u *upload) Read(p []byte) (int, error) {
	if err := u.hold(); err != nil {
		return 0, err
	}
	u.extend()
	n, err := u.ReadCloser.Read(p)
	u.read += int64(n)
	if err == io.EOF {
		u.noDeadline()
	}
	return n, err
}

// extend sets the deadline anew, at most every second. Not every connection has one.
func (u *upload) extend() {
	if now := time.Now(); u.l.q.Upload > 0 && now.Sub(u.deadline) > time.Second {
		u.deadline = now
		_ = http.NewResponseController(u.w).SetReadDeadline(u.start.Add(u.l.q.Upload + time.Duration(u.read/slowest)*time.Second))
	}
}

// noDeadline frees the connection, which is read from while the answer is made.
func (u *upload) noDeadline() {
	if !u.deadline.IsZero() {
		_ = http.NewResponseController(u.w).SetReadDeadline(time.Time{})
	}
}

// hold takes memory before it is needed.
func (u *upload) hold() error {
	if u.l.memory == nil {
		return nil
	}
	var need int64
	switch {
	case u.packed && u.read > 8<<10: // it may become as large as any
		need = u.l.body - u.held
	case u.read >= freeBody+u.held:
		need = freeBody
	}
	if need <= 0 || u.held+need > u.l.body || streamed(u.r) { // what is streamed is not kept
		return nil
	}
	ctx, cancel := context.WithTimeout(u.r.Context(), memoryWait)
	defer cancel()
	if u.l.memory.Acquire(ctx, need) != nil {
		return &couch.RetryLater{Err: &couch.Error{Status: http.StatusTooManyRequests, Code: "too_many_requests", Reason: "The server holds as many request bodies as it can."}, After: memoryWait}
	}
	u.held += need
	return nil
}

// done gives the memory back when the request has been answered.
func (u *upload) done() {
	if u.held > 0 {
		u.l.memory.Release(u.held)
		u.held = 0
	}
}
