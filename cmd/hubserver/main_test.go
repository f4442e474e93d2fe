package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func noEnv(string) string { return "" }

// serve runs the program until the test ends and returns its URL and output.
func serve(t *testing.T, env map[string]string, args ...string) (url string, stdout *buffer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stdout = &buffer{}
	var stderr buffer
	ready, exit := make(chan string, 1), make(chan int, 1)
	m := &Main{Args: args, Stdout: stdout, Stderr: &stderr, Getenv: func(k string) string { return env[k] }, Ready: func(u string) { ready <- u }}
	go func() { exit <- m.Run(ctx) }()
	select {
	case url = <-ready:
	case status := <-exit:
		cancel()
		t.Fatalf("ended with %d: %s", status, stderr.String())
	}
	t.Cleanup(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if status := <-exit; status != 0 {
			t.Errorf("ended with %d: %s", status, stderr.String())
		}
	})
	return url, stdout
}

func get(t *testing.T, url, user, password string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestServesTheHubDatabase(t *testing.T) {
	url, stdout := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir())
	if status := get(t, url+"/hub", "", ""); status != 200 {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{"The hub is at " + url, "loveseat share " + url + "/hub ./data/notes", "loveseat ls " + url + "/hub"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is missing in %q", want, stdout.String())
		}
	}
}

func TestEventsAndEnvironment(t *testing.T) {
	env := map[string]string{"LOVESEAT_ADDR": "127.0.0.1:0", "LOVESEAT_DATA": t.TempDir(), "LOVESEAT_ADMIN": "ann:se:cret", "LOVESEAT_JSON": "true"}
	url, stdout := serve(t, env)
	line, _, _ := strings.Cut(stdout.String(), "\n")
	var event struct{ Event, URL string }
	if err := json.Unmarshal([]byte(line), &event); err != nil || event.Event != "listening" || event.URL != url {
		t.Errorf("%q: %v", line, err)
	}
	if status := get(t, url+"/hub", "", ""); status != 401 {
		t.Errorf("anonymous: %d", status)
	}
	if status := get(t, url+"/hub", "ann", "se:cret"); status != 200 {
		t.Errorf("administrator: %d", status)
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	data := t.TempDir()
	for _, tt := range []struct {
		args   []string
		env    map[string]string
		status int
		says   string
	}{
		{[]string{"--addr", "0.0.0.0:0"}, nil, 2, "set LOVESEAT_ADMIN=NAME:PASSWORD"},
		{[]string{"--addr", ":0"}, nil, 2, "set LOVESEAT_ADMIN=NAME:PASSWORD"},
		{[]string{"--addr", "192.0.2.1:5984"}, nil, 2, "set LOVESEAT_ADMIN=NAME:PASSWORD"},
		{[]string{"--addr", "nonsense"}, nil, 2, "want HOST:PORT"},
		{[]string{"--addr", taken.Addr().String()}, nil, 1, "is in use"},
		{[]string{"--admin", "s3cret"}, nil, 2, "must be NAME:PASSWORD"},
		{nil, map[string]string{"LOVESEAT_ADMIN": ":s3cret"}, 2, "must be NAME:PASSWORD"},
		{nil, map[string]string{"LOVESEAT_JSON": "s3cret"}, 2, "LOVESEAT_JSON: invalid value"},
		{[]string{"--log", "loud"}, nil, 2, "want debug, info, warn or error"},
		{[]string{"--nope"}, nil, 2, "unknown flag"},
		{[]string{"extra"}, nil, 2, "unknown argument"},
		{[]string{"--addr", "127.0.0.1:0", "--origin", "*"}, nil, 1, "want scheme and host"},
	} {
		var out, stderr buffer
		args := append([]string{"--data", data}, tt.args...)
		ctx, cancel := context.WithCancel(t.Context())
		m := &Main{Args: args, Stdout: &out, Stderr: &stderr, Getenv: func(k string) string { return tt.env[k] }, Ready: func(string) { cancel() }}
		status := m.Run(ctx)
		cancel()
		if status != tt.status || !strings.Contains(stderr.String(), tt.says) {
			t.Errorf("%q: %d %q, want %d %q", tt.args, status, stderr.String(), tt.status, tt.says)
		}
		if strings.Contains(stderr.String()+out.String(), "s3cret") {
			t.Errorf("%q: a secret is printed: %s", tt.args, stderr.String())
		}
	}
}

func TestHelp(t *testing.T) {
	var out, stderr buffer
	m := &Main{Args: []string{"--help"}, Stdout: &out, Stderr: &stderr, Getenv: noEnv}
	if status := m.Run(t.Context()); status != 0 || !strings.Contains(out.String(), "LOVESEAT_ADMIN") || !strings.Contains(out.String(), "./data/hub") {
		t.Errorf("%d %s", status, out.String())
	}
}
