package hub

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A user is who makes a request. The zero user is nobody in particular.
type user struct {
	Name  string
	Roles []string
}

const roleAdmin = "_admin"

func (u *user) admin() bool { return slices.Contains(u.Roles, roleAdmin) }

// An account is a user who may log in with a password.
type account struct {
	user
	hash passwordHash // zero: no password is right
	rev  couch.Rev    // of the document in _users; zero for an administrator of the configuration
}

var errLogin = couch.Unauthorized("Name or password is incorrect.")

// How much is remembered of accounts, and how long the document of one is
// believed to be unchanged: another process may write it.
const (
	maxRemembered = 10_000
	accountTTL    = time.Second
)

// accounts knows who may log in: the administrators of the configuration, and
// the users of the database _users.
type accounts struct {
	store   couch.Store
	admins  map[string]*account
	hasher  *hasher
	lockout *lockout
	dummy   passwordHash // costs what a user's costs, so that time does not tell who exists
	key     []byte       // of tags
	flight  singleflight.Group

	mu     sync.Mutex
	known  map[string][sha256.Size]byte // by name: the tag of the password that was right last
	cached map[string]cachedAccount
	gen    int // counts forget, so that what was read before it is not cached after it
}

type cachedAccount struct {
	account *account // nil: there is none
	until   time.Time
}

func newAccounts(store couch.Store, admins []Admin) (*accounts, error) {
	a := &accounts{store: store, admins: map[string]*account{}, hasher: newHasher(), lockout: newLockout(), key: make([]byte, 32),
		known: map[string][sha256.Size]byte{}, cached: map[string]cachedAccount{}}
	_, _ = rand.Read(a.key) // cannot fail
	a.dummy = passwordHash{Scheme: "pbkdf2", PRF: "sha256", Salt: "none", Iterations: iterations}
	for _, adm := range admins {
		if adm.Name == "" || adm.Password == "" {
			return nil, errors.New("an administrator needs a name and a password")
		}
		hash, ok := parsePasswordHash(adm.Password)
		if !ok {
			var err error
			if hash, err = hashPassword(adm.Password); err != nil {
				return nil, err
			}
		}
		a.admins[adm.Name] = &account{user: user{adm.Name, []string{roleAdmin}}, hash: hash}
	}
	return a, nil
}

// find returns the account of this name, nil if there is none.
func (a *accounts) find(ctx context.Context, name string) (*account, error) {
	if acc := a.admins[name]; acc != nil {
		return acc, nil
	}
	a.mu.Lock()
	c, ok := a.cached[name]
	gen := a.gen
	a.mu.Unlock()
	if ok && time.Now().Before(c.until) {
		return c.account, nil
	}
	acc, err := a.read(ctx, name)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if gen == a.gen {
		if len(a.cached) >= maxRemembered {
			clear(a.cached)
		}
		name := strings.Clone(name) // the request's header need not stay with it
		a.cached[name] = cachedAccount{acc, time.Now().Add(accountTTL)}
	}
	return acc, nil
}

// forget makes the next find read the account again.
func (a *accounts) forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gen++
	delete(a.cached, name)
}

func (a *accounts) read(ctx context.Context, name string) (*account, error) {
	if !userName(name) {
		return nil, nil
	}
	db, err := a.store.Open(ctx, usersDatabase)
	if err == nil {
		var doc *couch.Doc
		if doc, err = db.Get(ctx, userPrefix+name, couch.GetOptions{}); err == nil {
			return accountOf(doc), nil
		}
	}
	if errors.Is(err, couch.ErrNotFound) {
		return nil, nil
	}
	return nil, err
}

// userName reports whether there can be a user of this name.
func userName(name string) bool { return name != "" && couch.ValidID(userPrefix+name) == nil }

// accountOf reads a user document, nil if it is none. One with a second factor
// cannot log in here.
func accountOf(doc *couch.Doc) *account {
	m, err := parseMembers(doc.Body)
	if err != nil {
		return nil
	}
	a := &account{rev: doc.Rev}
	var ok bool
	if a.Name, ok = m.text("name"); !ok || doc.ID != userPrefix+a.Name {
		return nil
	}
	var roles []string
	if json.Unmarshal(m.get("roles"), &roles) == nil {
		a.Roles = slices.DeleteFunc(roles, func(r string) bool { return strings.HasPrefix(r, "_") })
	}
	if m.get("totp") == nil {
		if a.hash = hashOf(m); !a.hash.usable() {
			a.hash = passwordHash{}
		}
	}
	return a
}

// hashOf reads the password of a user document; documents of CouchDB 1.2 do not name the scheme.
func hashOf(m members) passwordHash {
	var p passwordHash
	p.Scheme, _ = m.text("password_scheme")
	p.Salt, _ = m.text("salt")
	switch p.Scheme {
	case "pbkdf2":
		p.Key, _ = m.text("derived_key")
		if p.PRF, _ = m.text("pbkdf2_prf"); p.PRF == "" {
			p.PRF = "sha"
		}
		_ = json.Unmarshal(m.get("iterations"), &p.Iterations) // 0 if it is no number
	case "simple", "":
		p.Scheme = "simple"
		p.Key, _ = m.text("password_sha")
	}
	return p
}

// setHash writes the password into a user document as CouchDB 3.5 does.
func setHash(m members, p passwordHash) members {
	m = m.remove("password").remove("password_sha")
	m = m.set("password_scheme", p.Scheme)
	m = m.set("pbkdf2_prf", p.PRF)
	m = m.set("salt", p.Salt)
	m = m.set("iterations", p.Iterations)
	return m.set("derived_key", p.Key)
}

// login returns the user with this name and password. Errors: unauthorized
// (401), forbidden (403) after too many failures, 429 when too many are trying.
func (a *accounts) login(ctx context.Context, from source, name, password string) (*user, error) {
	operator := a.admins[name] != nil
	locked := a.lockout.check(from, name, operator)
	if locked != nil && !a.lockout.mayCompare(from, name) {
		return nil, locked
	}
	acc, err := a.find(ctx, name)
	if err != nil {
		return nil, err
	}
	hash := a.dummy
	if acc != nil && acc.hash.Scheme != "" {
		hash = acc.hash
	}
	tag := hash.tag(a.key, name, password)
	if acc != nil && a.isKnown(name, tag) {
		return &acc.user, nil
	}
	if locked != nil {
		return nil, locked
	}
	t := ticket{a.lockout.lane(from, name, operator), from, name, hash.cost()}
	for { // requests that come at once with the same password are one log-in
		_, err, _ := a.flight.Do(fmt.Sprint(from)+string(tag[:]), func() (any, error) {
			return nil, a.check(ctx, t, password, acc, hash)
		})
		if err != nil && ctx.Err() == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			continue // the request that did the work has gone
		}
		if err != nil {
			return nil, err
		}
		return &acc.user, nil
	}
}

// check derives and compares, at the same cost whether the account exists or not.
func (a *accounts) check(ctx context.Context, t ticket, password string, acc *account, hash passwordHash) error {
	if err := a.lockout.begin(t.from, t.name, a.admins[t.name] != nil); err != nil {
		return err
	}
	var right bool
	var better passwordHash
	var failed error
	err := a.hasher.do(ctx, t, func() {
		right, failed = hash.verify(password)
		switch right = right && acc != nil; {
		case right && !acc.rev.IsZero() && hash.weak():
			better, failed = hashPassword(password)
		case !right && hash.cheap():
			_, err := a.dummy.verify(password)
			failed = errors.Join(failed, err)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		a.lockout.undo(t.from, t.name)
		return err
	}
	if !right {
		return errLogin
	}
	a.lockout.right(t.from, t.name)
	if better.Scheme != "" {
		hash = a.upgrade(ctx, acc, hash, better)
	}
	a.remember(t.name, hash.tag(a.key, t.name, password))
	return nil
}

// upgrade writes a better hash of the same password into the user's document
// (as CouchDB's upgrade_hash_on_auth does) and returns the hash that is kept. If
// it cannot be written now, it will be at another log-in.
func (a *accounts) upgrade(ctx context.Context, acc *account, old, better passwordHash) passwordHash {
	db, err := a.store.Open(ctx, usersDatabase)
	if err != nil {
		return old
	}
	doc, err := db.Get(ctx, userPrefix+acc.Name, couch.GetOptions{})
	if err != nil || doc.Rev != acc.rev { // of a document that has changed the password may have changed
		return old
	}
	m, err := parseMembers(doc.Body)
	if err != nil {
		return old
	}
	doc.Body = setHash(m, better).object()
	res, err := db.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{})
	if err != nil || len(res) == 0 || res[0].Err != nil {
		return old
	}
	a.forget(acc.Name)
	return better
}

func (a *accounts) isKnown(name string, tag [sha256.Size]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.known[name]
	return ok && known == tag // a keyed hash: how long the comparison takes tells nothing
}

func (a *accounts) remember(name string, tag [sha256.Size]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxRemembered {
		clear(a.known)
	}
	a.known[name] = tag
}
