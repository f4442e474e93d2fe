package hub

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// TestHostileRequests: what is wrong is answered with CouchDB's status, error
// and reason, and the server goes on.
func TestHostileRequests(t *testing.T) {
	s := start(t, Config{Limits: couchhttp.Limits{Document: 10_000, Body: 100_000, Attachment: 50_000, Bulk: 100}})
	s.json("PUT", "/db", "", nil)
	rev := s.put("/db/doc", `{"a":1}`)
	gone := s.put("/db/gone", `{}`)
	s.json("DELETE", "/db/gone?rev="+gone, "", nil)
	s.json("PUT", "/db/att/a%2Fb.txt", "0123456789", nil)
	s.put("/db/_local/l", `{"x":1}`)

	names := "Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, and / are allowed. Must begin with a letter."
	deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
	big := `{"a":"` + strings.Repeat("x", 20_000) + `"}`
	huge := `{"a":"` + strings.Repeat("x", 200_000) + `"}`
	many := `{"docs":[` + strings.Repeat(`{},`, 100) + `{}]}`
	bomb := zstdOf(t, `{"a":"`+strings.Repeat("x", 10<<20)+`"}`)
	const any = "*" // a reason that is not CouchDB's to say
	for _, tt := range []struct {
		method, path, body string
		headers            []string
		status             int
		err, reason        string
	}{
		// Databases.
		{"GET", "/nope", "", nil, 404, "not_found", "Database does not exist."},
		{"HEAD", "/nope", "", nil, 404, "", ""},
		{"DELETE", "/nope", "", nil, 404, "not_found", "Database does not exist."},
		{"PUT", "/db", "", nil, 412, "file_exists", "The database could not be created, the file already exists."},
		{"PUT", "/Upper", "", nil, 400, "illegal_database_name", "Name: 'Upper'. " + names},
		{"PUT", "/1abc", "", nil, 400, "illegal_database_name", "Name: '1abc'. " + names},
		{"PUT", "/_foo", "", nil, 400, "illegal_database_name", "Name: '_foo'. " + names},
		{"PUT", "/a%00b", "", nil, 400, "illegal_database_name", any},
		{"PUT", "/..%2f..%2fetc%2fpasswd", "", nil, 400, "illegal_database_name", any},
		{"PUT", "/a.b", "", nil, 400, "illegal_database_name", "Name: 'a.b'. " + names},
		{"GET", "/..%2f..%2fetc%2fpasswd", "", nil, 404, "not_found", "Database does not exist."},
		{"GET", "/%2e%2e/%2e%2e/etc/passwd", "", nil, 404, "not_found", "Database does not exist."},
		{"GET", "/_nope", "", nil, 404, "not_found", "Database does not exist."},
		{"GET", "/_node/_local/_config", "", nil, 404, "not_found", "Database does not exist."},
		{"DELETE", "/db?rev=1-a", "", nil, 400, "bad_request", "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?"},
		{"PUT", "/" + strings.Repeat("a", 1000), "", nil, 400, any, any},

		// Methods.
		{"PATCH", "/db/doc", "{}", nil, 405, "method_not_allowed", "Only COPY,DELETE,GET,HEAD,PUT allowed"},
		{"POST", "/db/doc", "{}", nil, 405, "method_not_allowed", "Only COPY,DELETE,GET,HEAD,PUT allowed"},
		{"PUT", "/db/_all_docs", "{}", nil, 405, "method_not_allowed", "Only GET,HEAD,POST allowed"},
		{"DELETE", "/db/_bulk_docs", "", nil, 405, "method_not_allowed", "Only POST allowed"},
		{"PUT", "/", "", nil, 405, "method_not_allowed", "Only GET,HEAD allowed"},
		{"DELETE", "/_all_dbs", "", nil, 405, "method_not_allowed", "Only GET,HEAD allowed"},
		{"POST", "/db/_security", "{}", nil, 405, "method_not_allowed", "Only GET,HEAD,PUT allowed"},
		{"WEIRD", "/db/doc", "", nil, 405, "method_not_allowed", any},

		// Documents.
		{"GET", "/db/nope", "", nil, 404, "not_found", "missing"},
		{"GET", "/db/gone", "", nil, 404, "not_found", "deleted"},
		{"GET", "/nope/doc", "", nil, 404, "not_found", "Database does not exist."},
		{"GET", "/db/doc?rev=1-nope", "", nil, 404, "not_found", "missing"},
		{"GET", "/db/doc?rev=nope", "", nil, 400, "bad_request", "Invalid rev format"},
		{"GET", "/db/doc?rev=99999999999999999999-a", "", nil, 400, "bad_request", "Invalid rev format"},
		{"GET", "/db/doc?open_revs=1", "", nil, 400, "bad_request", "Invalid rev format"},
		{"GET", `/db/doc?open_revs=["x"]`, "", nil, 400, "bad_request", "Invalid rev format"},
		{"GET", `/db/nope?open_revs=all`, "", nil, 404, "not_found", "missing"},
		{"GET", "/db/doc?a=%zz", "", nil, 400, "bad_request", any},
		{"GET", "/db/_view_cleanup", "", nil, 404, "not_found", "missing"},
		{"GET", "/db/_design/nope/_view/x", "", nil, 404, "not_found", "missing"},
		{"PUT", "/db/_nope", "{}", nil, 400, "illegal_docid", "Only reserved document ids may start with underscore."},
		{"PUT", "/db/%ff%fe", "{}", nil, 400, "illegal_docid", any},
		{"PUT", "/db/" + strings.Repeat("x", 8000), "{}", nil, 400, "illegal_docid", any},
		{"PUT", "/db/x", "", nil, 400, "bad_request", any},
		{"PUT", "/db/x", "{", nil, 400, "bad_request", "invalid UTF-8 JSON"},
		{"PUT", "/db/x", "[]", nil, 400, "bad_request", "Document must be a JSON object"},
		{"PUT", "/db/x", "{\"a\":\"\xff\"}", nil, 400, "bad_request", "invalid UTF-8 JSON"},
		{"PUT", "/db/x", `{"a":` + deep + `}`, nil, 400, "bad_request", any},
		{"PUT", "/db/x", `{"_nope":1}`, nil, 400, "doc_validation", "Bad special document member: _nope"},
		{"PUT", "/db/x", `{"_rev":"1"}`, nil, 400, "bad_request", "Invalid rev format"},
		{"PUT", "/db/x", `{"_attachments":{"_a":{"data":""}}}`, nil, 400, "bad_request", "Attachment name '_a' starts with prohibited character '_'"},
		{"PUT", "/db/x", `{"_attachments":{"a":{"stub":true}}}`, nil, 412, "missing_stub", any},
		{"PUT", "/db/x?new_edits=false", `{}`, nil, 400, "bad_request", "When `new_edits: false`, the document needs `_rev` or `_revisions` specified"},
		{"PUT", "/db/x", big, nil, 413, "document_too_large", any},
		{"PUT", "/db/x", huge, nil, 413, "too_large", "the request entity is too large"},
		{"PUT", "/db/x", bomb, []string{"Content-Encoding: zstd"}, 413, "too_large", "the request entity is too large"},
		{"PUT", "/db/x", "not zstd", []string{"Content-Encoding: zstd"}, 400, "bad_request", any},
		{"PUT", "/db/x", "not gzip", []string{"Content-Encoding: gzip"}, 400, "bad_request", any},
		{"PUT", "/db/x", "{}", []string{"Content-Encoding: br"}, 415, "bad_content_type", "br is not a supported content encoding."},
		{"PUT", "/db/doc", `{}`, nil, 409, "conflict", "Document update conflict."},
		{"PUT", "/db/doc", `{"_rev":"1-nope"}`, nil, 409, "conflict", "Document update conflict."},
		{"PUT", "/db/doc?rev=2-b", `{"_rev":"` + rev + `"}`, nil, 400, "bad_request", "Document rev from request body and query string have different values"},
		{"PUT", "/db/doc?rev=" + rev, `{}`, []string{`If-Match: "3-c"`}, 400, "bad_request", "Document rev and etag have different values"},
		{"DELETE", "/db/doc", "", nil, 409, "conflict", "Document update conflict."},
		{"DELETE", "/db/doc?rev=1-nope", "", nil, 409, "conflict", "Document update conflict."},
		{"DELETE", "/db/nope?rev=1-a", "", nil, 404, "not_found", "missing"},
		{"DELETE", "/db/gone?rev=1-a", "", nil, 404, "not_found", "deleted"},
		{"COPY", "/db/doc", "", nil, 400, "bad_request", "Destination header is mandatory for COPY."},
		{"COPY", "/db/nope", "", []string{"Destination: new"}, 404, "not_found", "missing"},
		{"COPY", "/db/doc", "", []string{"Destination: _nope"}, 400, "illegal_docid", any},
		{"COPY", "/db/doc", "", []string{"Destination: http://x/y"}, 400, "bad_request", "Destination URL must be relative."},
		{"COPY", "/db/doc", "", []string{"Destination: gone?rev=1-a"}, 409, "conflict", "Document update conflict."},
		{"POST", "/db", "{}", []string{"Content-Type: text/plain"}, 415, "bad_content_type", "Content-Type must be application/json"},
		{"POST", "/db", "", []string{asJSON}, 400, "bad_request", any},

		// Local documents.
		{"GET", "/db/_local/nope", "", nil, 404, "not_found", "missing"},
		{"PUT", "/db/_local/l", "{}", nil, 409, "conflict", "Document update conflict."},
		{"DELETE", "/db/_local/l", "", nil, 409, "conflict", "Document update conflict."},
		{"PUT", "/db/_local/l/att", "x", nil, 400, "bad_request", "_local documents do not accept attachments."},
		{"GET", "/db/_local%2Fnope", "", nil, 404, "not_found", "missing"},

		// Attachments.
		{"GET", "/db/att/nope", "", nil, 404, "not_found", "Document is missing attachment"},
		{"GET", "/db/nope/a", "", nil, 404, "not_found", "missing"},
		{"GET", "/db/att/a/b.txt", "", []string{"Range: bytes=10-"}, 416, "requested_range_not_satisfiable", "Requested range not satisfiable"},
		{"GET", "/db/att/a/b.txt", "", []string{"Range: bytes=5-4"}, 416, "requested_range_not_satisfiable", "Requested range not satisfiable"},
		{"PUT", "/db/att/_x", "x", nil, 400, "bad_request", "Attachment name '_x' starts with prohibited character '_'"},
		{"PUT", "/db/att/%ff", "x", nil, 400, "bad_request", "Attachment name is not UTF-8 encoded"},
		{"PUT", "/db/att/new", "x", nil, 409, "conflict", "Document update conflict."},
		{"PUT", "/db/att/new?rev=1-nope", "x", nil, 409, "conflict", "Document update conflict."},
		{"PUT", "/db/other/new", strings.Repeat("x", 60_000), nil, 413, "attachment_too_large", "new"},
		{"PUT", "/db/other/new", "x", []string{"Content-MD5: AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "content_md5_mismatch", "Possible message corruption."},
		{"DELETE", "/db/att/nope", "", nil, 404, "not_found", "Document is missing attachment"},
		{"DELETE", "/db/att/a/b.txt", "", nil, 409, "conflict", "Document update conflict."},
		{"PUT", "/db/m", "--x\r\n\r\n{}", []string{"Content-Type: multipart/related"}, 400, "bad_request", any},
		{"PUT", "/db/m", "junk", []string{"Content-Type: multipart/related; boundary=x"}, 400, "bad_request", any},
		{"PUT", "/db/m", "--x\r\n\r\n{\"_attachments\":{\"a\":{\"follows\":true,\"length\":1}}}\r\n--x--", []string{"Content-Type: multipart/related; boundary=x"}, 400, "bad_request", any},

		// Many at once.
		{"POST", "/db/_bulk_docs", "{}", nil, 415, "bad_content_type", "Content-Type must be application/json"},
		{"POST", "/db/_bulk_docs", "{}", []string{asJSON}, 400, "bad_request", "POST body must include `docs` parameter."},
		{"POST", "/db/_bulk_docs", `{"docs":1}`, []string{asJSON}, 400, "bad_request", "`docs` parameter must be an array."},
		{"POST", "/db/_bulk_docs", `{"docs":[1]}`, []string{asJSON}, 400, "bad_request", "Document must be a JSON object"},
		{"POST", "/db/_bulk_docs", `[]`, []string{asJSON}, 400, "bad_request", "Request body must be a JSON object"},
		{"POST", "/db/_bulk_docs", many, []string{asJSON}, 413, "max_bulk_docs_count_exceeded", "100"},
		{"POST", "/db/_bulk_docs", `{"docs":[{"_id":"_x"}]}`, []string{asJSON}, 400, "illegal_docid", "Only reserved document ids may start with underscore."},
		{"POST", "/db/_bulk_docs", `{"new_edits":false,"docs":[{"_id":"x"}]}`, []string{asJSON}, 400, "bad_request", "When `new_edits: false`, the document needs `_rev` or `_revisions` specified"},
		{"POST", "/db/_bulk_get", `{}`, []string{asJSON}, 400, "bad_request", "Missing JSON list of 'docs'."},
		{"POST", "/db/_bulk_get?rev=1-a", `{"docs":[]}`, []string{asJSON}, 400, "bad_request", `"rev" query parameter is not acceptable`},
		{"POST", "/db/_revs_diff", `{"doc":["x"]}`, []string{asJSON}, 400, "bad_request", "Invalid rev format"},
		{"POST", "/db/_revs_diff", `{"doc":1}`, []string{asJSON}, 400, "bad_request", "Invalid rev format"},
		{"POST", "/db/_revs_diff", `[]`, []string{asJSON}, 400, "bad_request", "Request body must be a JSON object"},
		{"POST", "/db/_missing_revs", `{"doc"`, []string{asJSON}, 400, "bad_request", "invalid UTF-8 JSON"},
		{"GET", "/db/_all_docs?limit=x", "", nil, 400, "query_parse_error", any},
		{"GET", "/db/_all_docs?descending=maybe", "", nil, 400, "query_parse_error", `Invalid boolean parameter: "maybe"`},
		{"GET", "/db/_all_docs?keys=1", "", nil, 400, "bad_request", "`keys` parameter must be an array."},
		{"POST", "/db/_all_docs", `{"keys":1}`, []string{asJSON}, 400, "bad_request", "`keys` body member must be an array."},
		{"GET", "/db/_all_docs?startkey=x", "", nil, 400, any, any},
		{"GET", "/db/_changes?feed=nope", "", nil, 400, "bad_request", "Supported `feed` types: normal, continuous, live, longpoll, eventsource"},
		{"GET", "/db/_changes?heartbeat=x", "", nil, 400, "bad_request", "Invalid heartbeat value. Expecting a positive integer value (in milliseconds)."},
		{"GET", "/db/_changes?heartbeat=0", "", nil, 400, "bad_request", "The heartbeat value should be a positive integer (in milliseconds)."},
		{"GET", "/db/_changes?limit=-1", "", nil, 400, any, any},
		{"GET", "/db/_changes?since=nope", "", nil, 400, any, any},
		{"GET", "/db/_changes?filter=app/js", "", nil, 400, "bad_request", any},
		{"GET", "/db/_changes?filter=_doc_ids", "", nil, 400, "bad_request", "`doc_ids` filter parameter is not a list."},
		{"POST", "/db/_changes?filter=_selector", "{}", []string{asJSON}, 400, "bad_request", any},
		{"GET", "/nope/_changes?feed=continuous", "", nil, 404, "not_found", "Database does not exist."},

		// The rest.
		{"POST", "/db/_find", `{}`, []string{asJSON}, 400, any, any},
		{"POST", "/db/_find", `[]`, []string{asJSON}, 400, "bad_request", "Request body must be a JSON object"},
		{"POST", "/db/_find", `{"selector":{"a":{"$nope":1}}}`, []string{asJSON}, 400, any, any},
		{"PUT", "/db/_security", `[]`, nil, 400, "bad_request", any},
		{"PUT", "/db/_security", `{`, nil, 400, "bad_request", "invalid UTF-8 JSON"},
		{"GET", "/_uuids?count=5000", "", nil, 400, "bad_request", "count parameter too large"},
		{"GET", "/_uuids?count=-1", "", nil, 400, any, any},
		{"GET", "/db", "", []string{"Host: evil.example"}, 403, "forbidden", any},
		{"DELETE", "/db", "", []string{"Origin: https://evil.example"}, 403, "forbidden", any},
	} {
		a := s.do(tt.method, tt.path, tt.body, tt.headers...)
		what := tt.method + " " + tt.path[:min(len(tt.path), 60)] + " " + tt.body[:min(len(tt.body), 40)]
		if a.StatusCode != tt.status {
			t.Errorf("%s: %d %s, want %d", what, a.StatusCode, a.body, tt.status)
			continue
		}
		if tt.method == "HEAD" {
			continue
		}
		var e struct{ Error, Reason string }
		if err := json.Unmarshal(a.body, &e); err != nil {
			t.Errorf("%s: %v in %q", what, err, a.body)
		}
		if tt.err != any && e.Error != tt.err || tt.reason != any && e.Reason != tt.reason || e.Error == "" {
			t.Errorf("%s: %s, want %s: %s", what, a.body, tt.err, tt.reason)
		}
		if a.StatusCode == 405 && !strings.HasPrefix(e.Reason, "Only "+a.Header.Get("Allow")) {
			t.Errorf("%s: Allow %q", what, a.Header.Get("Allow"))
		}
		if strings.Contains(e.Reason, "SQL") || strings.Contains(e.Reason, os.TempDir()) || strings.Contains(e.Reason, "goroutine") {
			t.Errorf("%s tells too much: %s", what, a.body)
		}
	}
	if a := s.do("GET", "/db/doc", ""); a.StatusCode != 200 {
		t.Errorf("afterwards: %d %s", a.StatusCode, a.body)
	}
}

func zstdOf(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
