package hub

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// TestAnswersAsCouchDB: a walk through what CouchDB 3.5 answers, in the order of the rows. REV is the revision last written.
func TestAnswersAsCouchDB(t *testing.T) {
	s := start(t, Config{})
	referer := "Referer: " + s.url + "/_utils/"
	design := "Location: " + s.url + "/db/_design/d"
	rev := ""
	for _, tt := range []struct {
		request, body string
		send          string // a header
		status        int
		want          []string // headers, "!Name" for one that is absent, and texts of the body
	}{
		{"PUT /db?q=0", "", "", 400, []string{"The `q` value should be a positive integer."}},
		{"PUT /db?n=x", "", "", 400, []string{"The `n` value should be a positive integer."}},
		{"PUT /db?partitioned=x", "", "", 400, []string{"Invalid `partitioned` parameter"}},
		{"PUT /db?partitioned=true", "", "", 400, []string{"Partitioned feature is not enabled."}},
		{"PUT /db?q=8&n=1&partitioned=false", "", "", 201, []string{"Location: " + s.url + "/db", `{"ok":true}`}},

		{"POST /db", `{"_id":""}`, asJSON, 400, []string{`"illegal_docid"`, "Document id must not be empty"}},
		{"POST /db/_bulk_docs", `{"docs":[{"_id":""}]}`, asJSON, 400, []string{`"illegal_docid"`}},
		{"PUT /db/a", `{"_id":"_b"}`, "", 400, []string{"Only reserved document ids may start with underscore."}},
		{"PUT /db/a", `{"_deleted":"no"}`, "", 400, []string{`"doc_validation"`, "Bad special document member: _deleted"}},
		{"PUT /db/a", `{"_conflicts":5,"_revs_info":{},"_deleted_conflicts":"x","_local_seq":[]}`, "", 201, []string{`"ok":true`}},
		{"PUT /db/b", `{"_attachments":{"x":{"data":5}}}`, "", 400, []string{"Invalid attachment data for x"}},
		{"PUT /db/b", `{"_attachments":{"x":{"encoding":"gzip","data":"aGVsbG8="}}}`, "", 400, []string{`"bad_request"`, "Invalid attachment data for x"}},
		{"PUT /db/b", `{"_attachments":{"x":{"encoding":"gzip","content_type":"text/plain","data":"` + gzipped("hello") + `"}}}`, "", 201, nil},
		{"GET /db/b/x", "", "", 200, []string{"hello", "Content-Type: text/plain", `ETag: "XUFAKrxLKna5cZ2REBfFkg=="`, "Accept-Ranges: bytes"}},
		{"POST /db", `{"_id":"p"}`, asJSON, 201, []string{"Location: " + s.url + "/db/p", "!ETag"}},
		{"POST /db", `{"_id":"p","_rev":"REV","_deleted":true}`, asJSON, 201, []string{`"id":"p"`}},
		{"POST /db?batch=ok", `{"_id":"q"}`, asJSON, 202, []string{`{"ok":true,"id":"q"}`, "!Location", "!ETag"}},

		{"PUT /db/c", `{"n":1}`, "", 201, []string{"Location: " + s.url + "/db/c", "ETag: "}},
		{"GET /db/c?rev=", "", "", 400, []string{"Invalid rev format"}},
		{"PUT /db/c?rev=", "{}", "", 400, []string{"Invalid rev format"}},
		{"GET /db/c?open_revs=[]", "", "", 200, []string{`"_id":"c"`, "Content-Type: application/json"}},
		{"DELETE /db/c", "", "", 409, []string{`"conflict"`}},
		{"DELETE /db/c", "", `If-Match: "REV"`, 200, []string{`"ok":true`, "ETag: ", "!Location"}},
		{"DELETE /db/c?rev=REV", "", "", 404, []string{`"deleted"`}},
		{"DELETE /db/c", "", "", 404, []string{`"deleted"`}},
		{"COPY /db/a", "", "Destination: c", 201, []string{"Location: " + s.url + "/db/c", "ETag: ", `"rev":"3-`}},

		{"PUT /db/_design/d", `{}`, "", 201, nil},
		{"GET /db/_design%2Fd", "", "", 301, []string{design}},
		{"HEAD /db/_design%2fd?revs=true", "", "", 301, []string{design + "?revs=true"}},
		{"GET /db/_design%2Fd/a%2Fb", "", "", 301, []string{design + "/a%2Fb"}},
		{"GET /db/_design/_design%2Fd", "", "", 404, []string{`"missing"`}},
		{"GET /nope/_design%2Fd", "", "", 404, []string{"Database does not exist."}},
		{"PUT /db/_design%2Fe", `{}`, "", 201, []string{`"_design/e"`}},
		{"GET /db/_local", "", "", 400, []string{"Invalid _local document id."}},
		{"PUT /db/_local/", "{}", "", 400, []string{"Invalid _local document id."}},

		{"POST /db/a", "{}", "", 400, []string{"Referer header required."}},
		{"POST /db/a", "{}", "Referer: http://evil.example/", 400, []string{"Referer header must match host."}},
		{"POST /db/_a", "{}", referer, 400, []string{`"illegal_docid"`}},
		{"POST /db/a", "{}", referer, 415, []string{"Content-Type must be multipart/form-data"}},

		{"GET /db/_all_docs?keys=[\"a\"]&key=\"a\"", "", "", 400, []string{`"query_parse_error"`, "`keys` is incompatible with `key`, `start_key` and `end_key`"}},
		{"GET /db/_all_docs?startkey=%22b%22&skip=1", "", "", 200, []string{`"offset":4,`}},
		{"GET /db/_all_docs?reduce=true", "", "", 400, []string{`"query_parse_error"`, "Reduce is invalid for map-only views."}},
		{"GET /db/_all_docs?group_level=1", "", "", 400, []string{"Invalid use of grouping on a map view."}},
		{"GET /db/_all_docs?group=true", "", "", 400, []string{"Invalid use of grouping on a map view."}},
		{"GET /db/_all_docs?stale=x", "", "", 400, []string{"Invalid value for `stale`."}},
		{"GET /db/_all_docs?update=x", "", "", 400, []string{"Invalid value for `update`."}},
		{"GET /db/_all_docs?reduce=false&stale=ok&stable=true&update=lazy&sorted=true&att_encoding_info=false", "", "", 200, nil},
		{"POST /db/_all_docs/queries", `{"queries":[{"keys":["a","nope"]},{"limit":1,"skip":1,"include_docs":true},{"key":"b"}]}`, asJSON, 200, []string{`{"key":"nope","error":"not_found"}`, `"offset":1`, `"doc":`, `"id":"b"`}},
		{"POST /db/_design_docs/queries", `{"queries":[{},{"limit":1,"descending":true}]}`, asJSON, 200, []string{`"_design/d"`, `"_design/e"`}},
		{"POST /db/_all_docs/queries", `{}`, asJSON, 400, []string{"POST body must include `queries` parameter."}},
		{"POST /db/_all_docs/queries", `{"queries":5}`, asJSON, 400, []string{"`queries` member must be an array."}},
		{"POST /db/_all_docs/queries", `{"queries":[{"keys":5}]}`, asJSON, 400, []string{"`keys` member must be an array."}},
		{"POST /db/_all_docs/queries", `{"queries":[{"limit":"x"}]}`, asJSON, 400, []string{`"query_parse_error"`}},
		{"POST /db/_all_docs/queries", `{"queries":[` + strings.Repeat("{},", 100) + `{}]}`, asJSON, 413, []string{`"too_large"`}},
		{"GET /db/_all_docs/queries", "", "", 405, []string{"Allow: POST"}},

		{"GET /db/_changes?filter=nope", "", "", 400, []string{"filter parameter must be of the form `designname/filtername`"}},
		{"GET /db/_changes?filter=_nope", "", "", 400, []string{"unknown builtin filter name"}},
		{"GET /db/_changes?filter=_view", "", "", 400, []string{"Invalid `view` parameter."}},
		{"POST /db/_changes?filter=_doc_ids", `{"doc_ids":5}`, asJSON, 400, []string{"`doc_ids` filter parameter is not a list."}},
		{"POST /db/_changes?filter=_doc_ids", `{"doc_ids":["b"]}`, asJSON, 200, []string{`"id":"b"`}},

		{"PUT /db/_security", `{"admins":{"names":5}}`, "", 400, []string{"names must be a JSON list of strings"}},
		{"PUT /db/_security", `{"members":{"names":["a"],"roles":[5]}}`, "", 400, []string{"roles must be a JSON list of strings"}},
		{"PUT /db/_security", `{"admins":[]}`, "", 400, []string{"admins and members must be JSON objects"}},
		{"POST /db/_compact/d", "{}", asJSON, 202, []string{`{"ok":true}`}},
		{"POST /db/_compact/nope", "{}", asJSON, 404, []string{`"missing"`}},
		{"POST /db/_view_cleanup", "", "", 202, []string{`{"ok":true}`}},

		{"GET /_uuids?count=x", "", "", 400, []string{"invalid count"}},
		{"GET /_uuids", "", "", 200, []string{"Pragma: no-cache", "Expires: Mon, 01 Jan 1990 00:00:00 GMT", "ETag: ", "Cache-Control: must-revalidate, no-cache"}},
		{"GET /_dbs_info?limit=1", "", "", 200, []string{`[{"key":"_users","info":{"instance_start_time":`}},
		{"POST /_dbs_info", `{"keys":["db","nope","NO"]}`, asJSON, 200, []string{`"db_name":"db"`, `{"key":"nope","error":"not_found"},{"key":"NO","error":"not_found"}]`}},
		{"POST /_dbs_info", `{}`, asJSON, 400, []string{"`keys` member must exist."}},
		{"POST /_dbs_info", `{"keys":5}`, asJSON, 400, []string{"`keys` member must be an array."}},
		{"POST /_dbs_info", `{"keys":["` + strings.Repeat(`a","`, 100) + `a"]}`, asJSON, 400, []string{"too_many_keys"}},
		{"PUT /_dbs_info", `{}`, asJSON, 405, []string{"Allow: GET,HEAD,POST"}},
		{"GET /_membership", "", "", 200, []string{`"all_nodes":[`, `"cluster_nodes":[`}},
	} {
		method, path, _ := strings.Cut(strings.ReplaceAll(tt.request, "REV", rev), " ")
		a := s.once(method, path, strings.ReplaceAll(tt.body, "REV", rev), strings.ReplaceAll(tt.send, "REV", rev))
		if a.StatusCode != tt.status {
			t.Errorf("%s %s: %d %s", tt.request, tt.body, a.StatusCode, a.body)
		}
		for _, w := range tt.want {
			if !a.has(w) {
				t.Errorf("%s %.100s: %s is not in %v %s", tt.request, tt.body, w, a.Header, a.body)
			}
		}
		if !json.Valid(a.body) && len(a.body) > 0 && strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %s", tt.request, a.body)
		}
		var out struct{ Rev string }
		if json.Unmarshal(a.body, &out) == nil && out.Rev != "" {
			rev = out.Rev
		}
	}
}

// once makes a request that no redirect is followed of. A header may be empty.
func (s *server) once(method, path, body, header string) *answer {
	s.t.Helper()
	if header == "" {
		header = "X-None: 1"
	}
	noRedirects := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s.doBy(noRedirects, method, path, body, header)
}

// has reports whether an answer has a header, "Name: value" or what it begins with, has none "!Name", or has a text.
func (a *answer) has(want string) bool {
	if name, ok := strings.CutPrefix(want, "!"); ok {
		return a.Header.Get(name) == ""
	}
	name, value, ok := strings.Cut(want, ": ")
	if h := a.Header.Get(name); ok && h != "" {
		return h == value || value == ""
	}
	return strings.Contains(string(a.body), want)
}

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text)) // to memory: cannot fail
	_ = z.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// TestFormUpload: a page's form puts files at a document, new or known.
func TestFormUpload(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	post := func(path string, parts ...[3]string) *answer { // name, file, content
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for _, p := range parts {
			h := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q`, p[0])}}
			if p[1] != "" {
				h = textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q; filename=%q`, p[0], p[1])}, "Content-Type": {"text/plain"}}
			}
			part, err := w.CreatePart(h)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = part.Write([]byte(p[2])) // to memory: cannot fail
		}
		_ = w.Close()
		return s.do("POST", path, b.String(), "Content-Type: "+w.FormDataContentType(), "Referer: "+s.url+"/")
	}
	large := strings.Repeat("0123456789abcdef", 40_000)
	a := post("/db/doc", [3]string{"_doc", "", `{"n":1,"_attachments":{"old":{"data":"aGk="},"b/c.txt":{"data":""}}}`}, [3]string{"_attachments", "b/c.txt", large}, [3]string{"_attachments", "d", "d"}, [3]string{"other", "", "x"})
	var out struct{ ID, Rev string }
	if a.StatusCode != 201 || json.Unmarshal(a.body, &out) != nil || out.ID != "doc" || a.Header.Get("ETag") != `"`+out.Rev+`"` || a.Header.Get("Location") != "" {
		t.Fatalf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
	if a := post("/db/doc", [3]string{"_rev", "", out.Rev}, [3]string{"_attachments", "d", "new"}); a.StatusCode != 201 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	for name, want := range map[string]string{"old": "hi", "b/c.txt": large, "d": "new"} {
		if a := s.do("GET", "/db/doc/"+name, ""); string(a.body) != want {
			t.Errorf("%s: %d %.50s", name, a.StatusCode, a.body)
		}
	}
	if a := s.do("GET", "/db/doc", ""); !strings.Contains(string(a.body), `"n":1`) || strings.Contains(string(a.body), "other") {
		t.Errorf("%s", a.body)
	}
	for _, tt := range []struct {
		parts  [][3]string
		status int
		want   string
	}{
		{[][3]string{{"_rev", "", out.Rev}, {"_attachments", "d", "x"}}, 409, "conflict"},
		{[][3]string{{"_rev", "", "9-nope"}, {"_attachments", "d", "x"}}, 409, "missing_rev"},
		{[][3]string{{"_doc", "", "{}"}, {"_attachments", "d", "x"}}, 409, "conflict"},
		{[][3]string{{"_doc", "", "[]"}}, 400, "Document must be a JSON object"},
		{[][3]string{{"_attachments", "d", "x"}}, 400, "Invalid rev format"},
		{[][3]string{{"_rev", "", "x"}}, 400, "Invalid rev format"},
		{[][3]string{{"_doc", "", "{}"}, {"_attachments", "_d", "x"}}, 400, "prohibited character"},
	} {
		if a := post("/db/doc", tt.parts...); a.StatusCode != tt.status || !strings.Contains(string(a.body), tt.want) {
			t.Errorf("%q: %d %s", tt.parts, a.StatusCode, a.body)
		}
	}
	if a := s.do("POST", "/db/doc", "--x\r\n", "Content-Type: multipart/form-data; boundary=x", "Referer: "+s.url+"/"); a.StatusCode != 400 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := s.do("POST", "/db/_local%2Fx", "", "Referer: "+s.url+"/"); a.StatusCode != 400 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestDatabasesETag: the list of databases is not sent again while it is the same.
func TestDatabasesETag(t *testing.T) {
	s := start(t, Config{})
	etag := s.do("GET", "/_all_dbs", "").Header.Get("ETag")
	if a := s.do("GET", "/_all_dbs", "", "If-None-Match: "+etag); a.StatusCode != 304 || etag == "" {
		t.Errorf("%s: %d %s", etag, a.StatusCode, a.body)
	}
	s.json("PUT", "/db", "", nil)
	var names []string
	if s.json("GET", "/_all_dbs", "", &names); !slices.Contains(names, "db") {
		t.Errorf("%q", names)
	}
	if a := s.do("GET", "/_all_dbs", "", "If-None-Match: "+etag); a.StatusCode != 200 {
		t.Errorf("%d", a.StatusCode)
	}
}
