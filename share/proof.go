package share

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// A provenHub is a hub to which a peer shows that it has its device key: whenever it
// writes, so that nobody else can write again what it has signed; and, where it is not signed in,
// when it reads, so that it is given its own signals. Other servers than Loveseat's pass over the header.
type provenHub struct {
	couch.DB
	id   *Identity
	name string // of the database
}

func withProof(hub couch.DB, name string, id *Identity) couch.DB { return &provenHub{hub, id, name} }

// with returns a context whose requests are proved to be for a purpose.
func (h *provenHub) with(ctx context.Context, purpose hubdoc.Purpose) context.Context {
	return couchhttp.WithHeader(ctx, hubdoc.ProofHeader, func(r *http.Request) string {
		p := hubdoc.Proof{Origin: hubdoc.Origin(r.URL), Database: h.name, Method: r.Method, Purpose: purpose}
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			p.Purpose = hubdoc.ToRead
		}
		if p.Purpose == hubdoc.ToRead && r.Header.Get("Authorization") != "" {
			return "" // the user's name is enough
		}
		return p.Sign(h.id.sign, time.Now())
	})
}

// RelayProof is the value of the request header Loveseat-Peer by which this peer, if it
// is not signed in, gets one ticket of the relay of a hub database. hub is any URL at the hub, as
// the peer dials it.
func (i *Identity) RelayProof(hub *url.URL, database string) string {
	return hubdoc.Proof{Origin: hubdoc.Origin(hub), Database: database, Method: http.MethodPost, Purpose: hubdoc.ToRelay}.Sign(i.sign, time.Now())
}

func (h *provenHub) Info(ctx context.Context) (*couch.Info, error) {
	return h.DB.Info(h.with(ctx, hubdoc.ToRead))
}

func (h *provenHub) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	return h.DB.Get(h.with(ctx, hubdoc.ToRead), id, o)
}

func (h *provenHub) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	return h.DB.AllDocs(h.with(ctx, hubdoc.ToRead), o, fn)
}

func (h *provenHub) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	return h.DB.Changes(h.with(ctx, hubdoc.ToRead), o, fn)
}

func (h *provenHub) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	return h.DB.BulkDocs(h.with(ctx, hubdoc.ToClaim), docs, o)
}
