package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/localdb"
)

func TestMain(m *testing.M) {
	checkTime = time.Minute
	goleak.VerifyTestMain(m)
}

// A buffer may be written while a test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// run runs the program to its end and returns its exit status and what it printed.
func run(t *testing.T, env map[string]string, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out, errs buffer
	m := &Main{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Getenv: func(name string) string { return env[name] }}
	status = m.Run(ctx)
	return status, out.String(), errs.String()
}

// serveHub serves a hub until the test ends, and returns its URL without a path.
func serveHub(t *testing.T, c hub.Config) string {
	t.Helper()
	store, err := localdb.OpenStore(t.TempDir(), localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.Store, c.UUID, c.Logger = store, store.UUID(), slog.New(slog.DiscardHandler)
	h, err := hub.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = h.Close()
		_ = store.Close()
	})
	return "http://" + l.Addr().String()
}
