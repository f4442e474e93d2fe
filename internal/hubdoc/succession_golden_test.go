package hubdoc

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"
)

// goldenSuccession is read by this test and by web/plugin's. LOVESEAT_GOLDEN=1 writes it anew.
type goldenSuccession struct {
	Why          string       `json:"why"`
	Peer         string       `json:"peer"`
	Chain        []Succession `json:"chain"`
	Predecessors []string     `json:"predecessors"` // null: not believed
}

const goldenSuccessions = "../../web/plugin/test/golden/succession.json"

func TestGoldenSuccessions(t *testing.T) {
	if os.Getenv("LOVESEAT_GOLDEN") != "" {
		writeGoldenSuccessions(t)
	}
	text, err := os.ReadFile(goldenSuccessions)
	if err != nil {
		t.Fatal(err)
	}
	var all []goldenSuccession
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 8 {
		t.Fatal(len(all), err)
	}
	for _, g := range all {
		if got, err := Predecessors(g.Peer, g.Chain); (err == nil) != (g.Predecessors != nil) || err == nil && !slices.Equal(got, g.Predecessors) {
			t.Errorf("%s: %v, %v, was %v", g.Why, got, err, g.Predecessors)
		}
	}
}

func writeGoldenSuccessions(t *testing.T) {
	at := time.UnixMilli(1700000000123)
	var keys []ed25519.PrivateKey
	var ids []string
	for i := range byte(10) {
		keys = append(keys, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{42 + i}, ed25519.SeedSize)))
		ids = append(ids, PeerID(keys[i].Public().(ed25519.PublicKey)))
	}
	var chain []Succession
	for i := range 9 {
		chain = append(chain, NewSuccession(keys[i], ids[i+1], at))
	}
	edited := slices.Clone(chain[:1])
	edited[0].To = ids[5]
	later := slices.Clone(chain[:2])
	later[1].Time = FormatTime(at.Add(time.Second))
	all := []goldenSuccession{
		{"none", ids[0], nil, []string{}},
		{"one", ids[1], chain[:1], ids[:1]},
		{"eight", ids[9], chain[1:], ids[1:9]},
		{"nine", ids[9], chain, nil},
		{"another's", ids[3], chain[:2], nil},
		{"in another order", ids[2], []Succession{chain[1], chain[0]}, nil},
		{"a link left out", ids[3], []Succession{chain[0], chain[2]}, nil},
		{"an edited successor", ids[5], edited, nil},
		{"an edited time", ids[2], later, nil},
		{"without signature", ids[1], []Succession{{From: chain[0].From, To: ids[1], Time: chain[0].Time}}, nil},
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenSuccessions, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
