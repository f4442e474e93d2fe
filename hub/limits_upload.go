package hub

import (
	"io"
	"net/http"
	"time"
)

// An upload is a request body that is cut when it comes too slowly. What has come fast
// buys no time to send nothing.
type upload struct {
	io.ReadCloser
	l        *limiter
	w        http.ResponseWriter
	start    time.Time // of the part that is being read
	read     int64     // of it
	done     time.Time // when a read ended: between reads the client waits for us
	deadline time.Time // when it was last set anew; zero: never
}

// slowest is how many bytes a second a body must bring after Quotas.Upload.
const slowest = 1 << 10

func (l *limiter) upload(w http.ResponseWriter, r *http.Request) *upload {
	now := time.Now()
	return &upload{ReadCloser: r.Body, l: l, w: w, start: now, done: now}
}

func (u *upload) Read(p []byte) (int, error) {
	u.extend()
	n, err := u.ReadCloser.Read(p)
	u.read, u.done = u.read+int64(n), time.Now()
	if float64(u.read) >= slowest*u.l.q.Upload.Seconds() {
		u.start, u.read = u.done, 0
	}
	if err == io.EOF {
		u.noDeadline()
	}
	return n, err
}

// extend sets the deadline anew, at most every second. Not every connection has one.
func (u *upload) extend() {
	now := time.Now()
	u.start = u.start.Add(now.Sub(u.done))
	if u.l.q.Upload > 0 && now.Sub(u.deadline) > min(time.Second, u.l.q.Upload/2) {
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
