package hub

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// withdrawnPrefix begins the ids of the notes by which a hub knows which shares
// were withdrawn, so that what their peers have signed earlier does not bring them back. Nobody
// but administrators sees them.
const withdrawnPrefix = "withdrawn:"

// A withdrawnDoc is the document "withdrawn:<share id>".
type withdrawnDoc struct {
	Type      string `json:"type"` // "withdrawn"
	Version   int    `json:"v"`
	Published string `json:"published"` // of the last share document: earlier ones are not taken
	Expires   string `json:"expires"`   // when these are stale anyway
}

func withdrawnID(shareDoc string) string {
	return withdrawnPrefix + strings.TrimPrefix(shareDoc, hubdoc.SharePrefix)
}

// withdrawals makes the notes of the shares that are to be deleted.
func (d *ruledDB) withdrawals(ctx context.Context, all []*incoming) (notes []*couch.Doc, err error) {
	for _, w := range all {
		if !w.doc.Deleted || w.before == nil || !strings.HasPrefix(w.doc.ID, hubdoc.SharePrefix) {
			continue
		}
		s, err := hubdoc.ParseShare(w.before)
		if err != nil {
			continue // it would not be taken again
		}
		published, _, err := s.Lease()
		if err != nil {
			continue
		}
		rev, last, err := d.withdrawn(ctx, w.doc.ID)
		if err != nil {
			return nil, err
		}
		if s.Published <= last.Published {
			continue
		}
		// A share document is taken for SignalAge after it was published.
		body, err := json.Marshal(withdrawnDoc{"withdrawn", hubdoc.Version, s.Published, hubdoc.FormatTime(published.Add(hubdoc.SignalAge + hubdoc.ClockSkew))})
		if err != nil {
			return nil, err
		}
		notes = append(notes, &couch.Doc{ID: withdrawnID(w.doc.ID), Rev: rev, Body: body})
	}
	return notes, nil
}

// withdrawn reads the note about a share; a zero Rev: there is none.
func (d *ruledDB) withdrawn(ctx context.Context, shareDoc string) (rev couch.Rev, note withdrawnDoc, err error) {
	doc, err := d.DB.Get(ctx, withdrawnID(shareDoc), couch.GetOptions{})
	if errors.Is(err, couch.ErrNotFound) {
		return rev, note, nil
	}
	if err == nil {
		rev, err = doc.Rev, json.Unmarshal(doc.Body, &note)
	}
	return rev, note, err
}

var errWithdrawn = couch.Forbidden("This share has been withdrawn.")

// notWithdrawn refuses a share document that was signed before the share was withdrawn.
func (d *ruledDB) notWithdrawn(ctx context.Context, w *incoming) error {
	if w.before != nil {
		return nil // newer than one that is there
	}
	_, note, err := d.withdrawn(ctx, w.doc.ID)
	if err == nil && w.share.Published <= note.Published {
		err = errWithdrawn
	}
	return err
}

// stillAllowed looks again after a share has been written where none was: it may have been
// withdrawn in between, and then the old document was written over the deletion.
func (d *ruledDB) stillAllowed(ctx context.Context, w *incoming, rev couch.Rev) error {
	if w.share == nil || w.before != nil {
		return nil
	}
	refused := d.notWithdrawn(ctx, w)
	if refused == nil || couch.AsError(refused).Status >= 500 {
		return refused
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := d.DB.BulkDocs(ctx, []*couch.Doc{{ID: w.doc.ID, Rev: rev, Deleted: true}}, couch.WriteOptions{}); err != nil {
		return err
	}
	d.hub.held.removed(w.doc.ID)
	return refused
}
