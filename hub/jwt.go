package hub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384 and crypto.SHA512
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// JWT configures log-in by JSON Web Tokens (RFC 7519) in "Authorization: Bearer".
// The zero value allows none.
//
// https://docs.couchdb.org/en/stable/api/server/authn.html#jwt-authentication
type JWT struct {
	// Keys verify tokens. A key's name is its type and the "kid" of the tokens
	// it is for, or "_default" for tokens without: "hmac:_default", "rsa:k1",
	// "ec:k1", "eddsa:k1". An HMAC key is base64, the others PEM of the public
	// key, in which "\n" may stand for a new line.
	Keys map[string]string
	// Require names claims that a token must have, "exp" among them, or have
	// with a value: "iss=https://id.example.org". nil: exp.
	Require []string
	// RolesClaim is the claim with the user's roles, a name or a path with dots.
	// "": "_couchdb.roles".
	RolesClaim string
}

// jwtAlgorithms is the type of key and the hash of each algorithm of RFC 7518 section 3.1 and RFC 8037 that is taken.
var jwtAlgorithms = map[string]struct {
	key  string
	hash crypto.Hash
	bits int // of the curve
}{
	"HS256": {"hmac", crypto.SHA256, 0}, "HS384": {"hmac", crypto.SHA384, 0}, "HS512": {"hmac", crypto.SHA512, 0},
	"RS256": {"rsa", crypto.SHA256, 0}, "RS384": {"rsa", crypto.SHA384, 0}, "RS512": {"rsa", crypto.SHA512, 0},
	"ES256": {"ec", crypto.SHA256, 256}, "ES384": {"ec", crypto.SHA384, 384}, "ES512": {"ec", crypto.SHA512, 521},
	"EdDSA": {"eddsa", 0, 0},
}

// tokens verifies JSON Web Tokens.
type tokens struct {
	keys    map[string]any // []byte, *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey
	require []string
	roles   string
	now     func() time.Time
}

// newTokens returns nil if there are no keys.
func newTokens(c JWT) (*tokens, error) {
	if len(c.Keys) == 0 {
		return nil, nil
	}
	t := &tokens{keys: map[string]any{}, require: c.Require, roles: c.RolesClaim, now: time.Now}
	if t.require == nil {
		t.require = []string{"exp"}
	}
	if t.roles == "" {
		t.roles = "_couchdb.roles"
	}
	for name, text := range c.Keys {
		kind, kid, _ := strings.Cut(name, ":")
		key, err := parseKey(kind, text)
		if err != nil || kid == "" {
			return nil, fmt.Errorf("JWT key %q: want hmac:, rsa:, ec: or eddsa: with a key id, and a key of that type", name) // not the key: it may be a secret
		}
		t.keys[name] = key
	}
	return t, nil
}

func parseKey(kind, text string) (any, error) {
	if kind == "hmac" {
		key, err := base64.StdEncoding.DecodeString(text)
		if err == nil && len(key) == 0 {
			err = fmt.Errorf("empty key")
		}
		return key, err
	}
	block, _ := pem.Decode([]byte(strings.ReplaceAll(text, `\n`, "\n")))
	if block == nil {
		return nil, fmt.Errorf("no PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		if key, err = x509.ParsePKCS1PublicKey(block.Bytes); err != nil {
			return nil, err
		}
	}
	var ok bool
	switch kind {
	case "rsa":
		_, ok = key.(*rsa.PublicKey)
	case "ec":
		_, ok = key.(*ecdsa.PublicKey)
	case "eddsa":
		_, ok = key.(ed25519.PublicKey)
	}
	if !ok {
		return nil, fmt.Errorf("no %s key", kind)
	}
	return key, nil
}

// user returns whom a token stands for. Errors: bad_request (400) for what is
// no token of ours, unauthorized (401) for one whose time is not now, in CouchDB's words.
func (t *tokens) user(token string) (*user, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, couch.BadRequest("Malformed token")
	}
	var header struct {
		Alg  string   `json:"alg"`
		Kid  *string  `json:"kid"`
		Crit []string `json:"crit"`
	}
	var claims map[string]json.RawMessage
	if decodePart(parts[0], &header) != nil || decodePart(parts[1], &claims) != nil || claims == nil {
		return nil, couch.BadRequest("Malformed token")
	}
	if header.Crit != nil { // RFC 7515 section 4.1.11: what must be understood is not
		return nil, couch.BadRequest("Invalid crit header parameter")
	}
	if header.Alg == "" {
		return nil, couch.BadRequest("Missing alg header parameter")
	}
	// The signature first: nothing is told about the claims of others' tokens.
	if err := t.verify(header.Alg, header.Kid, parts); err != nil {
		return nil, err
	}
	if err := t.checkClaims(claims); err != nil {
		return nil, err
	}
	var u user
	if json.Unmarshal(claims["sub"], &u.Name) != nil || u.Name == "" {
		return nil, couch.Unauthorized("Token missing sub claim.")
	}
	u.Roles = t.rolesOf(claims)
	return &u, nil
}

func decodePart(part string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func (t *tokens) verify(alg string, kid *string, parts []string) error {
	a, ok := jwtAlgorithms[alg]
	if !ok {
		return couch.BadRequest("Invalid alg header parameter")
	}
	id := "_default"
	if kid != nil {
		id = *kid
	}
	key, ok := t.keys[a.key+":"+id] // by the algorithm's own type: a public key is never taken for a secret
	if !ok {
		return couch.BadRequest("Unknown kid")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return couch.BadRequest("Malformed token")
	}
	text := []byte(parts[0] + "." + parts[1])
	reason := "Bad signature"
	switch k := key.(type) {
	case []byte:
		m := hmac.New(a.hash.New, k)
		m.Write(text)
		ok, reason = hmac.Equal(sig, m.Sum(nil)), "Bad HMAC"
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(k, a.hash, digest(a.hash, text), sig) == nil
	case *ecdsa.PublicKey:
		ok = k.Curve.Params().BitSize == a.bits && verifyECDSA(k, digest(a.hash, text), sig)
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, text, sig)
	}
	if !ok {
		return couch.BadRequest(reason)
	}
	return nil
}

func digest(h crypto.Hash, text []byte) []byte {
	d := h.New()
	d.Write(text)
	return d.Sum(nil)
}

// verifyECDSA takes a signature as RFC 7518 section 3.4 writes it: R and S, of the curve's length each.
func verifyECDSA(k *ecdsa.PublicKey, sum, sig []byte) bool {
	n := (k.Curve.Params().BitSize + 7) / 8
	return len(sig) == 2*n && ecdsa.Verify(k, sum, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
}

// checkClaims looks at the required claims, and at the times whether they are required or not.
func (t *tokens) checkClaims(claims map[string]json.RawMessage) error {
	for _, want := range t.require {
		name, value, exact := strings.Cut(want, "=")
		got, ok := claims[name]
		if !ok {
			return couch.BadRequest("Missing " + name + " claim")
		}
		if exact && !claimIs(got, value) {
			return couch.BadRequest("Invalid " + name + " claim")
		}
	}
	now := float64(t.now().UnixMilli()) / 1000
	for _, c := range []struct {
		name, reason string
		good         func(at float64) bool
	}{
		{"exp", "exp not in future", func(at float64) bool { return at > now }},
		{"nbf", "nbf not in past", func(at float64) bool { return at <= now }},
	} {
		v, ok := claims[c.name]
		if !ok {
			continue
		}
		var at float64
		if string(v) == "null" || json.Unmarshal(v, &at) != nil {
			return couch.BadRequest("Invalid " + c.name + " claim")
		}
		if !c.good(at) {
			return couch.Unauthorized(c.reason)
		}
	}
	return nil
}

// claimIs reports whether a claim is a string, or a list that has it ("aud").
func claimIs(claim json.RawMessage, want string) bool {
	var one string
	var list []string
	return json.Unmarshal(claim, &one) == nil && one == want || json.Unmarshal(claim, &list) == nil && slices.Contains(list, want)
}

func (t *tokens) rolesOf(claims map[string]json.RawMessage) []string {
	v, ok := claims[t.roles]
	for rest, at := t.roles, claims; !ok && rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, ".")
		if v = at[name]; rest == "" {
			break
		}
		at = nil
		if json.Unmarshal(v, &at) != nil {
			return nil
		}
	}
	var roles []string
	if json.Unmarshal(v, &roles) != nil {
		return nil
	}
	return roles
}
