package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-kivik/kivik/v4"
	"github.com/go-kivik/kivik/v4/couchdb" // also the driver "couch"
)

// hubFor starts a hub with the administrator admin:PASSWORD.
func (w *world) hubFor(args ...string) *hub {
	w.Helper()
	w.env = append(w.env, "LOVESEAT_ADMIN=admin:PASSWORD")
	return w.hub("hub", args...)
}

// TestPouchDBAuthentication: accounts and sessions by the plugin that browsers use.
func TestPouchDBAuthentication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hubFor("--sign-up", "--user-databases")
	w.output(w.command("node", "pouchdb/clients_auth.mjs", hub.url, "admin", "PASSWORD"))
}

// TestNano: Apache's client for Node.
func TestNano(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hubFor()
	w.output(w.command("node", "pouchdb/clients_nano.mjs", hub.url, "admin", "PASSWORD"))
}

// TestCurl does what docs/operate.md shows and gets the answers that it shows.
func TestCurl(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := []byte("of an identity provider")
	hub := w.hubFor("--jwt-key", "hmac:_default="+base64.StdEncoding.EncodeToString(key))
	text, err := os.ReadFile("../docs/operate.md")
	w.ok(err)
	block := regexp.MustCompile("(?s)<!-- test: curl -->\n```sh\n(.*?)\n```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/operate.md has no block <!-- test: curl -->")
	}
	script, wants := checkedScript(strings.ReplaceAll(string(block[1]), readmeHub, hub.url))
	cmd := w.command("/bin/bash", w.write("script.sh", []byte(script)))
	cmd.Dir = w.dir
	cmd.Env = append(w.env, "token="+tokenOf(key, `{"sub":"bob","exp":4102444800}`))
	r := w.run("", cmd)
	answers := strings.Split(r.stdout, boundary)
	if r.status != 0 || len(answers) != len(wants)+1 || len(wants) < 25 {
		t.Fatalf("status %d, %d answers to %d commands:\n%s\n%s", r.status, len(answers), len(wants), r.stdout, r.stderr)
	}
	for i, want := range wants {
		if !strings.Contains(answers[i], want.text) {
			t.Errorf("%s\nanswers %q, want %q", want.command, answers[i], want.text)
		}
	}
}

// boundary is printed between the answers to the commands of a script.
const boundary = "@@@\n"

type wanted struct{ command, text string }

// checkedScript puts a boundary where a script shows an answer ("#> TEXT") and returns what is shown.
func checkedScript(script string) (string, []wanted) {
	out := "set -euo pipefail\ncurl() { command curl --silent --show-error --max-time 60 \"$@\"; }\n"
	var wants []wanted
	command := ""
	for line := range strings.SplitSeq(script, "\n") {
		if text, ok := strings.CutPrefix(line, "#> "); ok {
			wants = append(wants, wanted{command, text})
			line, command = "printf '"+strings.ReplaceAll(boundary, "\n", `\n`)+"'", ""
		} else {
			command += line + "\n"
		}
		out += line + "\n"
	}
	return out, wants
}

// tokenOf makes a JSON Web Token with the algorithm HS256.
func tokenOf(key []byte, claims string) string {
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"typ":"JWT","alg":"HS256"}`)) + "." + enc.EncodeToString([]byte(claims))
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return text + "." + enc.EncodeToString(m.Sum(nil))
}

// TestKivikDriver: Go's client of CouchDB, logged in with a cookie, by Basic and by a token.
func TestKivikDriver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := []byte("of an identity provider")
	hub := w.hubFor("--jwt-key", "hmac:_default="+base64.StdEncoding.EncodeToString(key), "--jwt-roles", "roles")
	for name, auth := range map[string]kivik.Option{
		"cookie":  couchdb.CookieAuth("admin", "PASSWORD"),
		"default": couchdb.BasicAuth("admin", "PASSWORD"),
		"jwt":     couchdb.JWTAuth(tokenOf(key, `{"sub":"boss","exp":4102444800,"roles":["_admin"]}`)),
	} {
		// A client of its own, so that its connections end with it.
		transport := &http.Transport{}
		client, err := kivik.New("couch", hub.url, auth, couchdb.OptionHTTPClient(&http.Client{Transport: transport}))
		w.ok(err)
		s, err := client.Session(w.ctx)
		w.ok(err)
		if s.AuthenticationMethod != name || strings.Join(s.Roles, "") != "_admin" {
			t.Errorf("%s: %+v", name, s)
		}
		w.ok(client.CreateDB(w.ctx, "kivik-"+name))
		db := client.DB("kivik-" + name)
		w.ok(db.Err())
		w.kivikAttachments(db)
		w.kivikRows(db)
		if err := client.CreateDB(w.ctx, "kivik-"+name); kivik.HTTPStatus(err) != http.StatusPreconditionFailed {
			t.Errorf("%s: %v", name, err)
		}
		w.ok(client.DestroyDB(w.ctx, "kivik-"+name))
		w.ok(client.Close())
		transport.CloseIdleConnections()
	}
}

// kivikAttachments writes attachments with their document as multipart, which is how kivik does it, and reads them.
func (w *world) kivikAttachments(db *kivik.DB) {
	w.Helper()
	big := strings.Repeat(bytes256, 3000)
	content := map[string]string{"small.txt": "small", "dir/big.bin": big}
	atts := kivik.Attachments{}
	for name, text := range content {
		atts.Set(name, &kivik.Attachment{Filename: name, ContentType: "application/octet-stream", Content: io.NopCloser(strings.NewReader(text))})
	}
	rev, err := db.Put(w.ctx, "file ü/x", map[string]any{"n": 1, "_attachments": &atts})
	w.ok(err)
	for name, text := range content {
		a, err := db.GetAttachment(w.ctx, "file ü/x", name)
		w.ok(err)
		if b, err := io.ReadAll(a.Content); err != nil || string(b) != text {
			w.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		w.ok(a.Content.Close())
	}
	doc := db.Get(w.ctx, "file ü/x", kivik.IncludeDocs(), kivik.Param("attachments", true)) // multipart/related
	w.ok(doc.Err())
	got, err := doc.Attachments()
	w.ok(err)
	n := 0
	for {
		a, err := got.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		w.ok(err)
		if b, err := io.ReadAll(a.Content); err != nil || string(b) != content[a.Filename] {
			w.Errorf("%s of the document: %d bytes, %v", a.Filename, len(b), err)
		}
		n++
	}
	w.ok(doc.Close())
	if n != len(content) {
		w.Errorf("%d attachments", n)
	}
	rev, err = db.PutAttachment(w.ctx, "file ü/x", &kivik.Attachment{Filename: "late", ContentType: "text/plain", Content: io.NopCloser(strings.NewReader("late"))}, kivik.Rev(rev))
	w.ok(err)
	meta, err := db.GetAttachmentMeta(w.ctx, "file ü/x", "late")
	w.ok(err)
	if meta.ContentType != "text/plain" || meta.Size != 4 {
		w.Errorf("%+v", meta)
	}
	_, err = db.DeleteAttachment(w.ctx, "file ü/x", rev, "late")
	w.ok(err)
}

// kivikRows reads what many documents give.
func (w *world) kivikRows(db *kivik.DB) {
	w.Helper()
	var docs []any
	var refs []kivik.BulkGetReference
	for i := range 30 {
		docs = append(docs, map[string]any{"_id": fmt.Sprintf("doc%02d", i), "i": i})
		refs = append(refs, kivik.BulkGetReference{ID: fmt.Sprintf("doc%02d", i)})
	}
	results, err := db.BulkDocs(w.ctx, docs)
	w.ok(err)
	for _, r := range results {
		w.ok(r.Error)
	}
	for what, rows := range map[string]*kivik.ResultSet{
		"AllDocs": db.AllDocs(w.ctx, kivik.IncludeDocs(), kivik.Param("startkey", "doc"), kivik.Param("endkey", "doc~")),
		"BulkGet": db.BulkGet(w.ctx, refs),
		"Find":    db.Find(w.ctx, map[string]any{"selector": map[string]any{"i": map[string]any{"$gte": 0}}, "limit": 100}),
	} {
		n := 0
		for rows.Next() {
			var doc struct{ I int }
			w.ok(rows.ScanDoc(&doc))
			n++
		}
		if w.ok(rows.Err()); n != 30 {
			w.Errorf("%s: %d rows", what, n)
		}
	}
	ctx, cancel := context.WithTimeout(w.ctx, waitTime)
	defer cancel()
	changes := db.Changes(ctx, kivik.Param("feed", "longpoll"), kivik.Param("since", "0"))
	n := 0
	for changes.Next() {
		n++
	}
	if w.ok(changes.Err()); n != 31 {
		w.Errorf("%d changes", n)
	}
	diffs := db.RevsDiff(w.ctx, map[string][]string{"doc00": {"1-nope"}})
	if !diffs.Next() {
		w.Errorf("RevsDiff: %v", diffs.Err())
	}
	w.ok(diffs.Close())
}

// decodeBody reads a JSON answer to its end.
func decodeBody(resp *http.Response, out any) error {
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(out)
}
