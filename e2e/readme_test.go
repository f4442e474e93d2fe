package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// readme returns the code block of the README under the comment <!-- test: NAME -->.
func (w *world) readme(name string) string {
	w.Helper()
	text, err := os.ReadFile("../README.md")
	w.ok(err)
	block := regexp.MustCompile("(?s)<!-- test: " + name + " -->\n```[a-z]*\n(.*?)\n```").FindSubmatch(text)
	if block == nil {
		w.Fatalf("README.md has no block <!-- test: %s -->", name)
	}
	return string(block[1])
}

// output runs a README example, which must succeed, and checks what it prints.
func (w *world) output(cmd *exec.Cmd, patterns ...string) {
	w.Helper()
	r := w.run("", cmd)
	if r.status != 0 {
		w.Fatalf("status %d:\n%s\n%s", r.status, r.stdout, r.stderr)
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(r.stdout) {
			w.Errorf("it does not print %s:\n%s\n%s", p, r.stdout, r.stderr)
		}
	}
}

const readmeHub = "http://127.0.0.1:5984"

func TestReadmeGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	main := w.write("main.go", []byte(strings.ReplaceAll(w.readme("go"), readmeHub, hub.url)))
	cmd := w.command("go", "run", main)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "XDG_CONFIG_HOME="+w.path("config"))
	w.output(cmd, `from Alice`, `pulled 1 over route (host|srflx)`)
}

func TestReadmePouchDB(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.write("main.mjs", []byte(strings.ReplaceAll(w.readme("pouchdb"), readmeHub, hub.url)))
	modules, err := filepath.Abs("node_modules")
	w.ok(err)
	w.ok(os.Symlink(modules, w.path("node_modules")))
	cmd := w.command("node", "main.mjs")
	cmd.Dir = w.dir
	w.output(cmd, `pushed 1`)
	w.ok(w.has(hub.url+"/notes", "hello"))
}

func TestReadmeCLI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	script := strings.NewReplacer("5984", w.freePort(), "5985", w.freePort()).Replace(w.readme("cli"))
	cmd := w.command("/bin/bash", w.write("script.sh", []byte(inBackground(script))))
	cmd.Dir = w.dir
	cmd.Env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"))
	w.output(cmd, `shopping`, `(?m)^{"_id":"milk",.*"amount":2}$`, `1 documents`)
}

// inBackground makes a script stop at the first failure, and wait after a command in the
// background until that has said something, as a person at a terminal would.
func inBackground(script string) string {
	out := "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n"
	amp := regexp.MustCompile(`^(.*) &\s*(#.*)?$`)
	for i, line := range strings.Split(script, "\n") {
		if m := amp.FindStringSubmatch(line); m != nil {
			line = fmt.Sprintf("%s >background.%d &\nuntil [ -s background.%d ]; do kill -0 $!; sleep 0.05; done", m[1], i, i)
		}
		out += line + "\n"
	}
	return out
}

// freePort is a port that nobody listens on.
func (w *world) freePort() string {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.ok(err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	w.ok(err)
	return port
}

// TestDemo runs what `make run` runs.
func TestDemo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd := w.command("demo", "-bin", bin, "-countries", countries, "-dir", w.path("demo"), "-addr", "127.0.0.1:0", "-once")
	w.output(cmd, `imported 250 countries with 750 attachments`, `equal to Alice's file`, `pulled 250 documents .*, 0 failed; route (host|srflx)`,
		`Both edited while a live sync ran`, `Alice's and Bob's databases are equal, attachments included`)
}
