package share

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// An audience is for whom a database is shared. The share's id is a secret of theirs where
// a hub does not list shares: so when the database is shared again to others, it has another id.
type audience struct {
	Asked   bool     `json:"asked,omitempty"`   // ShareOptions.Approve decides
	Invited bool     `json:"invited,omitempty"` // whoever has an invite
	Allow   []string `json:"allow,omitempty"`   // peers and users, in order
}

// An audienceDoc is the document "_local/loveseat-audience-<share id>" in the shared database, with the
// id that the share has for its first audience.
type audienceDoc struct {
	audience
	// Turn makes the id, besides the database: random, "" for the first audience.
	Turn string `json:"turn,omitempty"`
}

func audienceOf(a *admission) audience {
	all := audience{Asked: a.approve != nil, Invited: a.invites, Allow: slices.Concat(a.allow, a.users)}
	for i := range a.users {
		all.Allow[len(a.allow)+i] = userPrefix + a.users[i]
	}
	slices.Sort(all.Allow)
	return all
}

func (a *audience) everybody() bool { return !a.Asked && !a.Invited && len(a.Allow) == 0 }

// includes reports whether nobody of another audience is left out.
func (a *audience) includes(other *audience) bool {
	if a.everybody() || other.everybody() {
		return a.everybody()
	}
	missing := func(who string) bool { return !slices.Contains(a.Allow, who) }
	return (a.Asked || !other.Asked) && (a.Invited || !other.Invited) && !slices.ContainsFunc(other.Allow, missing)
}

// turnNonce is what a share's id is made of, besides the peer.
func turnNonce(database, turn string) string {
	if turn == "" {
		return shareNonce(database)
	}
	return shareNonce("audience\x00" + turn + "\x00" + database)
}

func loadAudience(ctx context.Context, db couch.Locals, share string) (doc audienceDoc, rev couch.Rev, err error) {
	d, err := db.GetLocal(ctx, "loveseat-audience-"+share)
	if errors.Is(err, couch.ErrNotFound) {
		return doc, couch.Rev{}, nil
	}
	if err != nil {
		return doc, couch.Rev{}, err
	}
	return doc, d.Rev, json.Unmarshal(d.Body, &doc)
}

// turn returns the turn of an audience, which is kept in the database: a new one if
// somebody of the last audience is left out.
func (a audience) turn(ctx context.Context, db couch.Locals, share string) (string, error) {
	for attempt := 0; ; attempt++ {
		last, rev, err := loadAudience(ctx, db, share)
		if err != nil {
			return "", err
		}
		next := audienceDoc{a, last.Turn}
		if !rev.IsZero() && !a.includes(&last.audience) {
			next.Turn = randomHex(16)
		}
		if !rev.IsZero() && a.includes(&last.audience) && last.includes(&a) {
			return last.Turn, nil
		}
		body, err := json.Marshal(next)
		if err != nil {
			return "", err
		}
		_, err = db.PutLocal(ctx, &couch.Doc{ID: "loveseat-audience-" + share, Rev: rev, Body: body})
		switch {
		case err == nil:
			return next.Turn, nil
		case errors.Is(err, couch.ErrConflict) && attempt < 3:
		case couch.AsError(err).Status >= 500 || errors.Is(err, couch.ErrConflict):
			return "", err
		default:
			return last.Turn, nil // a database that takes no documents: what it was shared for is not known
		}
	}
}

// takenOver reports, as [ErrTakenOver], that another process has shared the database to others in the meantime.
func (s *Share) takenOver(ctx context.Context) error {
	if s.o.pool.Topic != "" {
		return nil
	}
	last, _, err := loadAudience(ctx, s.owner, s.base)
	if err == nil && last.Turn != s.turn {
		err = ErrTakenOver
	}
	return err
}
