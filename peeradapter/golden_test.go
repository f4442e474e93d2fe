package peeradapter

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/yamux"

	"github.com/loveseat-db/loveseat/share"
)

// The golden vectors are read by these tests and by those of web/plugin: see
// share/golden_test.go. LOVESEAT_GOLDEN=1 writes those of Go anew.
const goldenDir = "../web/plugin/test/golden"

// goldenWire is what Go sends and takes: wire.json.
type goldenWire struct {
	Label    string          `json:"label"`
	Protocol string          `json:"protocol"`
	Messages []goldenMessage `json:"messages"`
	// What the two ends of a session send in a conversation: the client opens a
	// stream, says "hello" and ends it, the server answers "world".
	Client []byte `json:"client"`
	Server []byte `json:"server"`
}

// A goldenMessage is a signal's payload, and whether it may be believed.
type goldenMessage struct {
	Kind    string `json:"kind"`
	Payload string `json:"payload"`
	OK      bool   `json:"ok"`
}

const goldenSDP = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"

func TestGolden(t *testing.T) {
	path := filepath.Join(goldenDir, "wire.json")
	if os.Getenv("LOVESEAT_GOLDEN") != "" {
		writeGolden(t, path)
	}
	var g goldenWire
	readGolden(t, path, &g)
	if g.Label != channelLabel || g.Protocol != channelProtocol {
		t.Errorf("the channel was %q %q", g.Label, g.Protocol)
	}
	for _, m := range g.Messages {
		_, err := readSignal(share.Signal{To: "a", From: "b", Session: "s", Kind: m.Kind, Payload: []byte(m.Payload)})
		if (err == nil) != m.OK {
			t.Errorf("%s %s: %v", m.Kind, m.Payload, err)
		}
	}
	hear(t, g.Client, "hello")
}

func TestGoldenOfJavaScript(t *testing.T) {
	var g struct {
		Client []byte `json:"client"`
	}
	readGolden(t, filepath.Join(goldenDir, "js-wire.json"), &g)
	hear(t, g.Client, "hello")
}

// hear gives what a client sent to a server, which must get a stream with want in it.
func hear(t *testing.T, sent []byte, want string) {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go func() { _, _ = io.Copy(io.Discard, there) }()
	session, err := yamux.Server(here, muxConfig(discard))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	go func() { _, _ = there.Write(sent) }()
	s, err := session.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := io.ReadAll(s); err != nil || string(got) != want {
		t.Errorf("heard %q, %v", got, err)
	}
}

func writeGolden(t *testing.T, path string) {
	t.Helper()
	g := goldenWire{Label: channelLabel, Protocol: channelProtocol}
	add := func(kind string, ok bool, m map[string]any) {
		payload, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		g.Messages = append(g.Messages, goldenMessage{kind, string(payload), ok})
	}
	type m = map[string]any
	candidate := m{"candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
	add(kindOffer, true, m{"v": 1, "time": 1700000000123, "sdp": goldenSDP})
	add(kindAnswer, true, m{"v": 1, "sdp": goldenSDP})
	add(kindCandidate, true, m{"v": 1, "candidates": []any{candidate}})
	add(kindBye, true, m{"v": 1, "reason": "it shares nothing"})
	add(kindOffer, false, m{"v": 2, "time": 1, "sdp": goldenSDP})
	add(kindOffer, false, m{"v": 1, "time": 1})
	add(kindOffer, false, m{"v": 1, "time": 1, "sdp": goldenSDP + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"})
	add(kindAnswer, false, m{"v": 1, "sdp": "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\n"})
	add(kindCandidate, false, m{"v": 1, "candidates": make([]m, maxCandidates+1)})
	add(kindBye, false, m{"v": 1, "reason": string(make([]byte, 2000))})
	g.Messages = append(g.Messages, goldenMessage{kindBye, "null", false}, goldenMessage{kindBye, "{", false})
	g.Client, g.Server = converse(t)
	text, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A tap keeps what is written to a connection.
type tap struct {
	net.Conn
	mu   sync.Mutex
	sent bytes.Buffer
}

func (c *tap) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.sent.Write(p)
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *tap) said() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.sent.Bytes())
}

// converse has the conversation of the golden vectors.
func converse(t *testing.T) (client, server []byte) {
	t.Helper()
	a, b := net.Pipe()
	here, there := &tap{Conn: a}, &tap{Conn: b}
	c, err := yamux.Client(here, muxConfig(discard))
	if err != nil {
		t.Fatal(err)
	}
	s, err := yamux.Server(there, muxConfig(discard))
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		in, err := s.AcceptStream()
		if err == nil {
			_, err = io.ReadAll(in)
		}
		if err == nil {
			_, err = in.Write([]byte("world"))
		}
		if err == nil {
			err = in.Close()
		}
		answered <- err
	}()
	out, err := c.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(out); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	client, server = here.said(), there.said()
	_ = c.Close()
	_ = s.Close()
	return client, server
}

func readGolden(t *testing.T, path string, to any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, to); err != nil {
		t.Fatal(err)
	}
}
