package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/hub"
)

// countingProxy is a way to a server that counts the connections that clients have open to it.
func countingProxy(t *testing.T, server string) (address string, open *atomic.Int64) {
	t.Helper()
	s := httptest.NewUnstartedServer(reverseProxy(t, server, nil))
	open = new(atomic.Int64)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL, open
}

// A command that has joined a hub leaves no connection to it behind, whether it succeeds or fails.
func TestCommandsLeaveTheHub(t *testing.T) {
	direct := serveHub(t, hub.Config{Admin: testAdmin})
	server, open := countingProxy(t, direct)
	share := startShare(t, admin(direct, "hub"), filepath.Join(notesStore(t), "notes"))
	hub, copied, key := admin(server, "hub"), filepath.Join(t.TempDir(), "copy"), t.TempDir()
	for _, args := range [][]string{
		{"ls", hub, "--identity", key}, {"ls", hub, "--identity", "/dev/null/x"}, {"sync", copied, admin(server, "hub/share:"+share)},
		{"open", hub, "nothing", "--identity", key}, {"doctor", hub, share, "--identity", key}, {"revoke", hub, "nothing", "--identity", key},
		{"sync", copied, admin(server, "nothing")},
	} {
		before := open.Load()
		status, out, errs := run(t, nil, "", args...)
		for limit := time.Now().Add(30 * time.Second); open.Load() != 0 && time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		}
		if left := open.Load(); left != 0 || before != 0 {
			t.Fatalf("%s: %d connections are left (status %d, %s %s)", strings.Join(args, " "), left, status, out, errs)
		}
	}
}
