package localdb

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

const benchBatch = 1000

var benchBody = body(`{"text":"%s"}`, strings.Repeat("lorem ipsum ", 83))

func benchDocs(from, n int) []*couch.Doc {
	docs := make([]*couch.Doc, n)
	for i := range docs {
		docs[i] = &couch.Doc{ID: benchID(from + i), Body: benchBody}
	}
	return docs
}

func benchID(i int) string { return fmt.Sprintf("doc-%08x", i*2654435761%(1<<32)) }

func benchReplicated(from, n int) []*couch.Doc {
	docs := benchDocs(from, n)
	for _, d := range docs {
		hash := fmt.Sprintf("%x", md5.Sum([]byte(d.ID)))
		d.Rev, d.Revisions = couch.Rev{Gen: 1, Hash: hash}, []string{hash}
	}
	return docs
}

// raw is SQLite with the same settings and nothing around it.
type raw struct {
	c *sqlite.Conn
	n int64
}

func openRaw(b *testing.B) *raw {
	path := filepath.Join(b.TempDir(), "raw.sqlite")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	c, err := openConn(path, writerCache)
	if err == nil {
		err = c.Exec("PRAGMA page_size=8192; PRAGMA journal_mode=WAL; CREATE TABLE raw (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT)")
	}
	if err != nil {
		b.Fatal(err)
	}
	return &raw{c: c}
}

func (r *raw) batch(b *testing.B) int {
	err := r.c.Prepare("BEGIN IMMEDIATE").Exec()
	for range benchBatch {
		s := r.c.Prepare("INSERT INTO raw VALUES (?, ?, ?)")
		s.BindInt(1, r.n)
		s.BindText(2, benchID(int(r.n)))
		s.BindTextBytes(3, benchBody)
		err = errors.Join(err, s.Exec())
		r.n++
	}
	if err = errors.Join(err, r.c.Prepare("COMMIT").Exec()); err != nil {
		b.Fatal(err)
	}
	return benchBatch
}

// compare runs fn, which does as many things as it returns, in turns with raw
// inserts, so that the ratio means something on a busy machine, too.
func compare(b *testing.B, name string, fn func(round int) int) {
	r := openRaw(b) // anew: it slows down as it grows
	defer r.c.Close()
	const turns, turn = 4, 250 * time.Millisecond
	var did, had [2]float64
	round := 0
	for range turns {
		for i, work := range []func() int{func() int { return r.batch(b) }, func() int { round++; return fn(round - 1) }} {
			for start := time.Now(); time.Since(start) < turn; {
				at := time.Now()
				did[i] += float64(work())
				had[i] += time.Since(at).Seconds()
			}
		}
	}
	per, ceiling := did[1]/had[1], did[0]/had[0]
	fmt.Printf("%-24s %9.0f/s   RAW %7.0f/s   ratio %6.2f\n", name, per, ceiling, per/ceiling)
}

// BenchmarkRatios prints how near each call comes to raw SQLite, all in the same run.
func BenchmarkRatios(b *testing.B) {
	ctx := context.Background()
	for b.Loop() {
		report := func(name string, fn func(round int) int) { compare(b, name, fn) }
		_, d := openTest(b, Options{})
		report("BulkDocs new", func(round int) int {
			docs := benchDocs(round*benchBatch, benchBatch)
			results, err := d.BulkDocs(ctx, docs, couch.WriteOptions{})
			if err != nil || asError(results) != nil {
				b.Fatal(err, asError(results))
			}
			return len(docs)
		})
		_, target := openTest(b, Options{})
		report("BulkDocs replicated", func(round int) int {
			docs := benchReplicated(round*benchBatch, benchBatch)
			if _, err := target.BulkDocs(ctx, docs, couch.WriteOptions{Replicated: true}); err != nil {
				b.Fatal(err)
			}
			return len(docs)
		})
		_, single := openTest(b, Options{})
		next := 0
		for _, clients := range []int{32, 1} {
			report(fmt.Sprintf("PUT by %d at once", clients), func(int) int {
				next += 20 * clients
				return concurrentPuts(b, single, clients, next-20*clients, 20)
			})
		}
		var refs []couch.DocRef
		report("Changes, all leaves", func(int) int {
			n := 0
			refs = refs[:0]
			_, err := d.Changes(ctx, couch.ChangesOptions{AllLeaves: true}, func(c *couch.Change) error {
				n++
				refs = append(refs, couch.DocRef{ID: c.ID, Rev: c.Revs[0]})
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			return n
		})
		report("Changes, pages of 500", func(int) int {
			n, since := 0, couch.Seq("")
			for {
				page := 0
				r, err := d.Changes(ctx, couch.ChangesOptions{Since: since, Limit: 500}, func(*couch.Change) error { page++; return nil })
				if err != nil {
					b.Fatal(err)
				}
				if page == 0 {
					return n
				}
				n += page
				since = r.LastSeq
			}
		})
		report("RevsDiff of new docs", func(round int) int {
			ask := make([]couch.DocRevs, benchBatch)
			for i := range ask {
				ask[i] = couch.DocRevs{ID: benchID(1<<24 + round*benchBatch + i), Revs: []couch.Rev{{Gen: 1, Hash: "967a00dff5e02add41819138abb3284d"}}}
			}
			if diffs, err := d.RevsDiff(ctx, ask); err != nil || len(diffs) != benchBatch {
				b.Fatal(err)
			}
			return benchBatch
		})
		report("RevsDiff of known docs", func(round int) int {
			ask := make([]couch.DocRevs, benchBatch)
			for i := range ask {
				ref := refs[(round*benchBatch+i)%len(refs)]
				ask[i] = couch.DocRevs{ID: ref.ID, Revs: []couch.Rev{ref.Rev}}
			}
			if diffs, err := d.RevsDiff(ctx, ask); err != nil || len(diffs) != 0 {
				b.Fatal(err)
			}
			return benchBatch
		})
		report("BulkGet", func(round int) int {
			at := round * benchBatch % (len(refs) - benchBatch + 1)
			err := d.BulkGet(ctx, refs[at:at+benchBatch], couch.GetOptions{Revs: true}, func(r couch.BulkGetResult) error {
				if r.Err != nil {
					return r.Err
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			return benchBatch
		})
		report("Get", func(round int) int {
			if _, err := d.Get(ctx, refs[round%len(refs)].ID, couch.GetOptions{}); err != nil {
				b.Fatal(err)
			}
			return 1
		})
		report("AllDocs with docs", func(int) int {
			n := 0
			if _, err := d.AllDocs(ctx, couch.AllDocsOptions{IncludeDocs: true}, func(*couch.Row) error { n++; return nil }); err != nil {
				b.Fatal(err)
			}
			return n
		})
		report("updates by BulkDocs", func(round int) int {
			at := round * benchBatch % (len(refs) - benchBatch + 1)
			docs := make([]*couch.Doc, benchBatch)
			for i := range docs {
				docs[i] = &couch.Doc{ID: refs[at+i].ID, Rev: refs[at+i].Rev, Body: benchBody}
			}
			results, err := d.BulkDocs(ctx, docs, couch.WriteOptions{})
			if err != nil {
				b.Fatal(err)
			}
			for i := range results {
				refs[at+i].Rev = results[i].Rev
			}
			return benchBatch
		})
	}
}

// concurrentPuts has clients write each so many documents, one at a time.
func concurrentPuts(b *testing.B, d *database, clients, from, each int) int {
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for _, doc := range benchDocs(from+client*each, each) {
				if results, err := d.BulkDocs(context.Background(), []*couch.Doc{doc}, couch.WriteOptions{}); err != nil || asError(results) != nil {
					b.Error(err, asError(results))
					return
				}
			}
		})
	}
	wg.Wait()
	return clients * each
}

func BenchmarkBulkDocs(b *testing.B) {
	_, d := openTest(b, Options{})
	var all [][]*couch.Doc
	for i := range b.N {
		all = append(all, benchReplicated(i*benchBatch, benchBatch))
	}
	b.ResetTimer()
	for i := range b.N {
		if _, err := d.BulkDocs(context.Background(), all[i], couch.WriteOptions{Replicated: true}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*benchBatch)/b.Elapsed().Seconds(), "docs/s")
}

// BenchmarkFeeds measures how long after a write the last of 340 feeds has heard of it.
func BenchmarkFeeds(b *testing.B) {
	_, d := openTest(b, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	heard := make(chan struct{}, 340)
	var wg sync.WaitGroup
	for range cap(heard) {
		wg.Go(func() {
			_, _ = d.Changes(ctx, couch.ChangesOptions{Feed: couch.FeedContinuous}, func(*couch.Change) error {
				heard <- struct{}{}
				return nil
			})
		})
	}
	n := 0
	for b.Loop() {
		n++
		if _, err := d.BulkDocs(ctx, benchDocs(n, 1), couch.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
		for range cap(heard) {
			<-heard
		}
	}
	cancel()
	wg.Wait()
}
