package hub

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// The database of users: https://docs.couchdb.org/en/stable/intro/security.html#authentication-database
const (
	usersDatabase = "_users"
	userPrefix    = "org.couchdb.user:"
)

// A usersDB is _users under CouchDB's rules: documents are checked and their
// passwords hashed when they are written. Who writes is in the context.
type usersDB struct {
	couch.DB
	h *Hub
}

// A revision beside the current one would come to light when that is deleted, with roles and a
// password that an administrator has taken away since.
var errReplicatedUser = couch.Forbidden("Only administrators may replicate into a known user document.")

// BulkDocs implements [couch.DB].
func (d *usersDB) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	results := make([]couch.WriteResult, len(docs))
	var good []*couch.Doc
	var at []int
	for i, doc := range docs {
		results[i] = couch.WriteResult{ID: doc.ID, Rev: doc.Rev}
		checked, isNew, err := d.check(ctx, doc)
		if l := loginOf(ctx); err == nil && o.Replicated && !isNew && !l.admin() {
			err = errReplicatedUser
		}
		if err == nil && isNew && d.h.c.UserDatabases {
			var release func()
			if release, err = promise(ctx, d.h.c.Store, userDatabase(strings.TrimPrefix(doc.ID, userPrefix))); err == nil {
				defer release()
			}
		}
		if err != nil {
			if results[i].Err = couch.AsError(err); couch.RetryAfter(err) > 0 && len(docs) == 1 {
				return nil, err // with Retry-After
			}
			continue
		}
		good, at = append(good, checked), append(at, i)
	}
	if len(good) == 0 {
		return results, nil
	}
	written, err := d.DB.BulkDocs(ctx, good, o)
	if err != nil {
		return nil, err
	}
	for i, r := range written {
		results[at[i]] = r
	}
	for i, doc := range good {
		d.h.accounts.forget(strings.TrimPrefix(doc.ID, userPrefix))
		if results[at[i]].Err == nil {
			d.h.userChanged(ctx, doc)
		}
	}
	return results, nil
}

// check returns the document as it is to be written, and whether it makes an account.
func (d *usersDB) check(ctx context.Context, doc *couch.Doc) (checked *couch.Doc, isNew bool, err error) {
	if strings.HasPrefix(doc.ID, "_") { // a design document, which is for administrators
		return doc, false, nil
	}
	l := loginOf(ctx)
	if !l.admin() && l.Name != "" && doc.ID != userPrefix+l.Name {
		return nil, false, couch.NotFound("missing")
	}
	old, err := d.current(ctx, doc.ID)
	if err != nil {
		return nil, false, err
	}
	m, err := parseMembers(doc.Body)
	if err != nil {
		return nil, false, err
	}
	if err := checkUser(&l.user, doc, m, old); err != nil {
		return nil, false, err
	}
	if err := checkHash(m, old); err != nil && !doc.Deleted {
		return nil, false, err
	}
	isNew = old == nil && !doc.Deleted
	if !l.admin() && isNew {
		if err := d.h.checkSignUp(ctx, doc.ID); err != nil {
			return nil, false, err
		}
	}
	checked, err = d.h.accounts.withHash(ctx, doc, m)
	return checked, isNew, err
}

// current is what a user document says now, nil if there is none.
func (d *usersDB) current(ctx context.Context, id string) (members, error) {
	doc, err := d.Get(ctx, id, couch.GetOptions{})
	if errors.Is(err, couch.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parseMembers(doc.Body)
	if m == nil {
		m = members{}
	}
	return m, err
}

// withHash replaces the password in a user document by its hash.
func (a *accounts) withHash(ctx context.Context, doc *couch.Doc, m members) (*couch.Doc, error) {
	v := m.get("password")
	if v == nil || v.Kind() == 'n' || doc.Deleted {
		return doc, nil
	}
	password, ok := m.text("password")
	if !ok {
		return nil, couch.Forbidden("Password value of '" + string(v) + "' is invalid.")
	}
	if len(password) > maxPassword {
		return nil, couch.Forbidden("The password is too long.")
	}
	var hash passwordHash
	var failed error
	if err := a.hasher.do(ctx, a.writing(loginOf(ctx)), func() { hash, failed = hashPassword(password) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	out := *doc
	out.Body = setHash(m, hash).object()
	return &out, nil
}

// writing is the ticket for a password that somebody writes.
func (a *accounts) writing(l *login) ticket {
	t := ticket{forOthers, l.from, l.Name, 1}
	if l.admin() {
		t.lane = forOperators
	}
	return t
}

// checkHash refuses a hash that could not be verified here, or only at too high a
// cost, unless it is that of the document before.
func checkHash(m, old members) error {
	if m.get("password").Kind() == '"' { // it is about to be replaced
		return nil
	}
	hash := hashOf(m)
	if old != nil && hash == hashOf(old) {
		return nil
	}
	return hash.check()
}

// checkUser is the validation of _design/_auth in CouchDB's _users, in its words.
// old is the document as it is now, nil if there is none.
func checkUser(u *user, doc *couch.Doc, m, old members) error {
	name, _ := m.text("name")
	oldName, _ := old.text("name")
	if doc.Deleted {
		if u.admin() || old != nil && u.Name != "" && u.Name == oldName {
			return nil
		}
		return couch.Forbidden("Only admins may delete other user docs.")
	}
	if typ, _ := m.text("type"); typ != "user" {
		return couch.Forbidden("doc.type must be user")
	}
	if name == "" {
		return couch.Forbidden("doc.name is required")
	}
	roles, err := rolesMember(m)
	if err != nil {
		return err
	}
	if doc.ID != userPrefix+name {
		return couch.Forbidden("Doc ID must be of the form org.couchdb.user:name")
	}
	if old != nil && oldName != name {
		return couch.Forbidden("Usernames can not be changed.")
	}
	if err := checkScheme(m); err != nil {
		return err
	}
	if !u.admin() {
		if err := checkOwn(u, name, roles, old); err != nil {
			return err
		}
	}
	for _, r := range roles {
		if strings.HasPrefix(r, "_") {
			return couch.Forbidden("No system roles (starting with underscore) in users db.")
		}
	}
	if name[0] == '_' {
		return couch.Forbidden("Username may not start with underscore.")
	}
	if strings.Contains(name, ":") {
		return couch.Forbidden("Character `:` is not allowed in usernames.")
	}
	return nil
}

func rolesMember(m members) ([]string, error) {
	v := m.get("roles")
	switch v.Kind() {
	case '[':
		var roles []string
		if json.Unmarshal(v, &roles) != nil {
			return nil, couch.Forbidden("doc.roles can only contain strings")
		}
		return roles, nil
	case 0, 'n', 'f':
		return nil, couch.Forbidden("doc.roles must exist")
	}
	return nil, couch.Forbidden("doc.roles must be an array")
}

func checkScheme(m members) error {
	if m.get("password_sha") != nil && m.get("salt") == nil {
		return couch.Forbidden("Users with password_sha must have a salt.See /_utils/script/couch.js for example code.")
	}
	v := m.get("password_scheme")
	scheme, ok := m.text("password_scheme")
	switch {
	case v == nil || scheme == "simple":
	case !ok || scheme != "pbkdf2":
		return couch.Forbidden("Password scheme `" + scheme + "` not supported.")
	case m.get("password").Kind() == '"': // these are about to be replaced
	case m.get("iterations").Kind() != '0':
		return couch.Forbidden("iterations must be a number.")
	case m.get("derived_key").Kind() != '"':
		return couch.Forbidden("derived_key must be a string.")
	}
	return nil
}

// checkOwn is what an administrator may do and others may not.
func checkOwn(u *user, name string, roles []string, old members) error {
	if old == nil {
		if len(roles) > 0 {
			return couch.Forbidden("Only _admin may set roles")
		}
		return nil
	}
	if u.Name == "" {
		return couch.Conflict() // somebody signs up with a name that is taken
	}
	if u.Name != name {
		return couch.Forbidden("You may only update your own user document.")
	}
	had, err := rolesMember(old)
	if err != nil || !sameSet(had, roles) {
		return couch.Forbidden("Only _admin may edit roles")
	}
	return nil
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	n := map[string]int{}
	for i := range a {
		n[a[i]]++
		n[b[i]]--
	}
	for _, c := range n {
		if c != 0 {
			return false
		}
	}
	return true
}
