package hub

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// A lease is held by one of the hubs that use a database: a _local document
// says who holds it until when. Clocks may differ by less than its length; if they
// differ by more two hubs do the same work, which harms nobody.
type lease struct {
	id    string // of the _local document
	owner string // this hub, random
}

type leaseDoc struct {
	Owner string `json:"owner"`
	Till  string `json:"till"`
}

// take takes the lease or keeps it, and reports whether it is this hub's.
func (l *lease) take(ctx context.Context, db couch.DB, length time.Duration) (bool, error) {
	var held leaseDoc
	doc, err := db.GetLocal(ctx, l.id)
	switch {
	case errors.Is(err, couch.ErrNotFound):
		doc = &couch.Doc{}
	case err != nil:
		return false, err
	case json.Unmarshal(doc.Body, &held) != nil:
		held = leaseDoc{}
	}
	now := time.Now()
	if till, err := hubdoc.ParseTime(held.Till); err == nil && held.Owner != l.owner && now.Before(till) {
		return false, nil
	}
	body, err := json.Marshal(leaseDoc{l.owner, hubdoc.FormatTime(now.Add(length))})
	if err != nil {
		return false, err
	}
	_, err = db.PutLocal(ctx, &couch.Doc{ID: l.id, Rev: doc.Rev, Body: body})
	if errors.Is(err, couch.ErrConflict) {
		return false, nil // another hub was quicker
	}
	return err == nil, err
}
