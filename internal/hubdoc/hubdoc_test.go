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
	good := Proof(key, time.Now())
	if peer, err := VerifyProof(good); err != nil || peer != PeerID(pub) {
		t.Errorf("%s: %v", peer, err)
	}
	for _, at := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		if _, err := VerifyProof(Proof(key, time.Now().Add(at))); !errors.Is(err, ErrOldProof) {
			t.Errorf("%v: %v", at, err)
		}
	}
	parts := strings.Split(good, ".")
	for _, bad := range []string{"", "a.b.c", parts[0] + "." + parts[1], parts[0] + ".1." + parts[2], strings.Replace(good, parts[0][:4], "AAAA", 1), good + strings.Repeat("x", 512)} {
		if peer, err := VerifyProof(bad); err == nil || errors.Is(err, ErrOldProof) {
			t.Errorf("%s: %s", bad, peer)
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

func FuzzVerifyProof(f *testing.F) {
	_, key, _ := ed25519.GenerateKey(nil)
	f.Add(Proof(key, time.Now()))
	f.Add("a.1.b")
	f.Fuzz(func(t *testing.T, s string) {
		if peer, err := VerifyProof(s); err == nil && len(peer) != 39 {
			t.Fatalf("%q: %q", s, peer)
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
