package hub

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A security is a database's _security object: who administers it, and who may
// read and write it. No members means everybody.
//
// https://docs.couchdb.org/en/stable/api/database/security.html
type security struct {
	Admins  group  `json:"admins"`
	Members group  `json:"members"`
	Readers *group `json:"readers"` // what CouchDB 1.0 called members
}

type group struct {
	Names []string `json:"names"`
	Roles []string `json:"roles"`
}

func (g *group) has(u *user) bool {
	return u.Name != "" && slices.Contains(g.Names, u.Name) || slices.ContainsFunc(u.Roles, func(r string) bool { return slices.Contains(g.Roles, r) })
}

// newSecurity is what a new database gets, as in CouchDB 3: administrators only.
var newSecurity = json.RawMessage(`{"members":{"roles":["_admin"]},"admins":{"roles":["_admin"]}}`)

// parseSecurity reads a _security object. One that cannot be understood lets administrators in alone.
func parseSecurity(raw json.RawMessage) *security {
	var s security
	var has map[string]json.RawMessage
	if json.Unmarshal(raw, &has) != nil || json.Unmarshal(raw, &s) != nil {
		return &security{Members: group{Roles: []string{roleAdmin}}}
	}
	if s.Readers != nil && has["members"] == nil {
		s.Members = *s.Readers
	}
	return &s
}

func (s *security) admin(u *user) bool { return u.admin() || s.Admins.has(u) }

func (s *security) member(u *user) bool {
	return s.admin(u) || len(s.Members.Names) == 0 && len(s.Members.Roles) == 0 || s.Members.has(u)
}

// createSecured makes a database for administrators only.
func createSecured(ctx context.Context, store couch.Store, name string) error {
	if err := store.Create(ctx, name); err != nil {
		return err
	}
	db, err := store.Open(ctx, name)
	if err == nil {
		err = db.SetSecurity(ctx, newSecurity)
	}
	if err != nil { // rather none than one that is open to everybody
		return errors.Join(err, store.Destroy(context.WithoutCancel(ctx), name))
	}
	return nil
}

// securityTTL is how long a _security object is believed to be unchanged:
// another process may write it.
const securityTTL = time.Second

// securities remembers the _security objects of databases.
type securities struct {
	store couch.Store
	mu    sync.Mutex
	m     map[string]cachedSecurity
	gen   int // counts forget, so that what was read before it is not cached after it
}

type cachedSecurity struct {
	*security
	until time.Time
}

func newSecurities(store couch.Store) *securities {
	return &securities{store: store, m: map[string]cachedSecurity{}}
}

// of returns the _security of a database. Errors: not_found (404), illegal_database_name (400).
func (s *securities) of(ctx context.Context, name string) (*security, error) {
	s.mu.Lock()
	c, ok := s.m[name]
	gen := s.gen
	s.mu.Unlock()
	if ok && time.Now().Before(c.until) {
		return c.security, nil
	}
	db, err := s.store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	raw, err := db.Security(ctx)
	if err != nil {
		return nil, err
	}
	sec := parseSecurity(raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if gen == s.gen {
		if len(s.m) >= maxRemembered {
			clear(s.m)
		}
		s.m[name] = cachedSecurity{sec, time.Now().Add(securityTTL)}
	}
	return sec, nil
}

func (s *securities) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
	clear(s.m)
}

// A guardedStore is the store as the API sees it: new databases are for
// administrators, and _users has its rules.
type guardedStore struct {
	couch.Store
	h *Hub
}

// Create implements [couch.Store].
func (s *guardedStore) Create(ctx context.Context, name string) error {
	defer s.h.security.forget()
	return createSecured(ctx, s.Store, name)
}

// Destroy implements [couch.Store].
func (s *guardedStore) Destroy(ctx context.Context, name string) error {
	defer s.h.security.forget()
	return s.Store.Destroy(ctx, name)
}

// Open implements [couch.Store].
func (s *guardedStore) Open(ctx context.Context, name string) (couch.DB, error) {
	db, err := s.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	if name == usersDatabase {
		db = &usersDB{db, s.h}
	}
	return db, nil
}
