package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// flood writes n share documents of 30 KB under so many device keys.
func (w *world) flood(n, keys int) {
	w.t.Helper()
	ids := make([]*Identity, keys)
	for i := range ids {
		ids[i] = newTestIdentity(w.t)
	}
	hub := couchkivik.From(w.hub)
	now := time.Now()
	for at := 0; at < n; {
		var docs []*couch.Doc
		for ; len(docs) < 100 && at < n; at++ {
			d, err := ids[at%keys].newShareDoc(shareDoc{Share: hubdoc.Share{
				Name: fmt.Sprint("flood ", at), Info: fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 30_000)), DB: "db",
				Instance: "aaaaaaaaaaaaaaaa", Nonce: shareNonce(fmt.Sprint(at)), Access: ReadWrite,
			}, published: now, expires: now.Add(time.Hour)})
			w.must(err)
			docs = append(docs, d)
		}
		_, err := hub.BulkDocs(w.ctx, docs, couch.WriteOptions{})
		w.must(err)
	}
}

// A hub full of shares costs its peers no more memory than they allow. They say so, keep what they knew, and what they leave
// out can be opened by its id or name.
func TestHubFullOfShares(t *testing.T) {
	defer func(was int) { maxShareBytes = was }(maxShareBytes)
	maxShareBytes = 2 << 20
	for _, keys := range []int{3, 150} {
		t.Run(fmt.Sprint(keys, " keys"), func(t *testing.T) {
			w := newWorld(t)
			honest := w.share(w.join(nil), "honest", ShareOptions{})
			watcher := w.join(nil)
			omitted := make(chan struct{})
			ctx, cancel := context.WithCancel(w.ctx)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = watcher.Watch(ctx, func(e Event) error {
					if e.Kind == Omitted {
						close(omitted)
						return errors.New("enough")
					}
					return nil
				})
			}()
			defer func() { cancel(); <-ended }()
			const n = 150
			w.flood(n, keys)
			select {
			case <-omitted:
			case <-time.After(time.Minute):
				t.Fatal("nobody says that shares are left out")
			}
			late := w.share(w.join(nil), "late", ShareOptions{})
			fresh := w.join(nil)
			for who, p := range map[string]*Peer{"the watcher": watcher, "one who came later": fresh} {
				w.eventually("all is read", func() bool { return p.Omitted() })
				infos, err := p.Shares(w.ctx)
				w.must(err)
				p.dir.mu.Lock()
				held, bytes := len(p.dir.shares), 0
				for _, s := range p.dir.shares {
					bytes += s.size
				}
				if bytes > maxShareBytes || held > maxShares || bytes != p.dir.bytes || len(infos) >= n {
					t.Errorf("%s: %d shares of %d bytes, %d noted", who, held, bytes, p.dir.bytes)
				}
				p.dir.mu.Unlock()
				w.must(w.open(p, "late").Close())
				w.must(w.open(p, honest.ID()).Close())
				w.must(w.open(p, late.ID()).Close())
			}
			if s, _ := watcher.dir.get(honest.ID()); s == nil {
				t.Error("what was known is forgotten")
			}
		})
	}
}

// Of a directory that is full, those go whose peers have most of it, however late another's came.
func TestShareOfOneAmongMany(t *testing.T) {
	defer func(was int) { maxShareBytes = was }(maxShareBytes)
	maxShareBytes = 100 << 10
	d := newDirectory("own", slog.New(slog.DiscardHandler))
	add := func(id, peer string, n int) {
		s := &shareDoc{id: id, size: 1 << 10, arrived: n}
		s.Peer = peer
		d.shares[id] = s
		d.bytes += s.size
	}
	for i := range 100 {
		add(fmt.Sprint("mallory", i), "mallory", i)
	}
	add("ann", "ann", 100)
	d.makeRoom()
	if d.shares["ann"] == nil || len(d.shares) != 93 || d.bytes > maxShareBytes {
		t.Errorf("%d shares, ann's among them: %v", len(d.shares), d.shares["ann"] != nil)
	}
}
