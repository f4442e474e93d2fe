package hub

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// secretID is the _local document of _users with the secret of sessions. Only
// administrators may read it.
const secretID = "loveseat-sessions"

// SharedSecret returns the secret of cookie sessions for hubs that use one store
// together (see [Config.Secret]), made when it is first asked for.
func SharedSecret(ctx context.Context, store couch.Store) ([]byte, error) {
	if err := ensureUsers(ctx, store); err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, usersDatabase)
	if err != nil {
		return nil, err
	}
	type document struct {
		Secret string `json:"secret"`
	}
	for {
		doc, err := db.GetLocal(ctx, secretID)
		if err == nil {
			var d document
			if err = json.Unmarshal(doc.Body, &d); err != nil {
				return nil, err
			}
			secret, err := hex.DecodeString(d.Secret)
			if err == nil && len(secret) < 16 {
				err = errors.New("the secret of sessions in _users is damaged")
			}
			return secret, err
		}
		if !errors.Is(err, couch.ErrNotFound) {
			return nil, err
		}
		var b [32]byte
		_, _ = rand.Read(b[:]) // cannot fail
		body, err := json.Marshal(document{hex.EncodeToString(b[:])})
		if err != nil {
			return nil, err
		}
		if _, err = db.PutLocal(ctx, &couch.Doc{ID: secretID, Body: body}); err != nil && !errors.Is(err, couch.ErrConflict) {
			return nil, err
		}
	}
}
