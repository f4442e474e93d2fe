package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/loveseat-db/loveseat/internal/cli"
)

// plainEvery is how often long work says where it is when there is no terminal.
const plainEvery = 2 * time.Second

// A reporter shows events and progress: JSON lines on standard output with
// --json, otherwise sentences there and progress on standard error, as a bar on
// a terminal and as plain lines elsewhere. It is safe for concurrent use.
type reporter struct {
	out, err io.Writer
	json     bool

	mu    sync.Mutex
	bars  *mpb.Progress // nil: no terminal
	bar   *mpb.Bar
	total int64
	start time.Time
	last  time.Time

	stage atomic.Value // string; the bar reads these from its own goroutine
	bytes atomic.Int64
	eta   atomic.Int64 // nanoseconds; 0: nothing to tell
}

func (m *Main) reporter(asJSON bool) *reporter {
	r := &reporter{out: m.Stdout, err: m.Stderr, json: asJSON, start: time.Now()}
	if f, ok := m.tty.(*os.File); ok && !asJSON && term.IsTerminal(int(f.Fd())) {
		r.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(50), mpb.WithRefreshRate(150*time.Millisecond))
	}
	return r
}

// Event prints an event: its fields with --json, the sentence otherwise ("": nothing).
func (r *reporter) Event(name string, fields any, sentence string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.line(name, fields)
	} else if sentence != "" {
		r.say(r.out, sentence)
	}
}

// Warn is Event for what went wrong: the sentence goes to standard error.
func (r *reporter) Warn(name string, fields any, sentence string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.line(name, fields)
	} else {
		r.say(r.err, sentence)
	}
}

// Done ends the progress display and prints the last event.
func (r *reporter) Done(name string, fields any, sentence string) {
	r.Close()
	r.Event(name, fields, sentence)
}

// Close ends the progress display. It may be called again.
func (r *reporter) Close() {
	r.mu.Lock()
	bars, bar := r.bars, r.bar
	r.bars, r.bar = nil, nil
	r.mu.Unlock()
	if bar != nil {
		bar.SetTotal(-1, true)
	}
	if bars != nil {
		bars.Wait()
	}
}

// Progress shows how far work is: documents done of total (-1: not known) and bytes moved.
func (r *reporter) Progress(stage string, done, total, bytes int64) {
	r.Detailed(stage, done, total, bytes, 0, nil)
}

// Detailed is Progress with the time that is left (0 or less: not told) and, with --json, more members of the event.
func (r *reporter) Detailed(stage string, done, total, bytes int64, left time.Duration, more map[string]any) {
	r.eta.Store(int64(left))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stage.Store(stage)
	r.bytes.Store(bytes)
	r.total = max(total, done)
	if r.bars != nil {
		r.showBar(done)
		return
	}
	if time.Since(r.last) < plainEvery {
		return
	}
	r.last = time.Now()
	rate := float64(done) / time.Since(r.start).Seconds()
	if r.json {
		event := map[string]any{"stage": stage, "docs": done, "total": total, "bytes": bytes, "docs_per_second": int64(rate)}
		maps.Copy(event, more)
		r.line("progress", event)
	} else if done > 0 {
		_, _ = fmt.Fprintf(r.err, "%s: %d documents, %s, %.0f/s%s\n", stage, done, size(bytes), rate, r.left())
	}
}

func (r *reporter) showBar(done int64) {
	if r.bar == nil {
		r.bar = r.bars.New(0, mpb.BarStyle(),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return r.stage.Load().(string) }, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(
				decor.CountersNoUnit("%d/%d documents "),
				decor.Any(func(s decor.Statistics) string {
					return fmt.Sprintf("%s %.0f/s%s", size(r.bytes.Load()), float64(s.Current)/time.Since(r.start).Seconds(), r.left())
				})))
	}
	r.bar.SetTotal(r.total, false)
	r.bar.SetCurrent(done)
}

// left is ", 3m20s left", or "" if that is not known.
func (r *reporter) left() string {
	d := time.Duration(r.eta.Load())
	if d < time.Second {
		return ""
	}
	return ", " + d.Round(time.Second).String() + " left"
}

func (r *reporter) say(w io.Writer, sentence string) {
	if r.bars != nil {
		w = cli.NewWriter(r.bars) // above the bar
	}
	_, _ = fmt.Fprintln(w, sentence)
}

// line prints {"event": name, …fields}. fields is a map or a struct.
func (r *reporter) line(name string, fields any) {
	b, err := json.Marshal(fields)
	if err != nil {
		b = []byte("{}")
	}
	event := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	_ = dec.Decode(&event)
	event["event"] = name
	out, _ := json.Marshal(event)
	_, _ = r.out.Write(append(out, '\n'))
}

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
