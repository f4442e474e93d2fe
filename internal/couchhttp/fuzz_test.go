package couchhttp

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// wrongInput fails the test unless err is the client's fault.
func wrongInput(t *testing.T, err error) {
	t.Helper()
	if s := couch.AsError(err).Status; s < 400 || s >= 500 || s == 408 {
		t.Fatalf("wrong input is answered with %v", err)
	}
}

// FuzzQuery: any query string gives options within their bounds, or an error of the client.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{
		"rev=1-a&open_revs=%5B%222-b%22%5D&atts_since=[]", "feed=longpoll&since=now&heartbeat=true&timeout=5&limit=3", "feed=eventsource&filter=_doc_ids&doc_ids=[%22a%22]",
		"startkey=%22a%22&endkey=[]&limit=5&skip=1&descending=true", "keys=[%22a%22,1]", "heartbeat=-1&limit=99999999999999999999", "style=all_docs&filter=_selector", "key=null",
	} {
		f.Add(q, `{"doc_ids":["a"],"selector":{"a":1}}`)
	}
	f.Fuzz(func(t *testing.T, query, body string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if d, err := parseDocParams(q); err != nil {
			wrongInput(t, err)
		} else if q.Get("open_revs") != "" && !d.openAll && d.openRevs == nil {
			t.Fatal("open_revs is lost")
		}
		if c, err := parseChanges(q, q.Get("x"), []byte(body)); err != nil {
			wrongInput(t, err)
		} else if c.Timeout < 0 || c.Timeout > maxWait || c.Heartbeat < 0 || c.Heartbeat > maxWait || c.Limit < 0 || c.Feed != couch.FeedNormal && c.Timeout == 0 && c.Heartbeat == 0 {
			t.Fatalf("out of bounds: %+v", c)
		}
		var keys *[]rawJSON
		if q.Has("keys") {
			keys = &[]rawJSON{rawJSON(q.Get("keys"))}
		}
		if o, err := parseAllDocs(q, keys, 10); err != nil {
			wrongInput(t, err)
		} else if o.Skip < 0 || o.Limit != nil && *o.Limit < 0 {
			t.Fatalf("out of bounds: %+v", o)
		}
		if _, rev, err := copyDestination(query); err != nil {
			wrongInput(t, err)
		} else if rev.Gen < 0 {
			t.Fatalf("%v", rev)
		}
	})
}

// FuzzBodies: any body of the bulk requests is read or refused.
func FuzzBodies(f *testing.F) {
	for _, b := range []string{`{"docs":[{"id":"a","rev":"1-a","atts_since":["1-a"]},{"id":"b"}]}`, `{"a":["1-a"],"b":[]}`, `{"a":{}}`, `{"docs":1}`, `[`, `{"a":["1-a"`, `{"keys":["a"],"limit":2}`} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if refs, bad, err := parseBulkGet(body, 10); err != nil {
			wrongInput(t, err)
		} else if len(refs)+len(bad) > 10 {
			t.Fatal("more than the limit")
		}
		if docs, err := decodeIDsRevs(body, 10); err != nil {
			wrongInput(t, err)
		} else if len(docs) > 10 || !rawJSON(body).IsValid() {
			t.Fatalf("accepted %q", body)
		}
		var a allDocsBody
		if err := decodeObject(body, &a); err != nil {
			wrongInput(t, keysError(err))
		}
	})
}

// FuzzMultipart: any multipart body gives a document whose attachments have what
// they should, or an error of the client; nothing is left in the spool's folder.
func FuzzMultipart(f *testing.F) {
	part := func(parts ...string) []byte {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		_ = w.SetBoundary("x")
		for _, p := range parts {
			pw, _ := w.CreatePart(map[string][]string{"Content-Disposition": {`attachment; filename="a"`}})
			_, _ = pw.Write([]byte(p))
		}
		w.Close()
		return b.Bytes()
	}
	f.Add(part(`{"_attachments":{"a":{"follows":true,"length":2},"b":{"follows":true}}}`, "aa", "b"))
	f.Add(part(`{"_attachments":{"a":{"follows":true,"digest":"md5-XUFAKrxLKna5cZ2REBfFkg=="}}}`, "hello"))
	f.Add(part(`{"_attachments":{"a":{"follows":true,"encoding":"gzip"}}}`, "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x4a\x04\x04\x00\x00\xff\xff\x43\xbe\xb7\xe8\x01\x00\x00\x00"))
	f.Add(part(`{}`))
	f.Add([]byte("--x\r\n\r\n{"))
	f.Fuzz(func(t *testing.T, body []byte) {
		dir := t.TempDir()
		c := uploadCall(t, dir)
		defer c.release()
		sp := &spool{call: c}
		doc, err := sp.readRelated(multipart.NewReader(bytes.NewReader(body), "x"))
		if err != nil {
			wrongInput(t, err)
		} else {
			for _, f := range following([]byte(strings.ToValidUTF8(string(doc.AppendJSON(nil)), ""))) {
				name := f.name
				a := attachmentNamed(doc, name)
				if a.Length < 0 { // inline and packed: it is looked into when it is stored
					continue
				}
				r, err := a.Reader(t.Context())
				if err != nil {
					t.Fatalf("%q: %v", name, err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != a.Length {
					t.Fatalf("%q: %d bytes of %d, %v", name, n, a.Length, err)
				}
				r.Close()
			}
		}
		sp.remove()
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Fatalf("left behind: %v", left)
		}
	})
}

// uploadCall is a request whose parts are kept in dir.
func uploadCall(t *testing.T, dir string) *call {
	o := ServerOptions{TempDir: dir, Limits: Limits{Body: 1 << 16, Attachment: 1 << 20, Bulk: 10}}
	s := &Server{o: o, memory: work.NewMemory(64<<20, time.Second, errMemory, errTooLarge)}
	return &call{s: s, r: httptest.NewRequestWithContext(t.Context(), "PUT", "/db/doc", nil), unpacked: couch.Unpacking{Free: couch.FreeBody}}
}

// FuzzForm: any form is read or refused, and leaves nothing in the spool's folder.
func FuzzForm(f *testing.F) {
	part := func(disposition, content string) string {
		return "--x\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + content + "\r\n"
	}
	f.Add([]byte(part(`name="_doc"`, `{"a":1}`) + part(`name="_attachments"; filename="a/b"`, "hi") + part(`name="_attachments"; filename="a/b"`, "ho") + "--x--"))
	f.Add([]byte(part(`name="_rev"`, "1-a") + part(`name="_attachments"; filename="_x"`, "") + "--x--"))
	f.Add([]byte(part(`name="other"`, "x") + "--x--"))
	f.Add([]byte("--x\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		dir := t.TempDir()
		c := uploadCall(t, dir)
		defer c.release()
		form := &form{limits: c.s.o.Limits, spool: spool{call: c}}
		if err := form.read(multipart.NewReader(bytes.NewReader(body), "x")); err != nil {
			wrongInput(t, err)
		}
		names := map[string]bool{}
		for _, a := range form.files {
			if names[a.Name] || validAttachmentName(a.Name) != nil || a.Stub() {
				t.Fatalf("%q: %+v", body, form.files)
			}
			names[a.Name] = true
		}
		form.spool.remove()
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Fatalf("left behind: %v", left)
		}
	})
}

// FuzzHeaders: any header is read without a panic, and a range lies within the attachment.
func FuzzHeaders(f *testing.F) {
	f.Add("bytes=0-4", int64(10))
	f.Add("bytes=-9223372036854775808", int64(1<<62))
	f.Add(`W/"a", "b";q=0`, int64(0))
	f.Fuzz(func(t *testing.T, h string, length int64) {
		if length < 0 {
			return
		}
		ranges, err := parseRanges(http.Header{"Range": {h}}, "", length)
		for _, b := range ranges {
			if err != nil || b.from < 0 || b.to <= b.from || b.to > length {
				t.Fatalf("%q of %d: %v %v", h, length, ranges, err)
			}
		}
		_ = etagMatch(h, `"a"`)
		_ = accepts(h, "multipart/mixed")
		c := &call{r: &http.Request{Header: http.Header{"If-Match": {h}}}}
		if _, err := c.editRev(couch.Rev{}); err != nil {
			wrongInput(t, err)
		}
		if v := safeHeader(h); strings.ContainsAny(v, "\r\n\x00") {
			t.Fatalf("%q", v)
		}
		if v := headerText(h); strings.ContainsAny(v, "\r\n\x00") {
			t.Fatalf("%q", v)
		}
		if v := quoteFilename(h); strings.ContainsAny(v, "\r\n\x00") {
			t.Fatalf("%q", v)
		}
	})
}

// noStore has no databases.
type noStore struct{ couch.Store }

func (noStore) Open(context.Context, string) (couch.DB, error) {
	return nil, couch.NotFound("Database does not exist.")
}

func (noStore) Databases(context.Context) ([]string, error) { return nil, nil }

func (noStore) Create(context.Context, string) error { return nil }

func (noStore) Destroy(context.Context, string) error {
	return couch.NotFound("Database does not exist.")
}

// FuzzPath: any path and method is routed, under an access rule, and answered with JSON or refused.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"/", "/db/_design%2Fa", "/db//_local/x/y", "/%5fusers/../x", "/db/%2e%2e%2fx", "/db/a%zz", "/db/a%00", "/_session/", "/db/%5Fsecurity"} {
		f.Add("GET", p)
		f.Add("PUT", p)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") || u.Host != "" {
			return
		}
		var asked []Access
		s := NewServer(ServerOptions{Store: noStore{}, Authorize: func(_ *http.Request, a Access) error {
			asked = append(asked, a)
			return nil
		}})
		defer s.Close()
		r := httptest.NewRequest("GET", "/", strings.NewReader("{}"))
		r.Method, r.URL = method, u
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		if w.Code < 300 && (len(asked) == 0 || asked[0].Op == 0) {
			t.Fatalf("%s %s was answered without a rule: %d %s", method, path, w.Code, w.Body)
		}
		for _, a := range asked { // what is asked about is what the path says
			if strings.HasPrefix(a.Doc, "_design/") != (a.Op == OpWriteDesign) && a.Op == OpWriteDoc || strings.HasPrefix(a.Doc, "_local/") && a.Op != OpReadLocal && a.Op != OpWriteLocal {
				t.Fatalf("%s %s: %+v", method, path, a)
			}
		}
		if body := bytes.TrimSpace(w.Body.Bytes()); len(body) > 0 && !rawJSON(body).IsValid() {
			t.Fatalf("%s %s: %s", method, path, body)
		}
	})
}
