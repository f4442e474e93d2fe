package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/localdb"
)

func TestMain(m *testing.M) {
	checkTime, answerTime = time.Minute, time.Minute
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
	for _, secret := range secrets(env, args) {
		if strings.Contains(out.String()+errs.String(), secret) {
			t.Errorf("%q tells %q:\n%s%s", args, secret, &out, &errs)
		}
	}
	return status, out.String(), errs.String()
}

var secretForm = regexp.MustCompile(`://[^:/]*:([^@/]+)@|#(.{8,})$`)

// secrets are the passwords and the invites in what a program is given.
func secrets(env map[string]string, args []string) (all []string) {
	if p := env["LOVESEAT_PASSPHRASE"]; len(p) > len("wrong") {
		all = append(all, p)
	}
	for _, text := range append(args, env["LOVESEAT_HUB"]) {
		if m := secretForm.FindStringSubmatch(text); m != nil {
			all = append(all, m[1]+m[2])
		}
	}
	return all
}

// Whatever goes wrong, a password of a hub and a share's secret are not printed.
func TestSecretsAreNotTold(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	server := strings.Replace(serveHub(t, hub.Config{Admin: testAdmin}), "://", "://admin:s3cret-word@", 1)
	nobody := "://ann:s3cret-word@" + gone.Addr().String()
	dir := t.TempDir()
	for _, db := range []string{
		server + "/hub", "http" + nobody + "/hub", "http" + nobody + "/hub/share:x?a=b#c", "http" + nobody + "/", "http" + nobody + "/hub/%zz",
		"http://ann:s3cret-word@127.0.0.1:port/hub", "http://ann:s3cret-word@%zz/hub", "ftp://ann:s3cret-word@127.0.0.1/hub", "ws" + nobody + "/notes", "tcp://ann:s3cret-word@127.0.0.1:port/", "http://127.0.0.1:port/hub/share:x#s3cret-word",
	} {
		for _, args := range [][]string{
			{"ls", db}, {"share", db, dir + "/x/notes"}, {"open", db, "x"}, {"sync", dir + "/x/notes", db}, {"sync", db, dir + "/x/notes"},
			{"doctor", db}, {"doctor", "--json", db, "x"}, {"join", db, dir + "/x/notes"}, {"revoke", db, "x"}, {"export", db}, {"import", db, "-"}, {"verify", db, dir + "/x/notes"},
		} {
			env := map[string]string{"LOVESEAT_HUB": "http://ann:s3cret-env@" + gone.Addr().String() + "/hub"}
			if status, _, _ := run(t, env, "", append([]string{"--identity", dir + "/id"}, args...)...); status == 0 {
				t.Errorf("%q went well", args)
			}
		}
	}
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
