package localdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// crashChild writes documents until it is killed, and prints each one it was
// told is safe and each change it was shown.
func crashChild(dir string) {
	ctx := context.Background()
	_, d := openChild(dir)
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	go func() {
		_, err := d.Changes(ctx, couch.ChangesOptions{Since: couch.Now, Feed: couch.FeedContinuous}, func(c *couch.Change) error {
			say("change %s %s %s", c.Seq, c.ID, c.Revs[0])
			return nil
		})
		panic(err)
	}()
	for worker := range 4 {
		go func() {
			rev := couch.Rev{}
			for i := 0; ; i++ {
				docs := []*couch.Doc{{ID: fmt.Sprintf("new-%d-%d-%d", os.Getpid(), worker, i), Body: body(`{"i":%d}`, i)}}
				if i%10 == 0 {
					docs[0].Attachments = []couch.Attachment{{Name: "a", Length: -1, Data: []byte(strings.Repeat(docs[0].ID, 100))}}
				}
				docs = append(docs, &couch.Doc{ID: fmt.Sprintf("same-%d-%d", os.Getpid(), worker), Rev: rev, Body: docs[0].Body})
				results := must(d.BulkDocs(ctx, docs, couch.WriteOptions{}))
				must(0, asError(results))
				rev = results[1].Rev
				for _, r := range results {
					say("ack %s %s", r.ID, r.Rev)
				}
			}
		}()
	}
	select {}
}

func TestKillLosesNothing(t *testing.T) {
	s, _ := openTest(t, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	acked := map[string]couch.Rev{}
	shown := map[string]string{} // by sequence
	for range 5 {
		c := startChild(t, "crash", s.dir)
		var lines []string
		for range 200 {
			line, ok := <-c.lines
			if !ok {
				t.Fatalf("the child ended by itself after %d lines", len(lines))
			}
			lines = append(lines, line)
		}
		for _, line := range append(lines, c.kill()...) {
			var id, seq string
			var rev couch.Rev
			if f := strings.Fields(line); len(f) == 3 && f[0] == "ack" {
				id, rev = f[1], must(couch.ParseRev(f[2]))
				acked[id] = rev
			} else if len(f) == 4 && f[0] == "change" {
				seq = f[1]
				if before := shown[seq]; before != "" {
					t.Errorf("sequence %s was %s and is %s %s", seq, before, f[2], f[3])
				}
				shown[seq] = f[2] + " " + f[3]
			}
		}
		checkAfterCrash(t, s.dir, acked, shown)
	}
	if len(acked) < 100 || len(shown) < 100 {
		t.Errorf("only %d documents and %d changes were there to lose", len(acked), len(shown))
	}
}

func checkAfterCrash(t *testing.T, dir string, acked map[string]couch.Rev, shown map[string]string) {
	t.Helper()
	ctx := context.Background()
	s, err := OpenStore(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := reopen(t, s, "test")
	if got := pragma(t, d, "integrity_check"); got != "ok" {
		t.Fatalf("integrity_check: %s", got)
	}
	for id, rev := range acked {
		doc, err := d.Get(ctx, id, couch.GetOptions{Rev: rev, Attachments: true})
		if err != nil {
			t.Fatalf("%s %s was acknowledged: %v", id, rev, err)
		}
		for i := range doc.Attachments {
			a := doc.Attachments[i]
			a.Digest = ""
			if err := couch.FillDigests(ctx, &a); err != nil || a.Sum != doc.Attachments[i].Sum || a.Digest != doc.Attachments[i].Digest {
				t.Fatalf("%s: attachment is %s, %v", id, a.Digest, err)
			}
		}
	}
	last, docs := int64(0), int64(0)
	list, _ := changes(t, d, couch.ChangesOptions{})
	for _, c := range list {
		docs++
		n := must(d.parseSeq(c.Seq, 1<<40))
		if n <= last {
			t.Fatalf("sequence %d after %d", n, last)
		}
		last = n
		if was, now := shown[string(c.Seq)], c.ID+" "+c.Revs[0].String(); was != "" && was != now {
			t.Fatalf("sequence %s was %s and is %s", c.Seq, was, now)
		}
	}
	if info, err := d.Info(ctx); err != nil || info.DocCount != docs || must(d.parseSeq(info.UpdateSeq, 1<<40)) < last {
		t.Fatalf("%+v, %v; there are %d documents up to %d", info, err, docs, last)
	}
}

// tidyChild writes, purges, compacts and makes backups until it is killed. It
// tells what it is about to purge, and what it was told is done.
func tidyChild(dir string) {
	ctx := context.Background()
	s, d := openChild(dir)
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	for worker := range 3 {
		go func() {
			var rev couch.Rev
			for i := 0; ; i++ {
				doc := &couch.Doc{ID: fmt.Sprintf("doc-%d-%d-%d", os.Getpid(), worker, i/3), Rev: rev, Body: body(`{"i":%d,"x":"%s"}`, i, strings.Repeat("x", 5000))}
				size := 10 // some are files, and some contents are shared
				if i%3 == 1 {
					size = 500
				}
				doc.Attachments = []couch.Attachment{{Name: "a", Length: -1, Data: []byte(strings.Repeat(fmt.Sprintf("%d ", i/2), size))}}
				results := must(d.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{}))
				must(0, asError(results))
				rev = results[0].Rev
				say("put %s %s", doc.ID, rev)
				if i%3 < 2 {
					continue
				}
				if i%2 == 0 {
					say("purge %s", doc.ID)
					must(d.Purge(ctx, []couch.DocRevs{{ID: doc.ID, Revs: []couch.Rev{rev}}}))
					say("purged %s", doc.ID)
				}
				rev = couch.Rev{}
			}
		}()
	}
	go func() {
		for {
			say("compact")
			must(0, d.Compact(ctx))
		}
	}()
	for i := 0; ; i++ {
		must(0, s.Backup(ctx, filepath.Join(dir, "..", fmt.Sprintf("backup-%d-%d", os.Getpid(), i))))
		say("backup")
	}
}

func TestKillWhileTidying(t *testing.T) {
	s, _ := openTest(t, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{} // id to the revision acknowledged, "?" or "gone"
	count := map[string]int{}
	for range 5 {
		c := startChild(t, "tidy", s.dir)
		var lines []string
		for len(lines) < 100 {
			line, ok := <-c.lines
			if !ok {
				t.Fatalf("the child ended by itself after %d lines", len(lines))
			}
			lines = append(lines, line)
		}
		for _, line := range append(lines, c.kill()...) {
			f := strings.Fields(line)
			count[f[0]]++
			switch {
			case f[0] == "put" && len(f) == 3:
				docs[f[1]] = f[2]
			case f[0] == "purge" && len(f) == 2:
				docs[f[1]] = "?"
			case f[0] == "purged" && len(f) == 2:
				docs[f[1]] = "gone"
			}
		}
		checkAfterTidying(t, s.dir, docs)
	}
	t.Log(count)
	if count["put"] < 50 || count["purged"] < 5 || count["compact"] < 2 {
		t.Errorf("little was done: %v", count)
	}
}

func checkAfterTidying(t *testing.T, dir string, docs map[string]string) {
	t.Helper()
	s, err := OpenStore(dir, Options{InlineAttachments: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := reopen(t, s, "test")
	if got := pragma(t, d, "integrity_check"); got != "ok" {
		t.Fatalf("integrity_check: %s", got)
	}
	checkInvariants(t, d)
	for id, rev := range docs {
		doc, err := d.Get(context.Background(), id, couch.GetOptions{RevsInfo: true})
		switch {
		case rev == "gone":
			wantStatus(t, err, 404, "not_found")
		case rev != "?" && (err != nil || doc.RevsInfo[0].Rev.Compare(must(couch.ParseRev(rev))) < 0):
			t.Fatalf("%s %s was acknowledged: %+v, %v", id, rev, doc, err)
		}
	}
	err = d.submit(context.Background(), 1, func(t *tx) error { return t.c.Exec("DELETE FROM meta WHERE key GLOB 'keep:*'") }) // of dead backups
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"test.attachments/new-*", "../.backup-*"} { // of dead writers
		left, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, path := range left {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	compact(t, d)
	backups, _ := filepath.Glob(filepath.Join(dir, "..", "backup-*"))
	for _, backup := range backups {
		b, err := OpenStore(backup, Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkInvariants(t, reopen(t, b, "test"))
		if err := errors.Join(b.Close(), os.RemoveAll(backup)); err != nil {
			t.Fatal(err)
		}
	}
}
