package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// memoryLimit is the --limit-memory of TestMemoryLimitHolds, and restMemory what its hub has without requests:
// the program, SQLite's caches, the collector's room, compressors, and a document for each of the eight readers of a database.
const (
	memoryLimit = 128 << 20
	restMemory  = 256 << 20
)

// Strangers without an account who send all that takes memory, at the same time and from many
// addresses, make a hub hold a quarter more than its limit at most, besides what it has at rest.
func TestMemoryLimitHolds(t *testing.T) {
	w := newWorld(t)
	h := w.hub("hub", "--admin", "root:secret", "--trusted-proxy", "127.0.0.1", "--limit-memory", fmt.Sprint(memoryLimit), "--limit-requests", "-1", "--limit-documents", "-1")
	db := strings.Replace(h.url, "//", "//root:secret@", 1) + "/db"
	ask[any](w, http.MethodPut, db, "")
	ask[any](w, http.MethodPut, db+"/_security", `{"admins":{"roles":[]},"members":{"names":[],"roles":[]}}`)
	rest := w.peak(h.Proc)

	writes, reads := memoryAttacks()
	by := w.attack(h, 6, writes)
	written := w.peak(h.Proc)
	inline := strings.Repeat(`"X":{"data":"`+base64.StdEncoding.EncodeToString(make([]byte, 200<<10))+`"},`, 30)
	for i := range 30 {
		inline = strings.Replace(inline, "X", fmt.Sprint(i), 1)
	}
	ask[any](w, http.MethodPut, db+"/inline", `{"_attachments":{`+strings.TrimSuffix(inline, ",")+`}}`)
	for id := range 4 {
		ask[any](w, http.MethodPut, fmt.Sprint(db, "/large", id), `{"text":"`+strings.Repeat("lorem ", 1_200_000)+`"}`)
	}
	read := w.attack(h, 12, reads)
	t.Logf("at rest %d MiB, at most %d MiB and then %d MiB; answers %v, %v", rest>>20, written>>20, w.peak(h.Proc)>>20, by, read)
	if most := w.peak(h.Proc); most > memoryLimit*5/4+restMemory {
		t.Errorf("%d MiB of memory, %d MiB at rest", most>>20, rest>>20)
	}
	if by[201] == 0 || by[500] > 0 || read[200] == 0 || read[500] > 0 {
		t.Errorf("answers by their status: %v, %v", by, read)
	}
}

// attack sends requests of each kind from so many addresses at the same time, reads the answers when all have
// begun, and counts them by their status.
func (w *world) attack(h *hub, clients int, kinds map[string]func(hub string) *http.Request) map[int]int {
	w.Helper()
	var all, begun sync.WaitGroup
	begun.Add(clients * len(kinds))
	answers := make(chan int, clients*len(kinds))
	for kind, send := range kinds {
		for client := range clients {
			all.Go(func() {
				r := send(h.url)
				r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.1", len(kind), client))
				resp, err := http.DefaultClient.Do(r.WithContext(w.ctx))
				begun.Done()
				if err != nil {
					answers <- 0 // it has answered before it read all
					return
				}
				begun.Wait()
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				answers <- resp.StatusCode
			})
		}
	}
	all.Wait()
	close(answers)
	by := map[int]int{}
	for status := range answers {
		by[status]++
	}
	return by
}

// peak is the most memory that a process has had.
func (w *world) peak(p *proc.Proc) int64 {
	w.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	if err != nil || !ok {
		w.Skip("there is no /proc to read the memory of a process from")
	}
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	w.ok(err)
	return kib << 10
}

// memoryAttacks are the requests that take memory, by their kind.
func memoryAttacks() (writes, reads map[string]func(hub string) *http.Request) {
	random := strings.Repeat("lorem ipsum dolor ", 1<<10)
	text := func(n int) string { return strings.Repeat(random, 1+n/len(random))[:n] }
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	var atts, follows []string
	for i := range 30 {
		atts = append(atts, fmt.Sprintf(`"%d":{"content_type":"text/plain","data":"%s"}`, i, base64.StdEncoding.EncodeToString([]byte(text(200<<10)))))
		follows = append(follows, fmt.Sprintf(`"%d":{"follows":true,"content_type":"text/plain"}`, i))
	}
	const asJSON = "application/json"
	request := func(method, path, contentType, coding, body string) func(string) *http.Request {
		return func(hub string) *http.Request {
			path := strings.ReplaceAll(path, "ID", fmt.Sprint(rand.Uint64()))
			r, _ := http.NewRequest(method, hub+path, strings.NewReader(body))
			r.Header.Set("Content-Type", contentType)
			if coding != "" {
				r.Header.Set("Content-Encoding", coding)
			}
			return r
		}
	}
	inline := `{"_attachments":{` + strings.Join(atts, ",") + `}}`
	related := "--x\r\n\r\n" + `{"_attachments":{` + strings.Join(follows, ",") + `}}` + strings.Repeat("\r\n--x\r\n\r\n"+text(200<<10), 30) + "\r\n--x--"
	doc := `{"text":"` + text(6<<20) + `"}`
	writes = map[string]func(string) *http.Request{
		"document":     request("PUT", "/db/ID", asJSON, "", doc),
		"slashes":      request("PUT", "/db//ID", asJSON, "", doc),
		"multipart?":   request("PUT", "/db/ID", "multipart/none; boundary=x", "", doc),
		"bulk":         request("POST", "/db/_bulk_docs", asJSON, "", `{"docs":`+list(3000, `{"text":"`+text(2000)+`"}`)+`}`),
		"tiny docs":    request("POST", "/db/_bulk_docs", asJSON, "", `{"docs":`+list(10_000, `{"a":1}`)+`}`),
		"inline":       request("PUT", "/db/ID", asJSON, "", inline),
		"multipart":    request("PUT", "/db/ID", "multipart/related; boundary=x", "", related),
		"zstd":         request("PUT", "/db/ID", asJSON, "zstd", zstdOf(`{"n":`+numbers(4<<20)+`}`)),
		"gzip":         request("PUT", "/db/ID", asJSON, "gzip", gzipOf(`{"n":`+numbers(4<<20)+`}`)),
		"upload":       request("PUT", "/db/ID/att", "text/plain", "", text(8<<20)),
		"keys":         request("POST", "/db/_all_docs", asJSON, "", `{"keys":`+list(100_000, `""`)+`}`),
		"many keys":    request("POST", "/db/_all_docs", asJSON, "", `{"keys":`+list(8_000_000, `""`)+`}`),
		"refs":         request("POST", "/db/_bulk_get", asJSON, "", `{"docs":`+list(8_000_000, `{}`)+`}`),
		"query":        request("POST", "/db/_find", asJSON, "", `{"selector":{"a":`+list(300_000, `[]`)+`}}`),
		"sort":         request("POST", "/db/_find", asJSON, "", `{"selector":{},"sort":["_id"],"limit":1000000,"skip":100}`),
		"sort by text": request("POST", "/db/_find", asJSON, "", `{"selector":{"text":{"$gt":""}},"sort":["text"],"limit":1000000}`),
	}
	reads = map[string]func(string) *http.Request{
		"all documents": request("GET", "/db/_all_docs?include_docs=true&attachments=true&limit=50", asJSON, "", ""),
		"changes":       request("GET", "/db/_changes?include_docs=true&attachments=true&limit=50", asJSON, "", ""),
		"bulk get":      request("POST", "/db/_bulk_get?attachments=true", asJSON, "", `{"docs":[{"id":"inline"},{"id":"large1"},{"id":"large2"}]}`),
		"attachments":   request("GET", "/db/inline?attachments=true", asJSON, "", ""),
		"document":      request("GET", "/db/large1", asJSON, "", ""),
	}
	return writes, reads
}

// numbers is a list of so many bytes that is packed to a fraction.
func numbers(size int) string {
	var b strings.Builder
	b.WriteString("[0")
	for b.Len() < size {
		fmt.Fprintf(&b, ",%d", rand.Uint64())
	}
	return b.String() + "]"
}

func zstdOf(text string) string {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	defer w.Close()
	return string(w.EncodeAll([]byte(text), nil))
}

func gzipOf(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	z.Close()
	return b.String()
}
