package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// writeReport writes the results as a table and a chart.
func (b *bench) writeReport() error {
	var t strings.Builder
	fmt.Fprintf(&t, `# Benchmarks

Written by `+"`make bench`"+` on %s: %d documents of %d bytes on average, %s, %d × %s.
Absolute times depend on the machine and what else it does; ratios within a run are what to look at.
Rates are of the replication alone, one way (of an import, of the whole process); Loveseat's are the median of its rounds, the
others' the best of their batch sizes, raw SQLite's the best of three. Loveseat's ends are durable SQLite (synchronous=FULL) in processes of their own.

| what | documents/s | |
|---|---:|---|
`, time.Now().UTC().Format(time.DateOnly), b.docs, b.bytes/int64(b.docs), runtime.Version(), runtime.NumCPU(), cpuModel())
	top := 0.0
	for _, r := range b.results {
		top = max(top, r.rate)
	}
	for _, r := range b.results {
		fmt.Fprintf(&t, "| %s | %.0f | %s |\n", r.what, r.rate, r.note)
	}
	if len(b.ceilingRows) > 0 {
		fmt.Fprintf(&t, "\n| ceiling, in the same run | | Loveseat is … of it |\n|---|---:|---:|\n%s\n", strings.Join(b.ceilingRows, "\n"))
	}
	t.WriteString("\n| what is asked | at least | measured | |\n|---|---:|---:|---|\n")
	for _, bar := range b.bars {
		fmt.Fprintf(&t, "| %s | %s | %s | %s |\n", bar.what, number(bar.want), number(bar.got), bar.verdict())
	}
	if len(b.notes) > 0 {
		fmt.Fprintf(&t, "\nAlso measured in this run:\n\n- %s\n", strings.Join(b.notes, "\n- "))
	}
	t.WriteString("\n```text\n")
	for _, r := range b.results {
		fmt.Fprintf(&t, "%-52s %7.0f %s\n", r.what, r.rate, strings.Repeat("█", int(r.rate/top*40)))
	}
	t.WriteString("```\n")
	return os.WriteFile(b.report, []byte(t.String()), 0o644)
}

// cpuModel is what the machine calls its processor.
func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(info); m != nil {
		return string(m[1])
	}
	return runtime.GOARCH
}
