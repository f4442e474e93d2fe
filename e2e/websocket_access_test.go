package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// peerID is that of the device key in a store of the test.
func (w *world) peerID(store string) string {
	w.Helper()
	return lastEvent[struct{ Peer string }](w, w.loveseat("--identity", w.path(store), "id", "--json"), "id").Peer
}

// says checks that a command succeeds and prints a text.
func (w *world) says(text string, args ...string) error {
	if r := w.run("", w.command("loveseat", args...)); r.status != 0 || !strings.Contains(r.stdout, text) {
		return fmt.Errorf("%v: status %d: %s%s", args, r.status, r.stdout, r.stderr)
	}
	return nil
}

// fails checks that a command fails for a reason.
func (w *world) fails(reason string, args ...string) {
	w.Helper()
	if r := w.run("", w.command("loveseat", args...)); r.status != 1 || !strings.Contains(r.stderr, reason) {
		w.Errorf("%v: status %d, %s\nwant %q", args, r.status, r.stderr, reason)
	}
}

// websocket starts a share of alice/notes that is served by WebSocket, and returns its URL too.
func (w *world) websocket(args ...string) (*proc.Proc, string) {
	w.Helper()
	return w.websocketOf(w.command("loveseat", append([]string{"share", w.path("alice/notes"), "--websocket", "127.0.0.1:0", "--json"}, args...)...).Args[1:]...)
}

func (w *world) websocketOf(args ...string) (*proc.Proc, string) {
	w.Helper()
	p := w.start(w.command("loveseat", args...))
	var serving struct{ URL string }
	w.next(p, "serving", &serving)
	return p, serving.URL
}

// TestWebSocketAccess: what limits a share holds by WebSocket as through a hub.
func TestWebSocketAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.edit("alice/notes", `{"_id":"a","open":true}`, `{"_id":"b","open":false}`, `{"_id":"c","open":true}`)
	bob := w.peerID("bob")

	seen := func(store, url, ids string) {
		t.Helper()
		w.sync(w.path(store+"/notes"), url, "--pull")
		if got := w.loveseat("export", w.path(store+"/notes")); strings.Count(got, "\n") != len(strings.Fields(ids)) {
			t.Errorf("%s sees %s, want %s", store, got, ids)
		} else {
			for _, id := range strings.Fields(ids) {
				if !strings.Contains(got, `"_id":"`+id+`"`) {
					t.Errorf("%s does not see %s: %s", store, id, got)
				}
			}
		}
	}
	p, url := w.websocket("--selector", `{"open":true}`, "--read-only")
	seen("selector", url, "a c")
	w.fails("secret is missing or wrong", "sync", w.path("bob/notes"), strings.Split(url, "#")[0])
	o := w.start(w.command("loveseat", "open", url, "--json"))
	var open struct{ URL string }
	w.next(o, "open", &open)
	if status, b, err := w.http(http.MethodPut, open.URL+"/new", `{"open":true}`); status != http.StatusForbidden || !strings.Contains(string(b), "read-only") {
		t.Errorf("a write: %d %s %v", status, b, err)
	}
	if status, b, _ := w.http(http.MethodGet, open.URL+"/b", ""); status != http.StatusNotFound {
		t.Errorf("a hidden document: %d %s", status, b)
	}
	w.ok(o.Stop())
	w.ok(p.Stop())

	p, url = w.websocket("--doc-ids", "b,c")
	seen("ids", url, "b c")
	w.ok(p.Stop())

	p, url = w.websocket("--allow", bob)
	if strings.Contains(url, "#") {
		t.Errorf("a secret in %s", url)
	}
	seen("bob", url, "a b c")
	w.fails("peers that its owner has listed", "sync", w.path("eve/notes"), url)
	w.ok(p.Stop())

	p, url = w.websocket("--invite")
	w.fails("needs an invite", "sync", w.path("eve/notes"), strings.Split(url, "#")[0])
	w.fails("invite is not valid", "sync", w.path("eve/notes"), strings.Split(url, "#")[0]+"#"+strings.Repeat("a", 26))
	seen("carol", url, "a b c")
	w.ok(w.says("route websocket", "sync", w.path("dora/notes"), strings.Split(url, "#")[0], "--invite", strings.Split(url, "#")[1]))
	w.ok(p.Stop())
}

// TestWebSocketApprove: the owner is asked about who comes by WebSocket, and told what it says of itself.
func TestWebSocketApprove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.edit("alice/notes", `{"_id":"a"}`)
	share := w.command("loveseat", "share", "--websocket", "127.0.0.1:0", w.path("alice/notes"), "--json", "--approve")
	stdin, answers := io.Pipe()
	share.Stdin = stdin
	p := w.start(share)
	t.Cleanup(func() { _ = answers.Close() })
	var serving struct{ URL string }
	w.next(p, "serving", &serving)
	for i, answer := range []string{"always", "refuse"} {
		done := make(chan result, 1)
		go func() {
			done <- w.run("", w.command("loveseat", "sync", w.path(fmt.Sprint("peer", i, "/notes")), serving.URL, "--device", "phone"))
		}()
		var asks struct {
			Peer, Route string
			Info        struct{ Device string }
		}
		w.next(p, "asks", &asks)
		if asks.Info.Device != "phone" || asks.Route != "websocket" {
			t.Errorf("%+v", asks)
		}
		_, err := fmt.Fprintf(answers, "{\"peer\":%q,\"answer\":%q,\"reason\":\"Who are you?\"}\n", asks.Peer, answer)
		w.ok(err)
		if r := <-done; (r.status == 0) != (answer == "always") || r.status != 0 && !strings.Contains(r.stderr, "Who are you?") {
			t.Errorf("%s: status %d %s", answer, r.status, r.stderr)
		}
	}
}

// TestWebSocketExpires: the time of a share that is served by WebSocket ends it.
func TestWebSocketExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.edit("alice/notes", `{"_id":"a"}`)
	p, _ := w.websocket("--expires", "6s")
	var ended struct{ Reason string }
	if w.next(p, "ended", &ended); !strings.Contains(ended.Reason, "expired") {
		t.Errorf("%+v", ended)
	}
	w.ok(p.Wait())
}

// TestWebSocketBesideHub: one share, by the hub and by WebSocket: the same limits, and access that is taken away from both.
func TestWebSocketBesideHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"a","open":true}`, `{"_id":"b"}`)
	bob := w.peerID("bob")
	p := w.start(w.command("loveseat", "share", hub.db, w.path("alice/notes"), "--websocket", "127.0.0.1:0", "--json", "--allow", bob[:19], "--selector", `{"open":true}`))
	var shared struct{ ID, Link string }
	w.next(p, "shared", &shared)
	var serving struct{ ID, URL string }
	if w.next(p, "serving", &serving); serving.ID != shared.ID {
		t.Errorf("%+v %+v", serving, shared)
	}
	for _, way := range []string{shared.Link, serving.URL} {
		w.fails("peers that its owner has listed", "sync", w.path("eve/notes"), way)
		w.sync(w.path("bob/notes"), way)
		var e struct{ Peer, Route string }
		for e.Peer == "" || (e.Route == "websocket") != (way == serving.URL) { // it may come again by another route
			w.next(p, "opened", &e)
		}
		if e.Peer != bob {
			t.Errorf("%+v", e)
		}
	}
	if got := w.loveseat("export", w.path("bob/notes")); strings.Count(got, "\n") != 1 {
		t.Errorf("bob has %s", got)
	}
	// What waits for changes by WebSocket is cut off.
	live := w.start(w.command("loveseat", "open", "--identity", w.path("bob"), serving.URL, "--json"))
	var open struct{ URL string }
	w.next(live, "open", &open)
	resp, err := http.Get(open.URL + "/_changes?feed=continuous&heartbeat=1000") //nolint:noctx // revoking ends it
	w.ok(err)
	defer resp.Body.Close()
	cut := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, resp.Body); cut <- err }()
	w.loveseat("--identity", w.path("alice"), "revoke", hub.db, shared.ID, bob)
	select {
	case <-cut:
	case <-w.ctx.Done():
		t.Error("the feed goes on")
	}
	for _, way := range []string{shared.Link, serving.URL} {
		w.fails("Access to this share was revoked", "sync", w.path("bob/notes"), way)
	}
}

// TestWebSocketRefusesFlags: no flag is passed over in silence.
func TestWebSocketRefusesFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.check("loveseat", []cliCase{
		{args: "share --websocket 127.0.0.1:0 --name x s/notes", status: 2, stderr: `--name is about peers of a hub: share HUB DB --websocket`},
		{args: "share --websocket 127.0.0.1:0 --info {} s/notes", status: 2, stderr: `--info is about peers of a hub`},
		{args: "share --websocket 127.0.0.1:0 --udp-port 7777 s/notes", status: 2, stderr: `--udp-port is about peers of a hub`},
		{args: "share --websocket 127.0.0.1:0 --relay off s/notes", status: 2, stderr: `--relay is about peers of a hub`},
		{args: "share --websocket 127.0.0.1:0 --allow user:bob s/notes", status: 2, stderr: `--allow user:NAME needs a hub`},
		{args: "share --websocket 127.0.0.1:0 --allow bob s/notes", status: 1, stderr: `there is no local database`},
		{args: "share --websocket 127.0.0.1:0 --selector { s/notes", status: 2, stderr: `--selector is no JSON`},
		{args: "share --websocket 127.0.0.1:0", status: 2, stderr: `usage: loveseat share HUB DB | --websocket`},
		{args: "share s/notes", status: 2, stderr: `usage: loveseat share HUB DB | --websocket`},
		{args: "open ws://127.0.0.1:1/notes --interface lo", status: 2, stderr: `--interface is about peers of a hub`},
	})
}
