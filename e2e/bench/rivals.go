package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// compareRivals measures what a user would pick today, at its best batch size,
// on the same documents.
func (b *bench) compareRivals(ctx context.Context) error {
	fmt.Println()
	n := fmt.Sprint(b.docs)
	rxdb := []string{"RxDB 17: peer to peer over WebRTC, Node, memory", "e2e/bench/rxdb.mjs", b.file, n}
	pouch := []string{"PouchDB 9: hub to leveldb over HTTP, Node", "e2e/bench/pouchdb.mjs", b.hub + "/records", filepath.Join(b.dir, "pouch")}
	for _, r := range []struct {
		args    []string
		batches []string
		ours    string
		bar     float64
	}{{rxdb, []string{"100", "500", "2000"}, rowSync, 4}, {pouch, []string{"1000"}, rowHTTP, 5}} {
		best := result{what: r.args[0]}
		for _, batch := range r.batches {
			rate, err := b.rival(ctx, r.args[1:], batch)
			if err != nil {
				return err
			}
			if rate > best.rate {
				best.rate, best.note = rate, "batch size "+batch
			}
		}
		b.results = append(b.results, best)
		b.bar(strings.TrimPrefix(r.ours, "Loveseat: ")+", times as fast as "+r.args[0][:strings.IndexByte(r.args[0], ':')], b.docsPerSecond(r.ours)/best.rate, r.bar)
		fmt.Printf("%-52s %20.0f documents/s; Loveseat is %.1f times as fast (%s)\n", best.what, best.rate, b.docsPerSecond(r.ours)/best.rate, best.note)
	}
	return nil
}

// rival runs a Node script that prints {"docs_per_second":…}.
func (b *bench) rival(ctx context.Context, args []string, batch string) (float64, error) {
	args = append(append([]string{}, args...), batch)
	if filepath.Base(args[0]) == "rxdb.mjs" {
		args = append(args, "38642") // of its signaling server
	} else {
		args[2] += batch // a new database
	}
	out, err := proc.Run(ctx, nil, "node", args...)
	if err != nil {
		return 0, err
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var r struct {
		Rate float64 `json:"docs_per_second"`
	}
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil {
		return 0, fmt.Errorf("%v: %w: %.200s", args, err, out)
	}
	return r.Rate, nil
}
