package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/memnet"
)

// A statusError is an error as those of other packages that tell an HTTP status.
type statusError int

func (statusError) Error() string     { return "as told" }
func (e statusError) HTTPStatus() int { return int(e) }

// handlers of a share whose openers ask for all that a handler can do.
func testHandlers() map[string]Handler {
	return map[string]Handler{
		"echo": func(_ context.Context, from RemoteInfo, body json.RawMessage) (any, error) {
			return map[string]any{"peer": from.Peer, "share": from.Share, "body": body}, nil
		},
		"a name": func(context.Context, RemoteInfo, json.RawMessage) (any, error) { return nil, nil },
		"teapot": func(context.Context, RemoteInfo, json.RawMessage) (any, error) {
			return nil, &couch.Error{Status: 418, Code: "teapot", Reason: "short and stout"}
		},
		"gone":   func(context.Context, RemoteInfo, json.RawMessage) (any, error) { return nil, statusError(410) },
		"odd":    func(context.Context, RemoteInfo, json.RawMessage) (any, error) { return nil, statusError(200) },
		"fails":  func(context.Context, RemoteInfo, json.RawMessage) (any, error) { return nil, errors.New("no luck") },
		"panics": func(context.Context, RemoteInfo, json.RawMessage) (any, error) { panic("secret") },
		"nojson": func(context.Context, RemoteInfo, json.RawMessage) (any, error) { return make(chan int), nil },
		"huge": func(context.Context, RemoteInfo, json.RawMessage) (any, error) {
			return strings.Repeat("x", maxAnswer), nil
		},
		"count": func(_ context.Context, _ RemoteInfo, body json.RawMessage) (any, error) {
			var n int
			if err := json.Unmarshal(body, &n); err != nil {
				return nil, couch.BadRequest("a number")
			}
			return Stream(func(yield func(any, error) bool) {
				for i := range n {
					if !yield(i, nil) {
						return
					}
				}
			}), nil
		},
		"midway": func(context.Context, RemoteInfo, json.RawMessage) (any, error) {
			return Stream(func(yield func(any, error) bool) {
				_ = yield(map[string]string{"error": "a", "reason": "value"}, nil) && yield(nil, couch.Conflict())
			}), nil
		},
		"looks": func(context.Context, RemoteInfo, json.RawMessage) (any, error) {
			return Stream(func(yield func(any, error) bool) {
				_ = yield(map[string]string{"error": "a", "reason": "value"}, nil) && yield(1, nil)
			}), nil
		},
		"panics midway": func(context.Context, RemoteInfo, json.RawMessage) (any, error) {
			return Stream(func(yield func(any, error) bool) { yield(1, nil); panic("secret") }), nil
		},
	}
}

func TestRequest(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{ReadOnly: true, Handlers: testHandlers()})
	r := w.open(bob, s.ID())
	answer, err := r.Request(w.ctx, "echo", map[string]any{"x": []int{1, 2}})
	w.must(err)
	want := fmt.Sprintf(`{"body":{"x":[1,2]},"peer":%q,"share":%q}`, bob.ID(), s.ID())
	if string(answer) != want {
		t.Errorf("%s, want %s", answer, want)
	}
	for name, want := range map[string]string{
		"unknown": "404 not_found: Nothing here answers such requests.",
		"teapot":  "418 teapot: short and stout",
		"gone":    "410 gone: as told",
		"odd":     "500 internal_server_error: as told",
		"fails":   "500 internal_server_error: no luck",
		"panics":  "500 internal_server_error: The handler failed.",
		"nojson":  "500 internal_server_error: json: unsupported type: chan int",
		"huge":    "413 too_large: The answer is longer than the limit.",
	} {
		if _, err := r.Request(w.ctx, name, nil); err == nil || fmt.Sprint(status(err), " ", err) != want {
			t.Errorf("%s: %d %v, want %s", name, status(err), err, want)
		}
	}
	if answer, err := r.Request(w.ctx, "a name", nil); err != nil || string(answer) != "null" {
		t.Errorf("%s %v", answer, err)
	}
	if _, err := r.Request(w.ctx, "count", 3); err == nil {
		t.Error("a stream as one answer")
	}
	if _, err := r.Request(w.ctx, "echo", strings.Repeat("x", maxRequest)); status(err) != 413 {
		t.Errorf("too long: %v", err)
	}
	if _, err := r.Request(w.ctx, "echo", strings.Repeat("x", maxRequest-2)); err != nil {
		t.Errorf("as long as may be: %v", err)
	}
	w.must(s.Handle("late", func(context.Context, RemoteInfo, json.RawMessage) (any, error) { return "here", nil }))
	if answer, err := r.Request(w.ctx, "late", nil); err != nil || string(answer) != `"here"` {
		t.Errorf("%s %v", answer, err)
	}
	w.must(s.Handle("late", nil))
	if _, err := r.Request(w.ctx, "late", nil); status(err) != 404 {
		t.Error(err)
	}
	for _, name := range []string{"", "a/b", "..", "a\n", strings.Repeat("x", 129)} {
		if err := s.Handle(name, nil); status(err) != 400 {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := alice.Share(w.ctx, w.create("other"), ShareOptions{Handlers: map[string]Handler{"": nil}}); status(err) != 400 {
		t.Errorf("shared with a handler without a name: %v", err)
	}
}

// What a stranger may send without the Go API.
func TestMalformedMessages(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	r := w.open(bob, w.share(alice, "notes", ShareOptions{Handlers: testHandlers()}).ID())
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/_request/echo", `{"a":`, 400}, {"POST", "/_request/echo", ``, 400}, {"GET", "/_request/echo", ``, 405},
		{"POST", "/_request/", `1`, 404}, {"POST", "/_request/echo/x", `1`, 404}, {"DELETE", "/_broadcast", ``, 405},
		{"POST", "/_broadcast", `nope`, 400}, {"POST", "/_broadcast", `"` + strings.Repeat("x", maxBroadcast) + `"`, 413},
		{"POST", "/_broadcast", `{"cursor":1}`, 202}, {"POST", "/_request/echo", ` {"a":1} `, 200},
	} {
		req, err := http.NewRequestWithContext(w.ctx, tt.method, "http://"+r.id+tt.path, strings.NewReader(tt.body))
		w.must(err)
		resp, err := r.HTTPClient().Do(req)
		w.must(err)
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || !json.Valid(text) {
			t.Errorf("%s %s %.20s: %d %s, want %d", tt.method, tt.path, tt.body, resp.StatusCode, text, tt.status)
		}
	}
}

func TestStream(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	r := w.open(bob, w.share(alice, "notes", ShareOptions{Handlers: testHandlers()}).ID())
	for _, tt := range []struct {
		name string
		v    any
		want string
	}{
		{"count", 3, "0 1 2"}, {"count", 0, ""}, {"count", "x", "400 bad_request: a number"}, {"unknown", nil, "404 not_found: Nothing here answers such requests."},
		{"midway", nil, `{"error":"a","reason":"value"} 409 conflict: Document update conflict.`}, {"looks", nil, `{"error":"a","reason":"value"} 1`},
		{"panics midway", nil, "1 500 internal_server_error: The handler failed."}, {"a name", nil, "null"},
	} {
		var got []string
		for v, err := range r.Stream(w.ctx, tt.name, tt.v) {
			if err != nil {
				got = append(got, fmt.Sprint(status(err), " ", err))
				continue
			}
			got = append(got, string(v))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %s", tt.name, got, tt.want)
		}
	}
}

// A cancelled request, a time-out and a loop that is left reach the handler; a cut
// connection is an error, never a short answer.
func TestRequestCancelled(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	began, ended := make(chan struct{}, 10), make(chan error, 10)
	s := w.share(alice, "notes", ShareOptions{Handlers: map[string]Handler{
		"wait": func(ctx context.Context, _ RemoteInfo, _ json.RawMessage) (any, error) {
			began <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
		"tick": func(ctx context.Context, _ RemoteInfo, _ json.RawMessage) (any, error) {
			return Stream(func(yield func(any, error) bool) {
				yield(1, nil)
				<-ctx.Done()
				ended <- ctx.Err()
			}), nil
		},
	}})
	r := w.open(bob, s.ID())
	ctx, cancel := context.WithCancel(w.ctx)
	go func() { <-began; cancel() }()
	if _, err := r.Request(ctx, "wait", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	waitFor(t, ended)
	ctx, cancel = context.WithTimeout(w.ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := r.Request(ctx, "wait", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	for _, err := range r.Stream(w.ctx, "tick", nil) {
		w.must(err)
		break
	}
	waitFor(t, ended)
	var last error
	for _, err := range r.Stream(w.ctx, "tick", nil) {
		if last = err; err == nil {
			alice.transport.(*memTransport).cut()
		}
	}
	if last == nil {
		t.Error("a cut stream seems whole")
	}
	waitFor(t, ended)
}

func waitFor[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("did not happen")
	}
	return v
}

// One peer's requests are bounded, and do not keep out another's.
func TestRequestsAreBounded(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	release := make(chan struct{})
	s := w.share(alice, "notes", ShareOptions{Handlers: map[string]Handler{
		"wait": func(context.Context, RemoteInfo, json.RawMessage) (any, error) { <-release; return nil, nil },
		"now":  func(context.Context, RemoteInfo, json.RawMessage) (any, error) { return nil, nil },
	}})
	one, two := w.open(bob, s.ID()), w.open(bob, s.ID())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(release)
	for i := range maxPeerRequests {
		wg.Go(func() { _, _ = []*Remote{one, two}[i%2].Request(w.ctx, "wait", nil) })
	}
	w.eventually("all under way", func() bool {
		s.messages.mu.Lock()
		defer s.messages.mu.Unlock()
		return s.messages.running[bob.ID()] == maxPeerRequests
	})
	if _, err := one.Request(w.ctx, "now", nil); status(err) != http.StatusTooManyRequests {
		t.Errorf("one more: %v", err)
	}
	if _, err := w.open(carol, s.ID()).Request(w.ctx, "now", nil); err != nil {
		t.Errorf("of another peer: %v", err)
	}
}

// hears collects what a loop over messages yields, and its end.
func hears(w *world, r *Remote) (next func() Message, end func() error) {
	got, ended := make(chan Message, 1000), make(chan error, 1)
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	w.t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		for m, err := range r.Messages(ctx) {
			if err != nil {
				ended <- err
				return
			}
			got <- m
		}
	})
	return func() Message {
			w.t.Helper()
			return waitFor(w.t.(*testing.T), got)
		}, func() error {
			w.t.Helper()
			return waitFor(w.t.(*testing.T), ended)
		}
}

func (w *world) hearers(s *Share, n int) {
	w.t.Helper()
	w.eventually(fmt.Sprint(n, " listen"), func() bool {
		s.messages.mu.Lock()
		defer s.messages.mu.Unlock()
		return len(s.messages.hearers) == n
	})
}

func TestBroadcast(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{ReadOnly: true})
	b, c := w.open(bob, s.ID()), w.open(carol, s.ID())
	bobHears, bobEnds := hears(w, b)
	carolHears, _ := hears(w, c)
	here := make(chan Message, 10)
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for m := range s.Messages(ctx) {
			here <- m
		}
	})
	w.hearers(s, 3)
	w.must(b.Broadcast(w.ctx, map[string]int{"cursor": 1}))
	for who, m := range map[string]Message{"the sharer": waitFor(t, here), "carol": carolHears()} {
		if m.From != bob.ID() || string(m.Message) != `{"cursor":1}` {
			t.Errorf("%s hears %s from %s", who, m.Message, m.From)
		}
	}
	w.must(s.Broadcast([]string{"from", "alice"}))
	for who, m := range map[string]Message{"bob": bobHears(), "carol": carolHears()} { // bob's own did not come back to him
		if m.From != alice.ID() || string(m.Message) != `["from","alice"]` {
			t.Errorf("%s hears %s from %s", who, m.Message, m.From)
		}
	}
	long := strings.Repeat("x", maxBroadcast)
	if err := s.Broadcast(long); status(err) != 413 {
		t.Error(err)
	}
	if err := b.Broadcast(w.ctx, long); status(err) != 413 {
		t.Error(err)
	}
	// A lost connection is made again.
	alice.transport.(*memTransport).cut()
	w.eventually("heard after a cut", func() bool {
		w.must(s.Broadcast("again"))
		select {
		case m := <-here:
			t.Errorf("the sharer hears itself: %s", m.Message)
		default:
		}
		s.messages.mu.Lock()
		defer s.messages.mu.Unlock()
		return len(s.messages.hearers) == 3
	})
	w.must(s.Unshare(w.ctx))
	if err := bobEnds(); status(err) != 404 {
		t.Errorf("after the share has ended: %v", err)
	}
}

// Who is refused hears nothing and cannot make itself heard, whatever it tries.
func TestMessagesOfRefused(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	var called bool
	s := w.share(alice, "notes", ShareOptions{
		OnRemote: func(i RemoteInfo) error {
			if i.Peer == bob.ID() {
				return errors.New("not you")
			}
			return nil
		},
		Handlers: map[string]Handler{"x": func(context.Context, RemoteInfo, json.RawMessage) (any, error) { called = true; return nil, nil }},
	})
	c := w.open(carol, s.ID())
	// Bob goes on after the refusal: with a Remote that did not ask first.
	b := w.open(bob, w.share(alice, "other", ShareOptions{}).ID())
	b.id = s.ID()
	next, _ := hears(w, c)
	w.hearers(s, 1)
	if _, err := b.Request(w.ctx, "x", nil); status(err) != 403 || called {
		t.Errorf("%v, called: %v", err, called)
	}
	if err := b.Broadcast(w.ctx, "spam"); status(err) != 403 {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	for _, err := range b.Messages(ctx) {
		if status(err) != 403 {
			t.Error(err)
			break
		}
	}
	w.must(s.Broadcast("friends"))
	if m := next(); string(m.Message) != `"friends"` {
		t.Errorf("%s", m.Message)
	}
}

// A peer that does not read costs its own messages, and holds up nobody.
func TestSlowHearer(t *testing.T) {
	var m messages
	slow, leave := m.hear("slow")
	defer leave()
	for i := range 10 * hearerQueue {
		m.broadcast(Message{"x", json.RawMessage(fmt.Sprint(i))}, "x")
	}
	var got []string
	for len(slow.queue) > 0 {
		got = append(got, string((<-slow.queue).Message))
	}
	if len(got) != hearerQueue || got[len(got)-1] != fmt.Sprint(10*hearerQueue-1) || !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) {
		t.Errorf("%q", got)
	}

	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	s := w.share(alice, "notes", ShareOptions{})
	resp, err := w.open(bob, s.ID()).message(w.ctx, http.MethodGet, "/_broadcast", nil) // and never reads
	w.must(err)
	defer resp.Body.Close()
	next, _ := hears(w, w.open(carol, s.ID()))
	w.hearers(s, 2)
	text := strings.Repeat("x", maxBroadcast-2)
	for range 200 { // 3 MB
		w.must(s.Broadcast(text))
		next()
	}
}

// A silent connection is given up, and heartbeats keep a quiet one.
func TestMessagesHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alice, bob := w.join(nil), w.join(nil)
		s := w.share(alice, "notes", ShareOptions{})
		r := w.open(bob, s.ID())
		next, _ := hears(w, r)
		synctest.Wait()
		s.messages.mu.Lock()
		var first *hearer
		for h := range s.messages.hearers {
			first = h
		}
		s.messages.mu.Unlock()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		s.messages.mu.Lock()
		if _, still := s.messages.hearers[first]; !still {
			t.Error("a quiet connection was given up")
		}
		s.messages.mu.Unlock()
		alice.transport.(*memTransport).stall()
		time.Sleep(2 * messageSilence)
		synctest.Wait()
		w.must(s.Broadcast("back"))
		if m := next(); string(m.Message) != `"back"` {
			t.Errorf("%s", m.Message)
		}
	})
}

func FuzzReadValues(f *testing.F) {
	for _, s := range []string{"1\n2\n", "\n\n{}\n", `{"error":"a","reason":"b"}`, `{"error":"a","reason":"b","status":404}` + "\n", "{\n", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		_ = readValues(strings.NewReader(body), func(v json.RawMessage, err error) bool {
			if err != nil || !json.Valid(v) {
				t.Fatalf("%q: %q %v", body, v, err)
			}
			return true
		})
	})
}

// stall makes the connections there are silent; new ones work.
func (m *memTransport) stall() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.open {
		c.Conn.(*memnet.Conn).Stall(true)
	}
}

// With its access a peer loses its feed of messages, in the middle of it, and what it still sends reaches nobody.
func TestMessagesEndWithRevocation(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.join(nil), w.join(nil), w.join(nil)
	called := make(chan struct{}, 10)
	s := w.share(alice, "notes", ShareOptions{Handlers: map[string]Handler{
		"wait": func(ctx context.Context, _ RemoteInfo, _ json.RawMessage) (any, error) {
			called <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}})
	b, c := w.open(bob, s.ID()), w.open(carol, s.ID())
	_, bobEnds := hears(w, b)
	carolHears, _ := hears(w, c)
	w.hearers(s, 2)
	asked := make(chan error, 1)
	go func() { _, err := b.Request(w.ctx, "wait", nil); asked <- err }()
	waitFor(t, called)
	w.must(s.Revoke(w.ctx, bob.ID(), ""))
	if err := waitFor(t, asked); err == nil {
		t.Error("a request under way was answered")
	}
	if err := bobEnds(); status(err) != http.StatusForbidden {
		t.Errorf("the feed ended with %v", err)
	}
	if err := b.Broadcast(w.ctx, "still here"); status(err) != http.StatusForbidden {
		t.Errorf("a broadcast: %v", err)
	}
	if _, err := b.Request(w.ctx, "wait", nil); status(err) != http.StatusForbidden {
		t.Errorf("a request: %v", err)
	}
	w.hearers(s, 1)
	w.must(s.Broadcast("alone"))
	if m := carolHears(); string(m.Message) != `"alone"` {
		t.Errorf("%s", m.Message)
	}
}
