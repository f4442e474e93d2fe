package localdb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// TestDatabaseAgainstModel runs random edits against the database and a map.
func TestDatabaseAgainstModel(t *testing.T) {
	_, d := openTest(t, Options{InlineAttachments: 10, RevsLimit: 3})
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		type revision struct {
			rev     couch.Rev
			deleted bool
			body    string
		}
		leaves := map[string][]revision{} // by document
		written := 0
		before, err := d.Info(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			id := fmt.Sprintf("%d-%d", run, rapid.IntRange(0, 2).Draw(t, "doc"))
			known := leaves[id]
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				if err := d.Compact(context.Background()); err != nil {
					t.Fatal(err)
				}
				checkNoOrphans(t, d)
				continue
			case 1, 2:
				var ask, gone []couch.Rev
				var rest []revision
				for _, l := range known {
					if rapid.Bool().Draw(t, "purged") {
						ask, gone = append(ask, l.rev), append(gone, l.rev)
					} else {
						rest = append(rest, l)
					}
				}
				ask = append(ask, couch.Rev{Gen: 7, Hash: "unknown"})
				purged, err := d.Purge(context.Background(), []couch.DocRevs{{ID: id, Revs: ask}})
				if err != nil || len(purged) != 1 || !slices.Equal(purged[0].Revs, gone) {
					t.Fatalf("purging %v of %v: %v, %v", ask, known, purged, err)
				}
				if leaves[id] = rest; len(rest) == 0 {
					delete(leaves, id)
				} else if len(gone) > 0 {
					written++ // it takes a sequence
				}
				continue
			}
			doc := &couch.Doc{ID: id, Deleted: rapid.Bool().Draw(t, "deleted"), Body: body(`{"n":%d}`, written)}
			replaces := -1
			if size := rapid.SampledFrom([]int{0, 0, 5, 50}).Draw(t, "attachment"); size > 0 {
				doc.Attachments = []couch.Attachment{attachment("x", strings.Repeat(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "content"), size))}
			}
			o := couch.WriteOptions{Replicated: rapid.Bool().Draw(t, "replicated")}
			if len(known) > 0 && rapid.Bool().Draw(t, "extend") {
				replaces = rapid.IntRange(0, len(known)-1).Draw(t, "leaf")
				doc.Rev = known[replaces].rev
			}
			if o.Replicated {
				hash := fmt.Sprintf("%032x", written)
				doc.Revisions = []string{hash}
				if replaces >= 0 {
					doc.Revisions = append(doc.Revisions, doc.Rev.Hash)
				}
				doc.Rev = couch.Rev{Gen: doc.Rev.Gen + 1, Hash: hash}
			}
			winner := slices.MaxFunc(append([]revision{{}}, known...), func(a, b revision) int {
				if a.rev.IsZero() || b.rev.IsZero() || a.deleted == b.deleted {
					return a.rev.Compare(b.rev)
				}
				return btoi(b.deleted) - btoi(a.deleted)
			})
			conflict := !o.Replicated && replaces < 0 && len(known) > 0 && (!winner.deleted || doc.Deleted)
			results, err := d.BulkDocs(context.Background(), []*couch.Doc{doc}, o)
			if err != nil || (results[0].Err != nil) != conflict {
				t.Fatalf("%+v %+v: %v, %+v; want conflict: %t", doc, o, err, results, conflict)
			}
			if conflict {
				continue
			}
			written++
			if !o.Replicated && replaces < 0 && len(known) > 0 {
				replaces = slices.Index(known, winner)
			}
			if replaces >= 0 {
				known = slices.Delete(slices.Clone(known), replaces, replaces+1)
			}
			leaves[id] = append(known, revision{results[0].Rev, doc.Deleted, string(doc.Body)})
		}
		checkInvariants(t, d)
		for id, list := range leaves {
			for _, l := range list {
				doc, err := d.Get(context.Background(), id, couch.GetOptions{Rev: l.rev})
				if err != nil || string(doc.Body) != l.body {
					t.Fatalf("%s %s: %+v, %v; want %s", id, l.rev, doc, err, l.body)
				}
			}
		}
		after, err := d.Info(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		docs, dels := int64(0), int64(0)
		seen := 0
		r, err := d.Changes(context.Background(), couch.ChangesOptions{Since: before.UpdateSeq, AllLeaves: true}, func(c *couch.Change) error {
			seen++
			all := true
			var want []couch.Rev
			for _, l := range leaves[c.ID] {
				want = append(want, l.rev)
				all = all && l.deleted
			}
			if all {
				dels++
			} else {
				docs++
			}
			got := slices.Clone(c.Revs)
			slices.SortFunc(got, couch.Rev.Compare)
			slices.SortFunc(want, couch.Rev.Compare)
			if !slices.Equal(got, want) || c.Deleted != all {
				t.Fatalf("%+v, want leaves %v", c, leaves[c.ID])
			}
			return nil
		})
		if err != nil || seen != len(leaves) || r.LastSeq != after.UpdateSeq {
			t.Fatalf("%d changes of %d documents, %+v, %v", seen, len(leaves), r, err)
		}
		if after.DocCount-before.DocCount != docs || after.DelCount-before.DelCount != dels || after.UpdateSeq != d.formatSeq(must(d.parseSeq(before.UpdateSeq, 1<<40))+int64(written)) {
			t.Fatalf("%+v after %+v; %d documents, %d tombstones, %d writes", after, before, docs, dels, written)
		}
	})
}
