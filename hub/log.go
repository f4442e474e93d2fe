package hub

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

// logged gives each request an id, told in X-Couch-Request-ID, and writes a line
// when it has been answered. Only the path of the URL is written: no query, no
// header, nothing that could be a secret. What is counted is counted here too.
func (h *Hub) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := requestID()
		w.Header()["X-Couch-Request-Id"] = []string{id}
		level := slog.LevelDebug
		lw := &loggedWriter{ResponseWriter: w}
		start, feed := time.Now(), isFeed(r)
		h.metrics.begin(feed)
		defer func() {
			h.metrics.end(r.Method, lw.status, feed, time.Since(start))
			if lw.status >= 500 {
				level = slog.LevelError
			}
			if h.c.Logger.Enabled(context.Background(), level) {
				h.c.Logger.Log(context.Background(), level, "request", "id", id, "method", r.Method, "path", r.URL.EscapedPath(),
					"status", lw.status, "bytes", lw.bytes, "ms", time.Since(start).Milliseconds())
			}
		}()
		next.ServeHTTP(lw, r)
	})
}

// requestID is 10 hexadecimal digits, as many as CouchDB's.
func requestID() string {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	return hex.EncodeToString(b[:5])
}

// A loggedWriter counts what is answered. Status is 0 if nothing was.
type loggedWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *loggedWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *loggedWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

func (w *loggedWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func (w *loggedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
