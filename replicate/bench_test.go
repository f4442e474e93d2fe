package replicate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/replicate"
)

// record is a document of about 1 KB, a third of it text.
func record(i int) *couch.Doc {
	rng := rand.New(rand.NewPCG(uint64(i), 7))
	word := func() string { return []string{"lorem", "ipsum", "dolor", "sit", "amet", "elit"}[rng.IntN(6)] }
	var text []byte
	for len(text) < 400 {
		text = append(append(text, word()...), ' ')
	}
	body, _ := json.Marshal(map[string]any{
		"type": "record", "name": fmt.Sprint(word(), rng.IntN(1e6)), "email": fmt.Sprintf("%s%d@example.org", word(), rng.IntN(1e6)),
		"created": "2026-01-02T03:04:05.678Z", "amount": rng.Float64() * 1e4, "tags": []string{word(), word(), word()},
		"address": map[string]any{"street": word(), "number": rng.IntN(200), "zip": strconv.Itoa(rng.IntN(99999)), "geo": []float64{rng.Float64() * 90, rng.Float64() * 180}},
		"token":   fmt.Sprintf("%016x%016x%016x%016x", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64()), "text": string(text), "n": i,
		"items": []map[string]any{{"sku": rng.IntN(1e6), "qty": rng.IntN(9)}, {"sku": rng.IntN(1e6), "qty": rng.IntN(9)}, {"sku": rng.IntN(1e6), "qty": rng.IntN(9)}},
	})
	hash := fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())
	return &couch.Doc{ID: fmt.Sprintf("record-%08d", i), Rev: couch.Rev{Gen: 1, Hash: hash}, Revisions: []string{hash}, Body: body}
}

const benchDocs = 20_000

func openStore(tb testing.TB) *localdb.Store {
	tb.Helper()
	s, err := localdb.OpenStore(tb.TempDir(), localdb.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func newDB(tb testing.TB, s couch.Store, name string) couch.DB {
	tb.Helper()
	if err := s.Create(context.Background(), name); err != nil {
		tb.Fatal(err)
	}
	db, err := s.Open(context.Background(), name)
	if err != nil {
		tb.Fatal(err)
	}
	return db
}

func records() []*couch.Doc {
	docs := make([]*couch.Doc, benchDocs)
	for i := range docs {
		docs[i] = record(i)
	}
	return docs
}

func load(tb testing.TB, db couch.DB, docs []*couch.Doc) {
	tb.Helper()
	for i := 0; i < len(docs); i += 1000 {
		if _, err := db.BulkDocs(context.Background(), docs[i:i+1000], couch.WriteOptions{Replicated: true}); err != nil {
			tb.Fatal(err)
		}
	}
}

// serveStore is a client of a server of s, on loopback TCP.
func serveStore(tb testing.TB, s couch.Store, compress bool) *couchhttp.Client {
	tb.Helper()
	server := couchhttp.NewServer(couchhttp.ServerOptions{Store: s, UUID: "test"})
	web := httptest.NewServer(server)
	base, _ := url.Parse(web.URL)
	c := couchhttp.NewClient(base, nil, couchhttp.ClientOptions{Compress: compress})
	tb.Cleanup(func() {
		c.Close()
		server.Close()
		web.Close()
	})
	return c
}

func perDoc(b *testing.B) {
	b.ReportMetric(float64(benchDocs*b.N)/b.Elapsed().Seconds(), "docs/s")
}

func BenchmarkRawBulkDocs(b *testing.B) {
	s := openStore(b)
	docs := records()
	b.ResetTimer()
	for i := range b.N {
		load(b, newDB(b, s, fmt.Sprint("db", i)), docs)
	}
	perDoc(b)
}

func benchmarkRun(b *testing.B, source, target func(couch.Store) couch.Store) {
	from, to := openStore(b), openStore(b)
	load(b, newDB(b, from, "source"), records())
	src, err := source(from).Open(context.Background(), "source")
	if err != nil {
		b.Fatal(err)
	}
	remote := target(to)
	b.ResetTimer()
	for i := range b.N {
		res := mustRun(b, src, newDB(b, remote, fmt.Sprint("db", i)), replicate.Options{})
		if res.DocsWritten != benchDocs {
			b.Fatalf("%+v", res)
		}
	}
	perDoc(b)
}

func local(s couch.Store) couch.Store { return s }

func BenchmarkLocalToLocal(b *testing.B) { benchmarkRun(b, local, local) }

func BenchmarkPullHTTP(b *testing.B) {
	benchmarkRun(b, func(s couch.Store) couch.Store { return serveStore(b, s, false) }, local)
}

func BenchmarkPushHTTP(b *testing.B) {
	benchmarkRun(b, local, func(s couch.Store) couch.Store { return serveStore(b, s, false) })
}

func BenchmarkPullHTTPCompressed(b *testing.B) {
	benchmarkRun(b, func(s couch.Store) couch.Store { return serveStore(b, s, true) }, local)
}

func BenchmarkPushHTTPCompressed(b *testing.B) {
	benchmarkRun(b, local, func(s couch.Store) couch.Store { return serveStore(b, s, true) })
}
