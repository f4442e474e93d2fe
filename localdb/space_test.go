package localdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// soak is how many documents the tests of space write: a million for make soak.
func soak() int {
	if os.Getenv("LOVESEAT_SOAK") != "" {
		return 1_000_000
	}
	if raceOn { // slow, and not about races
		return 5_000
	}
	return 20_000
}

const spaceBatch = 1000

func writeSignals(t *testing.T, d *database, from int) []couch.DocRevs {
	t.Helper()
	docs := make([]*couch.Doc, spaceBatch)
	for i := range docs {
		docs[i] = &couch.Doc{ID: "signal:" + benchID(from+i), Body: body(`{"payload":"%s"}`, strings.Repeat("lorem ", 50))}
	}
	results, err := d.BulkDocs(context.Background(), docs, couch.WriteOptions{})
	if err = errors.Join(err, asError(results)); err != nil {
		t.Fatal(err)
	}
	refs := make([]couch.DocRevs, len(results))
	for i, r := range results {
		refs[i] = couch.DocRevs{ID: r.ID, Revs: []couch.Rev{r.Rev}}
	}
	return refs
}

func purgeSignals(t *testing.T, d *database, refs []couch.DocRevs) {
	t.Helper()
	purged, err := d.Purge(context.Background(), refs)
	if err != nil || len(purged[0].Revs) != 1 {
		t.Fatal(err, purged)
	}
}

func fileSize(t *testing.T, d *database) int64 {
	t.Helper()
	info, err := os.Stat(d.path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// pagesSize is what the file has to hold once the log is copied into it.
func pagesSize(t *testing.T, d *database) (size int64) {
	t.Helper()
	err := d.view(context.Background(), func(c *sqlite.Conn) error {
		pages, err := c.Int("PRAGMA page_count")
		size = pages * 8192
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// waitForSize returns when the database has shrunk by itself.
func waitForSize(t *testing.T, d *database, limit int64) {
	t.Helper()
	for end := time.Now().Add(time.Minute + time.Duration(soak()/2)*time.Millisecond); ; time.Sleep(20 * time.Millisecond) {
		info, err := d.Info(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if info.ActiveSize <= limit && fileSize(t, d) <= limit {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the file has %d bytes, should have %d: %+v", fileSize(t, d), limit, info)
		}
	}
}

// TestSoakSignals writes and purges signals as a hub does, all the time.
func TestSoakSignals(t *testing.T) {
	t.Parallel()
	_, d := openTest(t, Options{})
	put(t, d, &couch.Doc{ID: "share"})
	peak := int64(0)
	var waiting [][]couch.DocRevs
	for from := 0; from < soak(); from += spaceBatch {
		if waiting = append(waiting, writeSignals(t, d, from)); len(waiting) > 3 {
			purgeSignals(t, d, waiting[0])
			waiting = waiting[1:]
		}
		peak = max(peak, pagesSize(t, d))
	}
	for _, refs := range waiting {
		purgeSignals(t, d, refs)
	}
	t.Logf("%d signals: at most %d KiB", soak(), peak>>10)
	if peak > 10<<20 {
		t.Errorf("the file grew to %d bytes", peak)
	}
	waitForSize(t, d, 3<<20)
	checkInvariants(t, d)
}

// TestSoakPurge writes all and then purges all.
func TestSoakPurge(t *testing.T) {
	t.Parallel()
	_, d := openTest(t, Options{})
	put(t, d, &couch.Doc{ID: "share"})
	compact(t, d)
	before := fileSize(t, d)
	var refs []couch.DocRevs
	for from := 0; from < soak(); from += spaceBatch {
		refs = append(refs, writeSignals(t, d, from)...)
	}
	full, _ := d.Info(context.Background())
	start := time.Now()
	purgeSignals(t, d, refs)
	took := time.Since(start)
	waitForSize(t, d, before+3<<20) // by itself it keeps a little to use again
	compact(t, d)
	t.Logf("%d documents: %d KiB, %d KiB, %d KiB; purged %.0f/s", soak(), before>>10, full.FileSize>>10, fileSize(t, d)>>10, float64(soak())/took.Seconds())
	if after := fileSize(t, d); after > before+64<<10 {
		t.Errorf("%d bytes became %d", before, after)
	}
}

// TestSoakLeases renews leases as sharers do: few documents, many revisions.
func TestSoakLeases(t *testing.T) {
	t.Parallel()
	_, d := openTest(t, Options{RevsLimit: 200})
	var revs [100]couch.Rev
	peak := int64(0)
	for round := range soak() / len(revs) {
		docs := make([]*couch.Doc, len(revs))
		for i := range docs {
			docs[i] = &couch.Doc{ID: fmt.Sprint("share", i), Rev: revs[i], Body: body(`{"renewed":%d,"info":"%s"}`, round, strings.Repeat("lorem ", 150))}
		}
		results, err := d.BulkDocs(context.Background(), docs, couch.WriteOptions{})
		if err = errors.Join(err, asError(results)); err != nil {
			t.Fatal(err)
		}
		for i := range revs {
			revs[i] = results[i].Rev
		}
		peak = max(peak, pagesSize(t, d))
	}
	t.Logf("%d renewals: at most %d KiB", soak(), peak>>10)
	waitForSize(t, d, minDead+3<<20)
	checkInvariants(t, d)
}
