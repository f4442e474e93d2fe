package share

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/go-kivik/kivik/v4"
	_ "github.com/go-kivik/kivik/v4/couchdb" // driver "couch"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// ownersLocal is a _local document of the owner, in the database "notes".
const ownersLocal = "secret-local"

// resolved is a proxy that decodes a path and resolves its dots before it passes it
// on below a path, as nginx does.
func resolved(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := *r.URL
		u.Path, u.RawPath = strings.TrimPrefix(path.Clean(r.URL.Path), "/below"), ""
		out := r.Clone(r.Context())
		out.URL = &u
		next.ServeHTTP(w, out)
	})
}

// urls are a database of a local store, the same by the URL of a server, through a
// proxy, and by kivik's own driver.
func (w *world) urls(name string) map[string]*kivik.DB {
	w.t.Helper()
	api := couchhttp.NewServer(couchhttp.ServerOptions{Store: w.store, UUID: "foreign"})
	straight, proxy := httptest.NewServer(api), httptest.NewServer(resolved(api))
	transport := couchhttp.NewTransport(nil)
	w.t.Cleanup(func() {
		transport.CloseIdleConnections()
		straight.Close()
		proxy.Close()
		_ = api.Close()
	})
	dbs := map[string]*kivik.DB{"local": kivikDB(w, name)}
	for kind, base := range map[string]string{"URL": straight.URL, "proxy": proxy.URL + "/below"} {
		u, err := url.Parse(base)
		w.must(err)
		dbs[kind] = couchkivik.DB(DriverName, couchhttp.NewClient(u, &http.Client{Transport: transport}, couchhttp.ClientOptions{}), name)
		foreign, err := kivik.New("couch", base)
		w.must(err)
		dbs["kivik's driver, "+kind] = foreign.DB(name)
	}
	return dbs
}

// localSpellings are ids that mean a _local document to somebody, decoded.
func localSpellings(id string) []string {
	return []string{
		"_local/" + id, "_local%2F" + id, "_local//" + id, "_local/./" + id, "/_local/" + id, "x/../_local/" + id,
		"../notes/_local/" + id, "../../below/notes/_local/" + id, "_design/../_local/" + id, "_design/x/../../_local/" + id, "_design/..%2F_local/" + id,
		"_local/x/../" + id, "_local/" + id + "/.", "_local/" + id + "?x", "_local/" + id + "#x", "_local/" + id + "\x00", "_LOCAL/" + id, " _local/" + id,
		"_local_docs", "_local", "_local/", ".", "..", "../..", "_design/..", "_design/", "_security", "../notes",
	}
}

// requestsOf are requests that name an id in every place where one can be.
func requestsOf(id string) (all [][4]string) { // method, path, body, header
	text, _ := json.Marshal(id)
	q := string(text)
	escaped := strings.ReplaceAll(url.PathEscape(id), "_", "%5F")
	paths := []string{url.PathEscape(id), strings.ReplaceAll(strings.ReplaceAll(escaped, "%2F", "%2f"), ".", "%2E"), url.PathEscape(url.PathEscape(id))}
	if !strings.ContainsAny(id, "?#\x00 ") && !strings.HasPrefix(id, "_local/secret") && !strings.HasPrefix(id, "_local/absent") {
		paths = append(paths, id)
	}
	for _, p := range paths {
		p = "/notes/" + p
		all = append(all, [4]string{"COPY", p})
		for _, query := range []string{"?rev=0-1", "?open_revs=all", "?attachments=true&latest=true&rev=1-a"} {
			if !isLocalPath(p) {
				all = append(all, [4]string{"GET", p + query})
			}
		}
		all = append(all, [4]string{"COPY", p + "?rev=0-1"}, [4]string{"GET", p + "/text"}, [4]string{"PUT", p + "/text?rev=0-1", "x"}, [4]string{"DELETE", p + "/text?rev=0-1"})
		if !isLocalPath(p) {
			all = append(all, [4]string{"PUT", p + "?rev=0-1", "{}"}, [4]string{"DELETE", p + "?rev=0-1"})
		}
	}
	for _, to := range []string{id, url.PathEscape(id), url.PathEscape(url.PathEscape(id)), "http://" + "host/notes/" + url.PathEscape(id), "/notes/" + id, url.PathEscape(id) + "?rev=0-1"} {
		if !strings.ContainsAny(to, "\x00") {
			all = append(all, [4]string{"COPY", "/notes/first", "", "Destination: " + to})
		}
	}
	refs := `{"docs":[{"id":"first"},{"id":` + q + `},{"id":` + q + `,"rev":"0-1"},{"id":` + q + `,"rev":"1-a","atts_since":["0-1"]}]}`
	return append(all,
		[4]string{"POST", "/notes/_bulk_get?revs=true&latest=true", refs}, [4]string{"POST", "/notes/_bulk_get?attachments=true", refs, "Accept: multipart/mixed"},
		[4]string{"POST", "/notes/_revs_diff", `{` + q + `:["0-1","1-a"]}`}, [4]string{"POST", "/notes/_missing_revs", `{` + q + `:["0-1"]}`},
		[4]string{"POST", "/notes/_all_docs?include_docs=true", `{"keys":["first",` + q + `]}`}, [4]string{"POST", "/notes/_all_docs/queries", `{"queries":[{"include_docs":true,"keys":[` + q + `]}]}`},
		[4]string{"GET", "/notes/_all_docs?include_docs=true&key=" + url.QueryEscape(q), ""}, [4]string{"GET", "/notes/_all_docs?include_docs=true&startkey=" + url.QueryEscape(q) + "&endkey=" + url.QueryEscape(q), ""},
		[4]string{"POST", "/notes/_design_docs?include_docs=true", `{"keys":[` + q + `]}`},
		[4]string{"POST", "/notes/_changes?filter=_doc_ids&include_docs=true", `{"doc_ids":[` + q + `]}`}, [4]string{"POST", "/notes/_purge", `{` + q + `:["0-1"]}`},
		[4]string{"POST", "/notes/_find", `{"selector":{"_id":` + q + `}}`}, [4]string{"POST", "/notes/_find", `{"selector":{"_id":{"$in":[` + q + `]}}}`},
		[4]string{"POST", "/notes/_explain", `{"selector":{"_id":` + q + `}}`},
	)
}

// isLocalPath reports whether a path is one of the endpoint of _local documents, by which each peer has its own.
func isLocalPath(p string) bool {
	plain, _ := url.PathUnescape(p)
	return strings.HasPrefix(plain, "/notes/_local/")
}

// No id, however it is spelled and wherever it is given, means a _local document of the owner's
// to a peer, in a local database or one that is a URL: each is answered as one that is not there.
func TestAttackLocalDocuments(t *testing.T) {
	w := newWorld(t)
	notes := w.create("notes")
	db := couchkivik.From(notes)
	w.put(notes, "first", `{"n":1}`)
	_, err := db.PutLocal(w.ctx, &couch.Doc{ID: ownersLocal, Body: json.RawMessage(`{"text":"secret words"}`)})
	w.must(err)
	dbs := w.urls("notes")
	for _, o := range []ShareOptions{{ReadOnly: true}, {ReadOnly: true, Selector: json.RawMessage(`{"n":1}`)}, {}} { // at last who may write
		for kind, shared := range dbs {
			if o.Selector != nil && kind != "local" && kind != "URL" {
				continue
			}
			t.Run(fmt.Sprintf("%s %s %v", kind, o.Selector, o.ReadOnly), func(t *testing.T) {
				w := &world{t: t, ctx: w.ctx, store: w.store, hub: w.hub}
				alice, bob := w.join(nil), w.join(nil)
				s, err := alice.Share(w.ctx, shared, o)
				w.must(err)
				r := w.open(bob, s.ID())
				for i, id := range localSpellings(ownersLocal) {
					absent := requestsOf(localSpellings("absent-local")[i])
					for j, q := range requestsOf(id) {
						if !o.ReadOnly && q[0] != "COPY" && q[0] != "PUT" && q[0] != "DELETE" {
							continue
						}
						text := check(t, r, q)
						if !o.ReadOnly || !strings.Contains(id, ownersLocal) {
							continue
						}
						if want := check(t, r, absent[j]); strings.ReplaceAll(text, ownersLocal, "absent-local") != want {
							t.Errorf("%q: %s\nof one that is not there: %s", q, text, want)
						}
					}
				}
				// Its own ones it has.
				if resp, body := r.ask(t, "PUT", "/notes/_local/"+ownersLocal, `{"mine":1}`); resp.StatusCode != 201 {
					t.Errorf("%s %s", resp.Status, body)
				}
				if _, body := r.ask(t, "GET", "/notes/_local%2F"+ownersLocal, ""); !strings.Contains(body, `"mine":1`) {
					t.Errorf("its own: %s", body)
				}
				if d, err := db.GetLocal(w.ctx, ownersLocal); err != nil || string(d.Body) != `{"text":"secret words"}` {
					t.Errorf("the owner's: %+v, %v", d, err)
				}
			})
		}
	}
	_, err = db.AllDocs(w.ctx, couch.AllDocsOptions{IncludeDocs: true}, func(r *couch.Row) error {
		if !couch.PlainID(r.ID) || strings.Contains(string(r.Doc.Body), "secret words") {
			t.Errorf("made %q: %s", r.ID, r.Doc.Body)
		}
		return nil
	})
	w.must(err)
}

// check asks, and returns the answer, which must tell nothing of the owner's document.
func check(t *testing.T, r *Remote, q [4]string) string {
	t.Helper()
	headers := []string{}
	if q[3] != "" {
		headers = append(headers, q[3])
	}
	resp, body := r.ask(t, q[0], q[1], q[2], headers...)
	if strings.Contains(body, "secret words") {
		t.Errorf("%q: %s %s", q, resp.Status, body)
	}
	return resp.Status + " " + boundary.ReplaceAllString(body, "boundary")
}

var boundary = regexp.MustCompile("[0-9a-f]{60}")
