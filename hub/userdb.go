package hub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A database per user, as CouchDB's couch_peruser makes it:
// https://docs.couchdb.org/en/stable/config/couch-peruser.html

// userDatabase is the name of the database of a user.
func userDatabase(name string) string { return "userdb-" + hex.EncodeToString([]byte(name)) }

// maxUserName keeps the names of such databases within what a file system takes.
const maxUserName = 96

// newAccounts makes what logging in takes: the database _users, the administrators, the tokens.
func (h *Hub) newAccounts(ctx context.Context) (err error) {
	if err := ensureUsers(ctx, h.c.Store); err != nil {
		return fmt.Errorf("database %q: %w", usersDatabase, err)
	}
	admins := h.c.Admins
	if h.c.Admin != nil {
		admins = append([]Admin{*h.c.Admin}, admins...)
	}
	if h.accounts, err = newAccounts(h.c.Store, admins); err != nil {
		return err
	}
	if h.tokens, err = newTokens(h.c.JWT); err != nil || !h.c.UserDatabases {
		return err
	}
	if err := h.followUsers(ctx); err != nil {
		return fmt.Errorf("databases of users: %w", err)
	}
	return nil
}

// ensureUsers makes _users if it is missing.
func ensureUsers(ctx context.Context, store couch.Store) error {
	_, err := store.Open(ctx, usersDatabase)
	if errors.Is(err, couch.ErrNotFound) {
		err = createSecured(ctx, store, usersDatabase)
	}
	if errors.Is(err, &couch.Error{Status: 412}) {
		err = nil // another hub was quicker
	}
	return err
}

// checkSignUp says whether somebody who is no administrator may make an account.
func (h *Hub) checkSignUp(ctx context.Context, id string) error {
	if !h.c.SignUp {
		return couch.Forbidden("Only administrators may make accounts here.")
	}
	name := strings.TrimPrefix(id, userPrefix)
	if h.accounts.admins[name] != nil {
		return couch.Conflict()
	}
	if !h.c.UserDatabases {
		return nil
	}
	if len(name) > maxUserName {
		return couch.Forbidden("Username is too long for a database of its own.")
	}
	// An account that was removed leaves its database, which is not for the next who takes the name.
	switch _, err := h.c.Store.Open(ctx, userDatabase(name)); {
	case err == nil:
		return couch.Conflict()
	case !errors.Is(err, couch.ErrNotFound):
		return err
	}
	return nil
}

// userChanged lets the databases of users follow a user document that was written.
func (h *Hub) userChanged(ctx context.Context, doc *couch.Doc) {
	name, ok := strings.CutPrefix(doc.ID, userPrefix)
	if !h.c.UserDatabases || !ok {
		return
	}
	err := followUser(ctx, h.c.Store, name, !doc.Deleted)
	h.security.forget()
	if err != nil {
		h.c.Logger.Error("the database of a user", "name", name, "err", err)
	}
}

// followUsers makes the databases that are missing: users may have been written
// by others, or before there were such databases.
func (h *Hub) followUsers(ctx context.Context) error {
	db, err := h.c.Store.Open(ctx, usersDatabase)
	if err != nil {
		return err
	}
	var names []string
	_, err = db.AllDocs(ctx, couch.AllDocsOptions{}, func(r *couch.Row) error {
		if name, ok := strings.CutPrefix(r.ID, userPrefix); ok {
			names = append(names, name)
		}
		return nil
	})
	for _, name := range names {
		if len(name) > maxUserName {
			continue
		}
		made := followUser(ctx, h.c.Store, name, true)
		if tooManyDatabases(made) { // no reason to answer nobody at all
			h.c.Logger.Warn("a user has no database, see --limit-databases", "name", name)
			continue
		}
		err = errors.Join(err, made)
	}
	return err
}

// followUser makes a user the administrator and member of a database, or nothing of it. It is
// made if it is missing, and it is never destroyed.
func followUser(ctx context.Context, store couch.Store, name string, in bool) error {
	db, err := store.Open(ctx, userDatabase(name))
	if errors.Is(err, couch.ErrNotFound) {
		if !in {
			return nil
		}
		if err = createSecured(ctx, store, userDatabase(name)); err == nil {
			db, err = store.Open(ctx, userDatabase(name))
		}
	}
	if err != nil {
		return err
	}
	raw, err := db.Security(ctx)
	if err != nil {
		return err
	}
	var s map[string]any
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		s = map[string]any{}
	}
	changed := setName(s, "admins", name, in)
	if changed = setName(s, "members", name, in) || changed; !changed {
		return nil
	}
	b, err := json.Marshal(s, json.Deterministic(true))
	if err != nil {
		return err
	}
	return db.SetSecurity(ctx, b)
}

// setName puts a name into, or takes it out of, the names of "admins" or "members".
func setName(security map[string]any, level, name string, in bool) (changed bool) {
	group, ok := security[level].(map[string]any)
	if !ok {
		group = map[string]any{}
		security[level] = group
	}
	names, _ := group["names"].([]any)
	i := slices.Index(names, any(name))
	switch {
	case in && i < 0:
		group["names"] = append(names, name)
	case !in && i >= 0:
		group["names"] = slices.Delete(names, i, i+1)
	default:
		return false
	}
	return true
}
