package hubdoc

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestProof(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Proof{Origin: "http://127.0.0.1:5984", Database: "hub", Method: "GET", Purpose: ToRead}
	good := want.Sign(key, time.Now())
	p, err := ParseProof(good, "hub", "GET")
	if err != nil || p.Peer != PeerID(pub) || p.Origin != want.Origin || p.Purpose != ToRead {
		t.Fatalf("%+v: %v", p, err)
	}
	if again, err := ParseProof(want.Sign(key, time.Now()), "hub", "GET"); err != nil || again.Nonce == p.Nonce {
		t.Errorf("the second proof has the nonce of the first one: %v", err)
	}
	for _, at := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		if _, err := ParseProof(want.Sign(key, time.Now().Add(at)), "hub", "GET"); !errors.Is(err, ErrOldProof) {
			t.Errorf("%v: %v", at, err)
		}
	}
	if _, err := ParseProof("AAAA.1700000000.AAAA", "hub", "GET"); !errors.Is(err, ErrEarlierProof) {
		t.Errorf("of an earlier release: %v", err)
	}
	parts := strings.Split(good, " ")
	bad := map[string]string{"nothing": "", "six parts": strings.Join(parts[:6], " "), "too long": good + strings.Repeat("x", maxProof)}
	for i, other := range []string{"v3", "", "1", strings.Repeat("A", 32), "claim", "http://evil.example", strings.Repeat("A", 86) + "=="} {
		bad["part "+parts[i]] = strings.Join(append(append(append([]string{}, parts[:i]...), other), parts[i+1:]...), " ")
	}
	for name, s := range bad {
		if p, err := ParseProof(s, "hub", "GET"); err == nil || errors.Is(err, ErrOldProof) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for _, r := range [][2]string{{"team", "GET"}, {"hub", "POST"}} {
		if p, err := ParseProof(good, r[0], r[1]); err == nil {
			t.Errorf("%v: %+v", r, p)
		}
	}
}

func TestSignalTime(t *testing.T) {
	now := time.UnixMilli(time.Now().UnixMilli())
	if at, err := SignalTime(SignalID(now, "0123456789abcdef")); err != nil || !at.Equal(now) {
		t.Errorf("%v %v", at, err)
	}
	for _, bad := range []string{"", "share:x", "signal:x", "signal:0123456789ab_0123456789abcdef", "signal:0123456789ag-0123456789abcdef", "signal:0123456789ab-0123456789ABCDEF", "signal:-12345678901-0123456789abcdef"} {
		if at, err := SignalTime(bad); err == nil {
			t.Errorf("%q: %v", bad, at)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	_, key, _ := ed25519.GenerateKey(nil)
	f.Add(Proof{Origin: "http://localhost", Database: "hub", Method: "GET", Purpose: ToRead}.Sign(key, time.Now()))
	f.Add("a.1.b")
	f.Add("v2 a 1 b c d e")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParseProof(s, "hub", "GET"); err == nil && len(p.Peer) != 39 {
			t.Fatalf("%q: %+v", s, p)
		}
	})
}

func FuzzParseSignal(f *testing.F) {
	f.Add("signal:x", []byte(`{"type":"signal","v":1,"to":"a","from":"b"}`))
	f.Fuzz(func(t *testing.T, id string, body []byte) {
		d := &couch.Doc{ID: id, Body: body}
		s, _, err := ParseSignal(d)
		if err == nil && (s.To == "" || s.From == "" || !strings.HasPrefix(id, SignalPrefix)) {
			t.Fatalf("%s %s", id, body)
		}
	})
}
