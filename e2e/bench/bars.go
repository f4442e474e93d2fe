package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// A bar is a figure that is promised.
type bar struct {
	what      string
	got, want float64
}

func (b bar) verdict() string {
	if b.got < b.want {
		return "**missed**"
	}
	return "held"
}

func (b *bench) bar(what string, got, want float64) { b.bars = append(b.bars, bar{what, got, want}) }

func (b *bench) printBars() {
	fmt.Println()
	for _, bar := range b.bars {
		fmt.Printf("%-75s %9s, at least %6s: %s\n", bar.what, number(bar.got), number(bar.want), bar.verdict())
	}
}

func number(n float64) string {
	if n >= 100 {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.2f", n)
}

// note keeps and prints something else that was measured.
func (b *bench) note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	b.notes = append(b.notes, s)
	fmt.Println(s)
}

// compression reads all documents through the data channel, plain and compressed.
func (b *bench) compression(ctx context.Context) error {
	open, err := proc.Start(ctx, b.loveseat(), "open", b.hub+"/hub", b.link, "--json")
	if err != nil {
		return err
	}
	defer func() { _ = open.Stop() }()
	var e struct{ URL string }
	if err := open.Next(ctx, "open", &e); err != nil {
		return err
	}
	fmt.Println()
	url := e.URL + "/_all_docs?include_docs=true"
	plain, n, _, err := b.fetch(ctx, url, "identity")
	if err != nil {
		return err
	}
	packed, m, how, err := b.fetch(ctx, url, "zstd, gzip")
	if err != nil {
		return err
	}
	b.note("compression on the data channel (_all_docs with documents): plain %.0f MB in %.2f s; %s %.0f MB in %.2f s, %.1f times as fast",
		float64(n)/1e6, plain.Seconds(), how, float64(m)/1e6, packed.Seconds(), plain.Seconds()/packed.Seconds())
	return nil
}

// fetch reads an answer in an encoding, and tells how long that took and its length as it came.
func (b *bench) fetch(ctx context.Context, url, accept string) (took time.Duration, n int64, encoding string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, "", err
	}
	req.Header.Set("Accept-Encoding", accept)
	start := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, "", err
	}
	defer resp.Body.Close()
	n, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return time.Since(start), n, resp.Header.Get("Content-Encoding"), err
}

// measuringTests runs the tests that measure and demand, and keeps what they tell.
func (b *bench) measuringTests(ctx context.Context) error {
	for _, t := range []struct{ pkg, run string }{
		{"./replicate", "^(TestOnePercent|TestHistoriesAndConflicts|TestVerifyIsQuick)$"},
		{"./e2e", "^TestLiveLatency$"},
	} {
		cmd := exec.CommandContext(ctx, "go", "test", "-count", "1", "-v", "-timeout", "30m", "-run", t.run, t.pkg)
		cmd.Env = append(os.Environ(), "LOVESEAT_BARS=1")
		out, err := cmd.CombinedOutput()
		for _, m := range regexp.MustCompile(`(?m)^ +(\w+_test\.go):\d+: (.*)$`).FindAllSubmatch(out, -1) {
			b.note("%s (%s)", m[2], filepath.Join(t.pkg, string(m[1])))
		}
		if err != nil {
			b.note("**missed**: %s in %s: %v", t.run, t.pkg, err)
		}
	}
	return nil
}
