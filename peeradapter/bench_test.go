package peeradapter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// httpPair serves h on b and returns a client that dials from a.
func httpPair(tb testing.TB, h http.HandlerFunc) *http.Client {
	tb.Helper()
	p := new(post)
	a, b := newTransport(tb, p, "a", Config{}), newTransport(tb, p, "b", Config{})
	srv := &http.Server{Handler: h}
	l := listen(tb, b, "b")
	go func() { _ = srv.Serve(l) }()
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			return a.DialContext(ctx, network, host)
		},
		MaxConnsPerHost: 32, MaxIdleConnsPerHost: 32, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		DisableCompression: true,
	}
	tb.Cleanup(func() { tr.CloseIdleConnections(); _ = srv.Close() })
	return &http.Client{Transport: tr}
}

// BenchmarkHTTPDownload reads one large answer.
func BenchmarkHTTPDownload(b *testing.B) {
	const chunk = 256 << 10
	client := httpPair(b, func(w http.ResponseWriter, _ *http.Request) {
		buf := make([]byte, chunk)
		for range b.N {
			if _, err := w.Write(buf); err != nil {
				return
			}
		}
	})
	b.SetBytes(chunk)
	b.ReportAllocs()
	b.ResetTimer()
	resp, err := client.Get("http://b/")
	must(b, err)
	n, err := io.Copy(io.Discard, resp.Body)
	must(b, err)
	if n != int64(b.N)*chunk {
		b.Fatal(n)
	}
}

// BenchmarkHTTPUpload sends bodies of 1 MiB, four at a time, as a replication does.
func BenchmarkHTTPUpload(b *testing.B) {
	client := httpPair(b, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	body := make([]byte, 1<<20)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	each(b, 4, func() error {
		resp, err := client.Post("http://b/", "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// BenchmarkHTTPSmall makes small requests by 32 callers.
func BenchmarkHTTPSmall(b *testing.B) {
	client := httpPair(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"ok":true}`) })
	b.ReportAllocs()
	b.ResetTimer()
	each(b, 32, func() error {
		resp, err := client.Get("http://b/")
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Body.Close()
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// each calls do b.N times by n callers.
func each(b *testing.B, n int, do func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkConnect dials a peer for the first time; signals take no time.
func BenchmarkConnect(b *testing.B) {
	p := new(post)
	t := newTransport(b, p, "b", Config{})
	go echo(listen(b, t, "b"))
	var took []time.Duration
	for i := range b.N {
		a := newTransport(b, p, fmt.Sprint("a", i), Config{})
		start := time.Now()
		c := dial(b, a, "b")
		must(b, ping(c))
		took = append(took, time.Since(start))
		_ = c.Close()
		_ = a.Close()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
