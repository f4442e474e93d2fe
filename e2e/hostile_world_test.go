package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/evil"
	"github.com/loveseat-db/loveseat/e2e/proc"
)

// A hostileWorld is an honest world of real programs that is attacked, with secrets in all its hidden places.
type hostileWorld struct {
	*world
	target  *evil.Target
	secrets map[string]string
	procs   map[string]*proc.Proc // that must live, by what they are
}

// hubMemory is the --limit-memory of the hub that is attacked.
const hubMemory = 64 << 20

func newHostileWorld(t *testing.T, limit time.Duration) *hostileWorld {
	t.Helper()
	h := &hostileWorld{world: newWorldFor(t, limit), secrets: map[string]string{}, procs: map[string]*proc.Proc{}}
	h.target = &evil.Target{
		Memory: hubMemory, Databases: 8, HubBinary: filepath.Join(bin, "hubserver"), HubData: h.path("hub"), Dir: h.path("evil"),
		Admin:    evil.Login{Name: "admin", Password: h.secret("the administrator's password")},
		Ann:      evil.Login{Name: "ann", Password: h.secret("ann's password")},
		Mallory:  evil.Login{Name: "mallory", Password: "mallory's own"},
		HiddenID: "hidden-000001", AbsentID: "hidden-000002", LeftID: "left",
		Loveseat: func(ctx context.Context, args ...string) *exec.Cmd {
			cmd := exec.CommandContext(ctx, filepath.Join(bin, "loveseat"), args...)
			cmd.Env = h.env
			return cmd
		},
	}
	h.ok(os.MkdirAll(h.target.Dir, 0o700))
	var taps []*evil.Tap
	for _, hub := range []*string{&h.target.Hub, &h.target.Guarded, &h.target.Crowded} {
		tap, err := evil.NewTap()
		h.ok(err)
		t.Cleanup(tap.Close)
		*hub, taps = "http://"+tap.Addr(), append(taps, tap)
	}
	hubs := h.startHubs()
	h.fillHub()
	h.shareAll()
	h.target.Loot = evil.NewLoot(h.secrets) // which knows them all now
	for i, tap := range taps {
		tap.Lead(h.target.Loot, strings.TrimPrefix(hubs[i].url, "http://"))
	}
	t.Cleanup(evil.Done)
	return h
}

// secret is a text that the hostile side must never see.
func (h *hostileWorld) secret(what string) string {
	s := "canary-" + strings.ToLower(rand.Text())
	h.secrets[s] = what
	return s
}

// startHubs starts the hub that is attacked, and two with other settings, which know by which names the hostile side reaches them.
func (h *hostileWorld) startHubs() []*hub {
	h.Helper()
	h.env = append(h.env, "LOVESEAT_ADMIN="+h.target.Admin.Name+":"+h.target.Admin.Password)
	const all = " list=* publish=* open=* signal=*"
	name := func(url string) string { return strings.TrimPrefix(url, "http://") }
	main := h.hub("hub", "--host", name(h.target.Hub), "--log", "info", "--sign-up", "--turn-udp", "127.0.0.1:0", "--limit-memory", fmt.Sprint(hubMemory), "--hub-database", "hub", "--hub-database", "flood",
		"--hub-database", "closed open=trusted", "--hub-database", "unlisted list=trusted open=trusted", "--hub-database", "known list=trusted", "--hub-database", "open"+all, "--hub-database", "other"+all)
	h.env = h.env[:len(h.env)-1]
	chief := evil.Login{Name: "chief", Password: h.secret("the chief's password")}
	guarded := h.hub("guarded", "--host", name(h.target.Guarded), "--log", "info", "--require-user", "--admin", chief.Name+":"+chief.Password)
	crowded := h.hub("crowded", "--host", name(h.target.Crowded), "--log", "info", "--sign-up", "--user-databases", "--limit-databases", fmt.Sprint(h.target.Databases), "--admin", h.target.Admin.Name+":"+h.target.Admin.Password)
	h.target.Chief, h.target.Direct, h.target.HubPID = chief, main.url, main.Pid()
	h.procs["the hub"], h.procs["the guarded hub"], h.procs["the crowded hub"] = main.Proc, guarded.Proc, crowded.Proc
	h.env = append(h.env, "LOVESEAT_HUB="+withLogIn(main.url, h.target.Ann)+"/hub")
	return []*hub{main, guarded, crowded}
}

// put writes into the hub as an administrator.
func (h *hostileWorld) put(path, body string) {
	h.Helper()
	h.as(h.target.Admin, http.MethodPut, path, body)
}

// as makes a request of an honest user that must succeed.
func (h *hostileWorld) as(l evil.Login, method, path, body string) []byte {
	h.Helper()
	status, b, err := h.httpAs(l, method, path, body)
	h.ok(err)
	if status/100 != 2 {
		h.Fatalf("%s %s: %d %s", method, path, status, b)
	}
	return b
}

func (h *hostileWorld) httpAs(l evil.Login, method, path, body string) (int, []byte, error) {
	return h.http(method, withLogIn(h.target.Direct, l)+path, body)
}

func withLogIn(url string, l evil.Login) string {
	return strings.Replace(url, "http://", "http://"+l.Name+":"+strings.ReplaceAll(l.Password, " ", "%20")+"@", 1)
}

// fillHub makes accounts and databases: "notes" is ann's, "public" everybody's, "mirrored" is shared from here.
func (h *hostileWorld) fillHub() {
	h.Helper()
	for _, a := range []struct {
		evil.Login
		roles string
	}{{h.target.Ann, `["trusted"]`}, {h.target.Mallory, `[]`}} {
		h.put("/_users/org.couchdb.user:"+a.Name, fmt.Sprintf(`{"name":%q,"type":"user","roles":%s,"password":%q}`, a.Name, a.roles, a.Password))
	}
	for name, members := range map[string]string{"notes": `["ann"]`, "mirrored": `["ann"]`, "public": `[]`} {
		h.put("/"+name, "")
		h.put("/"+name+"/_security", `{"admins":{"names":[],"roles":["_admin"]},"members":{"names":`+members+`,"roles":[]}}`)
	}
	h.put("/notes/"+h.secret("the id of ann's document"), fmt.Sprintf(`{"secret":%q}`, h.secret("ann's document")))
	h.put("/mirrored/_local/secret", fmt.Sprintf(`{"secret":%q}`, h.secret("the owner's _local document")))
	h.put("/mirrored/"+h.target.AbsentID, `{}`)
	var docs []string
	for i := range 40 {
		docs = append(docs, bigDoc(i))
	}
	h.as(h.target.Admin, http.MethodPost, "/public/_bulk_docs", `{"docs":[`+strings.Join(docs, ",")+`]}`)
}

// bigDoc has a text of 20 KB for patterns to look through.
func bigDoc(i int) string {
	return fmt.Sprintf(`{"_id":"big-%d","n":%d,"list":[%d,1,2,3],"text":%q}`, i, i, i, strings.Repeat("lorem ipsum dolor ", 1100))
}

// shareAll starts the honest sharers.
func (h *hostileWorld) shareAll() {
	h.Helper()
	for _, doc := range []string{
		`{"_id":"seen","public":true}`, `{"_id":"left","public":true,"n":1}`, fmt.Sprintf(`{"_id":%q,"public":false}`, h.target.HiddenID),
	} {
		h.edit("alice/garden", doc)
	}
	for line := range strings.Lines(h.loveseat("export", h.path("alice/garden"))) {
		var d struct {
			ID  string `json:"_id"`
			Rev string `json:"_rev"`
		}
		h.ok(json.Unmarshal([]byte(line), &d))
		if d.ID == h.target.LeftID {
			h.target.LeftRev = d.Rev
		}
	}
	h.edit("alice/garden", fmt.Sprintf(`{"_id":"left","public":false,"secret":%q,"_attachments":{"a":%s}}`, h.secret("what a document became when it left the filter"), inline("x")),
		fmt.Sprintf(`{"_id":%q,"public":false,"secret":%q}`, h.secret("the id of a hidden document"), h.secret("a hidden document")))
	var docs []string
	for i := range 40 {
		docs = append(docs, bigDoc(i))
	}
	h.edit("library/library", docs...)
	hub := func(name string) string { return withLogIn(h.target.Direct, h.target.Ann) + "/" + name }
	h.target.Garden = h.sharer("garden", hub("hub"), h.path("alice/garden"), "--selector", `{"public":true}`)
	h.target.Library = h.sharer("library", hub("hub"), h.path("library/library"), "--read-only")
	h.target.Mirror = h.sharer("mirrored", hub("hub"), withLogIn(h.target.Direct, h.target.Ann)+"/mirrored", "--name", "mirror")
	h.edit("closed/closed", `{"_id":"a"}`)
	h.target.Closed = h.sharer("closed", hub("closed"), h.path("closed/closed"), "--relay", "auto")
	h.edit("ws/ws", `{"_id":"a"}`)
	p, url := h.websocketOf("share", h.path("ws/ws"), "--websocket", "127.0.0.1:0", "--json")
	h.target.WebSocket = url
	h.procs["the sharer of ws"] = p
	h.edit("invited/invited", `{"_id":"a"}`)
	h.sharer("invited", hub("hub"), h.path("invited/invited"), "--invite")
}

// sharer starts `loveseat share` of a database.
func (h *hostileWorld) sharer(name, hub, db string, args ...string) evil.Share {
	h.Helper()
	p := h.start(h.command("loveseat", append([]string{"share", hub, db, "--network", "127.0.0.0/8", "--json"}, args...)...))
	var e struct{ ID, Peer, Invite string }
	h.next(p, "shared", &e)
	if _, secret, ok := strings.Cut(e.Invite, "#"); ok {
		h.secrets[secret] = "an invite"
	}
	h.procs["the sharer of "+name] = p
	return evil.Share{ID: e.ID, DB: name, Peer: e.Peer, PID: p.Pid(), Dir: filepath.Dir(db)}
}

// checkHonest is what must hold whatever was attacked: all live, and nothing was told, not in logs either.
func (h *hostileWorld) checkHonest() {
	h.Helper()
	for name, p := range h.procs {
		if p.Exited() {
			h.Errorf("%s has ended: %v", name, p.Wait())
		}
		if err := h.target.Loot.Search("the log of "+name, p.Stderr()); err != nil {
			h.Error(err)
		}
		if i := strings.Index(p.Stderr(), "panic"); i >= 0 {
			h.Errorf("%s panics: %.1000s", name, p.Stderr()[i:])
		}
	}
	if err := h.target.Loot.Err(); err != nil {
		h.Error(err)
	}
}
