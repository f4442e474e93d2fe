package e2e

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A cliCase is a command line, and what it must do. Patterns are regular expressions.
type cliCase struct {
	args           string // after the program's name, separated by blanks
	stdin          string
	env            string // NAME=VALUE
	status         int
	stdout, stderr string
}

// check runs the cases one after the other.
func (w *world) check(program string, cases []cliCase) {
	for _, tt := range cases {
		w.Run(strings.TrimSpace(program+" "+tt.args), func(t *testing.T) {
			sub := *w
			sub.T = t
			ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
			defer cancel()
			sub.ctx = ctx
			cmd := sub.command(program, strings.Fields(tt.args)...)
			cmd.Dir = w.dir
			if tt.env != "" {
				cmd.Env = append(cmd.Env, tt.env)
			}
			r := sub.run(tt.stdin, cmd)
			if r.status != tt.status {
				t.Errorf("status %d, want %d", r.status, tt.status)
			}
			for _, s := range []struct{ what, text, pattern string }{{"output", r.stdout, tt.stdout}, {"error output", r.stderr, tt.stderr}} {
				if s.pattern == "" && s.text != "" && s.what == "error output" || !regexp.MustCompile(`(?s)`+s.pattern).MatchString(s.text) {
					t.Errorf("%s:\n%s\nwant %s", s.what, s.text, s.pattern)
				}
			}
			if strings.Contains(r.stderr, "goroutine ") || strings.Contains(r.stderr+r.stdout, "s3cret") {
				t.Errorf("it shows what it should not:\n%s", r.stderr)
			}
		})
	}
}

// TestUsage: help, and mistakes in the words of a command.
func TestUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.check("loveseat", []cliCase{
		{args: "", stdout: `import.*sync`},
		{args: "help", stdout: `export.*import.*ls.*open.*share.*sync`},
		{args: "--help", stdout: `HUB +the URL`},
		{args: "sync --help", stdout: `--live.*--pull`},
		{args: "nope", status: 2, stderr: `unknown command "nope".*Try 'loveseat help'`},
		{args: "sync a", status: 2, stderr: `usage: loveseat sync A B.*1 arguments`},
		{args: "sync --nope a b", status: 2, stderr: `unknown flag: --nope`},
		{args: "export ./", status: 2, stderr: `names no local database: give STORE/NAME`},
		{args: "open http://127.0.0.1:1/hub x --listen 0.0.0.0:0", status: 2, stderr: `only a loopback address`},
		{args: "ls http://127.0.0.1:1/", status: 2, stderr: `names no database`},
		{args: "share http://127.0.0.1:1/hub x/y --info {", status: 2, stderr: `--info is no JSON`},
	})
	w.check("hubserver", []cliCase{
		{args: "--help", stdout: `--addr.*--data`},
		{args: "extra", status: 2, stderr: `.`},
		{args: "--nope", status: 2, stderr: `unknown flag`},
		{args: "--addr 5984", status: 2, stderr: `want HOST:PORT`},
		{args: "--admin joe", status: 2, stderr: `NAME:PASSWORD`},
		{args: "--addr 0.0.0.0:0", status: 2, stderr: `without an administrator.*LOVESEAT_ADMIN=NAME:PASSWORD`},
		{args: "--addr :0", status: 2, stderr: `without an administrator`},
		{args: "", env: "LOVESEAT_ADDR=0.0.0.0:0", status: 2, stderr: `without an administrator`},
		{args: "", env: "LOVESEAT_ADMIN=s3cret", status: 2, stderr: `NAME:PASSWORD`},
		{args: "", env: "LOVESEAT_LOG=loud", status: 2, stderr: `debug, info, warn or error`},
	})
}

// TestWhatIsMissing: databases, hubs and shares that are not there, and a port that is taken.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	w.ok(err)
	nobody := "http://" + gone.Addr().String()
	w.ok(gone.Close())
	for _, peer := range []string{"alice", "bob"} {
		w.edit(peer+"/notes", `{"_id":"x"}`)
		w.share(hub.db, peer+"/notes", "--name", "twice")
	}
	w.check("loveseat", []cliCase{
		{args: "export ./nothing/notes", status: 1, stderr: `there is no local database ./nothing/notes.*loveseat import`},
		{args: "export ./alice/nothing", status: 1, stderr: `there is no database "nothing".*loveseat import`},
		{args: "export ./alice/BAD", status: 1, stderr: `Only lowercase characters`},
		{args: "share " + hub.db + " ./nothing/notes", status: 1, stderr: `there is no local database`},
		{args: "ls " + nobody + "/hub", status: 1, stderr: nobody + `/hub.*connection refused.*hubserver`},
		{args: "share " + nobody + "/hub ./alice/notes", status: 1, stderr: nobody + `/hub.*connection refused.*hubserver`},
		{args: "open " + nobody + "/hub x", status: 1, stderr: nobody + `/hub.*connection refused.*hubserver`},
		{args: "sync ./alice/notes " + nobody + "/db", status: 1, stderr: nobody + `/db.*connection refused`},
		{args: "sync ./alice/notes " + nobody + "/hub/share:" + strings.Repeat("a", 26), status: 1, stderr: nobody + `/hub.*connection refused`},
		{args: "ls " + hub.url + "/other", status: 1, stderr: hub.url + `/other.*does not exist`},
		{args: "sync ./alice/notes " + hub.url + "/none --pull", status: 1, stderr: hub.url + `/none.*does not exist`},
		{args: "open " + hub.db + " nothing", status: 1, stderr: `named nothing`},
		{args: "open " + hub.db + " twice", status: 1, stderr: `Several shares are named twice; open one by its id: \w{26}, \w{26}`},
		{args: "sync ./bob/x " + hub.db + "/share:" + strings.Repeat("a", 26), status: 1, stderr: `share`},
		{args: "import ./alice/notes nofile.json", status: 1, stderr: `nofile.json: no such file`},
		{args: "import ./alice/notes - --attach nodir", stdin: "{}", status: 1, stderr: `nodir: no such file`},
	})
	w.check("hubserver", []cliCase{
		{args: "--data other --addr " + hub.addr(), status: 1, stderr: `in use.*--addr`},
	})
}

// TestImport: what import reads, and what export gives back.
func TestImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("files/a.txt", []byte("of a"))
	w.write("files/a.b.bin", []byte(bytes256))
	w.write("files/other.txt", []byte("of nobody"))
	counts := func(created, updated, unchanged, failed, attachments int) string {
		return fmt.Sprintf(`"attachments":%d,.*"created":%d,"event":"imported","failed":%d,"unchanged":%d,"updated":%d}\s*$`, attachments, created, failed, unchanged, updated)
	}
	w.check("loveseat", []cliCase{
		{args: "import s/array - --json", stdin: `[{"_id":"a"},{"_id":"b"}]`, stdout: counts(2, 0, 0, 0, 0)},
		{args: "import s/lines - --json", stdin: "{\"_id\":\"a\"}\n\n{\"_id\":\"b\",\n\"x\":1}\n", stdout: counts(2, 0, 0, 0, 0)},
		{args: "import s/docs - --json", stdin: `{"total":2,"docs":[{"_id":"a"},{"_id":"b"}]}`, stdout: counts(2, 0, 0, 0, 0)},
		{args: "import s/empty - --json", stdin: "", stdout: counts(0, 0, 0, 0, 0)},
		{args: "import s/noid - --json", stdin: `{"a":1}{"a":2}`, stdout: counts(2, 0, 0, 0, 0)},
		{args: "import s/again - --json", stdin: `[{"_id":"a","n":1.0,"o":{"x":1,"y":2}},{"_id":"b"}]`, stdout: counts(2, 0, 0, 0, 0)},
		{args: "import s/again - --json", stdin: `[{"o":{"y":2, "x":1},"n":1,"_id":"a"},{"_id":"b","new":1}]`, stdout: counts(0, 1, 1, 0, 0)},
		{args: "import s/field - --json --id key", stdin: `[{"key":"a"},{"key":7},{"key":true}]`, stdout: counts(3, 0, 0, 0, 0)},
		{args: "export s/field", stdout: `^{"_id":"7",.*"key":7}\n{"_id":"a",.*"key":"a"}\n{"_id":"true",.*"key":true}\n$`},
		{args: "import s/nofield - --id key", stdin: `[{"key":"a"},{"no":1},{"key":null}]`, status: 1, stdout: `1 documents created.*2 failed`, stderr: `no field key.*is no id: null.*2 documents were not written`},
		{args: "import s/atts - --json --attach files", stdin: `[{"_id":"A"},{"_id":"b"}]`, stdout: counts(2, 0, 0, 0, 2)},
		{args: "import s/atts - --json --attach files", stdin: `[{"_id":"A"},{"_id":"b"}]`, stdout: counts(0, 0, 2, 0, 2)},
		{args: "export s/atts", stdout: `"_attachments":{"a.b.bin":{.*"a.txt":{"content_type":"text/plain.*"data":"b2YgYQ=="}}`},
		{args: "import s/bad -", stdin: `[{"_id":"a"},`, status: 1, stderr: `-: .*unexpected (EOF|end)`},
		{args: "import s/bad -", stdin: `[{"_id":"a"},7]`, status: 1, stderr: `object`},
		{args: "import s/bad -", stdin: `nonsense`, status: 1, stderr: `invalid`},
		{args: "import s/bad -", stdin: `"text"`, status: 1, stderr: `must be a JSON object`},
		{args: "import s/some -", stdin: `[{"_id":"_bad"},{"_id":"ok"},{"_nope":1}]`, status: 1, stdout: `1 documents created.*2 failed`, stderr: `Only reserved document ids.*Bad special document member: _nope`},
		{args: "import s/many -", stdin: strings.Repeat(`{"_id":"same"}`, 5), stdout: `1 documents created, 0 updated, 4 unchanged`, stderr: `^importing`},
		{args: "import s/many -", stdin: `{"_id":"same","a":1}{"_id":"same","a":2}{"_id":"same","_deleted":true}`, stdout: `0 documents created, 3 updated`, stderr: `^importing`},
		{args: "export s/many", stdout: `^$`},
	})
}

// TestExportImport: an exported database can be imported elsewhere; a full export keeps histories and conflicts.
func TestExportImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.importCountries("a/db")
	w.edit("a/db", `{"_id":"FRA","_deleted":true}`, `{"_id":"x","n":1}`,
		`{"_id":"y","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]}}`, `{"_id":"y","_rev":"2-c","_revisions":{"start":2,"ids":["c","a"]},"_attachments":{"☃":`+inline(bytes256)+`}}`)
	w.edit("a/db", `{"_id":"x","n":2}`)
	full, plain := w.loveseat("export", w.path("a/db"), "--full"), w.loveseat("export", w.path("a/db"))

	w.loveseatIn(full, "import", w.path("b/db"), "-")
	w.equal(map[string]leaves{"exported": w.local("a/db"), "imported": w.local("b/db")})
	if got := w.local("b/db").conflicted(); fmt.Sprint(got) != "[y]" {
		t.Errorf("conflicts in %v", got)
	}
	w.loveseatIn(plain, "import", w.path("c/db"), "-")
	if got := w.loveseat("export", w.path("c/db")); got != plain {
		t.Error("the plain export changed on the way")
	}
}

// TestHubWithAdmin: a hub with an administrator lets nobody in without the password, which nothing shows.
func TestHubWithAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "LOVESEAT_ADMIN=joe:s3cret")
	hub := w.hub("hub")
	with := strings.Replace(hub.db, "http://", "http://joe:s3cret@", 1)
	ask[any](w, "PUT", strings.TrimSuffix(with, "/hub")+"/notes", "") // the hub database may exist already or not
	if status, b, err := w.http("GET", hub.url+"/notes", ""); status != 401 || !strings.Contains(string(b), `"unauthorized"`) {
		t.Errorf("without the password: %d %s %v", status, b, err)
	}
	_, _, err := w.http("PUT", with, "")
	w.ok(err)
	w.edit("alice/notes", `{"_id":"x"}`)
	s := w.share(with, "alice/notes")
	if strings.Contains(s.Link, "s3cret") || strings.Contains(s.Link, "@") {
		t.Errorf("the link is %s", s.Link)
	}
	w.check("loveseat", []cliCase{
		{args: "ls " + hub.db, status: 1, stderr: `unauthorized.*http://NAME:PASSWORD@`},
		{args: "ls " + strings.Replace(with, "s3cret", "wrong", 1), status: 1, stderr: `(?i)name or password is incorrect`},
		{args: "ls " + with, stdout: s.ID},
		{args: "ls " + hub.db, env: "LOVESEAT_HUB=" + with, stdout: s.ID},
		{args: "sync ./bob/notes " + s.Link, status: 1, stderr: `(?i)unauthorized`},
		{args: "sync ./bob/notes " + s.Link, env: "LOVESEAT_HUB=" + with, stdout: `1 documents`, stderr: `^$|.`},
		{args: "sync ./bob/notes " + strings.TrimSuffix(with, "/hub") + "/notes", stdout: `1 documents`, stderr: `^$|.`},
	})
}

// TestWatch: `ls --watch` tells what is new, changed and gone.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.edit("alice/notes", `{"_id":"x"}`)
	w.edit("bob/notes", `{"_id":"x"}`)
	first := w.share(hub.db, "alice/notes", "--name", "first")
	watch := w.start(w.command("loveseat", "ls", hub.db, "--watch", "--json"))
	var e listed
	if w.next(watch, "new", &e); e.ID != first.ID || e.Name != "first" {
		t.Errorf("new: %+v", e)
	}
	second := w.share(hub.db, "bob/notes", "--name", "second")
	if w.next(watch, "new", &e); e.ID != second.ID || e.Name != "second" {
		t.Errorf("new: %+v", e)
	}
	second.Kill()
	second = w.share(hub.db, "bob/notes", "--name", "renamed")
	if w.next(watch, "changed", &e); e.ID != second.ID || e.Name != "renamed" {
		t.Errorf("changed: %+v", e)
	}
	w.ok(first.Stop())
	if w.next(watch, "gone", &e); e.ID != first.ID {
		t.Errorf("gone: %+v", e)
	}
}
