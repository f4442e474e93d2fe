package couchhttp

import (
	"context"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Purge asks POST /{db}/_purge, as often as CouchDB's limits on a request demand.
func (d *remote) Purge(ctx context.Context, docs []couch.DocRevs) ([]couch.DocRevs, error) {
	purged := make([]couch.DocRevs, len(docs))
	for i := range docs {
		purged[i].ID = docs[i].ID
	}
	for b := (purgeBatch{}); b.fill(docs); {
		if err := d.purgeBatch(ctx, &b, purged); err != nil {
			return nil, err
		}
	}
	return purged, nil
}

// A purgeBatch is what goes into one request: revisions of documents from one
// index on. A document comes once, so that its name is a member once.
type purgeBatch struct {
	doc, rev int            // where the next batch begins
	body     []byte         // JSON
	at       map[string]int // what is asked for: id to index
}

// fill takes the next batch; false if nothing is left.
func (b *purgeBatch) fill(docs []couch.DocRevs) bool {
	b.body, b.at = append(b.body[:0], '{'), make(map[string]int)
	revs := 0
	for b.doc < len(docs) && len(b.at) < maxPurgeDocs && revs < maxPurgeRevs {
		d := docs[b.doc]
		if _, twice := b.at[d.ID]; twice {
			break
		}
		part := d.Revs[b.rev:]
		part = part[:min(len(part), maxPurgeRevs-revs)]
		if len(b.at) > 0 {
			b.body = append(b.body, ',')
		}
		b.body = couch.AppendString(b.body, d.ID)
		b.body = appendRevList(append(b.body, ':'), part)
		b.at[d.ID] = b.doc
		revs += len(part)
		if b.rev += len(part); b.rev == len(d.Revs) {
			b.doc, b.rev = b.doc+1, 0
		}
	}
	b.body = append(b.body, '}')
	return len(b.at) > 0
}

func (d *remote) purgeBatch(ctx context.Context, b *purgeBatch, purged []couch.DocRevs) error {
	body := newPayload()
	body.buf = append(body.buf, b.body...)
	r := request{method: "POST", path: d.at("_purge"), body: body, repeat: true}
	return d.c.stream(ctx, r, false, func(s *jsonStream) error {
		return s.object(func(key string) error {
			if key != "purged" {
				return s.skip()
			}
			return s.object(func(id string) error {
				revs, err := s.revs()
				if i, asked := b.at[id]; asked {
					purged[i].Revs = append(purged[i].Revs, revs...)
				}
				return err
			})
		})
	})
}

// compactPoll is how often a server is asked whether it still compacts.
const compactPoll = 200 * time.Millisecond

// Compact asks POST /{db}/_compact and waits until the server is done.
func (d *remote) Compact(ctx context.Context) error {
	body := newPayload()
	body.buf = append(body.buf, "{}"...)
	if err := d.c.json(ctx, request{method: "POST", path: d.at("_compact"), body: body}, nil); err != nil {
		return err
	}
	tick := time.NewTicker(compactPoll)
	defer tick.Stop()
	for {
		info, err := d.Info(ctx)
		if err != nil || !info.Compacting {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
