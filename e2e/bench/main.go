// Command bench measures the main job's speed with the real binaries, between
// ceilings measured in the same run, and prints the ratios. `make bench` starts it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

func main() {
	var b bench
	flag.StringVar(&b.bin, "bin", "bin", "`directory` of the binaries hubserver and loveseat")
	flag.IntVar(&b.docs, "docs", 100_000, "number of documents of about 1 KB")
	flag.IntVar(&b.rounds, "rounds", 3, "how often the sync is repeated; the median counts")
	flag.BoolVar(&b.ceilings, "ceilings", true, "measure raw SQLite and a raw data channel too")
	flag.BoolVar(&b.rivals, "rivals", false, "measure RxDB and PouchDB too (npm ci in e2e/bench)")
	flag.BoolVar(&b.tests, "tests", false, "run the tests that measure too: updates of a million documents, histories, live latency")
	flag.StringVar(&b.report, "write", "", "write the results to this Markdown `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	bin      string
	dir      string
	docs     int
	rounds   int
	ceilings bool
	rivals   bool
	tests    bool
	report   string
	file     string // of the documents
	hub      string // URL of the server
	bytes    int64  // of the documents
	link     string
	results  []result

	ceilingRows []string // of the report
	bars        []bar
	notes       []string // what else was measured
}

// A result is one measured rate.
type result struct {
	what string
	rate float64 // documents per second
	note string
}

func (b *bench) docsPerSecond(what string) float64 {
	for _, r := range b.results {
		if r.what == what {
			return r.rate
		}
	}
	return 0
}

// The rows that others are compared with.
const (
	rowSync  = "Loveseat: peer to peer over WebRTC, durable SQLite"
	rowHTTP  = "Loveseat: hub to local database over HTTP"
	rowLocal = "Loveseat: local to local database"
)

func (b *bench) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "loveseat-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir, b.file = dir, filepath.Join(dir, "docs.ndjson")
	fmt.Printf("%d documents, %s, %d CPUs\n\n", b.docs, runtime.Version(), runtime.NumCPU())
	if err := b.write(b.file); err != nil {
		return err
	}
	if err := b.imported(ctx, b.file); err != nil {
		return err
	}
	stop, err := b.share(ctx)
	if err != nil {
		return err
	}
	defer stop()
	steps := []func(context.Context) error{b.syncRounds, b.syncOthers}
	if b.ceilings {
		steps = append(steps, b.compare)
	}
	if b.rivals {
		steps = append(steps, b.compareRivals)
	}
	steps = append(steps, b.compression)
	if b.tests {
		steps = append(steps, b.measuringTests)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b.printBars()
	if b.report != "" {
		return b.writeReport()
	}
	return nil
}

// write makes records as an application has them: names, sentences, numbers, ids, dates.
func (b *bench) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 3000)
	for i := range words {
		word := make([]byte, 2+r.IntN(9))
		for j := range word {
			word[j] = "etaoinshrdlucmfwypvbgk"[min(r.IntN(22), r.IntN(22))]
		}
		words[i] = string(word)
	}
	sentence := func(n int) string {
		out := make([]string, n)
		for i := range out {
			out[i] = words[min(r.IntN(len(words)), r.IntN(len(words)))]
		}
		return strings.Join(out, " ")
	}
	for i := range b.docs {
		doc, err := json.Marshal(map[string]any{
			"_id": fmt.Sprintf("record-%016x", r.Uint64()), "type": "record", "number": i, "title": sentence(6), "text": sentence(85),
			"author": map[string]any{"name": sentence(2), "email": sentence(1) + "@example.org", "key": fmt.Sprintf("%032x", r.Uint64())},
			"tags":   []string{sentence(1), sentence(1), sentence(1)}, "created": time.Unix(1.7e9+int64(r.IntN(1e8)), 0).UTC(),
			"position": []float64{r.Float64()*180 - 90, r.Float64()*360 - 180}, "done": r.IntN(2) == 0, "amount": float64(r.IntN(1e6)) / 100,
			"references": []string{fmt.Sprintf("record-%016x", r.Uint64()), fmt.Sprintf("record-%016x", r.Uint64())},
		})
		if err != nil {
			return err
		}
		b.bytes += int64(len(doc))
		if _, err := w.Write(append(doc, '\n')); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (b *bench) loveseat() string { return filepath.Join(b.bin, "loveseat") }
func (b *bench) source() string   { return filepath.Join(b.dir, "a", "records") }

func (b *bench) imported(ctx context.Context, file string) error {
	start := time.Now()
	if _, err := proc.Run(ctx, nil, b.loveseat(), "import", b.source(), file, "--json"); err != nil {
		return err
	}
	b.row("Loveseat: import of an NDJSON file", b.docs, time.Since(start))
	return nil
}

// row keeps and prints a rate.
func (b *bench) row(what string, docs int, took time.Duration) {
	b.results = append(b.results, result{what: what, rate: float64(docs) / took.Seconds()})
	b.print(what, docs, took)
}

func (b *bench) print(what string, docs int, took time.Duration) {
	mb := float64(b.bytes) * float64(docs) / float64(b.docs) / 1e6
	fmt.Printf("%-52s %8.2f s %9.0f documents/s %7.1f MB/s\n", what, took.Seconds(), float64(docs)/took.Seconds(), mb/took.Seconds())
}

// share starts a hub and a peer that shares the source.
func (b *bench) share(ctx context.Context) (stop func(), err error) {
	hub, err := proc.Start(ctx, filepath.Join(b.bin, "hubserver"), "--addr", "127.0.0.1:0", "--data", filepath.Join(b.dir, "hub"), "--json")
	if err != nil {
		return nil, err
	}
	var e struct{ URL, Link string }
	if err := hub.Next(ctx, "listening", &e); err != nil {
		return nil, err
	}
	b.hub = strings.TrimSuffix(e.URL, "/")
	sharer, err := proc.Start(ctx, b.loveseat(), "share", b.hub+"/hub", b.source(), "--json")
	if err != nil {
		return nil, err
	}
	if err := sharer.Next(ctx, "shared", &e); err != nil {
		return nil, err
	}
	b.link = e.Link
	return func() { _, _ = sharer.Stop(), hub.Stop() }, nil
}

// syncRounds pulls everything through the share into a new database some times, and each time once more.
func (b *bench) syncRounds(ctx context.Context) error {
	var times []time.Duration
	for round := range b.rounds {
		target := filepath.Join(b.dir, fmt.Sprintf("b%d", round), "records")
		took, err := b.syncOnce(ctx, target, b.link, b.docs)
		if err != nil {
			return err
		}
		times = append(times, took)
		b.print(fmt.Sprintf("  sync over WebRTC, round %d", round+1), b.docs, took)
		began := time.Now()
		if _, err := b.syncOnce(ctx, target, b.link, 0); err != nil {
			return err
		}
		fmt.Printf("%-52s %8.2f s, 0 documents copied\n", "  a second run, process start included", time.Since(began).Seconds())
	}
	b.row(rowSync, b.docs, median(times))
	b.bar("peer to peer over WebRTC, documents/s", b.docsPerSecond(rowSync), 25_000)
	return nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// syncOthers measures the other pairs of ends.
func (b *bench) syncOthers(ctx context.Context) error {
	records := b.hub + "/records"
	if _, err := proc.Run(ctx, nil, b.loveseat(), "sync", b.source(), records, "--push", "--json"); err != nil {
		return err
	}
	for _, o := range []struct{ what, from string }{{rowHTTP, records}, {rowLocal, b.source()}} {
		var times []time.Duration
		for round := range b.rounds {
			target := filepath.Join(b.dir, fmt.Sprint(strings.ReplaceAll(o.what, " ", ""), round), "records")
			took, err := b.syncOnce(ctx, target, o.from, b.docs)
			if err != nil {
				return err
			}
			times = append(times, took)
		}
		b.row(o.what, b.docs, median(times))
	}
	return nil
}

// syncOnce runs `loveseat sync --pull` and checks what it copied. The time is that of the replication, from its
// first request to its last checkpoint.
func (b *bench) syncOnce(ctx context.Context, target, source string, want int) (time.Duration, error) {
	out, err := proc.Run(ctx, nil, b.loveseat(), "sync", target, source, "--pull", "--json")
	if err != nil {
		return 0, err
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var done struct {
		Event  string
		Pulled struct {
			Written int       `json:"docs_written"`
			Start   time.Time `json:"start_time"`
			End     time.Time `json:"end_time"`
		}
	}
	if err := json.Unmarshal(lines[len(lines)-1], &done); err != nil {
		return 0, err
	}
	if done.Event != "complete" || done.Pulled.Written != want {
		return 0, fmt.Errorf("the sync copied something else than %d documents: %s", want, lines[len(lines)-1])
	}
	return done.Pulled.End.Sub(done.Pulled.Start), nil
}

// compare measures the ceilings and prints the ratios.
func (b *bench) compare(ctx context.Context) error {
	sync, local := b.docsPerSecond(rowSync), b.docsPerSecond(rowLocal)
	fmt.Println()
	for _, c := range []struct {
		name, pkg, bench, unit string
		ours                   float64
	}{
		{"raw SQLite insert of 1 KB rows", "./localdb", "^BenchmarkRawInsert$", "rows/s", sync},
		{"raw SQLite again, for local to local", "./localdb", "^BenchmarkRawInsert$", "rows/s", local},
		{"raw data channel, both ends in one process", "./peeradapter", "^BenchmarkRawDataChannel$", "MB/s", sync * float64(b.bytes) / float64(b.docs) / 1e6},
	} {
		out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", c.bench, "-benchtime", "2s", "-count", "3", c.pkg).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", c.name, err, out)
		}
		ceiling := 0.0 // the best of its runs
		for _, m := range regexp.MustCompile(`([0-9.e+]+) `+c.unit).FindAllSubmatch(out, -1) {
			rate, err := strconv.ParseFloat(string(m[1]), 64)
			if err != nil {
				return err
			}
			ceiling = max(ceiling, rate)
		}
		if ceiling == 0 {
			return fmt.Errorf("%s: no %s in\n%s", c.name, c.unit, out)
		}
		fmt.Printf("%-52s %11.0f %-8s  Loveseat is %.2f of it\n", c.name, ceiling, c.unit, c.ours/ceiling)
		if c.ours == local {
			b.bar("local to local, of raw SQLite insert", c.ours/ceiling, 0.5)
		}
		b.ceilingRows = append(b.ceilingRows, fmt.Sprintf("| %s | %.0f %s | %.2f |", c.name, ceiling, c.unit, c.ours/ceiling))
	}
	return nil
}
