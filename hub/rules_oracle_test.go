package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
	"github.com/loveseat-db/loveseat/localdb"
)

// othersIDs are documents of a hub database that a caller does not see.
var othersIDs = []string{"share:others", "share:branched", "signal:20261201T000000.000Z-others", "signal:20261201T000000.000Z-dead", "peer:others", "note"}

// oneDatabase is a store of one hub database as a caller sees it.
type oneDatabase struct {
	couch.Store
	db couch.DB
}

func (s oneDatabase) Open(context.Context, string) (couch.DB, error) { return s.db, nil }

// hubTwins are two hub databases that are the same but for the ids of documents that the caller does not see.
func hubTwins(t *testing.T, who caller, rights Database) [2]*couchhttp.Server {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	open := func(dir string) (*localdb.Store, couch.DB) {
		store, err := localdb.OpenStore(dir, localdb.Options{})
		must(err)
		t.Cleanup(func() { _ = store.Close() })
		if names, _ := store.Databases(ctx); len(names) == 0 {
			must(store.Create(ctx, "hub"))
		}
		db, err := store.Open(ctx, "hub")
		must(err)
		return store, db
	}
	write := func(db couch.DB, id, rev string, deleted bool, body string) {
		d := &couch.Doc{ID: id, Rev: couch.Rev{Gen: 1, Hash: rev}, Deleted: deleted, Body: json.RawMessage(body)}
		results, err := db.BulkDocs(ctx, []*couch.Doc{d}, couch.WriteOptions{Replicated: true})
		if must(err); results[0].Err != nil {
			t.Fatal(results[0].Err)
		}
	}
	first, db := open(t.TempDir())
	write(db, "share:mine", "aa", false, `{"type":"share","peer":"mine","name":"x"}`)
	write(db, "signal:20261201T000000.000Z-mine", "aa", false, `{"type":"signal","from":"mine.1","to":"others.1"}`)
	write(db, peerPrefix+"mine", "aa", false, `{"type":"peer","v":1,"user":"bob","expires":"`+hubdoc.FormatTime(time.Now().Add(time.Hour))+`"}`)
	dir := t.TempDir()
	var out [2]*couchhttp.Server
	for i, suffix := range []string{"", "-elsewhere"} {
		copied := filepath.Join(dir, fmt.Sprint(i))
		must(first.Backup(ctx, copied))
		_, db := open(copied)
		for j, id := range othersIDs {
			write(db, id+suffix, "aa", strings.Contains(id, "dead"), map[bool]string{true: "{}", false: fmt.Sprintf(`{"type":"x","peer":"others","from":"others.1","to":"others.2","n":%d}`, j)}[strings.Contains(id, "dead")])
		}
		write(db, "share:branched"+suffix, "ab", false, `{"type":"share","peer":"others","n":2}`)
		run, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		t.Cleanup(func() { cancel(); running.Wait() })
		h := &hubDatabase{Database: rights, quotas: newLimiter(Quotas{}), counts: &Counts{}, bells: bells{ctx: run, running: &running}}
		out[i] = couchhttp.NewServer(couchhttp.ServerOptions{Store: oneDatabase{db: &ruledDB{DB: db, hub: h, who: who}}, Varies: func(string) bool { return true }})
		t.Cleanup(func() { _ = out[i].Close() })
	}
	return out
}

var partBoundary = regexp.MustCompile("[0-9a-f]{60}")

// wholeAnswer is all that is told in answer to a request: status, headers and body.
func wholeAnswer(api *couchhttp.Server, method, path, body string, header [2]string) string {
	r := httptest.NewRequest(method, "http://hub"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if header[0] != "" {
		r.Header.Set(header[0], header[1])
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	for _, name := range []string{"Date", "X-Couchdb-Body-Time"} {
		w.Header().Del(name)
	}
	var b strings.Builder
	fmt.Fprintln(&b, w.Code)
	_ = w.Header().WriteSubset(&b, nil)
	return partBoundary.ReplaceAllString(b.String()+w.Body.String(), "boundary")
}

// TestOthersAreAsMissing asks a hub database for shares and signals that the caller does not see, and one
// in which they never were, and gets the same answers to the byte.
func TestOthersAreAsMissing(t *testing.T) {
	nobody := []string{"nobody"}
	rights := Database{Name: "hub", List: nobody, Open: nobody, Publish: []string{Anybody}, Signal: []string{Anybody}}
	for name, who := range map[string]caller{
		"a user":           {user: user{Name: "bob"}},
		"a peer by proof":  {shown: shown{peer: "mine"}, nobody: true},
		"who has no peers": {user: user{Name: "eve"}},
	} {
		t.Run(name, func(t *testing.T) {
			twins := hubTwins(t, who, rights)
			same := func(t interface {
				Helper()
				Errorf(string, ...any)
			}, method, path, body string, header ...string) {
				t.Helper()
				h := [2]string{}
				copy(h[:], header)
				if a, b := wholeAnswer(twins[0], method, path, body, h), wholeAnswer(twins[1], method, path, body, h); a != b {
					t.Errorf("%s %s %s %v\n%s\n--- of one that was never there:\n%s", method, path, body, header, a, b)
				}
			}
			for _, id := range othersIDs {
				q, p := `"`+id+`"`, "/hub/"+url.PathEscape(id)
				for _, feed := range []string{"", "&descending=true", "&limit=1", "&feed=longpoll&timeout=1", "&feed=continuous&timeout=1", "&since=now&feed=longpoll&timeout=1", "&style=all_docs&include_docs=true&conflicts=true"} {
					same(t, "POST", "/hub/_changes?filter=_doc_ids"+feed, `{"doc_ids":[`+q+`]}`)
					same(t, "POST", "/hub/_changes?filter=_doc_ids"+feed, `{"doc_ids":["share:mine",`+q+`]}`)
				}
				for _, params := range []string{"", "?rev=1-aa", "?open_revs=all", `?open_revs=%5B%221-aa%22%5D`, "?meta=true"} {
					same(t, "GET", p+params, "")
					same(t, "HEAD", p+params, "")
					same(t, "DELETE", p+params, "")
					same(t, "COPY", p+params, "", "Destination", "share:copy")
				}
				same(t, "POST", "/hub/_bulk_get", `{"docs":[{"id":`+q+`},{"id":`+q+`,"rev":"1-aa"}]}`)
				for _, rev := range []string{"", `,"_rev":"1-aa"`, `,"_rev":"1-ab"`, `,"_rev":"2-zz"`} {
					same(t, "POST", "/hub/_bulk_docs", `{"docs":[{"_id":`+q+rev+`,"_deleted":true},{"_id":`+q+rev+`,"x":1}]}`)
					same(t, "PUT", p, `{"x":1`+rev+`}`)
				}
				same(t, "PUT", p+"/file?rev=1-aa", "x")
				same(t, "POST", "/hub/_all_docs?include_docs=true&update_seq=true", `{"keys":[`+q+`,"share:mine"]}`)
				same(t, "GET", "/hub/_all_docs?startkey="+url.QueryEscape(q), "")
				same(t, "POST", "/hub/_find", `{"selector":{"_id":{"$gte":`+q+`}},"execution_stats":true}`)
			}
			rapid.Check(t, func(rt *rapid.T) {
				for range 3 {
					method, path, body, header := anyHubRequest(rt)
					same(rt, method, path, body, header...)
				}
			})
		})
	}
}

// anyHubRequest draws a request. What writes draw is refused, or writes the same on both sides.
func anyHubRequest(t *rapid.T) (method, path, body string, header []string) {
	one := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	id := func() string {
		return rapid.SampledFrom(append([]string{"share:mine", "signal:20261201T000000.000Z-mine", "share:absent"}, othersIDs...)).Draw(t, "id")
	}
	ids := func() string {
		var all []string
		for range rapid.IntRange(0, 3).Draw(t, "ids") {
			all = append(all, `"`+id()+`"`)
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	rev := func() string { return one("rev", "1-aa", "1-ab", "9-zz") }
	params := func(of ...string) string {
		v := url.Values{}
		for range rapid.IntRange(0, 4).Draw(t, "params") {
			name, value, _ := strings.Cut(one("param", of...), "=")
			v.Set(name, strings.NewReplacer("REV", rev(), "ID", `"`+id()+`"`, "N", fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "n"))).Replace(value))
		}
		return "?" + v.Encode()
	}
	switch one("header", "", "", "If-None-Match", "Accept") {
	case "If-None-Match":
		header = []string{"If-None-Match", `"` + rev() + `"`}
	case "Accept":
		header = []string{"Accept", one("accept", "multipart/mixed", "application/json")}
	}
	switch one("endpoint", "doc", "rows", "keys", "changes", "changes", "bulk_get", "delete", "find", "other") {
	case "doc":
		return one("method", "GET", "HEAD", "DELETE"), "/hub/" + url.PathEscape(id()) + params("rev=REV", "revs=true", "revs_info=true", "conflicts=true", "latest=true", "open_revs=all", `open_revs=["REV"]`, "local_seq=true", "meta=true"), "", header
	case "rows":
		return "GET", "/hub/_all_docs" + params("key=ID", "startkey=ID", "endkey=ID", "descending=true", "limit=N", "skip=N", "include_docs=true", "conflicts=true", "update_seq=true"), "", header
	case "keys":
		return "POST", "/hub/_all_docs" + params("descending=true", "limit=N", "skip=N", "include_docs=true", "update_seq=true"), `{"keys":` + ids() + `}`, header
	case "changes":
		path = "/hub/_changes" + params("descending=true", "limit=N", "include_docs=true", "conflicts=true", "style=all_docs", "since=now", "since=N", "feed=longpoll", "feed=continuous", "feed=eventsource") + "&timeout=1"
		switch one("filter", "", "ids", "selector") {
		case "ids":
			return "POST", path + "&filter=_doc_ids", `{"doc_ids":` + ids() + `}`, header
		case "selector":
			return "POST", path + "&filter=_selector", `{"selector":{"_id":{"$in":` + ids() + `}}}`, header
		}
		return "GET", path, "", header
	case "bulk_get":
		return "POST", "/hub/_bulk_get" + params("revs=true", "latest=true", "attachments=true"), `{"docs":[{"id":"` + id() + `"},{"id":"` + id() + `","rev":"` + rev() + `"}]}`, header
	case "delete":
		return "POST", "/hub/_bulk_docs", `{"docs":[{"_id":"` + one("of", othersIDs...) + `","_rev":"` + rev() + `","_deleted":true}]}`, header
	case "find":
		return "POST", "/hub/_find", `{"selector":{"_id":{"$in":` + ids() + `}},"limit":` + one("limit", "1", "25") + `,"execution_stats":true}`, header
	}
	return "POST", "/hub/" + one("other", "_revs_diff", "_missing_revs", "_purge"), `{"` + id() + `":["` + rev() + `"]}`, header
}
