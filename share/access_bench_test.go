package share

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/replicate"
)

// BenchmarkPushIntoShare replicates 10,000 documents of 1 KB into a shared
// database in this process: what each guard costs, without the network that hides it.
func BenchmarkPushIntoShare(b *testing.B) {
	const docs = 10_000
	w := newWorld(b)
	source := w.create("source")
	text := strings.Repeat("lorem ipsum dolor ", 55)
	var batch []*couch.Doc
	for i := range docs {
		batch = append(batch, &couch.Doc{ID: fmt.Sprintf("doc-%06d", i), Body: json.RawMessage(`{"open":true,"n":` + fmt.Sprint(i) + `,"text":"` + text + `"}`)})
	}
	_, err := couchkivik.From(source).BulkDocs(w.ctx, batch, couch.WriteOptions{})
	w.must(err)
	n := 0
	for name, guard := range map[string]func(*view){
		"bare":     nil,
		"shared":   func(v *view) { v.ledger = newLedger(v.owner, "x", testLogger(w)) },
		"rule":     func(v *view) { v.onWrite = func(context.Context, Write) error { return nil } },
		"filtered": func(v *view) { v.db = w.limited(v.owner, openSelector, nil) },
		"by ids": func(v *view) {
			ids := make([]string, docs)
			for i, d := range batch {
				ids[i] = d.ID
			}
			v.db = w.limited(v.owner, "", ids)
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				n++
				db := w.db(fmt.Sprint("target", n))
				v := &view{db: db, owner: db, access: ReadWrite, locals: newLocals(db, "x", slog.New(slog.DiscardHandler))}
				if guard != nil {
					guard(v)
				}
				target := couchkivik.DB(DriverName, oneStore{"target", anybody{v}}, "target")
				r, err := replicate.Run(w.ctx, source, target, replicate.Options{})
				if err != nil || r.DocsWritten != docs {
					b.Fatal(r, err)
				}
				if v.ledger != nil {
					v.ledger.flush(w.ctx)
				}
			}
			b.ReportMetric(docs*float64(b.N)/b.Elapsed().Seconds(), "docs/s")
		})
	}
}

// anybody is a view whose _local documents need no peer.
type anybody struct{ *view }

func (a anybody) GetLocal(ctx context.Context, id string) (*couch.Doc, error) {
	return a.owner.GetLocal(ctx, id)
}

func (a anybody) PutLocal(ctx context.Context, d *couch.Doc) (couch.Rev, error) {
	return a.owner.PutLocal(ctx, d)
}
