package share

import (
	"context"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// A provenHub is a hub to which a peer that is not signed in shows that it has
// its device key, so that it is given its own signals and may remove what is
// its own. Other servers than Loveseat's pass over the header.
type provenHub struct {
	couch.DB
	id *Identity

	mu    sync.Mutex
	proof string
	made  time.Time
}

func withProof(hub couch.DB, id *Identity) couch.DB { return &provenHub{DB: hub, id: id} }

// Proof is the value of the request header Loveseat-Peer, by which this peer
// shows a hub that does not know its user that it has its device key, for five minutes.
func (i *Identity) Proof() string { return hubdoc.Proof(i.sign, time.Now()) }

// proofRenewal is how long a proof is used; hubs believe it for five minutes.
const proofRenewal = time.Minute

func (h *provenHub) value() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); now.Sub(h.made) > proofRenewal {
		h.proof, h.made = hubdoc.Proof(h.id.sign, now), now
	}
	return h.proof
}

func (h *provenHub) with(ctx context.Context) context.Context {
	return couchhttp.WithHeader(ctx, hubdoc.ProofHeader, h.value)
}

func (h *provenHub) Info(ctx context.Context) (*couch.Info, error) { return h.DB.Info(h.with(ctx)) }

func (h *provenHub) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	return h.DB.Get(h.with(ctx), id, o)
}

func (h *provenHub) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	return h.DB.AllDocs(h.with(ctx), o, fn)
}

func (h *provenHub) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	return h.DB.Changes(h.with(ctx), o, fn)
}

func (h *provenHub) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	return h.DB.BulkDocs(h.with(ctx), docs, o)
}
