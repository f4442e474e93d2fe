package hub

import (
	"strings"

	"github.com/klauspost/compress/zstd"
)

// A hostile request, and CouchDB's answer to it.
type hostile struct {
	method, path, body string
	headers            []string
	status             int
	err, reason        string
}

// anything stands for an error code or a reason that is not CouchDB's to say.
const anything = "*"

// What the limits of the hub under attack are exceeded by.
var (
	illegalName = "Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, and / are allowed. Must begin with a letter."
	bigDoc      = `{"a":"` + strings.Repeat("x", 20_000) + `"}`
	hugeBody    = `{"a":"` + strings.Repeat("x", 800_000) + `"}`
	bomb        = packed(`{"a":"` + strings.Repeat("x", 10<<20) + `"}`)
	manyDocs    = `{"docs":[` + strings.Repeat(`{},`, 100) + `{}]}`
)

var hostileDatabases = []hostile{
	{"GET", "/nope", "", nil, 404, "not_found", "Database does not exist."},
	{"HEAD", "/nope", "", nil, 404, "", ""},
	{"DELETE", "/nope", "", nil, 404, "not_found", "Database does not exist."},
	{"PUT", "/db", "", nil, 412, "file_exists", "The database could not be created, the file already exists."},
	{"PUT", "/Upper", "", nil, 400, "illegal_database_name", "Name: 'Upper'. " + illegalName},
	{"PUT", "/1abc", "", nil, 400, "illegal_database_name", "Name: '1abc'. " + illegalName},
	{"PUT", "/_foo", "", nil, 400, "illegal_database_name", "Name: '_foo'. " + illegalName},
	{"PUT", "/a%00b", "", nil, 400, "illegal_database_name", anything},
	{"PUT", "/..%2f..%2fetc%2fpasswd", "", nil, 400, "illegal_database_name", anything},
	{"PUT", "/a.b", "", nil, 400, "illegal_database_name", "Name: 'a.b'. " + illegalName},
	{"GET", "/..%2f..%2fetc%2fpasswd", "", nil, 404, "not_found", "Database does not exist."},
	{"GET", "/%2e%2e/%2e%2e/etc/passwd", "", nil, 404, "not_found", "Database does not exist."},
	{"GET", "/_nope", "", nil, 404, "not_found", "Database does not exist."},
	{"GET", "/_node/_local/_config", "", nil, 404, "not_found", "Database does not exist."},
	{"DELETE", "/db?rev=1-a", "", nil, 400, "bad_request", "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?"},
	{"PUT", "/" + strings.Repeat("a", 1000), "", nil, 400, anything, anything},
}

var hostileMethods = []hostile{
	{"PATCH", "/db/doc", "{}", nil, 405, "method_not_allowed", "Only DELETE,GET,HEAD,POST,PUT,COPY allowed"},
	{"PUT", "/db/_all_docs", "{}", nil, 405, "method_not_allowed", "Only GET,HEAD,POST allowed"},
	{"DELETE", "/db/_bulk_docs", "", nil, 405, "method_not_allowed", "Only POST allowed"},
	{"PUT", "/", "", nil, 405, "method_not_allowed", "Only GET,HEAD allowed"},
	{"DELETE", "/_all_dbs", "", nil, 405, "method_not_allowed", "Only GET,HEAD allowed"},
	{"POST", "/db/_security", "{}", nil, 405, "method_not_allowed", "Only PUT,GET allowed"},
	{"WEIRD", "/db/doc", "", nil, 405, "method_not_allowed", anything},
}

var hostileDocuments = []hostile{
	{"GET", "/db/nope", "", nil, 404, "not_found", "missing"},
	{"GET", "/db/gone", "", nil, 404, "not_found", "deleted"},
	{"GET", "/nope/doc", "", nil, 404, "not_found", "Database does not exist."},
	{"GET", "/db/doc?rev=1-nope", "", nil, 404, "not_found", "missing"},
	{"GET", "/db/doc?rev=nope", "", nil, 400, "bad_request", "Invalid rev format"},
	{"GET", "/db/doc?rev=99999999999999999999-a", "", nil, 400, "bad_request", "Invalid rev format"},
	{"GET", "/db/doc?open_revs=1", "", nil, 400, "bad_request", "Invalid list of revisions"},
	{"GET", `/db/doc?open_revs=["x"]`, "", nil, 400, "bad_request", "Invalid rev format"},
	{"GET", `/db/nope?open_revs=all`, "", nil, 404, "not_found", "missing"},
	{"GET", "/db/doc?a=%zz", "", nil, 400, "bad_request", anything},
	{"GET", "/db/_design/nope/_view/x", "", nil, 404, "not_found", "missing"},
	{"PUT", "/db/_nope", "{}", nil, 400, "illegal_docid", "Only reserved document ids may start with underscore."},
	{"PUT", "/db/%ff%fe", "{}", nil, 400, "illegal_docid", anything},
	{"PUT", "/db/" + strings.Repeat("x", 8000), "{}", nil, 400, "illegal_docid", anything},
	{"PUT", "/db/x", "", nil, 400, "bad_request", anything},
	{"PUT", "/db/x", "{", nil, 400, "bad_request", "invalid UTF-8 JSON"},
	{"PUT", "/db/x", "[]", nil, 400, "bad_request", "Document must be a JSON object"},
	{"PUT", "/db/x", "{\"a\":\"\xff\"}", nil, 400, "bad_request", "invalid UTF-8 JSON"},
	{"PUT", "/db/x", `{"a":` + nested(3100, "[", "]") + `}`, nil, 400, "bad_request", anything},
	{"PUT", "/db/x", `{"_nope":1}`, nil, 400, "doc_validation", "Bad special document member: _nope"},
	{"PUT", "/db/x", `{"_rev":"1"}`, nil, 400, "bad_request", "Invalid rev format"},
	{"PUT", "/db/x", `{"_attachments":{"_a":{"data":""}}}`, nil, 400, "bad_request", "Attachment name '_a' starts with prohibited character '_'"},
	{"PUT", "/db/x", `{"_attachments":{"a":{"stub":true}}}`, nil, 412, "missing_stub", anything},
	{"PUT", "/db/x?new_edits=false", `{}`, nil, 400, "bad_request", "When `new_edits: false`, the document needs `_rev` or `_revisions` specified"},
	{"PUT", "/db/x", bigDoc, nil, 413, "document_too_large", anything},
	{"PUT", "/db/x", hugeBody, nil, 413, "too_large", "the request entity is too large"},
	{"PUT", "/db/x", bomb, []string{"Content-Encoding: zstd"}, 413, "too_large", "the request entity is too large"},
	{"PUT", "/db/x", "not zstd", []string{"Content-Encoding: zstd"}, 400, "bad_request", anything},
	{"PUT", "/db/x", "not gzip", []string{"Content-Encoding: gzip"}, 400, "bad_request", "Request body is not properly gzipped."},
	{"PUT", "/db/x", "{}", []string{"Content-Encoding: br"}, 415, "bad_content_type", "br is not a supported content encoding."},
	{"PUT", "/db/doc", `{}`, nil, 409, "conflict", "Document update conflict."},
	{"PUT", "/db/doc", `{"_rev":"1-nope"}`, nil, 409, "conflict", "Document update conflict."},
	{"PUT", "/db/doc?rev=2-b", `{"_rev":"1-a1"}`, nil, 400, "bad_request", "Document rev from request body and query string have different values"},
	{"PUT", "/db/doc?rev=1-a1", `{}`, []string{`If-Match: "3-c"`}, 400, "bad_request", "Document rev and etag have different values"},
	{"DELETE", "/db/doc", "", nil, 409, "conflict", "Document update conflict."},
	{"DELETE", "/db/doc?rev=1-nope", "", nil, 409, "conflict", "Document update conflict."},
	{"DELETE", "/db/nope?rev=1-a", "", nil, 404, "not_found", "missing"},
	{"DELETE", "/db/gone?rev=1-a", "", nil, 404, "not_found", "deleted"},
	{"COPY", "/db/doc", "", nil, 400, "bad_request", "Destination header is mandatory for COPY."},
	{"COPY", "/db/nope", "", []string{"Destination: new"}, 404, "not_found", "missing"},
	{"COPY", "/db/doc", "", []string{"Destination: _nope"}, 400, "illegal_docid", anything},
	{"COPY", "/db/doc", "", []string{"Destination: http://x/y"}, 400, "bad_request", "Destination URL must be relative."},
	{"COPY", "/db/doc", "", []string{"Destination: gone?rev=1-a"}, 409, "conflict", "Document update conflict."},
	{"POST", "/db", "{}", []string{"Content-Type: text/plain"}, 415, "bad_content_type", "Content-Type must be application/json"},
	{"POST", "/db", "", []string{asJSON}, 400, "bad_request", anything},
}

var hostileLocals = []hostile{
	{"GET", "/db/_local/nope", "", nil, 404, "not_found", "missing"},
	{"PUT", "/db/_local/l", "{}", nil, 409, "conflict", "Document update conflict."},
	{"DELETE", "/db/_local/l", "", nil, 409, "conflict", "Document update conflict."},
	{"PUT", "/db/_local/l/att", "x", nil, 400, "bad_request", "_local documents do not accept attachments."},
	{"GET", "/db/_local%2Fnope", "", nil, 404, "not_found", "missing"},
}

var hostileAttachments = []hostile{
	{"GET", "/db/att/nope", "", nil, 404, "not_found", "Document is missing attachment"},
	{"GET", "/db/nope/a", "", nil, 404, "not_found", "missing"},
	{"GET", "/db/att/a/b.txt", "", []string{"Range: bytes=10-"}, 416, "requested_range_not_satisfiable", "Requested range not satisfiable"},
	{"GET", "/db/att/a/b.txt", "", []string{"Range: bytes=5-4"}, 416, "requested_range_not_satisfiable", "Requested range not satisfiable"},
	{"PUT", "/db/att/_x", "x", nil, 400, "bad_request", "Attachment name '_x' starts with prohibited character '_'"},
	{"PUT", "/db/att/%ff", "x", nil, 400, "bad_request", "Attachment name is not UTF-8 encoded"},
	{"PUT", "/db/att/new", "x", nil, 409, "conflict", "Document update conflict."},
	{"PUT", "/db/att/new?rev=1-nope", "x", nil, 409, "not_found", "missing_rev"},
	{"DELETE", "/db/att/a/b.txt?rev=1-nope", "", nil, 409, "not_found", "missing_rev"},
	{"PUT", "/db/other/new", strings.Repeat("x", 60_000), nil, 413, "attachment_too_large", "new"},
	{"PUT", "/db/other/new", "x", []string{"Content-Encoding: br"}, 415, "bad_content_type", "Only gzip and identity content-encodings are supported"},
	{"PUT", "/db/other/new", "x", []string{"Content-MD5: AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "content_md5_mismatch", "Possible message corruption."},
	{"DELETE", "/db/att/nope", "", nil, 404, "not_found", "Document is missing attachment"},
	{"DELETE", "/db/att/a/b.txt", "", nil, 409, "conflict", "Document update conflict."},
	{"PUT", "/db/m", "--x\r\n\r\n{}", []string{"Content-Type: multipart/related"}, 400, "bad_request", anything},
	{"PUT", "/db/m", "junk", []string{"Content-Type: multipart/related; boundary=x"}, 400, "bad_request", anything},
	{"PUT", "/db/m", "--x\r\n\r\n{\"_attachments\":{\"a\":{\"follows\":true,\"length\":1}}}\r\n--x--", []string{"Content-Type: multipart/related; boundary=x"}, 400, "bad_request", anything},
}

var hostileBulk = []hostile{
	{"POST", "/db/_bulk_docs", "{}", nil, 415, "bad_content_type", "Content-Type must be application/json"},
	{"POST", "/db/_bulk_docs", "{}", []string{asJSON}, 400, "bad_request", "POST body must include `docs` parameter."},
	{"POST", "/db/_bulk_docs", `{"docs":1}`, []string{asJSON}, 400, "bad_request", "`docs` parameter must be an array."},
	{"POST", "/db/_bulk_docs", `{"docs":[1]}`, []string{asJSON}, 400, "bad_request", "Document must be a JSON object"},
	{"POST", "/db/_bulk_docs", `[]`, []string{asJSON}, 400, "bad_request", "Request body must be a JSON object"},
	{"POST", "/db/_bulk_docs", manyDocs, []string{asJSON}, 413, "max_bulk_docs_count_exceeded", "100"},
	{"POST", "/db/_bulk_docs", `{"docs":[{"_id":"_x"}]}`, []string{asJSON}, 400, "illegal_docid", "Only reserved document ids may start with underscore."},
	{"POST", "/db/_bulk_docs", `{"new_edits":false,"docs":[{"_id":"x"}]}`, []string{asJSON}, 400, "bad_request", "When `new_edits: false`, the document needs `_rev` or `_revisions` specified"},
	{"POST", "/db/_bulk_get", `{}`, []string{asJSON}, 400, "bad_request", "Missing JSON list of 'docs'."},
	{"POST", "/db/_bulk_get?rev=1-a", `{"docs":[]}`, []string{asJSON}, 400, "bad_request", `"rev" query parameter is not acceptable`},
	{"POST", "/db/_revs_diff", `{"doc":["x"]}`, []string{asJSON}, 400, "bad_request", "Invalid rev format"},
	{"POST", "/db/_revs_diff", `{"doc":1}`, []string{asJSON}, 400, "bad_request", "Invalid list of revisions"},
	{"POST", "/db/_revs_diff", `[]`, []string{asJSON}, 400, "bad_request", "Request body must be a JSON object"},
	{"POST", "/db/_missing_revs", `{"doc"`, []string{asJSON}, 400, "bad_request", "invalid UTF-8 JSON"},
	{"GET", "/db/_all_docs?limit=x", "", nil, 400, "query_parse_error", anything},
	{"GET", "/db/_all_docs?descending=maybe", "", nil, 400, "query_parse_error", `Invalid boolean parameter: "maybe"`},
	{"GET", "/db/_all_docs?keys=1", "", nil, 400, "bad_request", "`keys` parameter must be an array."},
	{"POST", "/db/_all_docs", `{"keys":1}`, []string{asJSON}, 400, "bad_request", "`keys` body member must be an array."},
	{"GET", "/db/_all_docs?startkey=x", "", nil, 400, anything, anything},
	{"GET", "/db/_changes?feed=nope", "", nil, 400, "bad_request", "Supported `feed` types: normal, continuous, live, longpoll, eventsource"},
	{"GET", "/db/_changes?heartbeat=x", "", nil, 400, "bad_request", "Invalid heartbeat value. Expecting a positive integer value (in milliseconds)."},
	{"GET", "/db/_changes?heartbeat=0", "", nil, 400, "bad_request", "The heartbeat value should be a positive integer (in milliseconds)."},
	{"GET", "/db/_changes?limit=-1", "", nil, 400, anything, anything},
	{"GET", "/db/_changes?since=nope", "", nil, 400, anything, anything},
	{"GET", "/db/_changes?filter=app/js", "", nil, 400, "bad_request", anything},
	{"GET", "/db/_changes?filter=_doc_ids", "", nil, 400, "bad_request", "`doc_ids` filter parameter is not a list."},
	{"POST", "/db/_changes?filter=_selector", "{}", []string{asJSON}, 400, "bad_request", anything},
	{"GET", "/nope/_changes?feed=continuous", "", nil, 404, "not_found", "Database does not exist."},
}

var hostileRest = []hostile{
	{"POST", "/db/_find", `{}`, []string{asJSON}, 400, anything, anything},
	{"POST", "/db/_find", `[]`, []string{asJSON}, 400, "bad_request", "Request body must be a JSON object"},
	{"POST", "/db/_find", `{"selector":{"a":{"$nope":1}}}`, []string{asJSON}, 400, anything, anything},
	{"PUT", "/db/_security", `[]`, nil, 400, "bad_request", anything},
	{"PUT", "/db/_security", `{`, nil, 400, "bad_request", "invalid UTF-8 JSON"},
	{"GET", "/_uuids?count=5000", "", nil, 400, "bad_request", "count parameter too large"},
	{"GET", "/_uuids?count=-1", "", nil, 400, "bad_request", "invalid count"},
	{"GET", "/db", "", []string{"Host: evil.example"}, 403, "forbidden", anything},
	{"DELETE", "/db", "", []string{"Origin: https://evil.example"}, 403, "forbidden", anything},
}

// packed compresses a text with zstd.
func packed(text string) string {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	defer w.Close()
	return string(w.EncodeAll([]byte(text), nil))
}

// nested is n levels of JSON around what is in the middle.
func nested(n int, open, end string) string {
	return strings.Repeat(open, n) + strings.Repeat(end, n)
}
