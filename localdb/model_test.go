package localdb

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// TestDatabaseAgainstModel runs random edits against the database and a map.
func TestDatabaseAgainstModel(t *testing.T) {
	_, d := openTest(t, Options{})
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		type revision struct {
			rev     couch.Rev
			deleted bool
		}
		leaves := map[string][]revision{} // by document
		written := 0
		before, err := d.Info(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			id := fmt.Sprintf("%d-%d", run, rapid.IntRange(0, 2).Draw(t, "doc"))
			doc := &couch.Doc{ID: id, Deleted: rapid.Bool().Draw(t, "deleted"), Body: body(`{"n":%d}`, written)}
			known := leaves[id]
			replaces := -1
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
			leaves[id] = append(known, revision{results[0].Rev, doc.Deleted})
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
