package share

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// oneStore is a [couch.Store] with one database in it.
type oneStore struct {
	name string
	db   couch.DB
}

func (s oneStore) Databases(context.Context) ([]string, error) { return []string{s.name}, nil }

func (s oneStore) Create(context.Context, string) error { return errOwner }

func (s oneStore) Destroy(context.Context, string) error { return errOwner }

func (s oneStore) Open(_ context.Context, name string) (couch.DB, error) {
	if name != s.name {
		return nil, couch.NotFound("Database does not exist.")
	}
	return s.db, nil
}

var errOwner = couch.Forbidden("Only the owner of a shared database may do this.")

// A view is a shared database as its openers may see and use it. It repeats what
// authorize decides from the request, so that no way of writing slips past it. What
// may be read is its database's business: see [filtered].
type view struct {
	db        couch.DB // what of it is seen
	access    Access
	locals    *locals
	owner     couch.DB // all of it
	onWrite   func(context.Context, Write) error
	onRefused func(peer string, writes []RefusedWrite)
	ledger    *ledger // nil: who writes what is not remembered
}

func (v *view) writable(id string) *couch.Error {
	switch {
	case v.access != ReadWrite:
		return errReadOnly
	case strings.HasPrefix(id, "_"): // _design/, and what else may come
		return errDesign
	}
	return nil
}

func (v *view) Security(context.Context) (json.RawMessage, error) { return nil, errOwner }

func (v *view) Purge(context.Context, []couch.DocRevs) ([]couch.DocRevs, error) { return nil, errOwner }

func (v *view) Compact(context.Context) error { return errOwner }

func (v *view) SetSecurity(context.Context, json.RawMessage) error { return errOwner }

// Every peer has _local documents of its own: it neither sees nor changes the
// owner's or another peer's.

func (v *view) GetLocal(ctx context.Context, id string) (*couch.Doc, error) {
	own, _, err := localID(ctx, id)
	if err != nil {
		return nil, err
	}
	d, err := v.db.GetLocal(ctx, own)
	if err != nil {
		return nil, err
	}
	v.locals.used(own)
	out := *d
	out.ID = strings.TrimSuffix(d.ID, own) + id // with "_local/" or without, as the database has it
	return &out, nil
}

func (v *view) PutLocal(ctx context.Context, doc *couch.Doc) (couch.Rev, error) {
	own, peer, err := localID(ctx, doc.ID)
	switch {
	case err != nil:
		return couch.Rev{}, err
	case len(doc.Body) > maxLocalDoc:
		return couch.Rev{}, couch.TooLarge("document_too_large", "A _local document of a share is limited to 64 KiB.")
	}
	if !doc.Deleted {
		if err := v.locals.put(ctx, peer, own, len(doc.Body)); err != nil {
			return couch.Rev{}, err
		}
	}
	mine := *doc
	mine.ID = own
	rev, err := v.db.PutLocal(ctx, &mine)
	if err == nil && doc.Deleted {
		v.locals.deleted(ctx, own)
	}
	return rev, err
}

// localID is the id under which a peer's _local document is kept. A
// replication's id is random enough to need no more than the peer id beside it.
func localID(ctx context.Context, id string) (own, peer string, err error) {
	peer, ok := PeerFromContext(ctx)
	if !ok {
		return "", "", couch.Forbidden("Who asks is not known.")
	}
	return "peer:" + peer + ":" + strings.TrimPrefix(id, "_local/"), peer, nil
}
