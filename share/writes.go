package share

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/fair"
)

// A Write is a revision that a peer wants to write, for [ShareOptions].OnWrite.
type Write struct {
	Peer       string          // verified
	ID         string          // of the document
	Deleted    bool            // it is a tombstone
	Replicated bool            // it comes as it is (new_edits=false), and may make a conflict
	New        json.RawMessage // the document with its _id, _rev and the like, attachments as stubs
	Old        json.RawMessage // the winner it meets, as the owner sees it; nil if there is none or it is deleted
}

// A RefusedWrite is a write of a peer that was refused.
type RefusedWrite struct {
	Time   time.Time `json:"time"`
	Peer   string    `json:"peer"`
	ID     string    `json:"id"`
	Rev    string    `json:"rev,omitempty"` // "" for a new document, or one that is not known yet
	Reason string    `json:"reason"`
}

// maxRefused bounds how many refused writes are remembered, and told in one event.
const maxRefused = 256

// refusedWrites are the last ones.
type refusedWrites struct {
	mu  sync.Mutex
	all []RefusedWrite
}

func (r *refusedWrites) add(writes []RefusedWrite) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.all = append(r.all, writes...); len(r.all) > maxRefused; {
		r.all = fair.Drop(r.all, func(w RefusedWrite) fair.Claim { return fair.Claim{Group: w.Peer} })
	}
}

// RefusedWrites returns the last writes of peers that were refused, at most 256,
// the newest last, with the reasons that the peers were given.
func (s *Share) RefusedWrites() []RefusedWrite {
	s.refused.mu.Lock()
	defer s.refused.mu.Unlock()
	return slices.Clone(s.refused.all)
}

// noteRefused remembers refused writes of one peer and tells of them.
func (s *Share) noteRefused(peer string, writes []RefusedWrite) {
	if len(writes) > maxRefused {
		writes = writes[len(writes)-maxRefused:]
	}
	now := time.Now()
	for i := range writes {
		writes[i].Time = now
	}
	s.refused.add(writes)
	s.event(ShareEvent{Kind: WriteRefused, Remote: RemoteInfo{Share: s.id, Name: s.name, Peer: peer}, Writes: writes})
}

// BulkDocs refuses what openers may not write, and writes the rest.
func (v *view) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	peer, _ := PeerFromContext(ctx)
	old, err := v.old(ctx, docs)
	if err != nil {
		return nil, err
	}
	fresh, err := v.fresh(ctx, docs, o)
	if err != nil {
		return nil, err
	}
	results, err := writeSome(ctx, v.db, docs, o, func(d *couch.Doc) (*couch.Doc, *couch.Error) {
		if err := v.writable(d.ID); err != nil {
			return nil, err
		}
		return d, v.ask(ctx, peer, old[d.ID], d, o)
	})
	if err == nil {
		v.note(peer, docs, results, o, fresh)
	}
	return results, err
}

// old reads the winners that OnWrite is told of.
func (v *view) old(ctx context.Context, docs []*couch.Doc) (map[string]*couch.Doc, error) {
	if v.onWrite == nil {
		return nil, nil
	}
	keys := make([]string, len(docs))
	for i, d := range docs {
		keys[i] = d.ID
	}
	old := make(map[string]*couch.Doc, len(docs))
	_, err := v.owner.AllDocs(ctx, couch.AllDocsOptions{Keys: keys, IncludeDocs: true}, func(r *couch.Row) error {
		if r.Doc != nil && !r.Deleted {
			old[r.ID] = r.Doc
		}
		return nil
	})
	return old, err
}

// ask asks OnWrite.
func (v *view) ask(ctx context.Context, peer string, old, d *couch.Doc, o couch.WriteOptions) *couch.Error {
	if v.onWrite == nil {
		return nil
	}
	w := Write{Peer: peer, ID: d.ID, Deleted: d.Deleted, Replicated: o.Replicated, New: stubbed(d)}
	if old != nil {
		w.Old = stubbed(old)
	}
	if err := v.onWrite(ctx, w); err != nil {
		return couch.AsError(refusal(err))
	}
	return nil
}

// stubbed is a document's JSON without the content of its attachments.
func stubbed(d *couch.Doc) json.RawMessage {
	c := *d
	c.Attachments = slices.Clone(d.Attachments)
	for i := range c.Attachments {
		c.Attachments[i].Data, c.Attachments[i].Open = nil, nil
	}
	return c.AppendJSON(nil)
}

// fresh finds which replicated revisions the database has not had, so that nobody is
// taken for the author of what was here before. nil: all.
func (v *view) fresh(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) (map[revKey]bool, error) {
	if v.ledger == nil || !o.Replicated {
		return nil, nil
	}
	revs := make([]couch.DocRevs, len(docs))
	for i, d := range docs {
		revs[i] = couch.DocRevs{ID: d.ID, Revs: []couch.Rev{d.Rev}}
	}
	diffs, err := v.owner.RevsDiff(ctx, revs)
	fresh := make(map[revKey]bool, len(diffs))
	for _, d := range diffs {
		for _, r := range d.Missing {
			fresh[revKey{d.ID, r}] = true
		}
	}
	return fresh, err
}

// note remembers who wrote what was written, and what was refused.
func (v *view) note(peer string, docs []*couch.Doc, results []couch.WriteResult, o couch.WriteOptions, fresh map[revKey]bool) {
	var refused []RefusedWrite
	written := make([]revKey, 0, len(results))
	for i, r := range results {
		key := revKey{docs[i].ID, r.Rev}
		if o.Replicated || r.Rev.IsZero() {
			key.rev = docs[i].Rev
		}
		switch {
		case r.Err != nil && r.Err.Status != 409:
			refused = append(refused, RefusedWrite{Peer: peer, ID: key.id, Rev: docs[i].Rev.String(), Reason: r.Err.Reason})
		case r.Err == nil && (fresh == nil || fresh[key]):
			written = append(written, key)
		}
	}
	if len(refused) > 0 && v.onRefused != nil {
		v.onRefused(peer, refused)
	}
	if len(written) > 0 && v.ledger != nil {
		v.ledger.note(peer, written)
	}
}
