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
	"strconv"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// Cookie sessions: https://docs.couchdb.org/en/stable/api/server/authn.html#cookie-authentication

const cookieName = "AuthSession"

// sessions makes and checks cookies. They are signed, not kept: name, time and a
// MAC over both with a key of this process, so that a restart ends all sessions.
type sessions struct {
	key     []byte
	timeout time.Duration
	now     func() time.Time
}

func newSessions(timeout time.Duration) *sessions {
	s := &sessions{key: make([]byte, 32), timeout: timeout, now: time.Now}
	_, _ = rand.Read(s.key) // cannot fail
	return s
}

// token is base64url("name:TIME:" MAC), TIME the hexadecimal Unix time of its making.
func (s *sessions) token(name string, salt []byte) string {
	text := name + ":" + strings.ToUpper(strconv.FormatInt(s.now().Unix(), 16))
	return base64.RawURLEncoding.EncodeToString([]byte(text + ":" + string(s.mac(text, salt))))
}

func (s *sessions) mac(text string, salt []byte) []byte {
	m := hmac.New(sha256.New, append(append([]byte{}, s.key...), salt...))
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
func (s *sessions) verify(text string, made time.Time, mac, salt []byte) (age time.Duration, ok bool) {
	if !hmac.Equal(mac, s.mac(text, salt)) {
		return 0, false
	}
	age = s.now().Sub(made)
	return age, age < s.timeout && age > -time.Minute
}

// sessionUser returns whose session a request's cookie is, nil if it has none. A
// session in use is renewed when a tenth of its time is over.
func (h *Hub) sessionUser(w http.ResponseWriter, r *http.Request) *user {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	name, text, made, mac, ok := h.sessions.read(c.Value)
	if !ok {
		return nil
	}
	u, salt := h.accounts.find(r.Context(), name)
	if u == nil {
		return nil
	}
	age, ok := h.sessions.verify(text, made, mac, salt)
	if !ok {
		return nil
	}
	if age > h.sessions.timeout/10 && !isPath(r, "/_session") {
		h.setCookie(w, r, h.sessions.token(name, salt))
	}
	return u
}

func (h *Hub) setCookie(w http.ResponseWriter, r *http.Request, token string) {
	c := &http.Cookie{Name: cookieName, Value: token, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode, MaxAge: int(h.sessions.timeout.Seconds())}
	if token == "" {
		c.MaxAge = -1
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
		couchhttp.WriteJSON(w, http.StatusOK, []byte(`{"ok":true}`))
	default:
		w.Header().Set("Allow", "DELETE,GET,HEAD,POST")
		couchhttp.WriteError(w, &couch.Error{Status: 405, Code: "method_not_allowed", Reason: "Only DELETE,GET,HEAD,POST allowed"})
	}
}

func (h *Hub) tellSession(w http.ResponseWriter, r *http.Request) {
	l := loginOf(r.Context())
	info := map[string]any{"authentication_handlers": []string{"cookie", "default"}}
	if l.by != "" {
		info["authenticated"] = l.by
	}
	var name any
	if l.Name != "" {
		name = l.Name
	}
	writeValue(w, map[string]any{"ok": true, "userCtx": map[string]any{"name": name, "roles": roles(&l.user)}, "info": info})
}

func roles(u *user) []string {
	if u.Roles == nil {
		return []string{}
	}
	return u.Roles
}

func (h *Hub) startSession(w http.ResponseWriter, r *http.Request) {
	name, password, err := credentials(r)
	if err == nil && h.accounts == nil {
		err = errLogin
	}
	var u *user
	if err == nil {
		u, err = h.accounts.login(r.Context(), name, password)
	}
	if err != nil {
		h.setCookie(w, r, "")
		couchhttp.WriteError(w, couch.AsError(err))
		return
	}
	_, salt := h.accounts.find(r.Context(), u.Name)
	h.setCookie(w, r, h.sessions.token(u.Name, salt))
	writeValue(w, map[string]any{"ok": true, "name": u.Name, "roles": roles(u)})
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
			Name     string `json:"name"`
			Username string `json:"username"`
			Password string `json:"password"`
		}
		if json.Unmarshal(body, &c) != nil {
			return "", "", couch.BadRequest("invalid UTF-8 JSON")
		}
		if c.Name == "" {
			c.Name = c.Username
		}
		return c.Name, c.Password, nil
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return "", "", couch.BadRequest("invalid form")
		}
		return form.Get("name"), form.Get("password"), nil
	}
	return "", "", &couch.Error{Status: 415, Code: "bad_content_type", Reason: "Content-Type must be application/json or application/x-www-form-urlencoded"}
}

func writeValue(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		couchhttp.WriteError(w, couch.AsError(fmt.Errorf("session: %w", err)))
		return
	}
	couchhttp.WriteJSON(w, http.StatusOK, b)
}
