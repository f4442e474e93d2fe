package couchkivik

import (
	"context"
	"errors"

	kivik "github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// From gives the couch.DB behind a *kivik.DB: our own engine if its driver is
// one of ours, otherwise an adapter over kivik's API, which any driver serves,
// but slower and less exactly than internal/couchhttp's client would.
//
// The adapter's limits: Info has no UUID; attachments are written from memory,
// about 4 MiB of them at a time; an attachment that is read costs a request; a
// continuous feed is made of longpolls; a selector filters here, not there.
func From(db *kivik.DB) couch.DB {
	if _, ok := ours.Load(db.Client().Driver()); ok {
		var c capture
		if _, err := db.GetRev(context.Background(), "any", &c); errors.Is(err, errCaptured) {
			return c.db
		}
	}
	return &foreign{db: db}
}

// A capture is a kivik option that takes the couch.DB out of a driver: kivik
// passes it to GetRev, which applies it to a probe.
type capture struct{ db couch.DB }

type probe struct {
	db    couch.DB
	taken bool
}

var errCaptured = errors.New("couchkivik: database captured")

// Apply implements kivik.Option.
func (c *capture) Apply(target any) {
	if p, ok := target.(*probe); ok {
		c.db, p.taken = p.db, true
	}
}
