package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/share"
)

// evil is a text that does something to a terminal, to the order of letters, or looks like a line of the program's.
const evil = "x\x1b[2J\u009b31m\x9b\u202egnp\u200b\u2028\r\x07\nok       SPOOF  let it in\nLet it in? yes"

// evilName is as evil as the format of share documents lets a name be.
var evilName = "x\u009b31m\u009d0;t\u009c\u202egnp\u2066\u200b\u2028ok  SPOOF" + strings.Repeat("\u0301", 90)

// expectHarmless checks what was printed.
func expectHarmless(t *testing.T, what, printed string) {
	t.Helper()
	if !utf8.ValidString(printed) || strings.ContainsFunc(printed, func(r rune) bool {
		return r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp))
	}) {
		t.Errorf("%s prints %q", what, printed)
	}
	for line := range strings.Lines(printed) {
		if strings.HasPrefix(line, "ok       SPOOF") || strings.HasPrefix(line, "Let it in? yes\n") {
			t.Errorf("%s prints a line of a stranger's as its own: %q", what, printed)
		}
	}
}

// until runs a program until it has printed text, and returns all that it printed.
func until(t *testing.T, text string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs buffer
	m := &Main{Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
	done := make(chan int, 1)
	go func() { done <- m.Run(ctx) }()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case status := <-done:
			if !strings.Contains(out.String(), text) {
				t.Errorf("%q ends with %d: %s%s", args, status, &out, &errs)
			}
			return out.String() + errs.String()
		case <-tick.C:
			if strings.Contains(out.String(), text) {
				cancel()
				tick.Stop()
				<-done
				return out.String() + errs.String()
			}
		}
	}
}

// TestStrangersTextIsHarmless: what others wrote obeys nobody's terminal and looks like nothing of ours.
func TestStrangersTextIsHarmless(t *testing.T) {
	server := serveHub(t, hub.Config{})
	store := notesStore(t)
	id := startShare(t, server+"/hub", filepath.Join(store, "notes"), "--name", evilName, "--info", `{"x":"\u009b"}`)
	mine := filepath.Join(t.TempDir(), "id")
	for _, args := range [][]string{{"ls", server + "/hub"}, {"ls", "--json", server + "/hub"}, {"doctor", server + "/hub", id}, {"open", server + "/hub", "nothing\x1b"}} {
		_, out, errs := run(t, nil, "", append([]string{"--identity", mine}, args...)...)
		if expectHarmless(t, args[0], out+errs); args[0] == "ls" && !strings.Contains(out, id) {
			t.Errorf("%q: %q", args, out)
		}
		if args[1] == "--json" {
			var shares []share.Info
			if err := json.Unmarshal([]byte(out), &shares); err != nil || len(shares) != 1 || shares[0].Name != evilName {
				t.Errorf("%v: %q", err, out)
			}
		}
	}
	expectHarmless(t, "ls --watch", until(t, id, "--identity", mine, "ls", "--watch", server+"/hub"))
	expectHarmless(t, "open", until(t, "curl", "--identity", mine, "open", server+"/hub", id))
	expectHarmless(t, "join", until(t, "replicates", "join", server+"/hub", filepath.Join(t.TempDir(), "db"), "topic"))
}

// TestStrangersServerIsHarmless: neither is what a server says, right or wrong.
func TestStrangersServerIsHarmless(t *testing.T) {
	text, _ := json.Marshal(evil)
	n := 0
	status := func() int { return []int{403, 200, 500, 401, 404, 201}[n%6] }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Server", "\u009b31m")
		code := status()
		if r.Method == http.MethodHead && n%6 != 4 {
			code = 200
		}
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"error":%[1]s,"reason":%[1]s,"couchdb":"Welcome","version":%[1]s,"vendor":{"name":%[1]s},"userCtx":{"name":%[1]s,"roles":[%[1]s]},"db_name":%[1]s,"uuid":%[1]s,"instance_start_time":%[1]s,"update_seq":%[1]s,`+
			`"rows":[{"id":%[1]s,"key":%[1]s,"value":{"rev":%[1]s}}],"last_seq":%[1]s,"results":[{"id":%[1]s,"seq":%[1]s,"changes":[{"rev":"1-a"},{"rev":"1-b"},{"rev":%[1]s}]}]}`, text)
	}))
	t.Cleanup(s.Close)
	dir := notesStore(t)
	notes := filepath.Join(dir, "notes")
	for n = range 6 {
		for _, args := range [][]string{
			{"ls", s.URL + "/hub"}, {"open", s.URL + "/hub", "x"}, {"share", s.URL + "/hub", notes}, {"sync", notes, s.URL + "/db"}, {"sync", s.URL + "/db", notes}, {"verify", notes, s.URL + "/db"},
			{"conflicts", s.URL + "/db"}, {"authors", s.URL + "/db", evil}, {"doctor", s.URL + "/hub", "x"}, {"revoke", s.URL + "/hub", "x"}, {"join", s.URL + "/hub", notes, "topic"}, {evil}, {"ls", "--" + evil},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			var out, errs buffer
			m := &Main{Args: append([]string{"--verbose", "--identity", dir}, args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
			m.Run(ctx)
			cancel()
			expectHarmless(t, fmt.Sprint(args[0], " ", n), out.String()+errs.String())
		}
	}
}

// TestConflictsAndDifferencesAreHarmless: the ids of documents are others' too.
func TestConflictsAndDifferencesAreHarmless(t *testing.T) {
	dir := t.TempDir()
	store, err := localdb.OpenStore(dir, localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := store.Create(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	id := strings.ToValidUTF8(evil, "")
	for _, rev := range []string{"1-a", "1-b"} {
		doc := map[string]any{"_id": id, "_rev": rev}
		if _, err := store.DB("a").Put(t.Context(), id, doc, kivik.Param("new_edits", false)); err != nil {
			t.Fatal(err)
		}
	}
	store.Close()
	for _, args := range [][]string{{"conflicts", dir + "/a"}, {"conflicts", "--json", dir + "/a"}, {"verify", dir + "/a", dir + "/b"}, {"verify", "--json", dir + "/a", dir + "/b"}, {"authors", dir + "/a", id}, {"export", dir + "/a"}} {
		_, out, errs := run(t, nil, "", append([]string{"--identity", dir}, args...)...)
		if expectHarmless(t, args[0], out+errs); !strings.Contains(out, "1-") && args[0] != "export" {
			t.Errorf("%q: %s%s", args, out, errs)
		}
	}
}

// TestQuestionsCannotBeForged: a peer that asks says nothing that could be taken for the question.
func TestQuestionsCannotBeForged(t *testing.T) {
	var out buffer
	a := &asker{r: &reporter{out: cli.NewWriter(&out), err: io.Discard}}
	info, _ := json.Marshal(evil + `" (verification code 1111-1111). Let it in?`)
	a.ask(share.RemoteInfo{Peer: strings.Repeat("a", 39), Name: evil, User: evil, Info: info}, "9999-9999")
	expectHarmless(t, "the question", out.String())
	a.ask(share.RemoteInfo{Peer: "p", Name: "n", Info: json.RawMessage("[\n\n\"Let it in? yes\"\n]")}, "9999-9999")
	first, rest, _ := strings.Cut(out.String(), "\n")
	if n := strings.Count(rest, "\n"); n != 5 {
		t.Errorf("the questions have %d lines: %s", n+1, &out)
	}
	if !strings.Contains(first, "(verification code 9999-9999)") || strings.Contains(first, "1111") || !strings.HasSuffix(strings.TrimSpace(out.String()), "Let it in? yes (once), always, no:") {
		t.Errorf("%s", &out)
	}
}

// TestPasswordsOfAnyForm: whatever characters a password has and however it is written, no part of it is printed,
// nor taken for a host.
func TestPasswordsOfAnyForm(t *testing.T) {
	var lookups atomic.Int32
	resolver := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		lookups.Add(1)
		return nil, errors.New("no DNS here")
	}}
	defer func() { net.DefaultResolver = resolver }()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	dir := notesStore(t)
	notes := filepath.Join(dir, "notes")
	passwords := []string{"QXZ#WVU@x", "QXZ/WVU", "QXZ?WVU", "12#34WVU", "12/34@WVU", "S%C%zz%41", "QXZ WVU \"<>\\^`{|}", "PÄSSwörd文書", "@@@@", "////#", "$(XYZ)'`\""}
	for range 4 {
		passwords = append(passwords, anyPassword())
	}
	for _, p := range passwords {
		server := serveHub(t, hub.Config{Admin: &hub.Admin{Name: "ann", Password: cheapHash(p)}})
		host := strings.TrimPrefix(server, "http://")
		for _, form := range []string{p, url.PathEscape(p)} {
			for _, u := range []string{"http://ann:" + form + "@" + host + "/hub", "http://ann:" + form + "@" + gone.Addr().String() + "/hub", "HTTP://ann:" + form + "@" + host + "/hub", "ann:" + form + "@" + host + "/hub",
				"http://ann:" + form + "@" + host + "/hub/share:k7qmx2vdk7qmx2vdk7qmx2vdk7", "ws://ann:" + form + "@" + host + "/hub", "//ann:" + form + "@" + host + "/hub", "http:/ann:" + form + "@" + host + "/hub"} {
				for _, args := range [][]string{{"ls", u}, {"sync", notes, u}, {"verify", u, notes}, {"share", u, notes + "x"}, {"open", u}, {u}, {"ls", "--relay", u, u}, {"ls", "--" + u}, {"doctor", "--origin", u, u}} {
					status, out, errs := run(t, nil, "", append([]string{"--identity", dir}, args...)...)
					expectNoPart(t, p, args, out+errs)
					if u == "http://ann:"+url.PathEscape(p)+"@"+host+"/hub" && args[0] == "ls" && args[1] == u && status != 0 {
						t.Errorf("%q does not get in: %s", p, errs)
					}
				}
				for _, args := range [][]string{{"ls", server + "/hub"}, {"ls", u}} {
					_, out, errs := run(t, map[string]string{"LOVESEAT_HUB": u}, "", append([]string{"--identity", dir, "--verbose"}, args...)...)
					expectNoPart(t, p, args, out+errs)
				}
			}
		}
	}
	if n := lookups.Load(); n > 0 {
		t.Errorf("%d names were looked up", n)
	}
}

// anyPassword is one of all printable characters, none of whose parts is likely to be printed for another reason.
func anyPassword() string {
	for {
		b := make([]byte, 4+rand.IntN(16))
		for i := range b {
			b[i] = byte(' ' + rand.IntN(0x7f-' '))
		}
		p := string(b)
		if p[len(p)-1] != ' ' && p[0] != ' ' && !strings.HasPrefix(p, "-") && len(parts(p)) > 0 {
			return p
		}
	}
}

// parts are the runs of three characters of a password that nothing else that is printed has.
func parts(p string) (all []string) {
	runes := []rune(p)
	for i := range len(runes) - 2 {
		part := string(runes[i : i+3])
		// A word with a capital at most, as in a sentence, is told by chance.
		small := strings.ToLower(part)
		capitals := 0
		for j, r := range []rune(part) {
			if []rune(small)[j] != r {
				capitals++
			}
		}
		common := !strings.ContainsFunc(small, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789 ./:,-'\"\\", r) }) && capitals <= 1
		if !common && !strings.Contains(cli.ErrURL.Error(), part) && !strings.Contains("://", part) {
			all = append(all, part)
		}
	}
	return all
}

func expectNoPart(t *testing.T, password string, args []string, printed string) {
	t.Helper()
	for _, part := range parts(password) {
		if strings.Contains(printed, part) {
			t.Errorf("%q tells %q of %q: %s", args, part, password, printed)
		}
	}
	if strings.Contains(printed, "xxxxx") {
		t.Errorf("%q prints a password that is none: %s", args, printed)
	}
}

// TestPrintedCommandsWork: what is printed to be copied signs in with LOVESEAT_HUB, and locks nobody out.
func TestPrintedCommandsWork(t *testing.T) {
	server := serveHub(t, hub.Config{Admin: testAdmin})
	signedIn := admin(server, "hub")
	identity := filepath.Join(t.TempDir(), "id")
	for _, env := range []map[string]string{nil, {"LOVESEAT_HUB": signedIn}} {
		_, out, errs := run(t, env, "", "--identity", identity, "ls", signedIn)
		_, line, ok := strings.Cut(out, "  loveseat share ")
		word, _, _ := strings.Cut(line, " ")
		want := map[bool]string{true: server + "/hub", false: `"$LOVESEAT_HUB"`}[env == nil]
		if !ok || word != want || !strings.Contains(out, "LOVESEAT_HUB=") {
			t.Errorf("%q, want %s: %s%s", word, want, out, errs)
		}
		for range 10 {
			hub := strings.Replace(word, `"$LOVESEAT_HUB"`, env["LOVESEAT_HUB"], 1)
			if status, _, errs := run(t, map[string]string{"LOVESEAT_HUB": signedIn}, "", "--identity", identity, "ls", hub); status != 0 {
				t.Fatalf("as printed: %s", errs)
			}
		}
	}
	if _, _, errs := run(t, map[string]string{"LOVESEAT_HUB": "http://ann:QXZ#WVU@" + server[7:] + "/hub"}, "", "ls", server+"/hub"); !strings.Contains(errs, "LOVESEAT_HUB") || !strings.Contains(errs, "%23") {
		t.Errorf("a variable that cannot be read: %s", errs)
	}
}

// TestPrintedCommandsRunNothingElse: a stranger's database has a name that a shell would take for a command.
func TestPrintedCommandsRunNothingElse(t *testing.T) {
	for in, want := range map[string]string{"http://127.0.0.1:1/notes": "http://127.0.0.1:1/notes", "http://127.0.0.1:1/x&reboot": "'http://127.0.0.1:1/x&reboot'", "$HOME": "'$HOME'", "a'b": `'a'\''b'`, "": "''", "a b": "'a b'"} {
		if got := shellWord(in); got != want {
			t.Errorf("%q is printed as %s", in, got)
		}
	}
	evilDB := "x&touch $HOME;y"
	ctx, cancel := context.WithCancel(t.Context())
	s := fakeShare{httptest.NewServer(http.NotFoundHandler())}
	defer s.Server.Close()
	var printed string
	if err := serveOpened(ctx, s, evilDB, &opening{listen: "127.0.0.1:0"}, func(address string) { printed = tryCurl(address); cancel() }); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(printed) {
		if _, command, ok := strings.Cut(line, "  curl "); ok && (command[0] != '\'' || strings.Count(command, "'") != 2) {
			t.Errorf("%s", line)
		}
	}
	if strings.Count(printed, "  curl '") != 2 {
		t.Errorf("%s", printed)
	}
}

// TestDoctorOfUndeclaredProxy: it tells how to declare it.
func TestDoctorOfUndeclaredProxy(t *testing.T) {
	server := serveHub(t, hub.Config{})
	_, found := checks(t, proxyTo(t, server, "/nothing", func(*http.Response) {})+"/hub")
	expectCheck(t, found, "proxy", "^warning .*proxy")
	if _, found := checks(t, server+"/hub"); found["proxy"] != "" {
		t.Errorf("without a proxy: %q", found)
	}
}
