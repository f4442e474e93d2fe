package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// relayName is the name of a session, long enough.
func relayName(n int) string { return fmt.Sprintf("session-%024d", n) }

// relayTicket asks for the opener's ticket as somebody; want is the status.
func (s *server) relayTicket(session, who string, want int) string {
	s.t.Helper()
	return s.sideTicket(session, who, opens, want)
}

// sideTicket asks for the ticket of a side.
func (s *server) sideTicket(session, who string, of side, want int) string {
	s.t.Helper()
	a := s.do("POST", "/hub/_relay", relayAsk(session, of), asJSON, as(who))
	if a.StatusCode != want {
		s.t.Fatalf("a ticket for %q: %d %s", who, a.StatusCode, a.body)
	}
	var t struct{ Ticket string }
	if json.Unmarshal(a.body, &t) != nil || want == 200 && len(t.Ticket) < 26 {
		s.t.Fatalf("%s", a.body)
	}
	return t.Ticket
}

func (s *server) relayDial(ticket string) (*websocket.Conn, int) {
	s.t.Helper()
	ws, resp, err := websocket.Dial(s.t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+"/hub/_relay?ticket="+ticket, nil)
	if err != nil {
		if resp == nil {
			s.t.Fatal(err)
		}
		return nil, resp.StatusCode
	}
	ws.SetReadLimit(1 << 20)
	s.t.Cleanup(func() { _ = ws.CloseNow() })
	return ws, resp.StatusCode
}

func relayAsk(session string, of side) string {
	return fmt.Sprintf(`{"session":%q,"side":%q}`, session, of)
}

// relayPair is the two sides of a session.
func (s *server) relayPair(session string) (a, b *websocket.Conn) {
	s.t.Helper()
	ta, tb := s.relayTicket(session, "alice", 200), s.sideTicket(session, "bob", shares, 200)
	a, _ = s.relayDial(ta)
	b, _ = s.relayDial(tb)
	if a == nil || b == nil {
		s.t.Fatal("no WebSocket")
	}
	return a, b
}

func relaySend(t *testing.T, ws *websocket.Conn, msg []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := ws.Write(ctx, websocket.MessageBinary, msg); err != nil {
		t.Fatal(err)
	}
}

func relayRead(t *testing.T, ws *websocket.Conn) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, msg, err := ws.Read(ctx)
	if ctx.Err() != nil {
		t.Error("nothing came, nor an end")
	}
	return msg, err
}

// The hub passes on messages as they are, both ways, and ends both sides together.
func TestRelay(t *testing.T) {
	s := startWithUsers(t, Config{})
	a, b := s.relayPair(relayName(1))
	for _, size := range []int{0, 1, 48, relayMessage} {
		msg := bytes.Repeat([]byte{byte(size)}, size)
		relaySend(t, a, msg)
		relaySend(t, b, msg)
		for _, ws := range []*websocket.Conn{a, b} {
			if got, err := relayRead(t, ws); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%d bytes of %d, %v", len(got), size, err)
			}
		}
	}
	if n, bytes := s.hub.service.relays.count(), s.hub.service.relays.bytes.Load(); n != 1 || bytes != 2*(49+relayMessage) {
		t.Errorf("%d sessions, %d bytes", n, bytes)
	}
	relaySend(t, a, []byte("last"))
	go a.Close(websocket.StatusNormalClosure, "")
	if got, err := relayRead(t, b); string(got) != "last" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := relayRead(t, b); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Error(err)
	}
	s.relaysForgotten()
}

// relaysForgotten waits until nothing is left of any session.
func (s *server) relaysForgotten() {
	s.t.Helper()
	r := s.hub.service.relays
	for limit := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		left := fmt.Sprint(len(r.sessions), len(r.tickets), len(r.clients))
		r.mu.Unlock()
		if left == "0 0 0" {
			return
		}
		if time.Now().After(limit) {
			s.t.Fatalf("sessions, tickets, clients left: %s", left)
		}
	}
}

// A ticket is for one socket, a session for two, and none for strangers.
func TestRelayTickets(t *testing.T) {
	s := startWithUsers(t, Config{})
	name := relayName(2)
	ticket := s.relayTicket(name, "alice", 200)
	s.sideTicket(name, "bob", shares, 200)
	s.relayTicket(name, "mia", 403) // a third side
	s.sideTicket(name, "mia", shares, 403)
	s.sideTicket(relayName(9), "alice", "both", 400)
	s.sideTicket(relayName(9), "alice", either, 400)
	s.relayTicket(relayName(3), "", 401)
	for _, bad := range []string{"", "short", strings.Repeat("x", 65), "with/slash-and-enough-letters"} {
		s.relayTicket(bad, "alice", 400)
	}
	if a := s.do("GET", "/hub/_relay?ticket="+ticket, "", as("alice")); a.StatusCode != 426 {
		t.Errorf("without upgrade: %d", a.StatusCode)
	}
	if a := s.do("POST", "/db/_relay", relayAsk(name, opens), asJSON, as("alice")); a.StatusCode == 200 {
		t.Error("a database that is no hub database relays")
	}
	if ws, status := s.relayDial(ticket); ws == nil {
		t.Fatal(status)
	}
	for _, used := range []string{ticket, "", "AAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		if ws, status := s.relayDial(used); ws != nil || status != 403 {
			t.Errorf("ticket %q: %d", used, status)
		}
	}
	r := s.hub.service.relays
	old := s.relayTicket(relayName(4), "alice", 200)
	r.mu.Lock()
	r.tickets[old].until = time.Now().Add(-time.Second)
	r.mu.Unlock()
	if ws, status := s.relayDial(old); ws != nil || status != 403 {
		t.Errorf("an old ticket: %d", status)
	}
}

// Without signing in, a peer proves its key; the rules of the hub database hold.
func TestRelayRules(t *testing.T) {
	s := startWithUsers(t, Config{Service: Service{Databases: []Database{
		{Name: "hub", Open: []string{Anybody}, Signal: []string{Anybody}}, {Name: "crew", Signal: []string{"crew"}},
	}}})
	body := relayAsk(relayName(5), opens)
	if a := s.do("POST", "/hub/_relay", body, asJSON); a.StatusCode != 401 {
		t.Errorf("without a proof: %d", a.StatusCode)
	}
	proof := s.proof(newDevice(t), "POST", "/hub/_relay", hubdoc.ToRelay)
	if a := s.do("POST", "/hub/_relay", body, asJSON, proof); a.StatusCode != 200 {
		t.Errorf("with a proof: %d %s", a.StatusCode, a.body)
	}
	for who, want := range map[string]int{"mia": 200, "bob": 403} {
		if a := s.do("POST", "/crew/_relay", body, asJSON, as(who)); a.StatusCode != want {
			t.Errorf("%s: %d %s", who, a.StatusCode, a.body)
		}
	}
	s.relayTicket(relayName(7), "bob", 200)
	if a := s.do("PUT", "/hub/_security", `{"members":{"names":["mia"]}}`, asJSON, as("ann")); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	s.relayTicket(relayName(8), "mia", 200)
	s.relayTicket(relayName(8), "bob", 403) // no member any more
	off := startWithUsers(t, Config{Service: Service{Relay: Relay{Off: true}}})
	off.relayTicket(relayName(6), "alice", 404)
}

// One client has so many sessions, and so has the hub.
func TestRelayLimits(t *testing.T) {
	s := startWithUsers(t, Config{Service: Service{Relay: Relay{Sessions: 2, AllSessions: 3}}})
	s.relayTicket(relayName(1), "alice", 200)
	s.relayTicket(relayName(2), "alice", 200)
	s.relayTicket(relayName(3), "alice", 429)
	s.sideTicket(relayName(1), "bob", shares, 200)
	s.relayTicket(relayName(3), "bob", 200)
	s.relayTicket(relayName(4), "mia", 429)
	r := s.hub.service.relays
	r.mu.Lock()
	r.sweep(time.Now().Add(time.Hour))
	r.mu.Unlock()
	s.relaysForgotten()
	s.relayTicket(relayName(4), "mia", 200)
}

// What one client sends in all its sessions is held to its rate.
func TestRelayRate(t *testing.T) {
	s := startWithUsers(t, Config{Service: Service{Relay: Relay{Bytes: relayMessage}}})
	start := time.Now()
	var wg sync.WaitGroup
	for i := range 2 {
		a, b := s.relayPair(relayName(i))
		wg.Go(func() {
			for range 2 {
				_ = a.Write(t.Context(), websocket.MessageBinary, make([]byte, relayMessage))
			}
		})
		wg.Go(func() {
			for range 2 {
				if _, err := relayRead(t, b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took < 1500*time.Millisecond { // four messages, two at once, one a second
		t.Errorf("%v", took)
	}
}

// A session in which nothing moves ends; so does one whose peer sends what is none of a relay's.
func TestRelayEnds(t *testing.T) {
	s := startWithUsers(t, Config{Service: Service{Relay: Relay{Idle: 100 * time.Millisecond}}})
	_, b := s.relayPair(relayName(1))
	if _, err := relayRead(t, b); err == nil {
		t.Error("an idle session goes on")
	}
	s.relaysForgotten()
	for name, send := range map[string]func(*websocket.Conn){
		"too long": func(ws *websocket.Conn) {
			_ = ws.Write(t.Context(), websocket.MessageBinary, make([]byte, relayMessage+1))
		},
		"a text": func(ws *websocket.Conn) { _ = ws.Write(t.Context(), websocket.MessageText, []byte("hello")) },
	} {
		s := startWithUsers(t, Config{})
		a, b := s.relayPair(relayName(1))
		send(a)
		if msg, err := relayRead(t, b); err == nil {
			t.Errorf("%s: %d bytes were passed on", name, len(msg))
		}
		s.relaysForgotten()
	}
}

// The hub's end ends sessions, also those that wait for a side or are stuck.
func TestRelayShutdown(t *testing.T) {
	s := startWithUsers(t, Config{})
	a, b := s.relayPair(relayName(1))
	alone, _ := s.relayDial(s.relayTicket(relayName(2), "alice", 200))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil && a.Write(ctx, websocket.MessageBinary, make([]byte, relayMessage)) == nil { // b does not read
		}
	}()
	for limit := time.Now().Add(time.Minute); s.hub.service.relays.bytes.Load() < 1<<20 && time.Now().Before(limit); {
		time.Sleep(5 * time.Millisecond)
	}
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(time.Minute):
		t.Fatal("the hub does not stop")
	}
	r := s.hub.service.relays
	r.mu.Lock()
	if n := len(r.sessions); n > 0 {
		t.Errorf("%d sessions outlive the hub", n)
	}
	r.mu.Unlock()
	_ = b
	if _, err := relayRead(t, alone); err == nil {
		t.Error("it goes on")
	}
}

// A page of a foreign origin gets no ticket; who has one may come from anywhere.
func TestRelayOrigin(t *testing.T) {
	s := startWithUsers(t, Config{})
	if a := s.do("POST", "/hub/_relay", relayAsk(relayName(1), opens), asJSON, as("alice"), "Origin: https://evil.example"); a.StatusCode != 403 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}
