package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// holdings are what is in a hub database of each peer and each client, so that
// none fills it, nor the memory of all the peers that follow it. Hubs that share a database count
// what they write themselves, besides what is there when they begin.
type holdings struct {
	q *Quotas

	mu    sync.Mutex
	read  bool                // what was there before the hub
	docs  map[string]*holding // by document id
	sums  map[heldBy]*sum
	swept time.Time
}

// A holding is one share or signal.
type holding struct {
	by    []heldBy
	bytes int64
	until time.Time // then it has gone, or is about to be purged
}

// heldBy is a peer, a user or an address ("peer …", "user …", "address …") with its shares, or its signals.
type heldBy struct {
	who   string
	share bool
}

type sum struct {
	docs  int
	bytes int64
}

const (
	heldSweepEvery = 10 * time.Second
	// clientShare is how many peers' worth of shares one client may have.
	clientShare = 4
)

// limits returns how many documents and bytes there may be; negative: any number.
func (h *holdings) limits(by heldBy) (docs int, bytes int64) {
	switch peer := strings.HasPrefix(by.who, "peer "); {
	case !by.share:
		return h.q.Waiting, h.q.WaitingBytes
	case peer:
		return h.q.Shares, h.q.ShareBytes
	}
	return clientShare * h.q.Shares, clientShare * h.q.ShareBytes
}

// reserve counts a document that is to be written, and will be there until a time.
// undo takes that back, if it could not be written.
func (h *holdings) reserve(ctx context.Context, db couch.DB, c *caller, w *incoming, until time.Time) (undo func(), err error) {
	share := w.share != nil
	if share && h.q.Shares < 0 && h.q.ShareBytes < 0 || !share && h.q.Waiting < 0 && h.q.WaitingBytes < 0 {
		return func() {}, nil
	}
	next := &holding{bytes: int64(len(w.doc.Body)), until: until, by: []heldBy{{"peer " + w.peer, share}}}
	if c.client != "" {
		next.by = append(next.by, heldBy{c.client, share})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.begin(ctx, db); err != nil {
		return nil, err
	}
	now, id := time.Now(), w.doc.ID
	if now.Sub(h.swept) > heldSweepEvery {
		h.sweep(now)
	}
	before := h.docs[id]
	h.set(id, next)
	for _, by := range next.by {
		if err := h.over(by, before, next); err != nil {
			h.set(id, before)
			return nil, err
		}
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.docs[id] == next {
			h.set(id, before)
		}
	}, nil
}

// over reports that there is too much of a peer or client, with next, which has replaced
// before. What does not grow is not too much. h.mu is held.
func (h *holdings) over(by heldBy, before, next *holding) error {
	s := h.sums[by]
	docs, bytes := h.limits(by)
	known := before.of(by)
	tooMuch := docs >= 0 && s.docs > docs && !known || bytes >= 0 && s.bytes > bytes && !(known && before.bytes >= next.bytes)
	switch {
	case !tooMuch:
		return nil
	case !by.share:
		return tooMany("signals waiting for their recipients (--limit-waiting, --limit-waiting-bytes)", time.Second)
	}
	who, flags := "A user or an address", fmt.Sprintf("--limit-shares and --limit-share-bytes, each times %d", clientShare)
	if strings.HasPrefix(by.who, "peer ") {
		who, flags = "A peer", "--limit-shares, --limit-share-bytes"
	}
	return &couch.Error{Status: http.StatusForbidden, Code: "forbidden", Reason: fmt.Sprintf("%s may have %s in this hub (%s).", who, allowance(docs, bytes), flags)}
}

func allowance(docs int, bytes int64) string {
	switch {
	case docs < 0:
		return fmt.Sprintf("%d bytes of shares", bytes)
	case bytes < 0:
		return fmt.Sprintf("%d shares", docs)
	}
	return fmt.Sprintf("%d shares of %d bytes altogether", docs, bytes)
}

// of reports whether a holding, which may be nil, counts for a peer or client.
func (d *holding) of(by heldBy) bool {
	return d != nil && slices.Contains(d.by, by)
}

// set replaces what is known of a document; nil: it is not there. h.mu is held.
func (h *holdings) set(id string, d *holding) {
	h.count(h.docs[id], -1)
	if d == nil {
		delete(h.docs, id)
		return
	}
	h.docs[id] = d
	h.count(d, 1)
}

func (h *holdings) count(d *holding, n int) {
	if d == nil {
		return
	}
	for _, by := range d.by {
		s := h.sums[by]
		if s == nil {
			s = &sum{}
			h.sums[by] = s
		}
		s.docs += n
		s.bytes += int64(n) * d.bytes
		if s.docs == 0 {
			delete(h.sums, by)
		}
	}
}

// removed notes that a document was deleted. A share leaves a note, which counts
// as long as it is there.
func (h *holdings) removed(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.docs[id]
	if d == nil || !strings.HasPrefix(id, hubdoc.SharePrefix) {
		if d != nil {
			h.set(id, nil)
		}
		return
	}
	h.set(id, &holding{by: d.by, until: time.Now().Add(hubdoc.SignalAge + 3*hubdoc.ClockSkew)})
}

// sweep forgets what has gone without having been deleted. h.mu is held.
func (h *holdings) sweep(now time.Time) {
	h.swept = now
	for id, d := range h.docs {
		if now.After(d.until) {
			h.set(id, nil)
		}
	}
}

// begin counts what is there, once. h.mu is held.
func (h *holdings) begin(ctx context.Context, db couch.DB) error {
	if h.read {
		return nil
	}
	h.docs, h.sums = map[string]*holding{}, map[heldBy]*sum{}
	users := map[string]string{} // by peer
	for _, part := range []struct {
		prefix string
		take   func(*couch.Doc)
	}{
		{peerPrefix, func(d *couch.Doc) {
			var o ownerDoc
			if json.Unmarshal(d.Body, &o) == nil {
				users[strings.TrimPrefix(d.ID, peerPrefix)] = o.User
			}
		}},
		{hubdoc.SharePrefix, func(d *couch.Doc) { h.found(d, users) }},
		{hubdoc.SignalPrefix, func(d *couch.Doc) { h.found(d, users) }},
	} {
		if err := eachDoc(ctx, db, part.prefix, part.take); err != nil {
			return err
		}
	}
	h.read = true
	return nil
}

// found counts a document that is there. h.mu is held.
func (h *holdings) found(d *couch.Doc, users map[string]string) {
	var doc struct {
		Peer    string `json:"peer"` // of a share
		Expires string `json:"expires"`
		From    string `json:"from"` // of a signal
	}
	if json.Unmarshal(d.Body, &doc) != nil {
		return
	}
	share := strings.HasPrefix(d.ID, hubdoc.SharePrefix)
	until, err := hubdoc.ParseTime(doc.Expires)
	until = until.Add(2 * hubdoc.ClockSkew)
	if !share {
		until, err = hubdoc.SignalTime(d.ID)
		doc.Peer, until = hubdoc.PeerOf(doc.From), until.Add(2*hubdoc.SignalAge)
	}
	if err != nil {
		return // the sweeper removes it
	}
	by := []heldBy{{"peer " + doc.Peer, share}}
	if user := users[doc.Peer]; user != "" {
		by = append(by, heldBy{"user " + user, share})
	}
	h.set(d.ID, &holding{by: by, bytes: int64(len(d.Body)), until: until})
}

// eachDoc calls fn with every document whose id begins with prefix.
func eachDoc(ctx context.Context, db couch.DB, prefix string, fn func(*couch.Doc)) error {
	end := prefix + "\ufff0"
	_, err := db.AllDocs(ctx, couch.AllDocsOptions{StartKey: &prefix, EndKey: &end, IncludeDocs: true}, func(r *couch.Row) error {
		if r.Doc != nil {
			fn(r.Doc)
		}
		return nil
	})
	return err
}
