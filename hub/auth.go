package hub

import (
	"context"
	"net/http"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// A login is what a request was found to be: who makes it, and how that was shown.
type login struct {
	user
	by string // "default" (Basic), "cookie", "" for nobody
}

type loginKey struct{}

// loginOf returns who makes a request that has passed authenticated.
func loginOf(ctx context.Context) *login {
	l, _ := ctx.Value(loginKey{}).(*login)
	if l == nil {
		return &login{}
	}
	return l
}

// authenticated finds out who makes a request. Nobody in particular may ask what
// the server is, and log in; where there are no accounts everybody is an administrator.
func (h *Hub) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l, err := h.login(w, r)
		if err == nil && l.by == "" && h.accounts != nil && !isPath(r, "/") && !isPath(r, "/_up") && !isPath(r, "/_session") {
			err = couch.Unauthorized("Authentication required.")
		}
		if err != nil {
			refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), loginKey{}, l)))
	})
}

func (h *Hub) login(w http.ResponseWriter, r *http.Request) (*login, error) {
	if h.accounts == nil {
		return &login{user: user{Roles: []string{roleAdmin}}}, nil
	}
	if name, password, ok := r.BasicAuth(); ok {
		u, err := h.accounts.login(r.Context(), name, password)
		if err != nil {
			return nil, err
		}
		return &login{*u, "default"}, nil
	}
	if u := h.sessionUser(w, r); u != nil {
		return &login{*u, "cookie"}, nil
	}
	return &login{}, nil
}

// refuse answers 401 and the like. A page's script is not made to show the
// browser's password dialog.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := couch.AsError(err)
	if e.Status == http.StatusUnauthorized && r.Header.Get("Origin") == "" && (r.Header.Get("Sec-Fetch-Mode") == "" || r.Header.Get("Sec-Fetch-Mode") == "navigate") {
		w.Header().Set("WWW-Authenticate", `Basic realm="server"`)
	}
	couchhttp.WriteError(w, e)
}

// authorize is the hub's access rules: what changes the server or what a
// database does is for administrators, the rest for whoever got this far.
func (h *Hub) authorize(r *http.Request, a couchhttp.Access) error {
	l := loginOf(r.Context())
	if l.admin() {
		return nil
	}
	switch a.Op {
	case couchhttp.OpWelcome:
		return nil
	case couchhttp.OpInfo, couchhttp.OpRead, couchhttp.OpWriteDoc, couchhttp.OpReadLocal, couchhttp.OpWriteLocal:
		if l.by != "" {
			return nil
		}
		return couch.Unauthorized("You are not authorized to access this db.")
	}
	return couch.Unauthorized("You are not a server admin.")
}
