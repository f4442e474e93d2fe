package hub

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/localdb"
)

// benchServer serves a database "db" of n documents of about 1 KB.
func benchServer(b *testing.B, n int) string {
	b.Helper()
	store, err := localdb.OpenStore(b.TempDir(), localdb.Options{})
	if err != nil {
		b.Fatal(err)
	}
	h, err := New(b.Context(), Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(ln)
	b.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		h.Close()
		srv.Close()
		store.Close()
	})
	url := "http://" + ln.Addr().String()
	send(b, "PUT", url+"/db", "")
	for at := 0; at < n; at += 1000 {
		send(b, "POST", url+"/db/_bulk_docs", bulk(at, min(1000, n-at)))
	}
	return url
}

var filler = strings.Repeat("lorem ipsum dolor sit amet ", 33)

func bulk(from, n int) string {
	var s strings.Builder
	s.WriteString(`{"docs":[`)
	for i := range n {
		if i > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, `{"_id":"doc-%08d","n":%d,"tags":["a","b"],"text":"%s"}`, from+i, i, filler)
	}
	s.WriteString("]}")
	return s.String()
}

func send(b *testing.B, method, url, body string) {
	req, _ := http.NewRequest(method, url, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		b.Errorf("%s %s: %d", method, url, resp.StatusCode)
	}
}

func BenchmarkBulkDocs(b *testing.B) {
	url := benchServer(b, 0)
	at := 0
	for b.Loop() {
		send(b, "POST", url+"/db/_bulk_docs", bulk(at, 1000))
		at += 1000
	}
	b.ReportMetric(float64(at)/b.Elapsed().Seconds(), "docs/s")
}

func BenchmarkGet(b *testing.B) {
	url := benchServer(b, 1000)
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			send(b, "GET", fmt.Sprintf("%s/db/doc-%08d", url, i%1000), "")
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "docs/s")
}

func BenchmarkPut(b *testing.B) {
	url := benchServer(b, 0)
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.SetParallelism(16)
	body := `{"text":"` + filler + `"}`
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			send(b, "POST", url+"/db", body)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "docs/s")
}

func BenchmarkRows(b *testing.B) {
	url := benchServer(b, 20_000)
	for _, path := range []string{"_changes", "_changes?include_docs=true", "_all_docs", "_all_docs?include_docs=true"} {
		b.Run(path, func(b *testing.B) {
			n := 0
			for b.Loop() {
				send(b, "GET", url+"/db/"+path, "")
				n += 20_000
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkFanOut: one write, heard by 340 continuous feeds.
func BenchmarkFanOut(b *testing.B) {
	url := benchServer(b, 0)
	const feeds = 340
	heard := make(chan time.Time, feeds)
	for range feeds {
		resp, err := http.Get(url + "/db/_changes?feed=continuous&since=now&heartbeat=true")
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		go func() {
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				if len(lines.Bytes()) > 0 {
					heard <- time.Now()
				}
			}
		}()
	}
	var waits []time.Duration
	for b.Loop() {
		began := time.Now()
		send(b, "POST", url+"/db", `{"x":1}`)
		for range feeds {
			waits = append(waits, (<-heard).Sub(began))
		}
	}
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
}
