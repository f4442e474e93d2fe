package hub

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// Cookie sessions: https://docs.couchdb.org/en/stable/api/server/authn.html#cookie-authentication

const cookieName = "AuthSession"

// sessions makes and checks cookies. They are signed, not kept: name, time and a
// MAC over both, whose key is the hub's secret and the salt of the user's
// password, so that a new password ends them.
type sessions struct {
	key     []byte
	timeout time.Duration
	now     func() time.Time
}

// newSessions returns sessions of a secret, nil for a random one.
func newSessions(timeout time.Duration, secret []byte) *sessions {
	if len(secret) == 0 {
		secret = make([]byte, 32)
		_, _ = rand.Read(secret) // cannot fail
	}
	return &sessions{key: secret, timeout: timeout, now: time.Now}
}

// token is base64url("name:TIME:" MAC), TIME the hexadecimal Unix time of its making.
func (s *sessions) token(name, salt string) string {
	text := name + ":" + strings.ToUpper(strconv.FormatInt(s.now().Unix(), 16))
	return base64.RawURLEncoding.EncodeToString([]byte(text + ":" + string(s.mac(text, salt))))
}

func (s *sessions) mac(text, salt string) []byte {
	m := hmac.New(sha256.New, slices.Concat(s.key, []byte(salt)))
	m.Write([]byte(text))
	return m.Sum(nil)
}

// read takes a token apart. Nothing in it is to be believed before verify.
func (s *sessions) read(token string) (name, text string, made time.Time, mac []byte, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(token, "="))
	if err != nil || len(b) < sha256.Size+3 || len(b) > 4096 {
		return
	}
	mac = b[len(b)-sha256.Size:]
	text, ok = strings.CutSuffix(string(b[:len(b)-sha256.Size]), ":")
	i := strings.LastIndexByte(text, ':')
	if !ok || i < 0 {
		return "", "", made, nil, false
	}
	unix, err := strconv.ParseInt(text[i+1:], 16, 64)
	return text[:i], text, time.Unix(unix, 0), mac, err == nil
}

// age returns how old a verified token is; ok is false if it is none of ours, or too old.
func (s *sessions) verify(text string, made time.Time, mac []byte, salt string) (age time.Duration, ok bool) {
	if !hmac.Equal(mac, s.mac(text, salt)) {
		return 0, false
	}
	age = s.now().Sub(made)
	return age, age < s.timeout && age > -time.Minute
}

var errCookie = couch.BadRequest("Malformed AuthSession cookie. Please clear your cookies.")

// sessionUser returns whose session a request's cookie is, nil if it has none. A
// session in use is renewed when a tenth of its time is over.
func (h *Hub) sessionUser(w http.ResponseWriter, r *http.Request) (*user, error) {
	cookie := sessionCookie(r)
	if cookie == "" {
		return nil, nil
	}
	name, text, made, mac, ok := h.sessions.read(cookie)
	if !ok {
		return nil, errCookie
	}
	acc, err := h.accounts.find(r.Context(), name)
	if acc == nil || err != nil {
		return nil, err
	}
	age, ok := h.sessions.verify(text, made, mac, acc.hash.Salt)
	if !ok {
		return nil, nil
	}
	if age > h.sessions.timeout/10 {
		h.setCookie(w, r, h.sessions.token(name, acc.hash.Salt))
	}
	return &acc.user, nil
}

// sessionCookie is the cookie of a request, "" if there is none. Whatever it is, one may log in and out.
func sessionCookie(r *http.Request) string {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && routed(r) == "/_session" {
		return ""
	}
	for _, c := range r.CookiesNamed(cookieName) {
		return c.Value
	}
	return ""
}

func (h *Hub) setCookie(w http.ResponseWriter, r *http.Request, token string) {
	c := &http.Cookie{Name: cookieName, Value: token, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode, MaxAge: int(h.sessions.timeout.Seconds())}
	if origin := r.Header.Get("Origin"); c.Secure && origin != "" && !sameOrigin(r, origin) && h.allowed(origin) {
		c.SameSite = http.SameSiteNoneMode // a page of another site that is allowed here
	}
	if c.Expires = h.sessions.now().Add(h.sessions.timeout); token == "" { // nano knows cookies by Expires only
		c.MaxAge, c.Expires = -1, time.Unix(1, 0)
	}
	http.SetCookie(w, c)
	w.Header().Set("Cache-Control", "must-revalidate")
}

// session is /_session.
func (h *Hub) session(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.tellSession(w, r)
	case http.MethodPost:
		h.startSession(w, r)
	case http.MethodDelete:
		h.setCookie(w, r, "")
		if !redirected(w, r, "next") {
			couchhttp.WriteJSON(w, http.StatusOK, []byte(`{"ok":true}`))
		}
	}
}

// redirected sends a page's form on to the path that a query parameter names, if it does: one of this host.
func redirected(w http.ResponseWriter, r *http.Request, param string) bool {
	to := r.URL.Query().Get(param)
	if to == "" {
		return false
	}
	if to[0] != '/' || strings.ContainsFunc(to, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }) {
		couchhttp.WriteError(w, couch.BadRequest("path must begin with a /."))
		return true
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	w.Header().Set("Location", scheme+r.Host+to)
	w.WriteHeader(http.StatusFound)
	return true
}

func (h *Hub) tellSession(w http.ResponseWriter, r *http.Request) {
	l := loginOf(r.Context())
	if l.Name == "" && r.URL.Query().Get("basic") == "true" { // makes a browser ask for the password
		refuse(w, r, couch.Unauthorized("Please login."))
		return
	}
	type userCtx struct {
		Name  *string  `json:"name"`
		Roles []string `json:"roles"`
	}
	type info struct {
		Handlers      []string `json:"authentication_handlers"`
		Authenticated string   `json:"authenticated,omitempty"`
	}
	out := struct {
		OK   bool    `json:"ok"`
		User userCtx `json:"userCtx"`
		Info info    `json:"info"`
	}{true, userCtx{nil, roles(&l.user)}, info{[]string{"cookie", "default"}, l.by}}
	if l.Name != "" {
		out.User.Name = &l.Name
	}
	if h.tokens != nil {
		out.Info.Handlers = []string{"cookie", "jwt", "default"}
	}
	writeValue(w, out)
}

func roles(u *user) []string {
	if u.Roles == nil {
		return []string{}
	}
	return u.Roles
}

func (h *Hub) startSession(w http.ResponseWriter, r *http.Request) {
	u, salt, err := h.passwordLogin(r)
	if err != nil {
		e := couch.AsError(err)
		if e.Status == http.StatusUnauthorized {
			h.setCookie(w, r, "")
			if redirected(w, r, "fail") {
				return
			}
		}
		retryAfter(w, err)
		couchhttp.WriteError(w, e)
		return
	}
	h.setCookie(w, r, h.sessions.token(u.Name, salt))
	if redirected(w, r, "next") {
		return
	}
	writeValue(w, struct {
		OK    bool     `json:"ok"`
		Name  string   `json:"name"`
		Roles []string `json:"roles"`
	}{true, u.Name, roles(u)})
}

func (h *Hub) passwordLogin(r *http.Request) (u *user, salt string, err error) {
	name, password, err := credentials(r)
	if err != nil {
		return nil, "", err
	}
	if u, err = h.accounts.login(r.Context(), sourceOf(r), name, password); err != nil {
		return nil, "", err
	}
	acc, err := h.accounts.find(r.Context(), name) // again: the log-in may have changed the salt
	if acc == nil && err == nil {
		err = errLogin
	}
	if err != nil {
		return nil, "", err
	}
	return u, acc.hash.Salt, nil
}

// retryAfter tells how long to wait, if the error says so.
func retryAfter(w http.ResponseWriter, err error) {
	if after := couch.RetryAfter(err); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds()+1)))
	}
}

// credentials reads name and password from a JSON or form body.
func credentials(r *http.Request) (name, password string, err error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<10))
	if err != nil {
		return "", "", couch.BadRequest("The request body could not be read.")
	}
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch t {
	case "application/json":
		var c struct {
			Name     *string `json:"name"`
			Username *string `json:"username"`
			Password string  `json:"password"`
		}
		if json.Unmarshal(body, &c) != nil {
			return "", "", couch.BadRequest("invalid UTF-8 JSON")
		}
		return nameAndPassword(c.Name, c.Username, c.Password)
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return "", "", couch.BadRequest("invalid form")
		}
		return nameAndPassword(formValue(form, "name"), formValue(form, "username"), form.Get("password"))
	}
	return nameAndPassword(nil, nil, "") // of other types CouchDB reads nothing
}

func formValue(form url.Values, key string) *string {
	if !form.Has(key) {
		return nil
	}
	v := form.Get(key)
	return &v
}

// nameAndPassword finds the name to log in by, which clients call "name" or "username".
func nameAndPassword(name, username *string, password string) (string, string, error) {
	switch {
	case name == nil && username == nil:
		return "", "", couch.BadRequest("request body must contain a username")
	case name == nil:
		return *username, password, nil
	case username != nil && *name != *username:
		return "", "", couch.BadRequest("request body contains different usernames")
	}
	return *name, password, nil
}

func writeValue(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		couchhttp.WriteError(w, couch.AsError(fmt.Errorf("session: %w", err)))
		return
	}
	couchhttp.WriteJSON(w, http.StatusOK, b)
}
