package peeradapter

import (
	"bytes"
	"crypto/ecdh"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/flynn/noise"
)

// goldenNoise is one connection through a relay: noise.json. Keys are private ones.
type goldenNoise struct {
	Session            string   `json:"session"`
	Initiator          string   `json:"initiator"` // addresses
	Responder          string   `json:"responder"`
	InitiatorStatic    []byte   `json:"initiatorStatic"`
	ResponderStatic    []byte   `json:"responderStatic"`
	InitiatorEphemeral []byte   `json:"initiatorEphemeral"`
	ResponderEphemeral []byte   `json:"responderEphemeral"`
	Prologue           string   `json:"prologue"`
	Handshake          [][]byte `json:"handshake"` // from the initiator, from the responder
	Plaintexts         [][]byte `json:"plaintexts"`
	FromInitiator      [][]byte `json:"fromInitiator"` // the messages for them
	FromResponder      [][]byte `json:"fromResponder"`
}

// The connection through a relay is what it was, and what the plugin's tests hold theirs against.
func TestGoldenNoise(t *testing.T) {
	path := filepath.Join(goldenDir, "noise.json")
	var g goldenNoise
	if os.Getenv("LOVESEAT_GOLDEN") != "" {
		g = goldenNoise{
			Session: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Initiator: "aaaa-bbbb.0123456789abcdef", Responder: "cccc-dddd.fedcba9876543210",
			InitiatorStatic: bytes.Repeat([]byte{1}, 32), ResponderStatic: bytes.Repeat([]byte{2}, 32),
			InitiatorEphemeral: bytes.Repeat([]byte{3}, 32), ResponderEphemeral: bytes.Repeat([]byte{4}, 32),
			Plaintexts: [][]byte{[]byte("hello"), bytes.Repeat([]byte("x"), 1000), {}},
		}
		g.run(t)
		text, err := json.MarshalIndent(g, "", "  ")
		must(t, err)
		must(t, os.WriteFile(path, append(text, '\n'), 0o644))
	}
	var want goldenNoise
	readGolden(t, path, &want)
	g = want
	g.run(t)
	for name, pair := range map[string][2]any{
		"prologue": {g.Prologue, want.Prologue}, "handshake": {g.Handshake, want.Handshake},
		"from the initiator": {g.FromInitiator, want.FromInitiator}, "from the responder": {g.FromResponder, want.FromResponder},
	} {
		got, err := json.Marshal(pair[0])
		must(t, err)
		was, err := json.Marshal(pair[1])
		must(t, err)
		if !bytes.Equal(got, was) {
			t.Errorf("%s: %s, was %s", name, got, was)
		}
	}
}

// run makes the messages from the keys.
func (g *goldenNoise) run(t *testing.T) {
	t.Helper()
	static := func(b []byte) *ecdh.PrivateKey {
		key, err := ecdh.X25519().NewPrivateKey(b)
		must(t, err)
		return key
	}
	i, r := static(g.InitiatorStatic), static(g.ResponderStatic)
	name := relayName{g.Session, g.Initiator, g.Responder}
	initiator, err := noise.NewHandshakeState(noiseConfig(name, true, i, r.PublicKey(), bytes.NewReader(g.InitiatorEphemeral)))
	must(t, err)
	responder, err := noise.NewHandshakeState(noiseConfig(name, false, r, i.PublicKey(), bytes.NewReader(g.ResponderEphemeral)))
	must(t, err)
	first, _, _, err := initiator.WriteMessage(nil, nil)
	must(t, err)
	_, _, _, err = responder.ReadMessage(nil, first)
	must(t, err)
	second, there, back, err := responder.WriteMessage(nil, nil)
	must(t, err)
	_, _, _, err = initiator.ReadMessage(nil, second)
	must(t, err)
	g.Prologue, g.Handshake = string(name.prologue()), [][]byte{first, second}
	g.FromInitiator, g.FromResponder = nil, nil
	for _, p := range g.Plaintexts {
		m, err := there.Encrypt(nil, nil, p)
		must(t, err)
		g.FromInitiator = append(g.FromInitiator, m)
		m, err = back.Encrypt(nil, nil, p)
		must(t, err)
		g.FromResponder = append(g.FromResponder, m)
	}
}
