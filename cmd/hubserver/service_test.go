package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// request sends a request with a JSON body as a user ("" for nobody).
func request(t *testing.T, method, url, user, body string, to any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if user != "" {
		req.SetBasicAuth(user, "secret")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if to != nil && json.Unmarshal(b, to) != nil {
		t.Fatalf("%s %s: %d %s", method, url, resp.StatusCode, b)
	}
	return resp.StatusCode
}

func addUsers(t *testing.T, server string, names ...string) {
	t.Helper()
	for _, name := range names {
		body := fmt.Sprintf(`{"_id":"org.couchdb.user:%s","type":"user","name":%q,"password":"secret","roles":[]}`, name, name)
		if status := request(t, "PUT", server+"/_users/org.couchdb.user:"+name, "root", body, nil); status != 201 {
			t.Fatalf("user %s: %d", name, status)
		}
	}
}

// join joins a hub as a user.
func join(t *testing.T, server, user string, rtc peeradapter.Config) *share.Peer {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		u.User = url.UserPassword(user, "secret")
	}
	client, err := kivik.New(peeradapter.HTTPDriver, u.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	peer, err := peeradapter.Join(ctx, client.DB("hub"), peeradapter.Options{WebRTC: rtc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := peer.Close(); err != nil {
			t.Error(err)
		}
		_ = client.Close()
	})
	return peer
}

// meet lets one peer share a database with one document, and the other read it. It returns the route.
func meet(t *testing.T, sharer, opener *share.Peer) string {
	t.Helper()
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := store.Create(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB("notes").Put(t.Context(), "a", map[string]int{"x": 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := sharer.Share(ctx, store.DB("notes"), share.ShareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := opener.Open(ctx, s.ID())
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ X int }
	if err := r.DB().Get(ctx, "a").ScanDoc(&doc); err != nil || doc.X != 1 {
		t.Fatalf("%+v %v", doc, err)
	}
	route := r.Route()
	t.Cleanup(func() { _ = r.Close() })
	return route
}

// Signed-in peers that hide their addresses meet through the hub's TURN server,
// which they learn of from the hub alone.
func TestPeersMeetThroughTURN(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			hub, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--admin", "root:secret",
				"--turn-"+transport, "127.0.0.1:0", "--turn-target", "127.0.0.0/8", "--ice-server", "stun:127.0.0.1:9")
			addUsers(t, hub, "ann", "bob")
			if status := request(t, "GET", hub+"/_ice", "", "", nil); status != 401 {
				t.Errorf("nobody: %d", status)
			}
			rtc := peeradapter.Config{RelayOnly: true, Relay: peeradapter.Relay{Mode: peeradapter.RelayOff}}
			if route := meet(t, join(t, hub, "ann", rtc), join(t, hub, "bob", rtc)); route != "relay" {
				t.Errorf("route %q", route)
			}
		})
	}
}

// Without permission no packet is relayed to this machine.
func TestNoRelayToLoopback(t *testing.T) {
	hub, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--admin", "root:secret", "--turn-udp", "127.0.0.1:0")
	addUsers(t, hub, "ann", "bob")
	rtc := peeradapter.Config{RelayOnly: true, Relay: peeradapter.Relay{Mode: peeradapter.RelayOff}, Timeout: 2 * time.Second}
	ann, bob := join(t, hub, "ann", rtc), join(t, hub, "bob", rtc)
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Create(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	s, err := ann.Share(t.Context(), store.DB("notes"), share.ShareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if r, err := bob.Open(ctx, s.ID()); err == nil {
		t.Errorf("connected by %s", r.Route())
	}
}

// Two hubs that keep their databases on one CouchDB-compatible server: accounts
// are the same, and peers on different hubs meet.
func TestHubsOnOneServer(t *testing.T) {
	couch, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--admin", "root:secret", "--hub-database", "other")
	behind := strings.Replace(couch, "http://", "http://root:secret@", 1)
	var hubs []string
	for range 2 {
		hub, out := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--admin", "root:secret", "--couchdb", behind)
		if strings.Contains(out.String(), "secret") {
			t.Errorf("the password is printed: %s", out.String())
		}
		hubs = append(hubs, hub)
	}
	addUsers(t, hubs[0], "ann", "bob")
	var a, b struct{ UUID string }
	request(t, "GET", hubs[0], "ann", "", &a)
	request(t, "GET", hubs[1], "bob", "", &b)
	if a != b || a.UUID == "" {
		t.Errorf("uuids %q and %q", a.UUID, b.UUID)
	}
	ann := join(t, hubs[0], "ann", peeradapter.Config{})
	bob := join(t, hubs[1], "bob", peeradapter.Config{})
	meet(t, ann, bob)
}

// Peers that are not signed in meet where that is allowed.
func TestAnonymousPeersMeet(t *testing.T) {
	hub, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--admin", "root:secret", "--hub-database", "hub list=* publish=* open=* signal=*")
	meet(t, join(t, hub, "", peeradapter.Config{}), join(t, hub, "", peeradapter.Config{}))
}

func TestServiceRefusals(t *testing.T) {
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"--couchdb", "s3cret"}, "want a URL"},
		{[]string{"--couchdb", "http://root:s3cret@127.0.0.1:1"}, "does not answer"},
		{[]string{"--hub-database", "hub read=x"}, "is none of list="},
		{[]string{"--hub-database", "_users"}, "the name is taken"},
		{[]string{"--turn-udp", "0.0.0.0:0"}, "--turn-ip"},
		{[]string{"--turn-udp", "127.0.0.1:0", "--turn-ports", "9-8"}, "--turn-ports"},
		{[]string{"--turn-udp", "127.0.0.1:0", "--turn-target", "x"}, "--turn-target"},
		{[]string{"--turn-server", "turn:a:1"}, "--turn-secret"},
		{[]string{"--ice-server", "http://a"}, "want a URL like stun:"},
	} {
		var out, stderr buffer
		ctx, cancel := context.WithCancel(t.Context())
		m := &Main{Args: append([]string{"--addr", "127.0.0.1:0", "--data", t.TempDir()}, tt.args...), Stdout: &out, Stderr: &stderr, Getenv: noEnv, Ready: func(string) { cancel() }}
		status := m.Run(ctx)
		cancel()
		if status == 0 || !strings.Contains(stderr.String(), tt.says) || strings.Contains(stderr.String(), "s3cret") {
			t.Errorf("%q: %d %q, want %q", tt.args, status, stderr.String(), tt.says)
		}
	}
}
