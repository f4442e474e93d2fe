package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestAnswersOfCouchDB sends the hub the requests of couchdb/corpus and compares its answers with CouchDB 3.5.2's.
// couchdb/meant.json names the differences that are meant, couchdb/open.txt those that are still to be mended: an entry there
// that no longer differs must go.
func TestAnswersOfCouchDB(t *testing.T) {
	t.Parallel()
	w := newWorldFor(t, 10*time.Minute) // for thousands of requests, one after the other, on a busy machine
	w.env = append(w.env, "LOVESEAT_ADMIN=admin:PASSWORD")
	h := w.hub("hub", "--limit-requests", "-1", "--limit-documents", "-1", "--limit-concurrent", "-1")
	open := map[string]bool{}
	text, err := os.ReadFile("couchdb/open.txt")
	w.ok(err)
	for line := range strings.Lines(string(text)) {
		open[strings.TrimSuffix(line, "\n")] = true
	}
	url := strings.Replace(h.url, "://", "://admin:PASSWORD@", 1)
	cmd := exec.CommandContext(w.ctx, "node", "couchdb/replay.mjs", url, "--meant", "couchdb/meant.json")
	out, err := cmd.Output() // exit status 1 if anything differs
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	steps := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "ok", "meant":
			steps++
			if name := openStep(rest, open); name != "" {
				t.Errorf("%s answers as CouchDB now: take it out of open.txt", name)
			}
		case "FAIL":
			steps++
			if openStep(rest, open) == "" {
				t.Error(line)
			}
		}
	}
	if steps < 2195 {
		t.Errorf("%d requests were compared:\n%s", steps, out)
	}
}

// openStep finds the open step that a line is about, "" if there is none. Names have colons themselves.
func openStep(line string, open map[string]bool) string {
	for i := len(line); i > 0; i = strings.LastIndex(line[:i], ": ") {
		if open[line[:i]] {
			return line[:i]
		}
	}
	return ""
}
