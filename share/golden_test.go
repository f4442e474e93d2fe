package share

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// The golden vectors are read by these tests and by those of web/plugin: what one
// language writes the other must read. LOVESEAT_GOLDEN=1 writes those of Go anew.
const goldenDir = "../web/plugin/test/golden"

// goldenShare is what Go writes: share.json.
type goldenShare struct {
	Sign    []byte            `json:"sign"` // seed
	Seal    []byte            `json:"seal"` // private key
	Peer    string            `json:"peer"`
	Keys    Keys              `json:"keys"`
	Nonces  map[string]string `json:"nonces"`  // by database
	IDs     map[string]string `json:"ids"`     // of the peer's shares, by nonce
	Docs    []goldenCanonical `json:"docs"`    // and how they are signed
	Share   json.RawMessage   `json:"share"`   // a document of the peer
	Refused []goldenRefused   `json:"refused"` // share documents
	Signal  json.RawMessage   `json:"signal"`  // a document to the peer, from itself
	Payload string            `json:"payload"` // of it
}

type goldenCanonical struct {
	ID   string          `json:"id"`
	Doc  json.RawMessage `json:"doc"`
	Text string          `json:"text"`
}

type goldenRefused struct {
	Why string          `json:"why"`
	Doc json.RawMessage `json:"doc"`
}

// goldenJS is what JavaScript writes for the same identity: js.json.
type goldenJS struct {
	Share   json.RawMessage `json:"share"`
	Signal  json.RawMessage `json:"signal"`
	Payload string          `json:"payload"`
}

func goldenIdentity(t *testing.T) *Identity {
	t.Helper()
	seal, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return newIdentity(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{42}, ed25519.SeedSize)), seal)
}

func TestGolden(t *testing.T) {
	path := filepath.Join(goldenDir, "share.json")
	if os.Getenv("LOVESEAT_GOLDEN") != "" {
		writeGolden(t, path)
	}
	var g goldenShare
	readJSON(t, path, &g)
	id := goldenIdentity(t)
	if g.Peer != id.ID() || !bytes.Equal(g.Keys.Seal, id.Keys().Seal) {
		t.Errorf("the identity is %s now, was %s", id.ID(), g.Peer)
	}
	for db, nonce := range g.Nonces {
		if got := shareNonce(db); got != nonce {
			t.Errorf("nonce of %q: %s, was %s", db, got, nonce)
		}
	}
	for nonce, want := range g.IDs {
		if got := shareID(g.Peer, nonce); got != want {
			t.Errorf("id of %q: %s, was %s", nonce, got, want)
		}
	}
	for _, d := range g.Docs {
		if got, err := canonical(d.ID, d.Doc); err != nil || string(got) != d.Text {
			t.Errorf("%s: %s, %v, was %s", d.Doc, got, err, d.Text)
		}
	}
	for _, r := range g.Refused {
		if _, err := parseShare(goldenDoc(t, r.Doc)); err == nil {
			t.Errorf("not refused: %s", r.Why)
		}
	}
	checkGolden(t, id, g.Share, g.Signal, g.Payload)
	if doc, err := id.newShareDoc(goldenShareDoc()); err != nil || !jsonEqual(t, withID(t, doc), g.Share) {
		t.Errorf("the share is %s, %v now, was %s", doc.Body, err, g.Share)
	}
}

func TestGoldenOfJavaScript(t *testing.T) {
	var g goldenJS
	readJSON(t, filepath.Join(goldenDir, "js.json"), &g)
	checkGolden(t, goldenIdentity(t), g.Share, g.Signal, g.Payload)
}

// checkGolden reads a share and a signal of the golden identity.
func checkGolden(t *testing.T, id *Identity, share, signal json.RawMessage, payload string) {
	t.Helper()
	s, err := parseShare(goldenDoc(t, share))
	if err != nil {
		t.Fatalf("share: %v", err)
	}
	if s.Peer != id.ID() || s.Access != ReadWrite || s.DocCount != 42 {
		t.Errorf("%+v", s)
	}
	d := goldenDoc(t, signal)
	sig, err := open(id, d)
	if err != nil || string(sig.Payload) != payload || sig.Kind != "offer" || sig.Session != "golden" {
		t.Errorf("signal: %+v, %v", sig, err)
	}
}

func goldenShareDoc() (s shareDoc) {
	at := time.UnixMilli(1700000000123)
	s.Name = "Ünïcödé ☃ \"notes\" </script>"
	s.Info = json.RawMessage(`{"z":[1,2.5,1e21,-0.0,"\u0001"],"a":{"é":null,"e":true},"":"empty"}`)
	s.DB, s.Instance, s.Nonce, s.Access = "notes", "0123456789abcdef", shareNonce("notes"), ReadWrite
	s.DocCount, s.UpdateSeq = 42, "7-abc"
	s.published, s.expires = at, at.Add(2*time.Minute)
	return s
}

func writeGolden(t *testing.T, path string) {
	t.Helper()
	id := goldenIdentity(t)
	g := goldenShare{
		Sign: id.sign.Seed(), Seal: id.seal.Bytes(), Peer: id.ID(), Keys: id.Keys(),
		Nonces: map[string]string{}, IDs: map[string]string{}, Payload: `{"v":1,"sdp":"v=0 ☃"}`,
	}
	for _, db := range []string{"", "notes", "Ünïcödé", "a:b"} {
		nonce := shareNonce(db)
		g.Nonces[db], g.IDs[nonce] = nonce, shareID(g.Peer, nonce)
	}
	for _, doc := range []string{
		`{}`, `{"b":1,"a":[],"c":{"y":"\u20ac\u0007/\\\"","x":null}}`, `{"n":[1e21,1e20,0.000001,1e-7,-0,333333333.33333329,9007199254740993]}`,
		`{"\ud83d\ude00":1,"\uff5e":2,"é":3,"e\u0301":4,"\n":5,"10":6,"9":7}`,
	} {
		text, err := canonical("signal:x", json.RawMessage(doc))
		if err != nil {
			t.Fatal(err)
		}
		g.Docs = append(g.Docs, goldenCanonical{"signal:x", json.RawMessage(doc), string(text)})
	}
	doc, err := id.newShareDoc(goldenShareDoc())
	if err != nil {
		t.Fatal(err)
	}
	g.Share = withID(t, doc)
	g.Refused = goldenRefusals(t, id, g.Share)
	to := address(id.ID(), "i")
	sig, err := id.newSignalDoc(Signal{To: to, From: to, Session: "golden", Kind: "offer", Payload: []byte(g.Payload)}, 3, id.Keys().Seal, time.UnixMilli(1700000000123))
	if err != nil {
		t.Fatal(err)
	}
	g.Signal = withID(t, sig)
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// goldenRefusals makes documents that nobody may believe.
func goldenRefusals(t *testing.T, id *Identity, share json.RawMessage) (all []goldenRefused) {
	t.Helper()
	edited := func(why string, edit func(m map[string]any), sign bool) {
		var m map[string]any
		if err := json.Unmarshal(share, &m); err != nil {
			t.Fatal(err)
		}
		edit(m)
		docID := m["_id"].(string)
		delete(m, "_id")
		body, err := json.Marshal(m)
		if sign && err == nil {
			body, err = id.signBody(docID, body)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, goldenRefused{why, withID(t, &couch.Doc{ID: docID, Body: body})})
	}
	set := func(name string, value any) func(map[string]any) {
		return func(m map[string]any) { m[name] = value }
	}
	edited("a changed name", set("name", "other"), false)
	edited("a member added", set("more", 1), false)
	edited("another's signature", set("signature", base64.StdEncoding.EncodeToString(make([]byte, 64))), false)
	edited("the id of another share", set("_id", "share:aaaaaaaaaaaaaaaaaaaaaaaaaa"), true)
	edited("the peer id of another key", set("peer", PeerID(make([]byte, 32))), true)
	edited("a lease of a month", set("expires", "2023-12-14T22:13:20.123Z"), true)
	edited("an unknown access mode", set("access", "all"), true)
	edited("a later version", set("v", 2), true)
	edited("another type", set("type", "signal"), true)
	edited("an empty name", set("name", ""), true)
	edited("a control character in the name", set("name", "a\nb"), true)
	edited("a short sealing key", func(m map[string]any) { m["keys"].(map[string]any)["seal"] = "AAAA" }, true)
	return all
}

// goldenDoc reads a document as the hub gives it.
func goldenDoc(t *testing.T, raw json.RawMessage) *couch.Doc {
	t.Helper()
	d, err := couch.ParseDoc(raw)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func withID(t *testing.T, d *couch.Doc) json.RawMessage {
	t.Helper()
	return json.RawMessage(d.AppendJSON(nil))
}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, to); err != nil {
		t.Fatal(err)
	}
}

func jsonEqual(t *testing.T, a, b json.RawMessage) bool {
	t.Helper()
	x, err := canonical("", a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := canonical("", b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}
