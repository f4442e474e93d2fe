package couchhttp

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// TestIDsInPaths: an id that a proxy would make another path of is not put into
// one, and everything else is one segment.
func TestIDsInPaths(t *testing.T) {
	var asked string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.RequestURI
		http.NotFound(w, r)
	}))
	defer s.Close()
	u, _ := url.Parse(s.URL)
	client := NewClient(u, nil, ClientOptions{})
	defer client.Close()
	db := client.DB("db")
	ctx := context.Background()
	get := func(id string) error { _, err := db.Get(ctx, id, couch.GetOptions{}); return err }
	attachment := func(id, name string) error { _, err := db.Attachment(ctx, id, name, couch.Rev{}, 0); return err }
	getLocal := func(id string) error { _, err := db.GetLocal(ctx, id); return err }
	putLocal := func(id string) error { _, err := db.PutLocal(ctx, &couch.Doc{ID: id}); return err }
	refused := func(what, id string, err error) {
		t.Helper()
		if asked != "" || couch.AsError(err).Code != "illegal_docid" {
			t.Errorf("%s %q asks for %q: %v", what, id, asked, err)
		}
		asked = ""
	}
	inBody := func(what, id string, err error) {
		t.Helper()
		if couch.PlainID(id) && asked != "/db/_all_docs" || !couch.PlainID(id) && asked != "" || err == nil {
			t.Errorf("%s %q asks for %q: %v", what, id, asked, err)
		}
		asked = ""
	}
	for _, id := range []string{"", ".", "..", "../x", "x/..", "a/../../b", "a/./b", "/a", "a//b", "a/"} {
		inBody("Get", id, get(id))
		inBody("Get", "_design/"+id, get("_design/"+id))
		inBody("Attachment", id, attachment(id, "n"))
		inBody("Attachment's name", "doc", attachment("doc", id))
		refused("GetLocal", id, getLocal(id))
		refused("PutLocal", id, putLocal(id))
	}
	for _, id := range []string{"_local/x", "_local/../x", "_local%2Fx", "_x", "\xff"} {
		refused("Get", id, get(id))
		refused("Attachment", id, attachment(id, "n"))
	}
	for id, want := range map[string]string{
		"a": "a", "a/b": "a%2Fb", "...": "...", "a..b": "a..b", "%2e%2e/x": "%252e%252e%2Fx", "a?b#c": "a%3Fb%23c", "a\\..": "a%5C..", "_design/a": "_design/a", "_design/a/b": "_design/a%2Fb",
	} {
		if _ = get(id); asked != "/db/"+want {
			t.Errorf("Get %q asks for %q, want %q", id, asked, want)
		}
		if _ = attachment(id, "n"); asked != "/db/"+want+"/n" {
			t.Errorf("Attachment %q asks for %q, want %q", id, asked, want)
		}
		asked = ""
	}
}
