package share

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

func newTestIdentity(t testing.TB) *Identity {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// someShare is a valid share document of a peer.
func someShare(t testing.TB, id *Identity, change func(*shareDoc)) *couch.Doc {
	t.Helper()
	now := time.Now()
	s := shareDoc{Share: hubdoc.Share{
		Name: "notes", Info: json.RawMessage(`{"b":1.50,"a":["x",1e2]}`), DB: "notes", Instance: "i", Nonce: shareNonce("uuid"),
		Access: ReadWrite, DocCount: 3, UpdateSeq: "3-x",
	}, published: now, expires: now.Add(time.Minute)}
	if change != nil {
		change(&s)
	}
	d, err := id.newShareDoc(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestShareDocument(t *testing.T) {
	id := newTestIdentity(t)
	d := someShare(t, id, nil)
	s, err := parseShare(d)
	if err != nil {
		t.Fatal(err)
	}
	if s.id != shareID(id.ID(), shareNonce("uuid")) || "share:"+s.id != d.ID || !validShareID(s.id) {
		t.Errorf("id %s of %s", s.id, d.ID)
	}
	if s.Peer != id.ID() || s.Name != "notes" || s.DocCount != 3 || s.Access != ReadWrite || s.address() != id.ID()+".i" {
		t.Errorf("%+v", s)
	}
	if lease := s.expires.Sub(s.published); lease != time.Minute {
		t.Errorf("lease %v", lease)
	}
}

// A server may store JSON in another spelling than it was given.
func TestSignatureSurvivesRespelling(t *testing.T) {
	d := someShare(t, newTestIdentity(t), nil)
	var v map[string]any // orders members by name, respells numbers
	if err := json.Unmarshal(d.Body, &v); err != nil {
		t.Fatal(err)
	}
	respelled, err := json.MarshalIndent(v, " ", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if string(respelled) == string(d.Body) {
		t.Fatal("nothing respelled")
	}
	if _, err := parseShare(&couch.Doc{ID: d.ID, Body: respelled}); err != nil {
		t.Error(err)
	}
}

// Whatever member is changed, added or removed, the document is not believed any more.
func TestForgedShares(t *testing.T) {
	id, mallory := newTestIdentity(t), newTestIdentity(t)
	good := someShare(t, id, nil)
	edit := func(fn func(m map[string]any)) *couch.Doc {
		var m map[string]any
		if err := json.Unmarshal(good.Body, &m); err != nil {
			t.Fatal(err)
		}
		fn(m)
		body, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return &couch.Doc{ID: good.ID, Body: body}
	}
	forged := map[string]*couch.Doc{
		"other id":       {ID: "share:" + shareID(id.ID(), "other"), Body: good.Body},
		"added member":   edit(func(m map[string]any) { m["extra"] = 1 }),
		"other's key":    edit(func(m map[string]any) { m["keys"] = mallory.Keys() }),
		"other's seal":   edit(func(m map[string]any) { m["keys"] = Keys{Sign: id.Keys().Sign, Seal: mallory.Keys().Seal} }),
		"not an object":  {ID: good.ID, Body: json.RawMessage(`[]`)},
		"empty":          {ID: good.ID},
		"too long":       {ID: good.ID, Body: append([]byte(`{"x":"`+strings.Repeat("x", maxShareDoc)), `"}`...)},
		"other's, re-id": reID(someShare(t, mallory, nil), good.ID),
		"squatted id":    signAs(t, mallory, good.ID, someShare(t, mallory, nil)),
	}
	var members map[string]any
	if err := json.Unmarshal(good.Body, &members); err != nil {
		t.Fatal(err)
	}
	for name := range members {
		forged["without "+name] = edit(func(m map[string]any) { delete(m, name) })
		forged["changed "+name] = edit(func(m map[string]any) { m[name] = "x" })
	}
	for name, d := range forged {
		if s, err := parseShare(d); err == nil {
			t.Errorf("%s: believed: %+v", name, s)
		}
	}
	if _, err := parseShare(good); err != nil {
		t.Error(err)
	}
}

// signAs signs a document under an id of one's choice.
func signAs(t *testing.T, id *Identity, docID string, d *couch.Doc) *couch.Doc {
	t.Helper()
	body, err := id.signBody(docID, d.Body)
	if err != nil {
		t.Fatal(err)
	}
	if d.ID == docID {
		t.Fatal("its own id")
	}
	return &couch.Doc{ID: docID, Body: body}
}

func reID(d *couch.Doc, id string) *couch.Doc {
	out := *d
	out.ID = id
	return &out
}

// What a peer signs of its own must still be within the limits.
func TestRefusedShares(t *testing.T) {
	id := newTestIdentity(t)
	for name, change := range map[string]func(*shareDoc){
		"no name":      func(s *shareDoc) { s.Name = "" },
		"long name":    func(s *shareDoc) { s.Name = strings.Repeat("x", 257) },
		"control name": func(s *shareDoc) { s.Name = "a\x1b[31m" },
		"no db":        func(s *shareDoc) { s.DB = "" },
		"no instance":  func(s *shareDoc) { s.Instance = "" },
		"access":       func(s *shareDoc) { s.Access = "admin" },
		"info":         func(s *shareDoc) { s.Info, _ = json.Marshal(strings.Repeat("x", maxInfo)) },
		"lease":        func(s *shareDoc) { s.expires = s.published.Add(48 * time.Hour) },
	} {
		if _, err := parseShare(someShare(t, id, change)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPeerIDIsOfTheKey(t *testing.T) {
	a, b := newTestIdentity(t), newTestIdentity(t)
	if a.ID() == b.ID() || PeerID(ed25519.PublicKey(a.Keys().Sign)) != a.ID() {
		t.Error(a.ID(), b.ID())
	}
	if peerOf(address(a.ID(), "x")) != a.ID() {
		t.Error(address(a.ID(), "x"))
	}
}

func TestInfoOfAnyJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{`null`, `0`, `-1.5e300`, `"<&>\u2028"`, `[[],{}]`, `{"a":{"a":1},"A":2}`, `123456789012345678901`}).Draw(t, "info")
		info, err := encodeInfo(json.RawMessage(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !json.Valid(info) {
			t.Fatalf("%s became %s", text, info)
		}
	})
	for _, bad := range []any{make(chan int), json.RawMessage(`{`), json.RawMessage(`{"a":1,"a":2}`), strings.Repeat("x", maxInfo+1)} {
		if _, err := encodeInfo(bad); couch.AsError(err) == nil || couch.AsError(err).Status != 400 {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	id := newTestIdentity(f)
	good := someShare(f, id, nil)
	f.Add(good.ID, []byte(good.Body))
	f.Add("share:x", []byte(`{"type":"share","v":1}`))
	f.Fuzz(func(t *testing.T, docID string, body []byte) {
		s, err := parseShare(&couch.Doc{ID: docID, Body: body})
		if err != nil {
			return
		}
		if PeerID(s.Keys.Sign) != s.Peer || docID != "share:"+shareID(s.Peer, s.Nonce) {
			t.Fatalf("believed %s %s", docID, body)
		}
	})
}
