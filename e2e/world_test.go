package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

const (
	testTime = 3 * time.Minute // for one test
	waitTime = time.Minute     // for one thing to happen
)

// A world is a test's own directory, environment and processes.
type world struct {
	*testing.T
	ctx context.Context
	dir string
	env []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldFor(t, testTime)
}

func newWorldFor(t *testing.T, limit time.Duration) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, dir: t.TempDir()}
	w.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.path("home"), "XDG_CONFIG_HOME=" + w.path("home/config")}
	return w
}

// path names a file of the test; a local database is a path too.
func (w *world) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

// write makes a file of the test.
func (w *world) write(name string, content []byte) string {
	w.Helper()
	path := w.path(name)
	w.ok(os.MkdirAll(filepath.Dir(path), 0o755))
	w.ok(os.WriteFile(path, content, 0o644))
	return path
}

func (w *world) ok(err error) {
	if err != nil {
		w.Helper()
		w.Fatal(err)
	}
}

func (w *world) command(name string, args ...string) *exec.Cmd {
	if slices.Contains([]string{"hubserver", "loveseat", "demo"}, name) {
		name = filepath.Join(bin, name)
	}
	cmd := exec.CommandContext(w.ctx, name, args...)
	cmd.Env = w.env
	return cmd
}

// start starts a program. At the end of the test it gets Ctrl-C, after which it must exit with status 0.
func (w *world) start(cmd *exec.Cmd) *proc.Proc {
	w.Helper()
	p, err := proc.StartCmd(cmd)
	w.ok(err)
	w.Cleanup(func() {
		if err := p.Stop(); err != nil && !p.Killed() {
			w.Errorf("after Ctrl-C: %v", err)
		} else if w.Failed() {
			w.Logf("%s:\n%s", p, p.Stderr())
		}
	})
	return p
}

// next waits for a program's event.
func (w *world) next(p *proc.Proc, event string, out any) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, waitTime)
	defer cancel()
	w.ok(p.Next(ctx, event, out))
}

// A result is what a program that has ended did.
type result struct {
	stdout, stderr string
	status         int
}

// run runs a program to its end.
func (w *world) run(stdin string, cmd *exec.Cmd) (r result) {
	w.Helper()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // what it started too
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.Fatalf("%s: %v\n%s\n%s", cmd, err, &out, &errs)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// loveseat runs a command that must succeed and returns its standard output.
func (w *world) loveseat(args ...string) string {
	w.Helper()
	return w.loveseatIn("", args...)
}

func (w *world) loveseatIn(stdin string, args ...string) string {
	w.Helper()
	r := w.run(stdin, w.command("loveseat", args...))
	if r.status != 0 {
		w.Fatalf("loveseat %s: status %d\n%s", strings.Join(args, " "), r.status, r.stderr)
	}
	return r.stdout
}

// edit imports documents, given as NDJSON, into a local database.
func (w *world) edit(db string, docs ...string) {
	w.Helper()
	w.loveseatIn(strings.Join(docs, "\n"), "import", w.path(db), "-", "--json")
}

// A hub is a running hubserver.
type hub struct {
	*proc.Proc
	url string // of the server
	db  string // of the hub database
}

// hub starts a hub. data is the directory of its databases in the test's own.
func (w *world) hub(data string, args ...string) *hub {
	w.Helper()
	return w.hubAt("127.0.0.1:0", data, args...)
}

func (w *world) hubAt(addr, data string, args ...string) *hub {
	w.Helper()
	args = append([]string{"--addr", addr, "--data", w.path(data), "--json", "--log", "warn"}, args...)
	h := &hub{Proc: w.start(w.command("hubserver", args...))}
	var e struct{ URL string }
	w.next(h.Proc, "listening", &e)
	h.url, h.db = e.URL, e.URL+"/hub"
	return h
}

// addr is the hub's HOST:PORT.
func (h *hub) addr() string { return strings.TrimPrefix(h.url, "http://") }

// A sharer is a running `loveseat share`.
type sharer struct {
	*proc.Proc
	ID, Name, Link, Peer string
}

func (w *world) share(hub, db string, args ...string) *sharer {
	w.Helper()
	args = append([]string{"share", hub, w.path(db), "--json"}, args...)
	s := &sharer{Proc: w.start(w.command("loveseat", args...))}
	w.next(s.Proc, "shared", s)
	return s
}

// open opens a share and returns its URL.
func (w *world) open(hub, ref string) string {
	w.Helper()
	p := w.start(w.command("loveseat", "open", hub, ref, "--json"))
	var e struct{ URL string }
	w.next(p, "open", &e)
	return e.URL
}

// counts is what a replication did in one direction.
type counts struct {
	Read    int64 `json:"docs_read"`
	Written int64 `json:"docs_written"`
	Failed  int64 `json:"doc_write_failures"`
	Checked int64 `json:"missing_checked"`
	Bytes   int64
	Errors  []struct{ ID, Rev, Error, Reason string }
}

// complete is the last event of a sync.
type complete struct {
	Pushed, Pulled counts
	Route          string
	Seconds        float64
}

// sync runs `loveseat sync` to its end, which must be a success without failures.
func (w *world) sync(args ...string) complete {
	w.Helper()
	c := lastEvent[complete](w, w.loveseat(append([]string{"sync", "--json"}, args...)...), "complete")
	if c.Pushed.Failed+c.Pulled.Failed > 0 {
		w.Fatalf("sync %v: %+v", args, c)
	}
	return c
}

// lastEvent decodes the last of a program's JSON lines, which must be of the given name.
func lastEvent[T any](w *world, stdout, name string) (e T) {
	w.Helper()
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	last := lines[len(lines)-1]
	var head struct{ Event string }
	if json.Unmarshal([]byte(last), &head) != nil || head.Event != name || json.Unmarshal([]byte(last), &e) != nil {
		w.Fatalf("the last line is %s, want the event %q", last, name)
	}
	return e
}

// eventually repeats check until it returns nil.
func (w *world) eventually(what string, check func() error) {
	w.Helper()
	deadline := time.NewTimer(waitTime)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			w.Fatalf("%s: not within %v: %v", what, waitTime, err)
		}
	}
}

// http makes a request with a JSON body ("": none) and returns the answer.
func (w *world) http(method, url, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(w.ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// ask makes a request that must succeed, and decodes the answer.
func ask[T any](w *world, method, url, body string) (out T) {
	w.Helper()
	status, b, err := w.http(method, url, body)
	w.ok(err)
	if status/100 != 2 {
		w.Fatalf("%s %s: %d %s", method, url, status, b)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		w.Fatalf("%s %s: %v: %s", method, url, err, b)
	}
	return out
}

// docCount is a database's number of documents, by its URL.
func (w *world) docCount(url string) int64 {
	w.Helper()
	return ask[struct {
		DocCount int64 `json:"doc_count"`
	}](w, http.MethodGet, url, "").DocCount
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%q", err)
	}
	return string(b)
}
