package share

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/fair"
)

func someSignal(t testing.TB, from, to *Identity) *couch.Doc {
	t.Helper()
	s := Signal{To: address(to.ID(), "i"), From: address(from.ID(), "j"), Session: "s", Kind: "offer", Payload: []byte("v=0 secret")}
	d, err := from.newSignalDoc(s, 7, to.Keys().Seal, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func open(id *Identity, d *couch.Doc) (Signal, error) {
	s, err := parseSignal(d)
	if err != nil {
		return Signal{}, err
	}
	return id.openSignal(s, d.Body)
}

func TestSignalDocument(t *testing.T) {
	alice, bob, eve := newTestIdentity(t), newTestIdentity(t), newTestIdentity(t)
	d := someSignal(t, alice, bob)
	if strings.Contains(string(d.Body), "secret") {
		t.Errorf("payload can be read in %s", d.Body)
	}
	got, err := open(bob, d)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Payload) != "v=0 secret" || got.From != alice.ID()+".j" || got.To != bob.ID()+".i" || got.Session != "s" || got.Kind != "offer" {
		t.Errorf("%+v", got)
	}
	if _, err := open(eve, d); err == nil {
		t.Error("opened by another peer")
	}
}

func TestForgedSignals(t *testing.T) {
	alice, bob, mallory := newTestIdentity(t), newTestIdentity(t), newTestIdentity(t)
	good := someSignal(t, alice, bob)
	var members map[string]json.RawMessage
	if err := json.Unmarshal(good.Body, &members); err != nil {
		t.Fatal(err)
	}
	edited := func(name string, value any) *couch.Doc {
		m := map[string]json.RawMessage{}
		for k, v := range members {
			m[k] = v
		}
		m[name], _ = json.Marshal(value)
		body, _ := json.Marshal(m)
		return &couch.Doc{ID: good.ID, Body: body}
	}
	forged := map[string]*couch.Doc{"other id": reID(good, signalDocID(time.Now())), "not a signal": reID(good, "share:x")}
	for name := range members {
		forged[name] = edited(name, "x")
	}
	forged["seq"] = edited("seq", 8)
	forged["time"] = edited("time", formatTime(time.Now().Add(time.Second)))
	// Mallory sends Alice's sealed payload under his own name.
	var h signalDoc
	if err := json.Unmarshal(good.Body, &h); err != nil {
		t.Fatal(err)
	}
	h.From, h.Keys, h.Signature = address(mallory.ID(), "j"), mallory.Keys(), nil
	body, _ := json.Marshal(h)
	body, err := mallory.signBody(good.ID, body)
	if err != nil {
		t.Fatal(err)
	}
	forged["stolen payload"] = &couch.Doc{ID: good.ID, Body: body}
	for name, d := range forged {
		if s, err := open(bob, d); err == nil {
			t.Errorf("%s: believed: %+v", name, s)
		}
	}
}

func TestSignalLimits(t *testing.T) {
	id := newTestIdentity(t)
	ok := Signal{To: "b", From: "a", Session: "s", Kind: "offer", Payload: make([]byte, maxPayload)}
	d, err := id.newSignalDoc(ok, 0, id.Keys().Seal, time.Now())
	if err != nil || len(d.Body) > maxSignalDoc {
		t.Errorf("%d bytes, %v", len(d.Body), err)
	}
	for name, change := range map[string]func(*Signal){
		"payload": func(s *Signal) { s.Payload = make([]byte, maxPayload+1) },
		"to":      func(s *Signal) { s.To = "" },
		"session": func(s *Signal) { s.Session = strings.Repeat("x", 129) },
		"kind":    func(s *Signal) { s.Kind = "\xff" },
	} {
		s := ok
		change(&s)
		if _, err := id.newSignalDoc(s, 0, id.Keys().Seal, time.Now()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSignalIDsSortByTime(t *testing.T) {
	now := time.Now()
	if a, b := signalDocID(now), signalDocID(now.Add(time.Millisecond)); a >= b {
		t.Errorf("%s before %s", a, b)
	}
}

// In whatever order signals come, and however often, each is delivered once and in order.
func TestSessionsPutIntoOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "n")
		var s sessions
		now := time.Unix(0, 0)
		var sent []uint64
		for range n {
			sent = append(sent, s.number("to", "x", now))
		}
		order := append(rapid.Permutation(sent).Draw(t, "order"), rapid.SliceOf(rapid.SampledFrom(sent)).Draw(t, "replays")...)
		var got []string
		seen := map[uint64]bool{}
		for _, seq := range order {
			ready, err := s.accept(Signal{From: "from", Session: "x", Kind: string(rune('a' + seq))}, seq, Keys{}, now)
			if refused := err != nil; refused != seen[seq] || refused && len(ready) > 0 {
				t.Fatalf("%d, seen before: %v, gave %v, %v", seq, seen[seq], ready, err)
			}
			seen[seq] = true
			for _, sig := range ready {
				got = append(got, sig.Kind)
			}
		}
		if want := "abcdefghijklmnopqrst"[:n]; strings.Join(got, "") != want {
			t.Fatalf("%v: %v", order, got)
		}
	})
}

func TestSessionLimits(t *testing.T) {
	var s sessions
	now := time.Unix(0, 0)
	if _, err := s.accept(Signal{}, maxHeld, Keys{}, now); err == nil {
		t.Error("held too far ahead")
	}
	for i := range 2 * maxSessions {
		_, _ = s.accept(Signal{From: fmt.Sprint("f", i%50), Session: fmt.Sprint(i)}, 0, Keys{}, now)
	}
	if len(s.in) > maxSessions || s.sum() != len(s.in) {
		t.Errorf("%d sessions, %d by peers", len(s.in), s.sum())
	}
	s.forget(now.Add(3*time.Hour), sessionIdle)
	if len(s.in) != 0 || len(s.peers) != 0 || s.held != 0 {
		t.Errorf("%d sessions of %d peers remembered", len(s.in), len(s.peers))
	}
	for i := range 2 * maxSessions {
		_, _ = s.accept(Signal{From: "flood.i", Session: fmt.Sprint(i)}, 0, Keys{}, now)
	}
	if n := s.peers["flood"].sessions; n > maxPeerSessions {
		t.Errorf("%d sessions of one peer", n)
	}
	// What waits for an earlier signal is bounded over all sessions; what does not wait gets through.
	large := Signal{From: "hoarder", Payload: make([]byte, maxPayload)}
	for i := range 1000 {
		large.Session = fmt.Sprint(i)
		_, _ = s.accept(large, 1, Keys{}, now)
	}
	if s.held > maxHeldBytes {
		t.Errorf("%d bytes are held", s.held)
	}
	large.Session = "0"
	if ready, err := s.accept(large, 0, Keys{}, now); err != nil || len(ready) != 2 {
		t.Errorf("%d, %v", len(ready), err)
	}
	for i := range 20 { // hoarders, each within its own bound
		for j := range 100 {
			_, _ = s.accept(Signal{From: fmt.Sprint("hoarder", i), Session: fmt.Sprint(j), Payload: large.Payload}, 1, Keys{}, now)
		}
	}
	honest := Signal{From: "honest", Session: "h", Payload: make([]byte, 1000)}
	if _, err := s.accept(honest, 1, Keys{}, now); err != nil || s.held > maxHeldBytes {
		t.Errorf("%v, with %d bytes held", err, s.held)
	}
	if ready, err := s.accept(honest, 0, Keys{}, now); err != nil || len(ready) != 2 {
		t.Errorf("%d, %v", len(ready), err)
	}
	s.forget(now.Add(3*time.Hour), sessionIdle)
	if len(s.in) != 0 || s.held != 0 {
		t.Errorf("%d sessions with %d bytes remembered", len(s.in), s.held)
	}
}

func (s *sessions) sum() (n int) {
	for _, use := range s.peers {
		n += use.sessions
	}
	return n
}

// Of a flood of sessions, by one peer or by many of one user, the flood's own oldest go.
func TestSessionFlood(t *testing.T) {
	now := time.Unix(0, 0)
	for name, from := range map[string]func(int) string{
		"by one peer":            func(int) string { return "mallory" },
		"by many of one user":    func(i int) string { return fmt.Sprint("mallory-", i) },
		"by many whom nobody is": func(i int) string { return fmt.Sprint("stranger-", i) },
	} {
		t.Run(name, func(t *testing.T) {
			s := sessions{claim: func(peer string) fair.Claim {
				switch {
				case strings.HasPrefix(peer, "mallory"):
					return fair.Claim{Group: "user:mallory"}
				case peer == "known":
					return fair.Claim{Group: peer, Rank: rankOpened}
				}
				return fair.Claim{Group: peer}
			}}
			for _, peer := range []string{"honest", "known"} {
				_, _ = s.accept(Signal{From: peer, Session: "s"}, 0, Keys{}, now)
			}
			for i := range 3 * maxSessions {
				now = now.Add(time.Millisecond)
				if _, err := s.accept(Signal{From: from(i), Session: fmt.Sprint(i)}, 0, Keys{}, now); err != nil {
					t.Fatal(err)
				}
			}
			if len(s.in) > maxSessions || s.in[sessionKey{"known", "s"}] == nil {
				t.Errorf("%d sessions, %v", len(s.in), s.in[sessionKey{"known", "s"}])
			}
			if honest := s.in[sessionKey{"honest", "s"}]; honest == nil && name != "by many whom nobody is" {
				t.Error("the flood pushed out another's session")
			}
			if ready, err := s.accept(Signal{From: "late", Session: "s"}, 0, Keys{}, now); err != nil || len(ready) != 1 {
				t.Error(ready, err)
			}
		})
	}
}

func FuzzParseSignal(f *testing.F) {
	alice, bob := newTestIdentity(f), newTestIdentity(f)
	good := someSignal(f, alice, bob)
	f.Add(good.ID, []byte(good.Body))
	f.Add("signal:x", []byte(`{"type":"signal","v":1,"to":"a","from":"b","session":"s","kind":"k"}`))
	f.Fuzz(func(t *testing.T, id string, body []byte) {
		d := &couch.Doc{ID: id, Body: body}
		s, err := open(bob, d)
		if err == nil && peerOf(s.From) != alice.ID() {
			t.Fatalf("believed %s", body)
		}
	})
}
