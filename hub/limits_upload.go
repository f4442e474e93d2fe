package hub

import (
	"io"
	"net/http"
	"time"
)

// An upload is a request body that is cut when it comes too slowly.
type upload struct {
	io.ReadCloser
	l        *limiter
	w        http.ResponseWriter
	start    time.Time
	deadline time.Time // when it was last set anew; zero: never
	read     int64
}

// slowest is how many bytes a second a body must bring after Quotas.Upload.
const slowest = 1 << 10

func (l *limiter) upload(w http.ResponseWriter, r *http.Request) *upload {
	return &upload{ReadCloser: r.Body, l: l, w: w, start: time.Now()}
}

func (u *upload) Read(p []byte) (int, error) {
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
