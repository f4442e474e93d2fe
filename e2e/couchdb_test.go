package e2e

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	server "github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// TestHubsOnForeignServer: two hubservers keep their databases on a
// CouchDB-compatible server that is none of ours; peers on different ones meet and replicate.
func TestHubsOnForeignServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.foreign()
	one, two := w.hub("one", "--couchdb", server), w.hub("two", "--couchdb", server)
	w.edit("alice/notes", `{"_id":"a"}`, `{"_id":"b","_attachments":{"x":`+inline(bytes256)+`}}`)
	w.edit("bob/notes", `{"_id":"c"}`)
	s := w.share(one.db, "alice/notes", "--name", "Notes")
	if l := w.ls(two.db); len(l) != 1 || l[0].ID != s.ID {
		t.Errorf("ls at the other hub: %+v", l)
	}
	link := strings.Replace(s.Link, one.url, two.url, 1)
	if c := w.sync(w.path("bob/notes"), link); c.Pulled.Written != 2 || c.Pushed.Written != 1 {
		t.Errorf("sync: %+v", c)
	}
	w.equal(map[string]leaves{"alice": w.local("alice/notes"), "bob": w.local("bob/notes")})
	if n := w.docCount(server + "/hub"); n < 1 {
		t.Errorf("%d documents at the server", n)
	}
	w.ok(s.Stop())
	// A hub keeps nothing of its own: another one in its place has everything.
	w.ok(one.Stop())
	three := w.hub("three", "--couchdb", server)
	if l := w.ls(three.db); len(l) != 0 {
		t.Errorf("ls at a third hub: %+v", l)
	}
}

// TestAccountsOnForeignServer: accounts and sessions of hubs on one server are the same.
func TestAccountsOnForeignServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.foreign()
	w.env = append(w.env, "LOVESEAT_ADMIN=admin:PASSWORD")
	one, two := w.hub("one", "--couchdb", server, "--sign-up"), w.hub("two", "--couchdb", server)
	ask[any](w, "PUT", one.url+"/_users/org.couchdb.user:bob", `{"name":"bob","type":"user","roles":[],"password":"secret"}`)
	resp, err := http.PostForm(one.url+"/_session", url.Values{"name": {"bob"}, "password": {"secret"}})
	w.ok(err)
	resp.Body.Close()
	if len(resp.Cookies()) != 1 || resp.StatusCode != 200 {
		t.Fatalf("the session at one hub: %d %v", resp.StatusCode, resp.Header)
	}
	for what, as := range map[string]func(*http.Request){
		"by cookie": func(r *http.Request) { r.AddCookie(resp.Cookies()[0]) },
		"by Basic":  func(r *http.Request) { r.SetBasicAuth("bob", "secret") },
	} {
		req, err := http.NewRequestWithContext(w.ctx, "GET", two.url+"/_session", nil)
		w.ok(err)
		as(req)
		answer, err := http.DefaultClient.Do(req)
		w.ok(err)
		var s struct{ UserCtx struct{ Name string } }
		w.ok(decodeBody(answer, &s))
		if s.UserCtx.Name != "bob" {
			t.Errorf("at the other hub %s: %+v", what, s)
		}
	}
}

// TestExpiryOnForeignServer: the hubs on one server remove what has expired under a
// lease that lies there, and the other one goes on when one has gone.
func TestExpiryOnForeignServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foreign := w.foreign()
	const every = 200 * time.Millisecond
	var hubs []*server.Hub
	for range 2 {
		u, err := url.Parse(foreign)
		w.ok(err)
		store := couchhttp.NewClient(u, nil, couchhttp.ClientOptions{})
		t.Cleanup(func() { w.ok(store.Close()) })
		h, err := server.New(w.ctx, server.Config{Store: store, Logger: slog.New(slog.DiscardHandler), Service: server.Service{Shared: true, SweepEvery: every}})
		w.ok(err)
		t.Cleanup(func() { w.ok(h.Close()) })
		hubs = append(hubs, h)
	}
	expired := func(round int) {
		w.Helper()
		ids := []string{fmt.Sprintf("share:dead%d", round), hubdoc.SignalID(time.Now().Add(-time.Hour), fmt.Sprint("x", round))}
		for _, id := range append(ids, "share:alive") {
			expires := time.Now().Add(-time.Hour)
			if id == "share:alive" {
				expires = time.Now().Add(time.Hour)
			}
			_, _, err := w.http("PUT", foreign+"/hub/"+id, fmt.Sprintf(`{"expires":%q}`, hubdoc.FormatTime(expires)))
			w.ok(err)
		}
		w.eventually("what has expired is gone", func() error {
			for _, id := range ids {
				if status, b, err := w.http("GET", foreign+"/hub/"+id, ""); err != nil || status != 404 {
					return fmt.Errorf("%s: %d %s %w", id, status, b, errors.Join(err))
				}
			}
			return nil
		})
		ask[any](w, "GET", foreign+"/hub/share:alive", "")
	}
	expired(1)
	lease := func() string {
		return ask[struct{ Owner string }](w, "GET", foreign+"/hub/_local/loveseat-expiry", "").Owner
	}
	if lease() == "" {
		t.Error("nobody holds the lease")
	}
	w.ok(hubs[0].Close()) // whether it was its turn or not
	expired(2)
	if hubs[1].Counts().Purged.Load() == 0 || lease() == "" {
		t.Error("the other hub did not go on")
	}
}

// TestServiceBeforeAnotherServer: a hub in front of a server that wants an
// administrator's password brings its own page, limits and TURN server.
func TestServiceBeforeAnotherServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = append(w.env, "LOVESEAT_ADMIN=admin:PASSWORD")
	asAdmin := func(url string) string { return strings.Replace(url, "http://", "http://admin:PASSWORD@", 1) }
	back := w.hub("back")
	front := w.hub("front", "--couchdb", asAdmin(back.url), "--turn-udp", "127.0.0.1:0", "--turn-ip", "127.0.0.1", "--limit-requests", "1")
	ask[any](w, "PUT", asAdmin(front.url)+"/notes", "")
	ask[any](w, "PUT", asAdmin(front.url)+"/notes/a", `{"x":1}`)
	if d := ask[struct{ X int }](w, "GET", asAdmin(back.url)+"/notes/a", ""); d.X != 1 {
		t.Errorf("at the server behind: %+v", d)
	}
	if status, b, err := w.http("GET", front.url+"/notes/a", ""); status != 401 {
		t.Errorf("a stranger: %d %s %v", status, b, err)
	}
	if status, b, err := w.http("GET", front.url+"/_utils/", ""); status != 200 || !strings.Contains(string(b), "<title>Loveseat</title>") {
		t.Errorf("the page: %d %.200s %v", status, b, err)
	}
	ice := ask[struct{ ICEServers []struct{ URLs []string } }](w, "GET", asAdmin(front.url)+"/_ice", "")
	if len(ice.ICEServers) != 1 || !strings.HasPrefix(fmt.Sprint(ice.ICEServers[0].URLs), "[turn:127.0.0.1:") {
		t.Errorf("TURN: %+v", ice)
	}
	w.eventually("a stranger has made too many requests", func() error {
		for range 20 {
			if status, _, err := w.http("GET", front.url+"/_uuids", ""); status == 429 || err != nil {
				return err
			}
		}
		return errors.New("all were answered")
	})
}
