package hub

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// A login is what a request was found to be: who makes it, and how that was shown.
type login struct {
	user
	by     string // "cookie", "jwt", "default" (Basic), "" for nobody
	from   source
	client string // what quotas count by; "" for no client
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

// authenticated finds out who makes a request, in the order of CouchDB's
// authentication handlers: by a session's cookie, a token, a password. Where there
// are no administrators, nobody in particular is one.
func (h *Hub) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l, err := h.login(w, r)
		if err == nil && l.by == "" && h.c.RequireUser && !l.admin() && !h.needsNoUser(r) {
			err = couch.Unauthorized("Authentication required.")
		}
		if err != nil {
			refuse(w, r, err)
			return
		}
		l.client = clientOf(l)
		ctx := context.WithValue(r.Context(), loginKey{}, l)
		if !l.admin() {
			ctx = couch.WithClient(ctx, l.client)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (h *Hub) login(w http.ResponseWriter, r *http.Request) (*login, error) {
	from := sourceOf(r)
	u, err := h.sessionUser(w, r)
	if err != nil {
		return nil, err
	}
	if u != nil {
		return &login{user: *u, by: "cookie", from: from}, nil
	}
	if header := r.Header.Get("Authorization"); header != "" {
		if l, err := h.loginBy(r.Context(), header, from); l != nil || err != nil {
			return l, err
		}
	}
	if h.open() {
		return &login{user: user{Roles: []string{roleAdmin}}, from: from}, nil
	}
	return &login{from: from}, nil
}

// open reports whether there are no administrators, so that everybody is one.
func (h *Hub) open() bool { return len(h.accounts.admins) == 0 }

// loginBy reads an Authorization header. It returns nil if that stands for nobody.
func (h *Hub) loginBy(ctx context.Context, header string, from source) (*login, error) {
	scheme, value, _ := strings.Cut(header, " ")
	value = strings.TrimSpace(value)
	switch {
	case strings.EqualFold(scheme, "Bearer") && h.tokens != nil:
		u, err := h.tokens.user(value)
		if err != nil {
			return nil, err
		}
		return &login{user: *u, by: "jwt", from: from}, nil
	case !strings.EqualFold(scheme, "Basic"):
		return nil, couch.BadRequest("Authorization header is invalid")
	}
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, couch.BadRequest("Authorization header has invalid base64 value")
	}
	name, password, ok := strings.Cut(string(b), ":")
	if !ok || name == "_" && password == "_" { // CouchDB's way to log a browser out
		return nil, nil
	}
	u, err := h.accounts.login(ctx, from, name, password)
	if err != nil {
		return nil, err
	}
	return &login{user: *u, by: "default", from: from}, nil
}

// refuse answers 401 and the like. A page's script is not made to show the
// browser's password dialog.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := couch.AsError(err)
	if e.Status == http.StatusUnauthorized && r.Header.Get("Origin") == "" && (r.Header.Get("Sec-Fetch-Mode") == "" || r.Header.Get("Sec-Fetch-Mode") == "navigate") {
		w.Header().Set("WWW-Authenticate", `Basic realm="server"`)
	}
	retryAfter(w, err)
	couchhttp.WriteError(w, e)
}
