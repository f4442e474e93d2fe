package couchtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/loveseat-db/loveseat/internal/couch"
)

var loadTests = []test{
	{"Paging", func(e *env) {
		const n = 1500
		db := e.db()
		for first := 0; first < n; first += 300 {
			docs := make([]*couch.Doc, 300)
			for i := range docs {
				docs[i] = &couch.Doc{ID: fmt.Sprintf("%05d", first+i), Body: json.RawMessage(fmt.Sprintf(`{"n":%d}`, first+i))}
			}
			e.write(db, couch.WriteOptions{}, docs...)
		}
		e.equal("documents", e.info(db).DocCount, n)
		rows, _ := e.allDocs(db, couch.AllDocsOptions{IncludeDocs: true})
		e.equal("rows", len(rows), n)
		for i, r := range rows {
			e.equal("row", r.ID+string(r.Doc.Body), fmt.Sprintf(`%05d{"n":%d}`, i, i))
		}
		seen := 0
		for since := couch.Seq(""); ; {
			f := e.changes(db, couch.ChangesOptions{Since: since, Limit: 400})
			if len(f.rows) == 0 {
				break
			}
			for _, c := range f.rows {
				e.equal("change", c.ID, fmt.Sprintf("%05d", seen))
				seen++
			}
			since = f.LastSeq
		}
		e.equal("changes", seen, n)
		refs := make([]couch.DocRef, n)
		for i, r := range rows {
			refs[i] = couch.DocRef{ID: r.ID, Rev: r.Rev}
		}
		for i, r := range e.bulkGet(db, couch.GetOptions{Revs: true}, refs...) {
			if r.Err != nil || r.Doc.ID != refs[i].ID || len(r.Doc.Revisions) != 1 {
				e.Fatalf("%d: %+v", i, r)
			}
		}
	}},
	{"ConcurrentWriters", func(e *env) {
		db := e.db()
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 25 {
					doc := &couch.Doc{ID: fmt.Sprintf("%d-%d", w, i)}
					results, err := db.BulkDocs(e.Context(), []*couch.Doc{doc}, couch.WriteOptions{})
					if err != nil || results[0].Err != nil {
						e.Errorf("%v, %v", results, err)
					}
				}
			})
		}
		wg.Wait()
		e.equal("documents", e.info(db).DocCount, 200)
		seqs := map[couch.Seq]bool{}
		for _, c := range e.changes(db, couch.ChangesOptions{}).rows {
			seqs[c.Seq] = true
		}
		e.equal("sequences", len(seqs), 200)
	}},
	{"OneWriterWins", func(e *env) {
		db := e.db()
		r := e.put(db, `{"_id":"counter","n":0}`)
		var wins atomic.Int64
		for round := range 10 {
			var wg sync.WaitGroup
			next := make(chan couch.Rev, 6)
			for w := range 6 {
				wg.Go(func() {
					doc := &couch.Doc{ID: "counter", Rev: r, Body: json.RawMessage(fmt.Sprintf(`{"n":%d,"w":%d}`, round, w))}
					results, err := db.BulkDocs(e.Context(), []*couch.Doc{doc}, couch.WriteOptions{})
					if err != nil {
						e.Error(err)
					} else if results[0].Err == nil {
						wins.Add(1)
						next <- results[0].Rev
					}
				})
			}
			wg.Wait()
			e.equal("winners", len(next), 1)
			r = <-next
		}
		e.equal("generation", r.Gen, 11)
	}},
	{"ReadersAndWriters", func(e *env) {
		db := e.db()
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 50 {
				if _, err := db.BulkDocs(e.Context(), []*couch.Doc{{ID: fmt.Sprintf("%03d", i)}}, couch.WriteOptions{}); err != nil {
					e.Error(err)
				}
			}
		})
		for range 4 {
			wg.Go(func() {
				for range 20 {
					last := ""
					_, err := db.AllDocs(e.Context(), couch.AllDocsOptions{IncludeDocs: true}, func(r *couch.Row) error {
						if r.ID <= last || r.Doc == nil {
							return fmt.Errorf("%q after %q", r.ID, last)
						}
						last = r.ID
						return nil
					})
					if err != nil {
						e.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}},
}
