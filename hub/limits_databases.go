package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// LimitDatabases returns a store that has as many databases as it may, if n is not
// negative: whoever makes one more, in whatever way, gets too_many_databases (413).
// The server's own ones, which it cannot do without, are counted and made all the
// same: _users and those named.
func LimitDatabases(store couch.Store, n int, own ...string) couch.Store {
	return &limitedStore{Store: store, limit: n, own: append(own, usersDatabase), promised: map[string]int{}}
}

type limitedStore struct {
	couch.Store
	limit int
	own   []string

	mu       sync.Mutex     // held while a database is made, so that many at once are no more than many in turn
	promised map[string]int // databases that have a place, though they are not yet there: by how many
}

// Create implements [couch.Store].
func (s *limitedStore) Create(ctx context.Context, name string) error {
	if s.limit < 0 || slices.Contains(s.own, name) {
		return s.Store.Create(ctx, name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.room(ctx, name); err != nil {
		return err
	}
	return s.Store.Create(ctx, name)
}

// room says whether there is a place for a database. s.mu is held.
func (s *limitedStore) room(ctx context.Context, name string) error {
	names, err := s.Databases(ctx)
	if err != nil || s.promised[name] > 0 || slices.Contains(names, name) {
		return err
	}
	if len(names)+len(s.promised) >= s.limit {
		return couch.TooLarge("too_many_databases", fmt.Sprintf("This server has as many databases as it may: %d.", s.limit))
	}
	return nil
}

// promise keeps a place for a database that is to be made next, until release is called.
func promise(ctx context.Context, store couch.Store, name string) (release func(), err error) {
	s, ok := store.(*limitedStore)
	if !ok || s.limit < 0 {
		return func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.room(ctx, name); err != nil {
		return nil, err
	}
	s.promised[name]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.promised[name]--; s.promised[name] == 0 {
			delete(s.promised, name)
		}
	}, nil
}

// tooManyDatabases reports whether that is what an error says.
func tooManyDatabases(err error) bool {
	return errors.Is(err, &couch.Error{Status: 413}) && couch.AsError(err).Code == "too_many_databases"
}
