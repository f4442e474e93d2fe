package hub

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync/atomic"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A user is who makes a request. The zero user is nobody in particular.
type user struct {
	Name  string
	Roles []string
}

const roleAdmin = "_admin"

func (u *user) admin() bool {
	for _, r := range u.Roles {
		if r == roleAdmin {
			return true
		}
	}
	return false
}

// accounts knows who may log in.
type accounts interface {
	// login returns the user with this name and password; unauthorized (401) if there is none.
	login(ctx context.Context, name, password string) (*user, error)
	// find returns the user that a session names and the salt of its
	// password, which a session does not outlive; nil if there is none.
	find(ctx context.Context, name string) (*user, []byte)
}

var errLogin = couch.Unauthorized("Name or password is incorrect.")

// iterations of PBKDF2-SHA256, as in CouchDB 3.5; tests take fewer.
var iterations = 600_000

// An adminAccount is accounts of one: the administrator of the configuration.
type adminAccount struct {
	name string
	salt []byte
	hash []byte
	// A right password is known again by a keyed hash, so that only wrong ones
	// and the first right one cost the 100 ms of PBKDF2.
	key   []byte
	known atomic.Pointer[[sha256.Size]byte]
	busy  chan struct{} // one PBKDF2 at a time: guessing must not take all processors
}

func newAdminAccount(a Admin) (*adminAccount, error) {
	if a.Name == "" || a.Password == "" {
		return nil, errors.New("the administrator needs a name and a password")
	}
	out := &adminAccount{name: a.Name, salt: make([]byte, 16), key: make([]byte, 32), busy: make(chan struct{}, 1)}
	_, _ = rand.Read(out.salt) // cannot fail
	_, _ = rand.Read(out.key)
	var err error
	out.hash, err = out.derive(a.Password)
	return out, err
}

func (a *adminAccount) derive(password string) ([]byte, error) {
	return pbkdf2.Key(sha256.New, password, a.salt, iterations, sha256.Size)
}

// tag is a keyed hash of a name and password that are right together.
func (a *adminAccount) tag(name, password string) (out [sha256.Size]byte) {
	m := hmac.New(sha256.New, a.key)
	m.Write([]byte(name + "\x00" + password))
	m.Sum(out[:0])
	return out
}

func (a *adminAccount) login(ctx context.Context, name, password string) (*user, error) {
	tag := a.tag(name, password)
	if known := a.known.Load(); known != nil && subtle.ConstantTimeCompare(known[:], tag[:]) == 1 {
		return a.user(), nil
	}
	select {
	case a.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-a.busy }()
	hash, err := a.derive(password)
	if err != nil {
		return nil, err
	}
	// Both are compared whoever the name is, so that time does not tell which was wrong.
	right := subtle.ConstantTimeCompare(hash, a.hash) & subtle.ConstantTimeCompare([]byte(name), []byte(a.name))
	if right != 1 {
		return nil, errLogin
	}
	a.known.Store(&tag)
	return a.user(), nil
}

func (a *adminAccount) find(_ context.Context, name string) (*user, []byte) {
	if subtle.ConstantTimeCompare([]byte(name), []byte(a.name)) != 1 {
		return nil, nil
	}
	return a.user(), a.salt
}

func (a *adminAccount) user() *user { return &user{Name: a.name, Roles: []string{roleAdmin}} }
