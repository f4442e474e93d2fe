package hub

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestDocumentLifecycle(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/a%2Fb", "", nil) // a database with a slash in its name
	if a := s.do("GET", "/_all_dbs", ""); !strings.Contains(string(a.body), `"a/b"`) {
		t.Errorf("%s", a.body)
	}
	for _, id := range []string{"plain", "with%2Fslash", "_design%2Fd", "_design/e", "%C3%BC%20+%3F%23", "..", "a:b@c"} {
		rev := s.put("/a%2Fb/"+id, `{"n":1.50}`)
		a := s.do("GET", "/a%2Fb/"+id, "")
		if a.StatusCode != 200 || a.Header.Get("ETag") != `"`+rev+`"` || !strings.Contains(string(a.body), `"n":1.50`) {
			t.Fatalf("%s: %d %s", id, a.StatusCode, a.body)
		}
		if a := s.do("GET", "/a%2Fb/"+id, "", "If-None-Match: \""+rev+"\""); a.StatusCode != 304 || len(a.body) > 0 {
			t.Errorf("%s: %d %s", id, a.StatusCode, a.body)
		}
		if a := s.do("HEAD", "/a%2Fb/"+id, ""); a.StatusCode != 200 || a.ContentLength <= 0 {
			t.Errorf("%s: %d, length %d", id, a.StatusCode, a.ContentLength)
		}
		a = s.do("PUT", "/a%2Fb/"+id, `{}`, "If-Match: \""+rev+"\"")
		loc := a.Header.Get("Location")
		if a.StatusCode != 201 || !strings.HasPrefix(loc, s.url+"/a%2Fb/") {
			t.Errorf("%s: %d, location %q", id, a.StatusCode, loc)
		}
		if again := s.do("GET", strings.TrimPrefix(loc, s.url), ""); again.StatusCode != 200 {
			t.Errorf("%s: its location %q gives %d", id, loc, again.StatusCode)
		}
		var out struct{ Rev string }
		_ = json.Unmarshal(a.body, &out)
		if a := s.do("DELETE", "/a%2Fb/"+id+"?rev="+out.Rev, ""); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", id, a.StatusCode, a.body)
		}
	}
	var out struct {
		ID string
		OK bool
	}
	s.json("POST", "/a%2Fb", `{"x":1}`, &out)
	if !out.OK || len(out.ID) != 32 {
		t.Errorf("%+v", out)
	}
	s.json("POST", "/a%2Fb/", `{"_id":"named"}`, &out)
	if a := s.do("COPY", "/a%2Fb//named", "", "Destination: a%20copy"); a.StatusCode != 201 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", "/a%2Fb/a%20copy", ""); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestConflictsAndRevisions(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	for _, body := range []string{
		`{"_id":"d","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"from":"b"}`,
		`{"_id":"d","_rev":"2-c","_revisions":{"start":2,"ids":["c","a"]},"from":"c"}`,
		`{"_id":"d","_rev":"3-e","_revisions":{"start":3,"ids":["e","b","a"]},"_deleted":true}`,
	} {
		var out []any
		s.json("POST", "/db/_bulk_docs", `{"new_edits":false,"docs":[`+body+`]}`, &out)
		if len(out) != 0 {
			t.Fatalf("%v", out)
		}
	}
	var d struct {
		Rev              string   `json:"_rev"`
		Conflicts        []string `json:"_conflicts"`
		DeletedConflicts []string `json:"_deleted_conflicts"`
		Revisions        struct {
			Start int
			IDs   []string
		} `json:"_revisions"`
		RevsInfo []struct{ Rev, Status string } `json:"_revs_info"`
	}
	s.json("GET", "/db/d?meta=true&revs=true", "", &d)
	if d.Rev != "2-c" || d.Conflicts != nil || fmt.Sprint(d.DeletedConflicts) != "[3-e]" || d.Revisions.Start != 2 || len(d.RevsInfo) != 2 {
		t.Errorf("%+v", d)
	}
	d.DeletedConflicts = nil
	s.json("GET", "/db/d?conflicts=true", "", &d)
	if d.DeletedConflicts != nil {
		t.Errorf("conflicts=true tells of deleted ones: %+v", d)
	}
	var leaves []struct {
		OK      *struct{ From string }
		Missing string
	}
	s.json("GET", `/db/d?open_revs=["2-c","9-x"]`, "", &leaves)
	if len(leaves) != 2 || leaves[0].OK.From != "c" || leaves[1].Missing != "9-x" {
		t.Errorf("%+v", leaves)
	}
	s.json("GET", `/db/d?open_revs=all`, "", &leaves)
	if len(leaves) != 2 {
		t.Errorf("%+v", leaves)
	}
	var diff map[string]struct {
		Missing   []string
		Ancestors []string `json:"possible_ancestors"`
	}
	s.json("POST", "/db/_revs_diff", `{"d":["2-c","4-z"],"new":["1-a"]}`, &diff)
	if fmt.Sprint(diff["d"].Missing, diff["new"].Missing) != "[4-z] [1-a]" || len(diff["d"].Ancestors) == 0 {
		t.Errorf("%+v", diff)
	}
	var got struct {
		Results []struct {
			ID   string
			Docs []struct {
				OK    *struct{ From string }
				Error *struct{ ID, Rev, Error, Reason string }
			}
		}
	}
	s.json("POST", "/db/_bulk_get?revs=true&latest=true", `{"docs":[{"id":"d","rev":"2-c"},{"id":"nope"},{"id":"d"},{"id":"d","rev":"bad"}]}`, &got)
	var seen []string
	for _, r := range got.Results {
		for _, d := range r.Docs {
			switch {
			case d.OK != nil:
				seen = append(seen, r.ID+":"+d.OK.From)
			default:
				seen = append(seen, r.ID+":"+d.Error.Rev+":"+d.Error.Error)
			}
		}
	}
	if text := fmt.Sprint(seen); text != "[d:undefined:bad_request d:c nope:undefined:not_found d:c d:]" && text != "[d:undefined:bad_request d:c nope:undefined:not_found d: d:c]" {
		t.Errorf("%s", text)
	}
}

func TestAttachments(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	large := bytes.Repeat([]byte("0123456789abcdef"), 40_000) // 640 KB: beyond what is kept inline
	var out struct{ Rev string }
	a := s.do("PUT", "/db/doc/dir/large.bin", string(large), "Content-Type: application/octet-stream")
	if a.StatusCode != 201 || json.Unmarshal(a.body, &out) != nil {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	a = s.do("PUT", "/db/doc/small.txt?rev="+out.Rev, "hello", "Content-Type: text/plain", "Content-MD5: XUFAKrxLKna5cZ2REBfFkg==")
	if a.StatusCode != 201 || json.Unmarshal(a.body, &out) != nil {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	a = s.do("GET", "/db/doc/dir/large.bin", "")
	if !bytes.Equal(a.body, large) || a.ContentLength != int64(len(large)) || a.Header.Get("Accept-Ranges") != "bytes" || a.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%d bytes, %v", len(a.body), a.Header)
	}
	if again := s.do("GET", "/db/doc/dir%2Flarge.bin", "", "If-None-Match: "+a.Header.Get("ETag")); again.StatusCode != 304 {
		t.Errorf("%d", again.StatusCode)
	}
	if h := s.do("HEAD", "/db/doc/dir/large.bin", ""); h.ContentLength != int64(len(large)) {
		t.Errorf("HEAD says %d", h.ContentLength)
	}
	for r, want := range map[string]string{"bytes=0-3": "0123", "bytes=16-19": "0123", "bytes=-4": "cdef", "bytes=639998-": "ef", "bytes=639998-999999": "ef"} {
		a := s.do("GET", "/db/doc/dir/large.bin", "", "Range: "+r)
		if a.StatusCode != 206 || string(a.body) != want || !strings.HasSuffix(a.Header.Get("Content-Range"), "/640000") {
			t.Errorf("%s: %d %.20q %s", r, a.StatusCode, a.body, a.Header.Get("Content-Range"))
		}
	}
	for _, r := range []string{"bytes=0-1,x", "lines=1-2", "bytes=x", "bytes=0-"} {
		if a := s.do("GET", "/db/doc/small.txt", "", "Range: "+r); a.StatusCode != 200 || string(a.body) != "hello" {
			t.Errorf("%s: %d %q", r, a.StatusCode, a.body)
		}
	}
	var doc struct {
		Attachments map[string]struct {
			Stub   bool
			Length int
			Data   []byte
			Digest string
		} `json:"_attachments"`
	}
	s.json("GET", "/db/doc", "", &doc)
	if !doc.Attachments["dir/large.bin"].Stub || doc.Attachments["small.txt"].Length != 5 || doc.Attachments["small.txt"].Digest != "md5-XUFAKrxLKna5cZ2REBfFkg==" {
		t.Errorf("%+v", doc)
	}
	s.json("GET", "/db/doc?attachments=true", "", &doc)
	if !bytes.Equal(doc.Attachments["dir/large.bin"].Data, large) || string(doc.Attachments["small.txt"].Data) != "hello" {
		t.Error("attachments=true does not bring the data")
	}
	var feed struct {
		Results []struct {
			Doc struct {
				Attachments map[string]struct{ Data []byte } `json:"_attachments"`
			}
		}
	}
	s.json("GET", "/db/_changes?include_docs=true&attachments=true", "", &feed)
	if len(feed.Results) != 1 || !bytes.Equal(feed.Results[0].Doc.Attachments["dir/large.bin"].Data, large) {
		t.Error("the changes feed does not bring the data")
	}
	if a := s.do("DELETE", "/db/doc/small.txt?rev="+out.Rev, ""); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", "/db/doc/small.txt", ""); a.StatusCode != 404 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := s.do("COPY", "/db/doc", "", "Destination: twin"); a.StatusCode != 201 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", "/db/twin/dir/large.bin", ""); !bytes.Equal(a.body, large) {
		t.Errorf("the copy has %d bytes", len(a.body))
	}
}

// related is a document with two attachments as multipart/related, parts named or in the order of the JSON.
func related(large []byte, named bool) (contentType, body string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part := func(h map[string][]string, data []byte) {
		p, _ := w.CreatePart(h)
		p.Write(data)
	}
	part(map[string][]string{"Content-Type": {"application/json"}}, fmt.Appendf(nil,
		`{"x":1,"_attachments":{"z.txt":{"follows":true,"content_type":"text/plain","length":2},"a.bin":{"follows":true,"content_type":"a/b","length":%d},"in":{"data":"aGk="}}}`, len(large)))
	if named {
		part(map[string][]string{"Content-Disposition": {`attachment; filename="a.bin"`}}, large)
		part(map[string][]string{"Content-Disposition": {`attachment; filename="z.txt"`}}, []byte("zz"))
	} else {
		part(nil, []byte("zz"))
		part(nil, large)
	}
	w.Close()
	return "multipart/related; boundary=\"" + w.Boundary() + "\"", b.String()
}

func TestMultipart(t *testing.T) {
	temp := t.TempDir()
	s := start(t, Config{TempDir: temp})
	s.json("PUT", "/db", "", nil)
	large := bytes.Repeat([]byte("large\r\n--"), 100_000)
	for _, named := range []bool{true, false} {
		path := fmt.Sprintf("/db/named-%v", named)
		contentType, body := related(large, named)
		if a := s.do("PUT", path, body, "Content-Type: "+contentType); a.StatusCode != 201 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		for name, want := range map[string]string{"z.txt": "zz", "a.bin": string(large), "in": "hi"} {
			if a := s.do("GET", path+"/"+name, ""); string(a.body) != want {
				t.Errorf("%s: %d bytes", name, len(a.body))
			}
		}
	}
	contentType, body := related(large, true)
	body = strings.Replace(body, `"content_type":"a/b"`, `"content_type":"a/b","digest":"md5-XUFAKrxLKna5cZ2REBfFkg=="`, 1)
	if a := s.do("PUT", "/db/corrupt", body, "Content-Type: "+contentType); a.StatusCode != 400 || !strings.Contains(string(a.body), "content_md5_mismatch") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	for name, change := range map[string][2]string{"too short": {`"length":2`, `"length":3`}, "too long": {`"length":2`, `"length":1`}} {
		_, body := related(large, true)
		if a := s.do("PUT", "/db/corrupt", strings.Replace(body, change[0], change[1], 1), "Content-Type: "+contentTypeOf(body)); a.StatusCode != 400 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	a := s.do("GET", "/db/named-true?attachments=true", "", "Accept: multipart/related")
	if doc, atts := readRelated(t, a.Header.Get("Content-Type"), bytes.NewReader(a.body)); !strings.Contains(doc, `"follows":true`) || len(atts) != 3 || atts["a.bin"] != string(large) {
		t.Errorf("%s, %d attachments", doc, len(atts))
	}
	a = s.do("GET", "/db/named-true?open_revs=all&revs=true", "", "Accept: multipart/mixed")
	mediaType, params, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if mediaType != "multipart/mixed" {
		t.Fatalf("%s %s", mediaType, a.body)
	}
	mr := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	p, err := mr.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	if _, atts := readRelated(t, p.Header.Get("Content-Type"), p); atts["z.txt"] != "zz" || atts["a.bin"] != string(large) {
		t.Errorf("%d attachments", len(atts))
	}
	if _, err := mr.NextPart(); err != io.EOF {
		t.Error(err)
	}
}

// contentTypeOf reads the boundary off a multipart body.
func contentTypeOf(body string) string {
	first, _, _ := strings.Cut(body, "\r\n")
	return "multipart/related; boundary=\"" + strings.TrimPrefix(first, "--") + "\""
}

// TestPackedAttachments: CouchDB's replicator sends text as it keeps it, packed, with the digest of that.
func TestPackedAttachments(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	for _, n := range []int{1, 100_000} {
		var long strings.Builder
		for i := range n {
			fmt.Fprintf(&long, "lorem %d ", i*i)
		}
		text := long.String()
		var gz bytes.Buffer
		z := gzip.NewWriter(&gz)
		z.Write([]byte(text))
		z.Close()
		sum := md5.Sum(gz.Bytes())
		put := func(digest, encoding string, packed []byte) *answer {
			body := fmt.Sprintf("--x\r\nContent-Type: application/json\r\n\r\n"+
				`{"_rev":"1-a","_attachments":{"a.txt":{"follows":true,"content_type":"text/plain","revpos":1,"digest":"md5-%s","length":%d,"encoding":"%s","encoded_length":%d}}}`+
				"\r\n--x\r\nContent-Disposition: attachment; filename=\"a.txt\"\r\nContent-Encoding: gzip\r\n\r\n%s\r\n--x--",
				digest, len(text), encoding, len(packed), packed)
			return s.do("PUT", fmt.Sprintf("/db/doc%d?new_edits=false", n), body, "Content-Type: multipart/related; boundary=x")
		}
		right := base64.StdEncoding.EncodeToString(sum[:])
		if a := put("XUFAKrxLKna5cZ2REBfFkg==", "gzip", gz.Bytes()); a.StatusCode != 400 || !strings.Contains(string(a.body), "content_md5_mismatch") {
			t.Errorf("another digest: %d %s", a.StatusCode, a.body)
		}
		if a := put(right, "gzip", gz.Bytes()[:gz.Len()-9]); a.StatusCode != 400 {
			t.Errorf("truncated: %d %s", a.StatusCode, a.body)
		}
		if a := put(right, "br", gz.Bytes()); a.StatusCode != 415 {
			t.Errorf("another encoding: %d %s", a.StatusCode, a.body)
		}
		if a := put(right, "gzip", gz.Bytes()); a.StatusCode != 201 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		if a := s.do("GET", fmt.Sprintf("/db/doc%d/a.txt", n), ""); string(a.body) != text || a.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%d bytes of %d, %v", len(a.body), len(text), a.Header)
		}
	}
}

func readRelated(t *testing.T, contentType string, r io.Reader) (doc string, atts map[string]string) {
	t.Helper()
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != "multipart/related" {
		t.Fatalf("%q: %v", contentType, err)
	}
	atts = map[string]string{}
	mr := multipart.NewReader(r, params["boundary"])
	for first := true; ; first = false {
		p, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return doc, atts
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		if first {
			doc = string(b)
		} else {
			atts[p.FileName()] = string(b)
		}
	}
}

func TestCompression(t *testing.T) {
	s := start(t, Config{})
	s.json("PUT", "/db", "", nil)
	text := strings.Repeat("lorem ipsum ", 1000)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write([]byte(`{"text":"` + text + `"}`))
	w.Close()
	if a := s.do("PUT", "/db/gzip", gz.String(), "Content-Encoding: gzip"); a.StatusCode != 201 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if a := s.do("PUT", "/db/zstd", packed(`{"text":"`+text+`"}`), "Content-Encoding: zstd"); a.StatusCode != 201 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if a := s.do("PUT", "/db/att/x", packed(text), "Content-Encoding: zstd"); a.StatusCode != 201 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", "/db/att/x", ""); string(a.body) != text {
		t.Errorf("%d bytes", len(a.body))
	}
	a := s.do("GET", "/db/gzip", "", "Accept-Encoding: zstd, gzip")
	if a.Header.Get("Content-Encoding") != "zstd" || len(a.body) > 2000 {
		t.Fatalf("%v, %d bytes", a.Header, len(a.body))
	}
	d, _ := zstd.NewReader(nil)
	defer d.Close()
	if b, err := d.DecodeAll(a.body, nil); err != nil || !strings.Contains(string(b), text) {
		t.Errorf("%v", err)
	}
	a = s.do("GET", "/db/_all_docs?include_docs=true", "", "Accept-Encoding: gzip")
	if a.Header.Get("Content-Encoding") != "gzip" || len(a.body) > 4000 {
		t.Errorf("%v, %d bytes", a.Header, len(a.body))
	}
	if a := s.do("GET", "/db", "", "Accept-Encoding: gzip"); a.Header.Get("Content-Encoding") != "" {
		t.Error("a small answer is compressed")
	}
	if a := s.do("GET", "/", ""); !strings.Contains(a.Header.Get("Accept-Encoding"), "zstd") {
		t.Error("the server does not tell what it accepts")
	}
}
