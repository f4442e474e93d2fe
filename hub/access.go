package hub

import (
	"net/http"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// A right is what an operation takes.
type right int

const (
	forAll     right = iota + 1
	forMembers       // of the database
	forDBAdmins
	forAdmins // of the server
)

// rights is the access rule of every operation of the API, CouchDB's own. An
// operation that is missing here is refused to everybody.
var rights = map[couchhttp.Op]right{
	couchhttp.OpWelcome:       forAll,
	couchhttp.OpListDBs:       forAdmins,
	couchhttp.OpCreateDB:      forAdmins,
	couchhttp.OpDestroyDB:     forAdmins,
	couchhttp.OpInfo:          forMembers,
	couchhttp.OpRead:          forMembers,
	couchhttp.OpWriteDoc:      forMembers,
	couchhttp.OpWriteDesign:   forDBAdmins,
	couchhttp.OpReadLocal:     forMembers,
	couchhttp.OpWriteLocal:    forMembers,
	couchhttp.OpReadSecurity:  forMembers,
	couchhttp.OpWriteSecurity: forDBAdmins,
	couchhttp.OpPurge:         forAdmins,
	couchhttp.OpCompact:       forDBAdmins,
}

var errNotAdmin = couch.Unauthorized("You are not a server admin.")

// authorize decides on an operation of the API.
func (h *Hub) authorize(r *http.Request, a couchhttp.Access) error {
	l := loginOf(r.Context())
	needs := rights[a.Op]
	switch {
	case needs == 0:
		return couch.Forbidden("This operation has no access rule.")
	case a.Op == couchhttp.OpWriteSecurity && a.DB == usersDatabase:
		return couch.Forbidden("You can't edit the security object of the user database.")
	case needs == forAll || l.admin():
		return nil
	case needs == forAdmins || couchhttp.IsEndpoint(a.DB): // one of CouchDB's own that is not served here
		return errNotAdmin
	case a.DB == usersDatabase:
		return h.authorizeUsers(l, a)
	}
	return h.authorizeDB(r, l, a, needs)
}

// authorizeDB asks the database's _security, and of a hub database its rules.
func (h *Hub) authorizeDB(r *http.Request, l *login, a couchhttp.Access, needs right) error {
	sec, err := h.security.of(r.Context(), a.DB)
	if err != nil {
		if s := couch.AsError(err).Status; s == http.StatusNotFound || s == http.StatusBadRequest {
			return nil // the API says what is wrong
		}
		return err
	}
	switch {
	case !sec.member(&l.user):
		return refuseDB(l, "You are not authorized to access this db.", "You are not allowed to access this db.")
	case a.Op == couchhttp.OpCompact && !sec.admin(&l.user):
		return couch.Unauthorized("You are not a server or db admin.")
	case needs == forDBAdmins && !sec.admin(&l.user):
		return refuseDB(l, "You are not a db or server admin.", "You are not a db or server admin.")
	}
	return nil
}

// refuseDB is 401 for who has not logged in, and 403 for who has.
func refuseDB(l *login, unauthorized, forbidden string) error {
	if l.Name == "" {
		return couch.Unauthorized(unauthorized)
	}
	return couch.Forbidden(forbidden)
}

// authorizeUsers is the rules of _users for who is no administrator: their own
// document is all they see and write. What they write is checked by [usersDB].
func (h *Hub) authorizeUsers(l *login, a couchhttp.Access) error {
	if l.Name == "" && !h.c.SignUp {
		return couch.Unauthorized("You are not authorized to access this db.")
	}
	switch a.Op {
	case couchhttp.OpInfo, couchhttp.OpWriteDoc:
		return nil
	case couchhttp.OpWriteDesign:
		return refuseDB(l, "You are not a db or server admin.", "You are not a db or server admin.")
	case couchhttp.OpRead:
		switch {
		case a.Doc == "": // _all_docs, _changes, _find and the like
			return errNotAdmin
		case strings.HasPrefix(a.Doc, "_design/"):
			return couch.Forbidden("Only administrators can view design docs in the users database.")
		case l.Name != "" && a.Doc == userPrefix+l.Name:
			return nil
		}
		return couch.NotFound("missing")
	}
	return refuseDB(l, "You are not authorized to access this db.", "You are not allowed to access this db.")
}
