package share

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/localdb"
)

// A twin is one of two shares that are the same but for documents that are not seen:
// in one of them they have the ids that are asked for, in the other one different ids.
type twin struct {
	t   testing.TB
	api *couchhttp.Server
	ctx context.Context // of a peer's request
}

// hiddenIDs are documents that are not seen, of all kinds; revisions that they have are in hiddenRevs.
var (
	hiddenIDs  = []string{"hidden", "hidden-branched", "hidden-dead", "hidden-later", "hidden-file", "_design/hidden"}
	hiddenRevs = []string{"1-aa", "1-ab", "2-ba"}
)

// twins makes the two of a store that has what is seen.
func (w *world) twins(o ShareOptions, byURL bool) [2]*twin {
	w.t.Helper()
	w.mixed("notes")
	id, hub := newTestIdentity(w.t), w.t.TempDir()
	var out [2]*twin
	for i := range out {
		dir := filepath.Join(hub, fmt.Sprint(i)) // copies, which have the same identity and sequences
		w.must(w.store.Backup(w.ctx, dir))
		store, err := localdb.OpenStore(dir, localdb.Options{})
		w.must(err)
		w.t.Cleanup(func() { _ = store.Close() })
		v := &world{t: w.t, ctx: w.ctx, store: store, hub: couchkivik.DB(DriverName, store, "hub")}
		v.hide(couchkivik.From(kivikDB(v, "notes")), map[int]string{0: "", 1: "zz-"}[i])
		shared := kivikDB(v, "notes")
		if byURL {
			shared = v.urls("notes")["URL"]
		}
		s, err := v.join(func(c *Config) { c.Identity = id }).Share(w.ctx, shared, o)
		w.must(err)
		out[i] = &twin{w.t, s.api, context.WithValue(w.ctx, streamKey, &stream{peer: strings.Repeat("aaaa-", 7) + "aaaa"})}
	}
	return out
}

// hide writes what is not seen, under ids that begin with a prefix.
func (w *world) hide(db couch.DB, prefix string) {
	id := func(id string) string {
		if rest, ok := strings.CutPrefix(id, "_design/"); ok {
			return "_design/" + prefix + rest
		}
		return prefix + id
	}
	file := revision(id("hidden-file"), 1, []string{"aa"}, `{"text":"secret"}`)
	file.Attachments = []couch.Attachment{{Name: "file", ContentType: "text/plain", Length: 5, Data: []byte("bytes")}}
	dead := revision(id("hidden-dead"), 2, []string{"ba", "aa"}, `{}`)
	dead.Deleted = true
	w.graft(db, revision(id("hidden"), 1, []string{"aa"}, `{"text":"secret"}`),
		revision(id("hidden-branched"), 1, []string{"aa"}, `{"text":"secret"}`), revision(id("hidden-branched"), 1, []string{"ab"}, `{"text":"secret"}`),
		revision(id("hidden-dead"), 1, []string{"aa"}, `{"text":"secret"}`), dead,
		revision(id("hidden-later"), 1, []string{"aa"}, `{"text":"secret"}`), revision(id("hidden-later"), 2, []string{"ba", "aa"}, `{"text":"secret"}`),
		file, revision(id("_design/hidden"), 1, []string{"aa"}, `{"text":"secret"}`))
}

// A question is a request.
type question struct {
	method, path, body string
	header             map[string]string
}

// ask returns all that is told: status, headers and body.
func (w *twin) ask(q question) string {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, q.method, "http://share"+q.path, strings.NewReader(q.body))
	r.Header.Set("Content-Type", "application/json")
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	rec := httptest.NewRecorder()
	func() {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
		}()
		w.api.ServeHTTP(rec, r)
	}()
	rec.Header().Del("Date")
	rec.Header().Del("X-Couchdb-Body-Time") // how long the request took to come
	var b strings.Builder
	fmt.Fprintln(&b, rec.Code)
	_ = rec.Header().WriteSubset(&b, nil)
	return boundary.ReplaceAllString(b.String()+rec.Body.String(), "boundary")
}

// TestHiddenIsAsMissing asks for documents that are not seen in every way, of a database that has them and
// of one in which nobody ever wrote them, and gets the same answers to the byte.
func TestHiddenIsAsMissing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		o     ShareOptions
		byURL bool
	}{
		{"selector", ShareOptions{ReadOnly: true, Selector: json.RawMessage(openSelector)}, false},
		{"selector, writable", ShareOptions{Selector: json.RawMessage(openSelector)}, false},
		{"ids", ShareOptions{DocIDs: []string{"seen", "seen-both", "seen-branch", "absent", "seen-dead"}}, false},
		{"selector and ids", ShareOptions{Selector: json.RawMessage(openSelector), DocIDs: append([]string{"seen", "seen-below", "absent"}, hiddenIDs...)}, false},
		{"selector, of a URL", ShareOptions{Selector: json.RawMessage(openSelector)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			twins := w.twins(tt.o, tt.byURL)
			same := func(t interface {
				Helper()
				Errorf(string, ...any)
			}, q question) {
				t.Helper()
				if a, b := twins[0].ask(q), twins[1].ask(q); a != b {
					t.Errorf("%s %s %s %v\n%s\n--- of one that was never there:\n%s", q.method, q.path, q.body, q.header, a, b)
				}
			}
			for _, id := range hiddenIDs {
				for _, q := range questions(id) {
					same(t, q)
				}
			}
			rapid.Check(t, func(rt *rapid.T) {
				for range 3 {
					same(rt, anyQuestion(rt))
				}
			})
		})
	}
}

// questions are those that have told something once, or nearly.
func questions(id string) (all []question) {
	text, _ := json.Marshal(id)
	q, p := string(text), "/notes/"+strings.ReplaceAll(url.PathEscape(id), "_design%2F", "_design/")
	get := func(path string) { all = append(all, question{method: "GET", path: path}) }
	post := func(path, body string) { all = append(all, question{method: "POST", path: path, body: body}) }
	for _, feed := range []string{"", "&descending=true", "&limit=1", "&descending=true&limit=1", "&feed=longpoll&timeout=1", "&feed=continuous&timeout=1", "&since=now&feed=longpoll&timeout=1", "&style=all_docs&include_docs=true&conflicts=true", "&feed=eventsource&timeout=1"} {
		post("/notes/_changes?filter=_doc_ids"+feed, `{"doc_ids":[`+q+`]}`)
		post("/notes/_changes?filter=_doc_ids"+feed, `{"doc_ids":["seen",`+q+`]}`)
		post("/notes/_changes?filter=_selector"+feed, `{"selector":{"_id":`+q+`}}`)
		get("/notes/_changes?x" + feed)
	}
	for _, params := range []string{"", "?open_revs=all", `?open_revs=%5B%221-aa%22,%222-ba%22%5D`, "?rev=1-aa", "?rev=2-ba&latest=true&revs=true", "?meta=true", "?local_seq=true"} {
		get(p + params)
		all = append(all, question{method: "HEAD", path: p + params}, question{method: "COPY", path: p + params, header: map[string]string{"Destination": "copy"}})
	}
	get("/notes/_all_docs?update_seq=true&key=" + url.QueryEscape(q))
	get("/notes/_all_docs?startkey=" + url.QueryEscape(q))
	post("/notes/_all_docs?include_docs=true", `{"keys":[`+q+`,"seen"]}`)
	post("/notes/_bulk_get?revs=true", `{"docs":[{"id":`+q+`},{"id":`+q+`},{"id":`+q+`,"rev":"1-aa"}]}`)
	post("/notes/_revs_diff", `{`+q+`:["1-aa","2-ba","9-x"]}`)
	post("/notes/_find", `{"selector":{"_id":{"$gte":`+q+`}},"execution_stats":true,"limit":1}`)
	post("/notes/_bulk_docs", `{"docs":[{"_id":`+q+`,"x":1},{"_id":`+q+`,"_rev":"1-aa","open":true},{"_id":`+q+`,"_rev":"2-ba","_deleted":true},{"_id":`+q+`,"_deleted":true}]}`)
	post("/notes/_bulk_docs", `{"new_edits":false,"docs":[{"_id":`+q+`,"_rev":"1-aa","x":1},{"_id":`+q+`,"_rev":"2-zz","_revisions":{"start":2,"ids":["zz","aa"]},"_deleted":true}]}`)
	for _, m := range []string{"GET", "PUT", "DELETE"} {
		all = append(all, question{method: m, path: p + "/file?rev=1-aa", body: "x"}, question{method: m, path: p + "/file", body: "x"}, question{method: m, path: p + "?rev=1-aa", body: "{}"})
	}
	return all
}

// anyQuestion draws a request. Only one kind is left out: to make a document that would be
// seen where one is that is not; its refusal tells that the id is taken.
func anyQuestion(t *rapid.T) question {
	one := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	id := func() string {
		return rapid.SampledFrom(append([]string{"seen", "seen-both", "seen-dead", "absent"}, hiddenIDs...)).Draw(t, "id")
	}
	quoted := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	ids := func() string {
		var all []string
		for range rapid.IntRange(0, 3).Draw(t, "ids") {
			all = append(all, quoted(id()))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	rev := func() string {
		return rapid.SampledFrom(append([]string{"1-a1", "2-x2", "9-zz"}, hiddenRevs...)).Draw(t, "rev")
	}
	path := func() string { return "/notes/" + strings.ReplaceAll(url.PathEscape(id()), "_design%2F", "_design/") }
	params := func(of ...string) string {
		v := url.Values{}
		for range rapid.IntRange(0, 4).Draw(t, "params") {
			name, value, _ := strings.Cut(one("param", of...), "=")
			switch value {
			case "REV":
				value = rev()
			case "REVS":
				value = `["` + rev() + `","` + rev() + `"]`
			case "ID":
				value = quoted(id())
			case "N":
				value = fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "n"))
			}
			v.Set(name, value)
		}
		return "?" + v.Encode()
	}
	header := map[string]string{}
	switch one("header", "", "", "match", "accept", "if", "range") {
	case "match":
		header["If-None-Match"] = `"` + rev() + `"`
	case "if":
		header["If-Match"] = `"` + rev() + `"`
	case "accept":
		header["Accept"] = one("accept", "multipart/mixed", "multipart/related", "application/json")
	case "range":
		header["Range"] = "bytes=0-2"
	}
	docParams := []string{"rev=REV", "rev=REV", "revs=true", "revs_info=true", "conflicts=true", "deleted_conflicts=true", "latest=true", "open_revs=all", "open_revs=REVS", "attachments=true", "att_encoding_info=true", "atts_since=REVS", "local_seq=true", "meta=true"}
	rowParams := []string{"key=ID", "startkey=ID", "endkey=ID", "descending=true", "limit=N", "skip=N", "include_docs=true", "conflicts=true", "update_seq=true", "inclusive_end=false", "attachments=true"}
	feedParams := []string{"descending=true", "limit=N", "include_docs=true", "conflicts=true", "attachments=true", "style=all_docs", "since=now", "since=N", "timeout=N", "feed=longpoll", "feed=continuous", "feed=eventsource", "seq_interval=N"}
	q := question{header: header}
	switch one("endpoint", "doc", "doc", "attachment", "rows", "keys", "queries", "changes", "changes", "bulk_get", "diff", "find", "write", "delete", "copy", "other") {
	case "doc":
		q.method, q.path = one("method", "GET", "HEAD"), path()+params(docParams...)
	case "attachment":
		q.method, q.path, q.body = one("method", "GET", "HEAD", "PUT", "DELETE"), path()+"/"+one("name", "file", "note", "none")+params("rev=REV", "rev=REV"), "x"
	case "rows":
		q.method, q.path = "GET", "/notes/"+one("of", "_all_docs", "_design_docs")+params(rowParams...)
	case "keys":
		q.method, q.path, q.body = "POST", "/notes/"+one("of", "_all_docs", "_design_docs")+params(rowParams...), `{"keys":`+ids()+`}`
	case "queries":
		q.method, q.path, q.body = "POST", "/notes/_all_docs/queries", `{"queries":[{"keys":`+ids()+`},{"startkey":`+quoted(id())+`,"limit":2,"update_seq":true}]}`
	case "changes":
		q.method, q.path = "POST", "/notes/_changes"+params(feedParams...)
		if strings.Contains(q.path, "feed=") {
			q.path += "&timeout=1"
		}
		switch one("filter", "", "ids", "ids", "selector", "design") {
		case "ids":
			q.path, q.body = q.path+"&filter=_doc_ids", `{"doc_ids":`+ids()+`}`
		case "selector":
			q.path, q.body = q.path+"&filter=_selector", `{"selector":{"_id":{"$in":`+ids()+`}}}`
		case "design":
			q.path += "&filter=_design"
		}
	case "bulk_get":
		var refs []string
		for range rapid.IntRange(0, 3).Draw(t, "refs") {
			refs = append(refs, `{"id":`+quoted(id())+one("of", "", `,"rev":"`+rev()+`"`, `,"rev":"`+rev()+`","atts_since":["`+rev()+`"]`)+`}`)
		}
		q.method, q.path, q.body = "POST", "/notes/_bulk_get"+params("revs=true", "latest=true", "attachments=true"), `{"docs":[`+strings.Join(refs, ",")+`]}`
	case "diff":
		q.method, q.path, q.body = "POST", "/notes/"+one("of", "_revs_diff", "_missing_revs"), `{`+quoted(id())+`:["`+rev()+`","`+rev()+`"]}`
	case "find":
		selector := one("selector", `{"_id":{"$in":`+ids()+`}}`, `{"_id":{"$gte":`+quoted(id())+`}}`, `{"_id":{"$regex":"^hid"}}`, `{"text":{"$exists":true}}`, `{"open":{"$exists":false}}`, `{}`)
		q.method, q.path, q.body = "POST", "/notes/"+one("of", "_find", "_explain"), `{"selector":`+selector+`,"limit":`+one("limit", "1", "3", "25")+`,"skip":`+one("skip", "0", "1")+`,"execution_stats":true,"fields":`+one("fields", `["_id"]`, `["_id","_rev","text"]`)+`}`
	case "write":
		body := one("body", `"x":1`, `"_rev":"`+rev()+`","open":true`, `"_rev":"`+rev()+`","_attachments":{"file":{"stub":true,"revpos":1}},"open":true`)
		q = rapid.SampledFrom([]question{
			{"PUT", path() + params("rev=REV", "batch=ok"), `{"x":2}`, header}, {"POST", "/notes", `{"_id":` + quoted(id()) + `,` + body + `}`, header},
			{"POST", "/notes/_bulk_docs", `{"docs":[{"_id":` + quoted(id()) + `,` + body + `}]}`, header},
			{"POST", "/notes/_bulk_docs", `{"new_edits":false,"docs":[{"_id":` + quoted(id()) + `,"_rev":"` + rev() + `","x":1}]}`, header},
		}).Draw(t, "write")
	case "delete":
		q = rapid.SampledFrom([]question{
			{"DELETE", path() + params("rev=REV", "rev=REV"), "", header}, {"POST", "/notes/_bulk_docs", `{"docs":[{"_id":` + quoted(one("hidden", hiddenIDs...)) + `,"_rev":"` + rev() + `","_deleted":true}]}`, header},
			{"POST", "/notes/_purge", `{` + quoted(id()) + `:["` + rev() + `"]}`, header},
		}).Draw(t, "delete")
	case "copy":
		q.method, q.path = "COPY", path()+params("rev=REV")
		header["Destination"] = one("to", "absent", url.PathEscape(id())+"?rev="+rev())
	case "other":
		q.method, q.path = "GET", one("path", "/notes", "/", "/notes/_security", "/notes/_index", "/_dbs_info", "/notes/_local/hidden", "/notes/_revs_limit")
	}
	return q
}

// TestHiddenChangesWakeNobody: how far a waiting feed is by which documents are asked for tells nothing of those that are not seen.
func TestHiddenChangesWakeNobody(t *testing.T) {
	w := newWorld(t)
	db := w.mixed("notes")
	f := w.limited(db, openSelector, nil)
	waiting := make(chan struct{}, 10)
	f.db = tellsOfWaiting{db, waiting}
	last := map[string]couch.ChangesResult{}
	results := make(chan func(), 2)
	since := w.seq(db)
	for _, id := range []string{"hidden", "absent"} {
		go func() {
			res, err := f.Changes(w.ctx, couch.ChangesOptions{Feed: couch.FeedLongpoll, Since: since, DocIDs: []string{id, "wake"}}, func(*couch.Change) error { return nil })
			results <- func() { w.must(err); last[id] = res }
		}()
	}
	<-waiting
	<-waiting
	w.graft(db, revision("hidden", 2, []string{"hiddenb2", "hiddena1"}, `{"text":"secret"}`))
	w.graft(db, revision("unrelated", 1, []string{"a"}, `{"open":true}`))
	w.graft(db, revision("wake", 1, []string{"a"}, `{"open":true}`))
	for range 2 {
		(<-results)()
	}
	if last["hidden"] != last["absent"] {
		t.Errorf("of a hidden one %+v, of one that is not there %+v", last["hidden"], last["absent"])
	}
}

// tellsOfWaiting is a database that tells of feeds that begin to wait.
type tellsOfWaiting struct {
	couch.DB
	waiting chan<- struct{}
}

func (d tellsOfWaiting) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	if o.Feed == couch.FeedLongpoll {
		select {
		case d.waiting <- struct{}{}:
		default:
		}
	}
	return d.DB.Changes(ctx, o, fn)
}

func (w *world) seq(db couch.DB) couch.Seq {
	info, err := db.Info(w.ctx)
	w.must(err)
	return info.UpdateSeq
}
