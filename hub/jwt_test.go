package hub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A signer makes tokens of one algorithm, as an identity provider does.
type signer struct {
	alg, kid string
	key      any
}

func (k *signer) token(t testing.TB, claims string) string {
	header := `{"typ":"JWT","alg":"` + k.alg + `"`
	if k.kid != "" {
		header += `,"kid":"` + k.kid + `"`
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(header+"}")) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	h := jwtAlgorithms[k.alg].hash
	var sig []byte
	var err error
	switch key := k.key.(type) {
	case []byte:
		m := hmac.New(h.New, key)
		m.Write([]byte(text))
		sig = m.Sum(nil)
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, key, h, digest(h, []byte(text)))
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, key, digest(h, []byte(text)))
		n := (key.Curve.Params().BitSize + 7) / 8
		sig, err = append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...), e
	case ed25519.PrivateKey:
		sig = ed25519.Sign(key, []byte(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func publicPEM(t testing.TB, key crypto.PublicKey) string {
	b, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

// signers makes one of each kind, and the configuration that trusts them.
func signers(t testing.TB) ([]*signer, JWT) {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("0123456789abcdef0123456789abcdef")
	c := JWT{Keys: map[string]string{
		"hmac:_default": base64.StdEncoding.EncodeToString(secret),
		"rsa:r1":        publicPEM(t, rsaKey.Public()),
		"eddsa:e1":      strings.ReplaceAll(publicPEM(t, edKey.Public()), "\n", `\n`), // as in CouchDB's configuration
	}}
	all := []*signer{
		{"HS256", "", secret}, {"HS384", "", secret}, {"HS512", "", secret},
		{"RS256", "r1", rsaKey}, {"RS384", "r1", rsaKey}, {"RS512", "r1", rsaKey}, {"EdDSA", "e1", edKey},
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.Keys["ec:"+alg] = publicPEM(t, key.Public())
		all = append(all, &signer{alg, alg, key})
	}
	return all, c
}

func TestTokens(t *testing.T) {
	all, c := signers(t)
	s := start(t, Config{Admin: admin, JWT: c})
	soon := time.Now().Add(time.Minute).Unix()
	claims := fmt.Sprintf(`{"sub":"carol","exp":%d,"_couchdb.roles":["crew"]}`, soon)
	for _, k := range all {
		token := k.token(t, claims)
		a := s.do("GET", "/_session", "", "Authorization: Bearer "+token)
		var out struct {
			UserCtx struct {
				Name  string
				Roles []string
			}
			Info struct{ Authenticated string }
		}
		if json.Unmarshal(a.body, &out) != nil || out.UserCtx.Name != "carol" || len(out.UserCtx.Roles) != 1 || out.Info.Authenticated != "jwt" {
			t.Errorf("%s: %d %s", k.alg, a.StatusCode, a.body)
		}
		i := strings.LastIndexByte(token, '.')
		forged := token[:i] + "." + strings.ToUpper(token[i+1:i+5]) + "AAAA" + token[i+9:]
		if a := s.do("GET", "/_session", "", "Authorization: Bearer "+forged); a.StatusCode != 400 {
			t.Errorf("%s: a forged signature: %d %s", k.alg, a.StatusCode, a.body)
		}
	}
}

func TestTokenRefusals(t *testing.T) {
	all, c := signers(t)
	c.Require = []string{"exp", "iss=https://id.example.org"}
	s := start(t, Config{Admin: admin, JWT: c})
	hs := all[0]
	now := time.Now().Unix()
	rsaPEM := []byte(c.Keys["rsa:r1"])
	ok := fmt.Sprintf(`{"sub":"carol","iss":"https://id.example.org","exp":%d}`, now+60)
	for _, tt := range []struct {
		name   string
		by     *signer
		claims string
		status int
		reason string
	}{
		{"right", hs, ok, 200, `"carol"`},
		{"late", hs, fmt.Sprintf(`{"sub":"carol","iss":"https://id.example.org","exp":%d}`, now-1), 401, "exp not in future"},
		{"early", hs, fmt.Sprintf(`{"sub":"carol","iss":"https://id.example.org","exp":%d,"nbf":%d}`, now+60, now+30), 401, "nbf not in past"},
		{"no exp", hs, `{"sub":"carol","iss":"https://id.example.org"}`, 400, "Missing exp claim"},
		{"exp is no number", hs, `{"sub":"carol","iss":"https://id.example.org","exp":"later"}`, 400, "Invalid exp claim"},
		{"exp is null", hs, `{"sub":"carol","iss":"https://id.example.org","exp":null}`, 400, "Invalid exp claim"},
		{"no iss", hs, fmt.Sprintf(`{"sub":"carol","exp":%d}`, now+60), 400, "Missing iss claim"},
		{"other iss", hs, fmt.Sprintf(`{"sub":"carol","iss":"x","exp":%d}`, now+60), 400, "Invalid iss claim"},
		{"no sub", hs, fmt.Sprintf(`{"iss":"https://id.example.org","exp":%d}`, now+60), 401, "Token missing sub claim."},
		{"no object", hs, `[]`, 400, "Malformed token"},
		{"another key", &signer{"HS256", "", []byte("x")}, ok, 400, "Bad HMAC"},
		{"unknown kid", &signer{"HS256", "k9", []byte("x")}, ok, 400, "Unknown kid"},
		{"public key as secret", &signer{"HS256", "r1", rsaPEM}, ok, 400, "Unknown kid"},
		{"no signature", &signer{"ES384", "ES384", nil}, ok, 400, "Bad signature"},
		{"none", &signer{"none", "", nil}, ok, 400, "Invalid alg header parameter"},
	} {
		a := s.do("GET", "/_session", "", "Authorization: Bearer "+tt.by.token0(t, tt.claims))
		if a.StatusCode != tt.status || !strings.Contains(string(a.body), tt.reason) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, a.StatusCode, a.body, tt.status, tt.reason)
		}
	}
	for _, k := range all { // a key signs with a hash that is not its curve's
		if k.alg == "ES256" {
			token := (&signer{"ES384", "ES256", k.key}).token(t, ok)
			if a := s.do("GET", "/_session", "", "Authorization: Bearer "+token); a.StatusCode != 400 {
				t.Errorf("the curve of another algorithm: %d %s", a.StatusCode, a.body)
			}
		}
	}
	a := s.do("PUT", "/_users/org.couchdb.user:carol", `{"name":"carol","type":"user","roles":[],"password":"x"}`, asJSON, "Authorization: Bearer "+hs.token(t, ok))
	if a.StatusCode != 403 || !strings.Contains(string(a.body), "Only administrators may make accounts here.") {
		t.Errorf("a token outlasts itself as an account: %d %s", a.StatusCode, a.body)
	}
	for _, junk := range []string{"", "a", "a.b", "a.b.c", "a.b.c.d", "..", "e30.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.*"} {
		if a := s.do("GET", "/_session", "", "Authorization: Bearer "+junk); a.StatusCode != 400 {
			t.Errorf("%q: %d %s", junk, a.StatusCode, a.body)
		}
	}
}

// token0 signs with an HMAC whatever the algorithm is called.
func (k *signer) token0(t testing.TB, claims string) string {
	if key, ok := k.key.([]byte); ok && jwtAlgorithms[k.alg].key == "hmac" {
		return (&signer{k.alg, k.kid, key}).token(t, claims)
	}
	header := fmt.Sprintf(`{"alg":%q,"kid":%q}`, k.alg, k.kid)
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
}

func TestRolesOfTokens(t *testing.T) {
	for path, want := range map[string]string{"_couchdb.roles": "[a]", "realm.roles": "[b]", "realm.deep.roles": "[c]", "none": "[]", "realm": "[]", "text.x": "[]"} {
		tk := &tokens{roles: path}
		var claims map[string]json.RawMessage
		_ = json.Unmarshal([]byte(`{"_couchdb.roles":["a"],"realm":{"roles":["b"],"deep":{"roles":["c"]}},"text":"x"}`), &claims)
		if got := fmt.Sprint(tk.rolesOf(claims)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for name, key := range map[string]string{"hmac:": "AAAA", "hmac:k": "*", "hmac:e": "", "rsa:k": "AAAA", "dsa:k": "AAAA", "k": "AAAA"} {
		if _, err := newTokens(JWT{Keys: map[string]string{name: key}}); err == nil {
			t.Errorf("%s: %q was taken for a key", name, key)
		}
	}
}

// FuzzToken: whatever comes as a token, nobody is let in by it and nothing panics.
func FuzzToken(f *testing.F) {
	_, c := signers(f)
	tk, err := newTokens(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.AAAA")
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6IkVTMjU2In0.e30.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		if u, err := tk.user(token); err == nil {
			t.Fatalf("%q is %v", token, u)
		}
	})
}

// FuzzUser: whatever a user document says, it is read or refused, and no role of the system comes out of it.
func FuzzUser(f *testing.F) {
	f.Add([]byte(`{"name":"a","roles":["_admin","x"],"password_scheme":"pbkdf2","iterations":1e9,"derived_key":"","salt":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseMembers(body)
		if err != nil {
			return
		}
		if again, err := parseMembers(m.object()); err != nil || string(again.object()) != string(m.object()) {
			t.Fatalf("%q does not read back: %v", body, err)
		}
		_, _ = rolesMember(m)
		_ = checkScheme(m)
		hash := hashOf(m)
		if hash.Iterations > 1000 {
			hash.Iterations = 1000
		}
		if ok, _ := hash.verify("wrong"); ok {
			t.Fatalf("%q lets everybody in", body)
		}
	})
}
