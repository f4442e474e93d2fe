package peeradapter

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"
)

func TestProbe(t *testing.T) {
	servers := turnServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	found, err := Probe(ctx, Config{Logger: discard, ICEServers: func(context.Context) ([]ICEServer, error) { return servers, nil }})
	must(t, err)
	for _, kind := range []string{"host", "relay"} {
		if !slices.ContainsFunc(found, func(c Candidate) bool { return c.Kind == kind && c.Port != 0 && net.ParseIP(c.Address) != nil }) {
			t.Errorf("no %s among %+v", kind, found)
		}
	}
}

func TestProbeTURN(t *testing.T) {
	good := turnServer(t)[0]
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if relay, err := ProbeTURN(ctx, good, good.URLs[0]); err != nil || relay == "" {
		t.Errorf("%s %v", relay, err)
	}
	wrong := good
	wrong.Credential = "wrong"
	if relay, err := ProbeTURN(ctx, wrong, good.URLs[0]); err == nil {
		t.Errorf("with a wrong credential: %s", relay)
	}
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if relay, err := ProbeTURN(short, good, "turn:"+silent.LocalAddr().String()); err == nil {
		t.Errorf("of a silent server: %s", relay)
	}
	for _, bad := range []string{"", "http://x", "stun:x", "turn:127.0.0.1:1?transport=tcp", "turns:127.0.0.1:1"} {
		if relay, err := ProbeTURN(ctx, good, bad); err == nil {
			t.Errorf("%s: %s", bad, relay)
		}
	}
}
