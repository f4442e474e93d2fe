package hub

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// startForHostility is a hub with small limits and some documents in "db".
func startForHostility(t *testing.T, temp string) *server {
	t.Helper()
	s := start(t, Config{TempDir: temp, Limits: couchhttp.Limits{Document: 10_000, Body: 700_000, Attachment: 50_000, Bulk: 100}})
	s.json("PUT", "/db", "", nil)
	s.put("/db/doc?new_edits=false", `{"_rev":"1-a1","a":1}`)
	gone := s.put("/db/gone", `{}`)
	s.json("DELETE", "/db/gone?rev="+gone, "", nil)
	s.json("PUT", "/db/att/a%2Fb.txt", "0123456789", nil)
	s.put("/db/_local/l", `{"x":1}`)
	return s
}

// TestHostileRequests: what is wrong is answered with CouchDB's status, error
// and reason, nothing is lost or left behind, and the server goes on.
func TestHostileRequests(t *testing.T) {
	temp := t.TempDir()
	s := startForHostility(t, temp)
	all := slices.Concat(hostileDatabases, hostileMethods, hostileDocuments, hostileLocals, hostileAttachments, hostileBulk, hostileRest,
		hostileValues(), hostileBodies(), hostileNames())
	if len(all) < 600 {
		t.Errorf("only %d requests", len(all))
	}
	before := s.contents()
	files := openFiles(t)
	for _, tt := range all {
		s.attack(&tt)
	}
	if after := s.contents(); after != before {
		t.Errorf("before:\n%s\nafterwards:\n%s", before, after)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	for deadline := time.Now().Add(20 * time.Second); openFiles(t) > files+8; time.Sleep(10 * time.Millisecond) { // databases open and close files too
		http.DefaultClient.CloseIdleConnections()
		if time.Now().After(deadline) {
			t.Fatalf("%d files are open, there were %d", openFiles(t), files)
		}
	}
}

// attack sends a request and checks the answer.
func (s *server) attack(tt *hostile) {
	s.t.Helper()
	a := s.do(tt.method, tt.path, tt.body, tt.headers...)
	what := tt.method + " " + tt.path[:min(len(tt.path), 60)] + " " + tt.body[:min(len(tt.body), 80)] + " " + strings.Join(tt.headers, ", ")[:min(len(strings.Join(tt.headers, ", ")), 60)]
	if a.StatusCode != tt.status {
		s.t.Errorf("%s: %d %s, want %d", what, a.StatusCode, a.body, tt.status)
		return
	}
	if a.Header.Get("X-Evil") != "" {
		s.t.Errorf("%s: %v", what, a.Header)
	}
	if tt.method == "HEAD" {
		return
	}
	var e struct{ Error, Reason string }
	if err := json.Unmarshal(a.body, &e); err != nil || a.Header.Get("Content-Type") != "application/json" {
		s.t.Errorf("%s: %v in %s %q", what, err, a.Header.Get("Content-Type"), a.body)
	}
	if tt.err != anything && e.Error != tt.err || tt.reason != anything && e.Reason != tt.reason || e.Error == "" {
		s.t.Errorf("%s: %s, want %s: %s", what, a.body, tt.err, tt.reason)
	}
	if a.StatusCode == 405 && !strings.HasPrefix(e.Reason, "Only "+a.Header.Get("Allow")) {
		s.t.Errorf("%s: Allow %q", what, a.Header.Get("Allow"))
	}
	if strings.Contains(e.Reason, "SQL") || strings.Contains(e.Reason, os.TempDir()) || strings.Contains(e.Reason, "goroutine") || strings.Contains(e.Reason, ".go:") {
		s.t.Errorf("%s tells too much: %s", what, a.body)
	}
}

// contents is all that "db" has, and which databases there are.
func (s *server) contents() string {
	s.t.Helper()
	var text []byte
	for _, path := range []string{"/_all_dbs", "/db/_changes?include_docs=true&attachments=true&style=all_docs&conflicts=true", "/db/_all_docs?update_seq=true", "/db/_local/l", "/db/_security", "/db/att/a/b.txt"} {
		a := s.do("GET", path, "", "Accept: application/json")
		if a.StatusCode != 200 {
			s.t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
		text = append(text, a.body...)
	}
	return string(text)
}

// openFiles is how many files and connections the process has open.
func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // another system
	}
	return len(fds)
}
