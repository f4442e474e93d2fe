package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Users administers the accounts of a store from outside of a hub, under the
// rules of _users. A hub that runs on the store notices within a second.
type Users struct {
	Store     couch.Store // see [LimitDatabases]
	Databases bool        // see [Config.UserDatabases]
}

// UserInfo is what List tells of an account.
type UserInfo struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

// Add makes an account. Errors: conflict (409) if there is one of this name,
// forbidden (403) for a name or role that none may have, bad_request (400) without a password.
func (u Users) Add(ctx context.Context, name, password string, roles []string) error {
	if roles == nil {
		roles = []string{}
	}
	m := members{}.set("name", name).set("type", "user").set("roles", roles)
	return u.write(ctx, &couch.Doc{ID: userPrefix + name}, m, password)
}

// SetPassword gives an account another password, which ends its sessions. Errors: not_found (404).
func (u Users) SetPassword(ctx context.Context, name, password string) error {
	doc, err := u.get(ctx, name)
	if err != nil {
		return err
	}
	m, err := parseMembers(doc.Body)
	if err != nil {
		return err
	}
	return u.write(ctx, doc, m, password)
}

// Remove removes an account. A database of its own stays, for administrators. Errors: not_found (404).
func (u Users) Remove(ctx context.Context, name string) error {
	doc, err := u.get(ctx, name)
	if err != nil {
		return err
	}
	doc.Deleted, doc.Body = true, nil
	return u.put(ctx, doc)
}

// List returns all accounts by name.
func (u Users) List(ctx context.Context) ([]UserInfo, error) {
	if err := ensureUsers(ctx, u.Store); err != nil {
		return nil, err
	}
	db, err := u.Store.Open(ctx, usersDatabase)
	if err != nil {
		return nil, err
	}
	var users []UserInfo
	_, err = db.AllDocs(ctx, couch.AllDocsOptions{IncludeDocs: true}, func(r *couch.Row) error {
		if r.Doc == nil {
			return nil
		}
		if a := accountOf(r.Doc); a != nil {
			users = append(users, UserInfo{a.Name, roles(&a.user)})
		}
		return nil
	})
	return users, err
}

func (u Users) get(ctx context.Context, name string) (*couch.Doc, error) {
	if err := ensureUsers(ctx, u.Store); err != nil {
		return nil, err
	}
	db, err := u.Store.Open(ctx, usersDatabase)
	if err != nil {
		return nil, err
	}
	doc, err := db.Get(ctx, userPrefix+name, couch.GetOptions{})
	if errors.Is(err, couch.ErrNotFound) {
		return nil, couch.NotFound(fmt.Sprintf("There is no user %q.", name))
	}
	return doc, err
}

func (u Users) write(ctx context.Context, doc *couch.Doc, m members, password string) error {
	if password == "" {
		return couch.BadRequest("The password is empty.")
	}
	hash, err := hashPassword(password)
	if err != nil {
		return err
	}
	m = setHash(m, hash)
	if err := checkUser(&user{Roles: []string{roleAdmin}}, doc, m, nil); err != nil {
		return err
	}
	doc.Body = json.RawMessage(m.object())
	return u.put(ctx, doc)
}

func (u Users) put(ctx context.Context, doc *couch.Doc) error {
	if err := ensureUsers(ctx, u.Store); err != nil {
		return err
	}
	name := strings.TrimPrefix(doc.ID, userPrefix)
	if u.Databases && !doc.Deleted && doc.Rev.IsZero() {
		release, err := promise(ctx, u.Store, userDatabase(name))
		if err != nil {
			return err
		}
		defer release()
	}
	db, err := u.Store.Open(ctx, usersDatabase)
	if err != nil {
		return err
	}
	res, err := db.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{})
	if err != nil {
		return err
	}
	if len(res) > 0 && res[0].Err != nil {
		if errors.Is(res[0].Err, couch.ErrConflict) {
			return fmt.Errorf("user %q exists, or has just been changed: %w", name, res[0].Err)
		}
		return res[0].Err
	}
	if !u.Databases {
		return nil
	}
	return followUser(ctx, u.Store, name, !doc.Deleted)
}
