package hub

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// What a request holds is counted by what it does, however it is spelled: the path, the method, the
// content type. Here a request may hold 4 MiB.
func TestMemoryIsOfTheRoute(t *testing.T) {
	s := start(t, Config{Service: Service{Quotas: Quotas{Memory: 8 << 20}}})
	s.do("PUT", "/db", "")
	doc := `{"a":"` + strings.Repeat("x", 3<<20) + `"}`
	part := func(json, content string) string {
		return "--x\r\nContent-Type: application/json\r\n\r\n" + json + "\r\n--x\r\n\r\n" + content + "\r\n--x--"
	}
	var small, follow []string
	for i := range 40 {
		small = append(small, fmt.Sprintf(`"%d":{"follows":true,"content_type":"text/plain"}`, i))
		follow = append(follow, "\r\n--x\r\n\r\n"+strings.Repeat("y", 200<<10))
	}
	many := "--x\r\n\r\n" + `{"_attachments":{` + strings.Join(small, ",") + `}}` + strings.Join(follow, "") + "\r\n--x--"
	form := "--x\r\nContent-Disposition: form-data; name=\"_doc\"\r\n\r\n" + doc + "\r\n--x--"
	keys := func(name string) string { return `{"` + name + `":[` + strings.Repeat(`"",`, 100_000) + `""]}` }
	inflates := `{"_attachments":{` + strings.TrimSuffix(strings.Repeat(`"%":{"encoding":"gzip","data":"`+base64.StdEncoding.EncodeToString([]byte(gzipOf(compressible(200<<10))))+`"},`, 40), ",") + `}}`
	for i := range 40 {
		inflates = strings.Replace(inflates, "%", fmt.Sprint(i), 1)
	}
	// Each of these texts alone would fit.
	stubs := `{"_attachments":{`
	for i := range 30_000 {
		stubs += fmt.Sprintf(`"%x":{"stub":true},`, i)
	}
	stubs = strings.TrimSuffix(stubs, ",") + "}}"
	revs := `{"_revisions":{"start":200000,"ids":[` + strings.Repeat(`"a",`, 200_000) + `"a"]}}`
	const related = `Content-Type: multipart/related; boundary=x`
	for _, tt := range []struct{ name, method, path, body, header string }{
		{"document", "PUT", "/db/a", doc, asJSON},
		{"two slashes", "PUT", "/db//a", doc, asJSON},
		{"slashes all over", "PUT", "//db///a", doc, asJSON},
		{"trailing slash", "PUT", "/db/a/", doc, asJSON},
		{"escaped letters", "PUT", "/%64b/%61", doc, asJSON},
		{"escaped slash", "PUT", "/db/a%2Fb", doc, asJSON},
		{"design document", "PUT", "/db/_design/a", doc, asJSON},
		{"escaped design document", "PUT", "/db/_design%2Fa", doc, asJSON},
		{"local document", "PUT", "/db/_local/a", doc, asJSON},
		{"local document behind slashes", "PUT", "/db//_local//a", doc, asJSON},
		{"security", "PUT", "/db/_security", doc, asJSON},
		{"a multipart type that is none", "PUT", "/db/a", doc, "Content-Type: multipart/mixed; boundary=x"},
		{"a multipart type in capitals", "PUT", "/db/a", doc, "Content-Type: MULTIPART/Something"},
		{"another method", "POST", "/db/a", doc, "X-HTTP-Method-Override: PUT"},
		{"post", "POST", "/db", doc, asJSON},
		{"post with a trailing slash", "POST", "/db/", doc, asJSON},
		{"bulk", "POST", "/db/_bulk_docs", `{"docs":[` + doc + `]}`, asJSON},
		{"bulk behind slashes", "POST", "/db//_bulk_docs/", `{"docs":[` + doc + `]}`, asJSON},
		{"JSON of a multipart document", "PUT", "/db/a", part(doc, "y"), related},
		{"many parts", "PUT", "/db/a", many, related},
		{"quoted boundary", "PUT", "/db/a", many, `Content-Type: Multipart/Related; type="application/json"; boundary="x"`},
		{"form", "POST", "/db/a", form, "Content-Type: multipart/form-data; boundary=x"},
		{"attachments that are packed", "PUT", "/db/a", inflates, asJSON},
		{"packed", "PUT", "/db/a", packed(compressible(3 << 20)), "Content-Encoding: zstd"},
		{"gzipped", "PUT", "/db/a", gzipOf(`{"a":"` + compressible(3<<20) + `"}`), "Content-Encoding: gzip"},
		{"attachments without end", "PUT", "/db/a", stubs, asJSON},
		{"attachments without end, spelled otherwise", "PUT", "/db/a", strings.Replace(stubs, "_att", `\u005fatt`, 1), asJSON},
		{"attachments without end of bulk", "POST", "/db/_bulk_docs", `{"docs":[` + stubs + `]}`, asJSON},
		{"attachments without end of a multipart document", "PUT", "/db/a", part(stubs, "y"), related},
		{"attachments without end of a form", "POST", "/db/a", strings.Replace(form, doc, stubs, 1), "Content-Type: multipart/form-data; boundary=x"},
		{"revisions without end", "PUT", "/db/a?new_edits=false", revs, asJSON},
		{"revisions without end of bulk", "POST", "/db/_bulk_docs", `{"new_edits":false,"docs":[` + revs + `]}`, asJSON},
		{"keys", "POST", "/db/_all_docs", keys("keys"), asJSON},
		{"doc_ids", "POST", "/db/_changes?filter=_doc_ids", keys("doc_ids"), asJSON},
		{"bulk get", "POST", "/db/_bulk_get", `{"docs":[` + strings.Repeat("{},", 100_000) + `{}]}`, asJSON},
		{"revisions", "POST", "/db/_revs_diff", `{"a":[` + strings.Repeat(`"1-a",`, 100_000) + `"1-a"]}`, asJSON},
		{"purge", "POST", "/db/_purge", `{"a":[` + strings.Repeat(`"1-a",`, 100_000) + `"1-a"]}`, asJSON},
		{"query", "POST", "/db/_find", `{"selector":{"a":[` + strings.Repeat("[],", 50_000) + `[]]}}`, asJSON},
		{"selector", "POST", "/db/_changes?filter=_selector", `{"selector":{"a":[` + strings.Repeat("[],", 50_000) + `[]]}}`, asJSON},
	} {
		headers := []string{tt.header}
		if tt.method == "POST" && strings.HasPrefix(tt.header, "Content-Type: multipart/form-data") {
			headers = append(headers, "Referer: "+s.url)
		}
		if a := s.do(tt.method, tt.path, tt.body, headers...); a.StatusCode != 413 || !strings.Contains(string(a.body), "too_large") {
			t.Errorf("%s: %d %.200s", tt.name, a.StatusCode, a.body)
		}
	}
	large := strings.Repeat("z", 20<<20)
	for _, tt := range []struct{ path, body, header string }{ // these go to the disk
		{"/db/att/a", large, "Content-Type: text/plain"},
		{"/db//att2//a", large, asJSON},
		{"/db/rel", part(`{"_attachments":{"a":{"follows":true}}}`, large), related},
	} {
		if a := s.do("PUT", tt.path, tt.body, tt.header); a.StatusCode != 201 {
			t.Errorf("%s: %d %.200s", tt.path, a.StatusCode, a.body)
		}
	}
	if a := s.do("PUT", "/db/fits", `{"a":"`+strings.Repeat("x", 1_000_000)+`"}`, asJSON); a.StatusCode != 201 {
		t.Errorf("1 MiB: %d %.200s", a.StatusCode, a.body)
	}
}

// Announcing a large body takes no memory from others, nor does sending a little of it.
func TestAnnouncedBodiesHoldLittle(t *testing.T) {
	s := start(t, Config{Admin: admin, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Service: Service{Quotas: Quotas{Memory: 64 << 20}}})
	s.do("PUT", "/db", "", basic)
	s.do("PUT", "/db/_security", "{}", basic, asJSON)
	for i := range 80 {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		some := strings.Repeat(" ", 60<<10*(i%2))
		fmt.Fprintf(c, "PUT /db/%d HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.%d\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n%s", i, i/20, some)
	}
	s.eventually("the bodies are read", func() bool {
		s.hub.service.quotas.mu.Lock()
		defer s.hub.service.quotas.mu.Unlock()
		busy := 0
		for _, u := range s.hub.service.quotas.clients {
			busy += u.busy
		}
		return busy >= 80
	})
	doc := `{"a":"` + strings.Repeat("x", 2<<20) + `"}`
	for i := range 3 {
		if a := s.do("PUT", fmt.Sprint("/db/honest", i), doc, asJSON, "X-Forwarded-For: 198.51.100.1"); a.StatusCode != 201 {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	}
}

// compressible is text that is packed to a tenth or so.
func compressible(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d lorem ipsum dolor sit amet consectetur ", i*i)
	}
	return b.String()[:n]
}

func gzipOf(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	z.Close()
	return b.String()
}

// Whatever comes in packed may grow a hundredfold, and what is packed twice is refused: nothing
// that is left on the disk is more.
func TestPackedBombs(t *testing.T) {
	temp := t.TempDir()
	s := start(t, Config{Limits: couchhttp.Limits{Body: 32 << 20, Document: 32 << 20}, TempDir: temp})
	s.do("PUT", "/db", "")
	zeros := strings.Repeat("0", 20<<20)
	inline := func(data string) string {
		return `{"_attachments":{"a":{"encoding":"gzip","content_type":"text/plain","data":"` + base64.StdEncoding.EncodeToString([]byte(data)) + `"}}}`
	}
	follows := func(content string) string {
		return "--x\r\n\r\n" + `{"_attachments":{"a":{"follows":true,"encoding":"gzip"}}}` + "\r\n--x\r\n\r\n" + content + "\r\n--x--"
	}
	var many []string // each of them within what one request has for free
	for i := range 100 {
		many = append(many, fmt.Sprintf(`"%d":{"encoding":"gzip","data":"%s"}`, i, base64.StdEncoding.EncodeToString([]byte(gzipOf(zeros[:200<<10])))))
	}
	var parts, follow string
	for i := range 100 {
		parts += fmt.Sprintf(`"%d":{"follows":true,"encoding":"gzip"},`, i)
		follow += "\r\n--x\r\n\r\n" + gzipOf(zeros[:200<<10])
	}
	twice := gzipOf(compressible(1 << 20))
	const related, zstd, gz = "Content-Type: multipart/related; boundary=x", "Content-Encoding: zstd", "Content-Encoding: gzip"
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
	}{
		{"zstd attachment", "PUT", "/db/a/a", packed(zeros), []string{zstd}, 413},
		{"gzip attachment", "PUT", "/db/a/a", gzipOf(zeros), []string{gz}, 413},
		{"gzip attachment of members", "PUT", "/db/a/a", strings.Repeat(gzipOf(zeros[:1<<20]), 20), []string{gz}, 413},
		{"zstd attachment of frames", "PUT", "/db/a/a", strings.Repeat(packed(zeros[:1<<20]), 20), []string{zstd}, 413},
		{"zstd document", "PUT", "/db/a", packed(`{"a":"` + zeros + `"}`), []string{zstd}, 413},
		{"gzip document", "PUT", "/db/a", gzipOf(`{"a":"` + zeros + `"}`), []string{"Content-Encoding: X-GZIP"}, 413},
		{"zstd bulk", "POST", "/db/_bulk_docs", packed(`{"docs":[{"a":"` + zeros + `"}]}`), []string{zstd, asJSON}, 413},
		{"zstd multipart", "PUT", "/db/a", packed("--x\r\n\r\n" + `{"_attachments":{"a":{"follows":true}}}` + "\r\n--x\r\n\r\n" + zeros + "\r\n--x--"), []string{zstd, related}, 413},
		{"gzip form", "POST", "/db/a", gzipOf("--x\r\nContent-Disposition: form-data; name=\"_attachments\"; filename=\"a\"\r\n\r\n" + zeros + "\r\n--x--"), []string{gz, "Content-Type: multipart/form-data; boundary=x", "Referer: " + s.url}, 413},
		{"part", "PUT", "/db/a", follows(gzipOf(zeros)), []string{related}, 413},
		{"inline", "PUT", "/db/a", inline(gzipOf(zeros)), []string{asJSON}, 413},
		{"many inline", "PUT", "/db/a", `{"_attachments":{` + strings.Join(many, ",") + `}}`, []string{asJSON}, 413},
		{"many parts", "PUT", "/db/a", "--x\r\n\r\n" + `{"_attachments":{` + strings.TrimSuffix(parts, ",") + `}}` + follow + "\r\n--x--", []string{related}, 413},
		{"inline of bulk", "POST", "/db/_bulk_docs", `{"docs":[` + inline(gzipOf(zeros)) + `]}`, []string{asJSON}, 201}, // with an error in the row,
		{"inline, packed again", "PUT", "/db/a", packed(inline(twice)), []string{zstd, asJSON}, 415},
		{"inline of bulk, packed again", "POST", "/db/_bulk_docs", gzipOf(`{"docs":[` + inline(twice) + `]}`), []string{gz, asJSON}, 415},
		{"part, packed again", "PUT", "/db/a", packed(follows(twice)), []string{zstd, related}, 415},
		{"two codings", "PUT", "/db/a/a", packed(gzipOf(zeros)), []string{"Content-Encoding: gzip, zstd"}, 415},
		{"deflate", "PUT", "/db/a/a", "x", []string{"Content-Encoding: deflate"}, 415},
	} {
		a := s.do(tt.method, tt.path, tt.body, tt.headers...)
		if a.StatusCode != tt.status {
			t.Errorf("%s (%d bytes): %d %.200s", tt.name, len(tt.body), a.StatusCode, a.body)
		}
		if a.StatusCode == 201 && !strings.Contains(string(a.body), "attachment_too_large") {
			t.Errorf("%s: %.200s", tt.name, a.body)
		}
	}
	for name, a := range map[string]*answer{
		"zstd":   s.do("PUT", "/db/1", packed(`{"a":"`+compressible(3<<20)+`"}`), zstd),
		"gzip":   s.do("PUT", "/db/2/a", gzipOf(compressible(3<<20)), gz),
		"inline": s.do("PUT", "/db/3", inline(twice), asJSON),
		"part":   s.do("PUT", "/db/4", follows(twice), related),
	} {
		if a.StatusCode != http.StatusCreated {
			t.Errorf("honest %s: %d %.200s", name, a.StatusCode, a.body)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
