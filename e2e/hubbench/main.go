// Command hubbench measures the hub: the real binary, in a process of its own,
// beside what bounds it in the same run. `make bench` starts it and keeps what
// it says in docs/hub-benchmarks.md; `make soak` starts it with -strict, which makes it fail
// when a bar is missed.
package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	var b bench
	var only string
	serveEcho := flag.Bool("echo", false, "be the bare HTTP server that the hub is compared with")
	flag.StringVar(&b.bin, "bin", "bin", "`directory` of the binary hubserver")
	flag.StringVar(&only, "only", "", "measure these alone, of get,bulk,put,fair,signals,feeds")
	flag.IntVar(&b.feeds, "feeds", 10_000, "number of feeds that wait")
	flag.DurationVar(&b.turn, "turn", time.Second, "how long each side is measured before it is the other's turn")
	flag.IntVar(&b.turns, "turns", 9, "how many turns each side has")
	flag.BoolVar(&b.strict, "strict", false, "exit with status 1 if a bar is missed")
	flag.StringVar(&b.report, "write", "", "write the results to this Markdown `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if *serveEcho {
		err = echo(ctx)
	} else {
		err = b.run(ctx, only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hubbench:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

type bench struct {
	bin    string
	dir    string
	feeds  int
	turn   time.Duration
	turns  int
	strict bool
	report string
	rows   []row
	missed int
}

// A row is one thing that was measured.
type row struct{ what, is, bar, note string }

func (b *bench) run(ctx context.Context, only string) error {
	dir, err := os.MkdirTemp("", "loveseat-hubbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{{"get", b.gets}, {"bulk", b.bulk}, {"put", b.puts}, {"fair", b.fair}, {"signals", b.signals}, {"feeds", b.waiting}} {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if b.report != "" {
		if err := b.writeReport(); err != nil {
			return err
		}
	}
	if b.strict && b.missed > 0 {
		return fmt.Errorf("%d bars are missed", b.missed)
	}
	return nil
}

// row keeps and prints what was measured. bar is what is demanded, "" for nothing.
func (b *bench) row(what, is, bar string, reached bool, note string) {
	if !reached {
		b.missed++
		note = strings.TrimSuffix("MISSED; "+note, "; ")
	}
	b.rows = append(b.rows, row{what, is, bar, note})
	fmt.Printf("%-58s %14s   %-12s %s\n", what, is, bar, note)
}

// ratio is a row of how much of its bound the hub reaches.
func (b *bench) ratio(what string, r rates, unit string, bar float64, couchdb float64) {
	is := r.a / r.b
	note := fmt.Sprintf("%.0f of %.0f %s, %s of the hub's processor time each", r.a, r.b, unit, r.cost.Round(100*time.Nanosecond))
	if couchdb > 0 {
		note += fmt.Sprintf("; CouchDB 3.5.2: %.0f", couchdb)
	}
	b.row(what, fmt.Sprintf("%.2f", is), fmt.Sprintf("≥ %.2f", bar), is >= bar && r.a >= couchdb, note)
}

// rates are what two sides do in a second, and what one costs the hub.
type rates struct {
	a, b float64
	cost time.Duration
	did  int // by the first side, warming up included
}

// compare measures the hub and what bounds it in turns, so that the ratio means
// something on a busy machine, too. Each side tells how much it did in a turn.
func (b *bench) compare(hub *server, side, bound func() (int, error)) (rates, error) {
	var done [2]int
	var took [2]time.Duration
	var cpu time.Duration
	all := 0
	for turn := range b.turns + 1 {
		for i, do := range []func() (int, error){side, bound} {
			before, begun := hub.cpu(), time.Now()
			n, err := do()
			if err != nil {
				return rates{}, err
			}
			if i == 0 {
				all += n
			}
			if turn == 0 {
				continue // to warm up
			}
			done[i] += n
			took[i] += time.Since(begun)
			if i == 0 {
				cpu += hub.cpu() - before
			}
		}
	}
	return rates{float64(done[0]) / took[0].Seconds(), float64(done[1]) / took[1].Seconds(), cpu / time.Duration(max(done[0], 1)), all}, nil
}

var basic = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(admin))

// once sends one request, which must succeed.
func once(addr string, request []byte) ([]byte, error) {
	c, err := dial(addr, "")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	status, body, err := c.text(request)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	return body, err
}

func (b *bench) writeReport() error {
	var t strings.Builder
	fmt.Fprintf(&t, "# Benchmarks of the hub\n\nWritten by `make bench` on %s. The client runs on the same machine. Ratios are of one run.\n\n| what | is | bar | |\n|---|---:|---|---|\n",
		time.Now().UTC().Format(time.DateOnly))
	for _, r := range b.rows {
		fmt.Fprintf(&t, "| %s | %s | %s | %s |\n", r.what, r.is, r.bar, r.note)
	}
	return os.WriteFile(filepath.Clean(b.report), []byte(t.String()), 0o644)
}
