package hub

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// Anybody is the role that everybody has, also who is not signed in.
const Anybody = "*"

// A Database is a hub database: what peers may do there is publish shares, see
// those of others and send signals; each right is given to roles. nil: to every user who is
// signed in; [Anybody]: without signing in too. Administrators have all rights,
// but what they write under the ids of shares and signals must be such, too.
type Database struct {
	Name    string
	List    []string // see all shares
	Publish []string // share databases
	Open    []string // look up a share by its id, and offer its sharer a connection
	Signal  []string // send and get signals at all
}

// ParseDatabase reads "NAME [list=ROLES] [publish=ROLES] [open=ROLES] [signal=ROLES]",
// ROLES being names with commas between them, or "*" for everybody.
func ParseDatabase(s string) (Database, error) {
	fields := strings.Fields(s)
	if len(fields) == 0 {
		return Database{}, errNoName
	}
	d := Database{Name: fields[0]}
	rights := map[string]*[]string{"list": &d.List, "publish": &d.Publish, "open": &d.Open, "signal": &d.Signal}
	for _, f := range fields[1:] {
		right, roles, ok := strings.Cut(f, "=")
		to := rights[right]
		if !ok || to == nil || *to != nil {
			return Database{}, fmt.Errorf("hub database %s: %q is none of list=, publish=, open=, signal= with roles", d.Name, f)
		}
		*to = strings.FieldsFunc(roles, func(r rune) bool { return r == ',' })
		if *to == nil {
			*to = []string{} // "list=": nobody but administrators
		}
	}
	return d, nil
}

// A caller is who makes a request, as the rules of hub databases see it.
type caller struct {
	user          // its name is "" for nobody
	client string // what quotas count by; "" for no client
	shown         // the peer that the request proves to come from, "" if it does not
	nobody bool
	admin  bool
}

func callerOf(ctx context.Context) caller {
	l := loginOf(ctx)
	c := caller{user: l.user, admin: l.admin()}
	c.nobody = l.Name == "" && !c.admin
	c.shown, _ = ctx.Value(shownKey{}).(shown)
	c.client = l.client
	return c
}

// may reports whether one of the roles that a right is given to is the caller's.
func (c *caller) may(right []string) bool {
	switch {
	case c.admin || slices.Contains(right, Anybody):
		return true
	case c.nobody:
		return false
	case right == nil:
		return true
	}
	return slices.ContainsFunc(c.Roles, func(r string) bool { return slices.Contains(right, r) })
}

// any reports whether the caller may do anything at all in a hub database.
func (d *Database) any(c *caller) bool {
	return c.may(d.List) || c.may(d.Publish) || c.may(d.Open) || c.may(d.Signal)
}

var (
	errNotAllowed = couch.Forbidden("You are not allowed to access this db.")
	errNobody     = couch.Unauthorized("You are not authorized to access this db.")
)

// refusal is what is said to a caller who lacks a right.
func (c *caller) refusal() *couch.Error {
	if c.nobody {
		return errNobody
	}
	return errNotAllowed
}

// hubRule is the access rule of a hub database for who is no administrator. What is
// written and which documents are seen is decided in [ruledDB], document by document.
func (d *Database) hubRule(c *caller, a couchhttp.Access) error {
	switch a.Op {
	case couchhttp.OpInfo, couchhttp.OpRead, couchhttp.OpReadLocal, couchhttp.OpWriteDoc:
		if d.any(c) {
			return nil
		}
	}
	return c.refusal()
}

// A ruledStore is the store as requests see it: hub databases obey their rules.
type ruledStore struct {
	couch.Store
	hubs map[string]*hubDatabase
}

// Open returns the database, seen by who asks.
func (s ruledStore) Open(ctx context.Context, name string) (couch.DB, error) {
	db, err := s.Store.Open(ctx, name)
	h := s.hubs[name]
	if err != nil || h == nil {
		return db, err
	}
	return &ruledDB{DB: db, hub: h, who: callerOf(ctx)}, nil
}

// A hubDatabase is what is known of a hub database while the hub runs.
type hubDatabase struct {
	Database
	owners owners
	bells  bells
	held   holdings
	far    bool // on another server: reading a document costs a request
	quotas *limiter
	counts *Counts
}
