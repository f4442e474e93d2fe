package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

// write makes a file in a new directory and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs the program to its end.
func run(t *testing.T, env map[string]string, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs buffer
	m := &Main{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Getenv: func(k string) string { return env[k] }}
	status = m.Run(t.Context())
	return status, out.String(), errs.String()
}

// TestSettings: the command line goes before the environment, that before the file, and all have the same names.
func TestSettings(t *testing.T) {
	file := write(t, "hub.toml", `
addr = "127.0.0.1:1111"
data = "from file"
log = "debug"
log-json = true
session-timeout = "1h"
origin = ["https://a.example", "https://b.example"]
admin = ["ann:s3cret", "bob:-pbkdf2:sha256-00,s3cret,10"]
secret = "000102030405060708090a0b0c0d0e0f"
jwt-key = ["hmac:k=czNjcmV0", '''rsa:r=-----BEGIN s3cret
-----END''']
sign-up = true
`)
	env := map[string]string{"LOVESEAT_CONFIG": file, "LOVESEAT_DATA": "from environment", "LOVESEAT_LOG": "warn"}
	status, out, stderr := run(t, env, "", "config", "--log", "error")
	if status != 0 {
		t.Fatalf("%d %s", status, stderr)
	}
	for _, want := range []string{
		`log = "error"  # flag`, `data = "from environment"  # environment`, `addr = "127.0.0.1:1111"  # file`, `log-json = true  # file`,
		`origin = ["https://a.example", "https://b.example"]  # file`, `admin = ["ann:…", "bob:…"]  # file`, `secret = "…"  # file`,
		`jwt-key = ["hmac:k=…", "rsa:r=…"]  # file`, `session-timeout = "1h0m0s"  # file`, `sign-up = true  # file`, `require-user = false  # default`,
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "s3cret") || strings.Contains(out, "czNjcmV0") || strings.Contains(out, "0f") {
		t.Errorf("a secret is printed:\n%s", out)
	}
	var back map[string]any
	if _, err := toml.Decode(out, &back); err != nil || back["addr"] != "127.0.0.1:1111" {
		t.Errorf("what is printed is no configuration: %v", err)
	}
	if text, _ := os.ReadFile(file); !strings.Contains(string(text), `"ann:s3cret"`) {
		t.Error("printing changes the file")
	}
}

func TestSettingsRefused(t *testing.T) {
	for text, says := range map[string]string{
		`adr = "x"`:                   `there is no setting "adr"`,
		`help = true`:                 `there is no setting "help"`,
		`sign-up = "s3cret"`:          `invalid value for sign-up`,
		`addr = ["a", "b"]`:           `invalid value for addr`,
		"[admin]\nann = \"s3cret\"":   `invalid value for admin`,
		"log = \"x\"\nadmin = s3cret": `line 2 is not TOML`,
	} {
		status, _, stderr := run(t, nil, "", "--config", write(t, "hub.toml", text))
		if status != 2 || !strings.Contains(stderr, says) || strings.Contains(stderr, "s3cret") {
			t.Errorf("%q: %d %s", text, status, stderr)
		}
	}
	if status, _, stderr := run(t, nil, "", "config", "--config", "/none.toml"); status != 1 || !strings.Contains(stderr, "no such file") {
		t.Errorf("%d %s", status, stderr)
	}
	for _, args := range [][]string{{"--secret", "00"}, {"--jwt-key", "s3cret"}, {"--jwt-key", "hmac:k=s3cret!"}, {"--trusted-proxy", "x"}, {"--tls-cert", "x"}} {
		status, _, stderr := run(t, nil, "", append(args, "--data", t.TempDir(), "--addr", "127.0.0.1:0")...)
		if status == 0 || strings.Contains(stderr, "s3cret") {
			t.Errorf("%q: %d %s", args, status, stderr)
		}
	}
}

// TestPasswordsInTheFile are replaced by their hashes when the hub starts, and nothing else is.
func TestPasswordsInTheFile(t *testing.T) {
	file := write(t, "hub.toml", "# who may do everything\nadmin = [\n  \"ann:se:cret\", # the first\n  'bob:hush', \"eve:say \\\"please\\\"\"]\nlog = \"warn\"\n")
	for range 2 { // what was written is understood
		url, _ := serve(t, nil, "--config", file, "--addr", "127.0.0.1:0", "--data", t.TempDir())
		for name, password := range map[string]string{"ann": "se:cret", "bob": "hush", "eve": `say "please"`} {
			if status := get(t, url+"/_all_dbs", name, password); status != 200 {
				t.Errorf("%s: %d", name, status)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil || strings.Count(string(text), ":-pbkdf2:sha256-") != 3 || strings.Contains(string(text), "cret") || strings.Contains(string(text), "hush") || strings.Contains(string(text), "please") ||
			!strings.Contains(string(text), "# who may do everything\nadmin = [\n  \"ann:-") || !strings.HasSuffix(string(text), "\nlog = \"warn\"\n") {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// TestSecretIsKept: sessions outlast a restart.
func TestSecretIsKept(t *testing.T) {
	data := filepath.Join(t.TempDir(), "new")
	a, err := keptSecret(data)
	if err != nil || len(a) != 32 {
		t.Fatalf("%x %v", a, err)
	}
	b, err := keptSecret(data)
	if err != nil || string(a) != string(b) {
		t.Errorf("%x %x %v", a, b, err)
	}
	if info, err := os.Stat(filepath.Join(data, "session.secret")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(data, "session.secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := keptSecret(data); err == nil {
		t.Errorf("an empty file is the secret %x", s)
	}
}

// newCertificate writes a self-signed certificate for 127.0.0.1 and its key.
func newCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "hub"}, DNSNames: []string{"localhost", "cert.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{key: {Type: "PRIVATE KEY", Bytes: keyDER}, cert: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHosts: the hub answers to the names that flags, the environment, the file and the certificate give, prints them, and answers to no others.
func TestHosts(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	newCertificate(t, cert, key, 1)
	ask := func(url, host string) int {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	file := write(t, "hub.toml", `host = ["file.example", "second.example:8443"]`)
	for name, tt := range map[string]struct {
		env   map[string]string
		args  []string
		hosts []string
	}{
		"flags":       {nil, []string{"--host", "a.example", "--host", "b.example"}, []string{"a.example", "b.example"}},
		"environment": {map[string]string{"LOVESEAT_HOST": "a.example,b.example:1234"}, nil, []string{"a.example", "b.example:1234"}},
		"file":        {nil, []string{"--config", file}, []string{"file.example", "second.example:8443"}},
		"certificate": {nil, []string{"--tls-cert", cert, "--tls-key", key}, []string{"cert.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			url, stdout := serve(t, tt.env, append(tt.args, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--admin", "ann:secret", "--json")...)
			var event struct{ Hosts []string }
			line, _, _ := strings.Cut(stdout.String(), "\n")
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				t.Fatal(err)
			}
			for _, host := range tt.hosts {
				if !slices.Contains(event.Hosts, host) {
					t.Errorf("%s is not printed: %s", host, line)
				}
				if status := ask(url, host); status != 200 {
					t.Errorf("%s: %d", host, status)
				}
			}
			if status := ask(url, "evil.example"); status != 403 {
				t.Errorf("another name: %d", status)
			}
		})
	}
}

// TestTLS: the certificate is read again when its files change, and a broken one does not stop the hub.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	newCertificate(t, cert, key, 1)
	url, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(url, "https://") {
		t.Fatal(url)
	}
	if n := serial(t, url); n != 1 {
		t.Errorf("certificate %d", n)
	}
	c := &certificate{cert: cert, key: key, log: slog.New(slog.DiscardHandler)}
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	newCertificate(t, cert, key, 2)
	future := time.Now().Add(time.Minute)
	if err := os.Chtimes(cert, future, future); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.get(nil); err != nil || leaf(t, got).SerialNumber.Int64() != 1 {
		t.Errorf("%v", err)
	}
	newCertificate(t, cert, key, 3)
	c.checked = time.Time{}
	if got, err := c.get(nil); err != nil || leaf(t, got).SerialNumber.Int64() != 3 {
		t.Errorf("%v", err)
	}
}

func leaf(t *testing.T, c *tls.Certificate) *x509.Certificate {
	t.Helper()
	l, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serial asks the hub over TLS, with HTTP/2, and returns its certificate's number.
func serial(t *testing.T, url string) int64 {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get(url + "/_up")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}
	return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
}

// TestUserCommands changes accounts while a hub serves them.
func TestUserCommands(t *testing.T) {
	data := t.TempDir()
	url, _ := serve(t, map[string]string{"LOVESEAT_ADMIN": "ann:secret"}, "--addr", "127.0.0.1:0", "--data", data)
	for i, tt := range []struct {
		stdin  string
		args   string
		status int
		says   string
		login  int
	}{
		{"hush\n", "add bob --role crew --role chief", 0, "", 200},
		{"other\n", "add bob", 1, "exists", 200},
		{"", "list", 0, "bob\tcrew\tchief\n", 200},
		{"", "list --json", 0, `{"name":"bob","roles":["crew","chief"]}`, 200},
		{"other", "passwd bob", 0, "", 401},
		{"hush\r\n", "passwd bob", 0, "", 200},
		{"\n", "passwd bob", 1, "password is empty", 200},
		{"x\n", "passwd none", 1, "no user", 200},
		{"x\n", "add _x", 1, "may not start with underscore", 200},
		{"x\n", "add x --role _admin", 1, "No system roles", 200},
		{"", "remove none", 1, "no user", 200},
		{"", "remove bob", 0, "", 401},
		{"", "remove", 2, "want one user name", 401},
		{"", "frobnicate", 2, "unknown argument", 401},
		{"", "", 2, "say what", 401},
	} {
		status, out, stderr := run(t, nil, tt.stdin, append([]string{"user", "--data", data}, strings.Fields(tt.args)...)...)
		if status != tt.status || !strings.Contains(out+stderr, tt.says) {
			t.Errorf("%d %s: %d %q %q", i, tt.args, status, out, stderr)
		}
		eventually(t, func() bool { return get(t, url+"/_session", "bob", "hush") == tt.login })
		if t.Failed() {
			t.Fatalf("after %q", tt.args)
		}
	}
}

// eventually waits for another process's change to be noticed.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(300 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("it is not noticed")
			return
		}
	}
}

// TestBackupAndRestore copies the databases of a hub that runs.
func TestBackupAndRestore(t *testing.T) {
	data, copied, restored := t.TempDir(), filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "restored")
	url, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", data)
	put := func(path, body string) {
		req, _ := http.NewRequestWithContext(context.Background(), "PUT", url+path, strings.NewReader(body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != 201 {
			t.Fatalf("%s: %v %v", path, resp, err)
		}
		resp.Body.Close()
	}
	put("/notes", "")
	put("/notes/one", `{"n":1}`)
	for i, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"backup", copied, "--data", data}, 0, "The backup is in"},
		{[]string{"backup", copied, "--data", data}, 1, "is not empty"},
		{[]string{"backup", copied + "2", "--data", filepath.Join(data, "none")}, 1, "there are no databases"},
		{[]string{"restore", copied, "--data", data}, 1, "is not empty"},
		{[]string{"restore", t.TempDir(), "--data", restored}, 1, "is no backup"},
		{[]string{"restore", "--data", restored}, 2, "want one directory"},
		{[]string{"restore", copied, "--data", restored}, 0, "are restored in"},
	} {
		if status, out, stderr := run(t, nil, "", tt.args...); status != tt.status || !strings.Contains(out+stderr, tt.says) {
			t.Errorf("%d: %d %q %q", i, status, out, stderr)
		}
	}
	again, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", restored)
	if status := get(t, again+"/notes/one", "", ""); status != 200 {
		t.Errorf("the document: %d", status)
	}
	if _, err := os.Stat(filepath.Join(data, "none")); err == nil {
		t.Error("a backup of nothing makes a directory")
	}
}

// TestDocumentation: the manual names settings that there are.
func TestDocumentation(t *testing.T) {
	for _, name := range []string{"docs/operate.md", "deploy/hubserver.service", "deploy/hubserver.toml", "Dockerfile"} {
		text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		m := &Main{}
		root := m.command()
		for _, f := range regexp.MustCompile(`(?m)(?:hubserver[^\n]*? |`+"`"+`)--([a-z-]+)`).FindAllStringSubmatch(string(text), -1) {
			if root.PersistentFlags().Lookup(f[1]) == nil && f[1] != "role" {
				t.Errorf("%s: there is no --%s", name, f[1])
			}
		}
		for _, f := range regexp.MustCompile(`LOVESEAT_([A-Z_]+)`).FindAllStringSubmatch(string(text), -1) {
			if root.PersistentFlags().Lookup(strings.ToLower(strings.ReplaceAll(f[1], "_", "-"))) == nil {
				t.Errorf("%s: there is no LOVESEAT_%s", name, f[1])
			}
		}
	}
	for _, line := range strings.Split(string(must(os.ReadFile("../../deploy/hubserver.toml"))), "\n") { // with what is commented out
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "# "), " = "); ok && (&Main{}).command().PersistentFlags().Lookup(name) == nil {
			t.Errorf("deploy/hubserver.toml: there is no setting %q", name)
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
