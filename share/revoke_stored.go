package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// ErrNotServed is the error of what only the process that serves a share can do, when none answers.
var ErrNotServed = errors.New("no process answers for the share")

// ShareID returns the id under which an identity shares a database, or shared it last.
func ShareID(ctx context.Context, db *kivik.DB, id *Identity) (string, error) {
	from := couchkivik.From(db)
	info, err := from.Info(ctx)
	if err != nil {
		return "", err
	}
	last, _, err := loadAudience(ctx, from, baseID(id, info))
	return shareID(id.ID(), turnNonce(databaseName(info), last.Turn)), err
}

// baseID is the id of a share for its first audience, by which its lists are kept.
func baseID(id *Identity, info *couch.Info) string {
	return shareID(id.ID(), shareNonce(databaseName(info)))
}

// RevokeStored takes a peer's access to an identity's share of a database away, as [Share.Revoke]
// does, while no process serves the share: it is kept in the database, and holds from when
// the share is served again. peer is as for [Peer.Revoke], and so are the errors; it returns the whole peer id.
func RevokeStored(ctx context.Context, db *kivik.DB, id *Identity, peer, reason string) (string, error) {
	from := couchkivik.From(db)
	info, err := from.Info(ctx)
	if err != nil {
		return "", err
	}
	base := baseID(id, info)
	state, err := loadAccess(ctx, from, base)
	if err != nil {
		return "", err
	}
	s := &Share{admission: &admission{state: state}, ledger: newLedger(from, base, slog.New(slog.DiscardHandler))}
	if peer, err = s.knownPeer(ctx, peer); err != nil {
		return "", err
	}
	if err := checkRevocation(peer, reason); err != nil {
		return "", err
	}
	return peer, state.revoke(ctx, peer, reason)
}

// Withdraw removes the hub's document of a share of this identity whose process has died, before
// its lease is over; ref is as for [Peer.Open]. A process that lives after all publishes
// it again. Errors: not_found (404), forbidden (403) for another peer's share, the hub's.
func (p *Peer) Withdraw(ctx context.Context, ref string) error {
	doc, err := p.findOwn(ctx, ref)
	if err != nil {
		return err
	}
	docID := shareDocPrefix + doc.id
	is, err := p.hub.Get(ctx, docID, couch.GetOptions{})
	if err == nil {
		_, err = write(ctx, p.hub, &couch.Doc{ID: docID, Rev: is.Rev, Deleted: true})
	}
	if err != nil {
		return fmt.Errorf("withdraw the share: %w", err)
	}
	p.dir.apply(docID, nil)
	return nil
}
