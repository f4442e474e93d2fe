package hub

import (
	"fmt"
	"net/url"
	"strings"
)

// Numbers that no int or float holds, and what is no number.
var badNumbers = []string{"x", "-1", "1.5", "1e400", "99999999999999999999999", "1180591620717411303424", "null", "[]", "{}", "\x00", "٣"}

// hostileValues gives every query parameter what is not its type. A document's own
// flags are not here: CouchDB passes over all but "true".
func hostileValues() (all []hostile) {
	add := func(err, reason, path, name string, values ...string) {
		for _, v := range values {
			all = append(all, hostile{"GET", path + "?" + name + "=" + url.QueryEscape(v), "", nil, 400, err, reason})
		}
	}
	for _, path := range []string{"/db/_all_docs", "/db/_changes", "/db/_design_docs", "/_all_dbs"} {
		add("query_parse_error", anything, path, "limit", badNumbers...)
	}
	for _, path := range []string{"/db/_all_docs", "/db/_design_docs", "/_all_dbs"} {
		add("query_parse_error", anything, path, "skip", badNumbers...)
		for _, key := range []string{"startkey", "endkey", "start_key", "end_key"} {
			add("bad_request", "invalid UTF-8 JSON", path, key, "x", `"`, "{", `"a`, `"\xff"`, `["a`, "01", "1e", `"a" "b"`)
		}
	}
	add("bad_request", "invalid UTF-8 JSON", "/db/_all_docs", "key", "x", `"`, `{"a":}`)
	add("bad_request", "`keys` parameter must be an array.", "/db/_all_docs", "keys", "1", `"a"`, "{}", "true")
	add("bad_request", anything, "/db/_all_docs", "keys", "[1]", "[", `["a",null]`, `[["a"]]`)
	for _, flag := range []string{"descending", "include_docs", "conflicts", "attachments", "update_seq", "inclusive_end"} {
		add("query_parse_error", `Invalid boolean parameter: "maybe"`, "/db/_all_docs", flag, "maybe")
		add("query_parse_error", anything, "/db/_all_docs", flag, "1", "[]", "null", "\x00")
	}
	add("bad_request", "invalid count", "/_uuids", "count", badNumbers...)
	add("query_parse_error", anything, "/db/_changes", "timeout", badNumbers...)
	add("bad_request", anything, "/db/_changes", "heartbeat", badNumbers...)
	add("bad_request", anything, "/db/_changes", "since", "nope", "-1", "1.5", "{}", "[]", "1e400", "\x00", "99999999999999999999999-aaaaaaaa")
	add("bad_request", "Supported `feed` types: normal, continuous, live, longpoll, eventsource", "/db/_changes", "feed", "x", "Normal", "[]", "\x00")
	add("query_parse_error", anything, "/db/_changes", "style", "x", "ALL_DOCS", "[]", "\x00")
	add("bad_request", anything, "/db/_changes", "filter", "x", "_nope", "a/b/c", "_view", "../../x", "\x00")
	add("bad_request", "`doc_ids` filter parameter is not a list.", "/db/_changes?filter=_doc_ids&x", "x&doc_ids", "1", `"a"`, "{}", "[1]", "[")
	for _, path := range []string{"/db/doc", "/db/att/a/b.txt"} {
		add("bad_request", "Invalid rev format", path, "rev", "x", "1", "-a", "1-", "a-b", "0x1-a", "-1-a", "1.5-a", "1e400-a", "99999999999999999999999-a", "1-\x00", "1-a b", "1-\xff", `1-"`, "٣-a")
	}
	for _, name := range []string{"open_revs", "atts_since"} {
		add("bad_request", "Invalid list of revisions", "/db/doc", name, "1", `"1-a"`, "{}", "null", "true")
		add("bad_request", "invalid UTF-8 JSON", "/db/doc", name, "[", "x", `["1-a"`, `["1-a",]`, "\x00")
		add("bad_request", "Invalid rev format", "/db/doc", name, "[1]", `["x"]`, `[["1-a"]]`, "[null]", `["99999999999999999999999-a"]`, `[""]`)
	}
	for _, p := range []string{"open_revs", "new_edits", "w", "rev", "atts_since"} {
		all = append(all, hostile{"POST", "/db/_bulk_get?" + p + "=x", `{"docs":[]}`, []string{asJSON}, 400, "bad_request", fmt.Sprintf("%q query parameter is not acceptable", p)})
	}
	return all
}

// hostileBodies is what is wrong inside of JSON and multipart bodies.
func hostileBodies() (all []hostile) {
	add := func(method, path, body, contentType string, status int, err, reason string) {
		all = append(all, hostile{method, path, body, []string{"Content-Type: " + contentType}, status, err, reason})
	}
	post := func(path string, status int, err, reason string, bodies ...string) {
		for _, b := range bodies {
			add("POST", path, b, "application/json", status, err, reason)
		}
	}
	const syntax = "invalid UTF-8 JSON"
	notJSON := []string{"{", "", " ", "nul", "{'a':1}", `{"a":1,}`, `{"a":01}`, `{"a":1e}`, `{"a":+1}`, `{"a":.5}`, `{"a":NaN}`, `{"a":"\x00"}`, `{"a":"\ud800"`, `{"a":"\q"}`, "{\"a\":\"\xc0\xaf\"}", "{\"\xff\":1}", `{"a":1}}`, `{"a":1} x`, `{"a" 1}`, "\x00", "\ufeff{}", nested(100_000, "[", ""), nested(100_000, `{"a":`, "")}
	for _, path := range []string{"/db", "/db/_bulk_docs", "/db/_bulk_get", "/db/_revs_diff", "/db/_missing_revs", "/db/_find", "/db/_explain", "/db/_all_docs", "/db/_purge"} {
		post(path, 400, "bad_request", syntax, notJSON...)
	}
	for _, b := range notJSON {
		add("PUT", "/db/x", b, "application/json", 400, "bad_request", syntax)
		add("PUT", "/db/_security", b, "application/json", 400, "bad_request", syntax)
	}
	for _, b := range []string{"[]", `"a"`, "1", "null", "true"} {
		add("PUT", "/db/x", b, "application/json", 400, "bad_request", "Document must be a JSON object")
		post("/db", 400, "bad_request", "Document must be a JSON object", b)
		for _, path := range []string{"/db/_bulk_docs", "/db/_bulk_get", "/db/_revs_diff", "/db/_find", "/db/_all_docs", "/db/_purge"} {
			post(path, 400, "bad_request", "Request body must be a JSON object", b)
		}
	}
	for _, deep := range []string{nested(40_000, "[", "]"), nested(15_000, `{"a":`, "") + "1" + nested(15_000, "", "}")} {
		add("PUT", "/db/x", `{"a":`+deep+`}`, "application/json", 400, anything, anything)
		post("/db/_bulk_docs", 400, anything, anything, `{"docs":[{"a":`+deep+`}]}`, `{"x":`+deep+`,"docs":[]}`)
		post("/db/_find", 400, anything, anything, `{"selector":{"a":`+deep+`}}`, `{"selector":`+deep+`}`)
		post("/db/_all_docs", 400, anything, anything, `{"keys":`+deep+`}`)
		post("/db/_revs_diff", 400, anything, anything, `{"a":`+deep+`}`)
		post("/db/_bulk_get", 400, anything, anything, `{"docs":`+deep+`}`)
		post("/db/_changes?filter=_selector", 400, anything, anything, `{"selector":{"a":`+deep+`}}`)
		add("PUT", "/db/_security", `{"a":`+deep+`}`, "application/json", 400, anything, anything)
		add("POST", "/_session", deep, "application/json", 400, anything, anything)
	}
	for _, m := range []string{`"_id":1`, `"_id":null`, `"_id":["a"]`, `"_id":"_x"`, `"_rev":1`, `"_rev":null`, `"_rev":"99999999999999999999-a"`, `"_deleted":"true"`, `"_deleted":1`, `"_revisions":1`, `"_revisions":{}`,
		`"_revisions":{"start":1180591620717411303424,"ids":["a"]}`, `"_revisions":{"start":1e400,"ids":["a"]}`, `"_revisions":{"start":-1,"ids":["a"]}`, `"_revisions":{"start":1,"ids":"a"}`, `"_revisions":{"start":1,"ids":[1]}`,
		`"_attachments":1`, `"_attachments":[]`, `"_attachments":{"a":1}`, `"_attachments":{"a":{}}`, `"_attachments":{"a":{"data":1}}`, `"_attachments":{"a":{"data":"?"}}`, `"_attachments":{"a":{"data":"YQ"}}`, `"_attachments":{"a":{"data":"","length":1e400}}`,
		`"_attachments":{"a":{"data":"","revpos":"x"}}`, `"_attachments":{"":{"data":""}}`, `"_local_seq2":1`, `"\u005fnope":1`, `"__proto__":1`} {
		post("/db", 400, anything, anything, "{"+m+"}")
		post("/db/_bulk_docs", 400, anything, anything, `{"docs":[{`+m+`}]}`)
	}
	for _, b := range []string{`{"selector":1}`, `{"selector":{},"limit":"x"}`, `{"selector":{},"limit":-1}`, `{"selector":{},"limit":1e400}`, `{"selector":{},"limit":1180591620717411303424}`, `{"selector":{},"skip":-1}`, `{"selector":{},"skip":1.5}`, `{"selector":{},"fields":1}`, `{"selector":{},"fields":[1]}`,
		`{"selector":{},"sort":1}`, `{"selector":{},"bookmark":1}`, `{"selector":{},"bookmark":"\u0000"}`, `{"selector":{"$and":1}}`, `{"selector":{"a":{"$mod":[0,0]}}}`, `{"selector":{"a":{"$mod":[1e400,1]}}}`, `{"selector":{"a":{"$regex":"("}}}`, `{"selector":{"a":{"$size":-1}}}`, `{"selector":{"a":{"$in":1}}}`, `{"selector":{"a":{"$type":1}}}`, `{"selector":{"a":{"$exists":1}}}`} {
		post("/db/_find", 400, anything, anything, b)
	}
	for _, b := range []string{`{"docs":[1]}`, `{"docs":[{}]}`, `{"docs":[{"id":1}]}`, `{"docs":[{"id":"a","rev":1}]}`, `{"docs":[{"id":"a","atts_since":1}]}`, `{"docs":[{"id":"a","atts_since":["x"]}]}`, `{"docs":{}}`, `{"docs":"a"}`} {
		post("/db/_bulk_get", 400, "bad_request", anything, b)
	}
	for _, b := range []string{`{"docs":[],"new_edits":1}`, `{"docs":[],"new_edits":"false"}`, `{"docs":[],"new_edits":null}`} {
		post("/db/_bulk_docs", 400, "bad_request", "`new_edits` parameter must be a boolean.", b)
	}
	return append(all, hostileMultipart()...)
}

// hostileMultipart is broken multipart bodies.
func hostileMultipart() (all []hostile) {
	doc := func(att string) string {
		return "Content-Type: application/json\r\n\r\n{\"_attachments\":{\"a\":{\"follows\":true" + att + "}}}"
	}
	for _, body := range []string{
		"", "--x", "--x--", "--x\r\n", "--x\r\n\r\n", "--x\r\n\r\n{}", "--y\r\n\r\n{}\r\n--y--", "--x\r\n\r\n[]\r\n--x--", "--x\r\n\r\n{\r\n--x--",
		"--x\r\n" + doc("") + "\r\n--x--", // an attachment is missing
		"--x\r\n" + doc("") + "\r\n--x\r\n\r\nhalf",
		"--x\r\n" + doc("") + "\r\n--x\r\nContent-Type",
		"--x\r\n" + doc(`,"length":5`) + "\r\n--x\r\n\r\nabc\r\n--x--",
		"--x\r\n" + doc(`,"length":2`) + "\r\n--x\r\n\r\nabc\r\n--x--",
		"--x\r\n" + doc(`,"length":1e400`) + "\r\n--x\r\n\r\nabc\r\n--x--",
		"--x\r\n" + doc(`,"digest":"md5-AAAAAAAAAAAAAAAAAAAAAA=="`) + "\r\n--x\r\n\r\nabc\r\n--x--",
		"--x\r\n" + doc(`,"encoding":"gzip"`) + "\r\n--x\r\n\r\nnot gzip\r\n--x--",
		"--x\r\n" + strings.Repeat("A: b\r\n", 20_000) + "\r\n{}\r\n--x--",
		"--x\r\nbroken header\r\n\r\n{}\r\n--x--",
	} {
		all = append(all, hostile{"PUT", "/db/m", body, []string{"Content-Type: multipart/related; boundary=x"}, 400, anything, anything})
	}
	for _, t := range []string{"multipart/related", "multipart/related; boundary=", `multipart/related; boundary=""`, "multipart/related; boundary=" + strings.Repeat("b", 5000), `multipart/related; boundary="x`, "multipart/related;boundary=x;boundary=y"} {
		all = append(all, hostile{"PUT", "/db/m", "--x\r\n\r\n{}\r\n--x--", []string{"Content-Type: " + t}, 400, anything, anything})
	}
	return all
}

// hostileNames is names that shall be paths or headers.
func hostileNames() (all []hostile) {
	for _, name := range []string{"..%2f..%2fx", "%2e%2e%2fx", "db%2f..%2f..%2fx", "_users%2f..%2fx", "a%0d%0aX-Evil:%201", "a%00", "%00", "..%5c..%5cx", "%ff", "a%2500", "%f0%9f%98%80", "a%20b", "con.", "~root", "$x", "a%00%2f..", "-a"} {
		all = append(all, hostile{"PUT", "/" + name, "", nil, 400, "illegal_database_name", anything}, hostile{"GET", "/" + name, "", nil, 404, "not_found", "Database does not exist."},
			hostile{"DELETE", "/" + name, "", nil, 404, "not_found", "Database does not exist."}, hostile{"PUT", "/" + name + "/doc", "{}", nil, 404, "not_found", "Database does not exist."})
	}
	for _, h := range []string{"Destination: %zz", "Destination: _x", "Destination: a?rev=x", "Destination: a?x=y", "Destination: _local/x", "Destination: /%ff", "Destination: http://evil/x"} {
		all = append(all, hostile{"COPY", "/db/doc", "", []string{h}, 400, anything, anything})
	}
	for _, h := range []string{"Authorization: Basic ???", "Authorization: Nope x", "Authorization: Bearer x.y.z", "Authorization: x", "Cookie: AuthSession=x", "Cookie: AuthSession=" + strings.Repeat("A", 9000)} {
		all = append(all, hostile{"GET", "/db/doc", "", []string{h}, 400, "bad_request", anything})
	}
	for _, h := range []string{"If-Match: x", `If-Match: "x"`, "If-Match: 99999999999999999999-a"} {
		all = append(all, hostile{"PUT", "/db/doc", "{}", []string{h}, 400, "bad_request", "Invalid rev format"})
	}
	for _, r := range []string{"bytes=10-20", "bytes=3-2", "bytes=-0", "bytes=99-", "bytes=0-1,10-", "bytes=0-1,3-2", "bytes=4611686018427387903-"} {
		all = append(all, hostile{"GET", "/db/att/a/b.txt", "", []string{"Range: " + r}, 416, "requested_range_not_satisfiable", "Requested range not satisfiable"})
	}
	return all
}
