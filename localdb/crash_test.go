package localdb

import (
	"context"
	"fmt"
	"os"
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
			if digest, err := couch.AttachmentDigest(ctx, &a); err != nil || digest != doc.Attachments[i].Digest {
				t.Fatalf("%s: attachment is %s, %v", id, digest, err)
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
