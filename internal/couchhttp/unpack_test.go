package couchhttp

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func zstdOf(t *testing.T, text []byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(text, nil)
}

func gzipOf(t *testing.T, text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

// A hostile server's answers grow a hundredfold at most, beyond what one row may have; those that
// were not to be packed at all have less for free.
func TestPackedAnswers(t *testing.T) {
	zeros := make([]byte, 16<<20)
	for coding, packed := range map[string][]byte{"zstd": zstdOf(t, zeros), "gzip": gzipOf(t, zeros)} {
		many := bytes.Repeat(packed, 20) // members of gzip, frames of zstd
		var sent []byte
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			_, _ = w.Write(sent)
		}))
		base, _ := url.Parse(srv.URL)
		client := NewClient(base, nil, ClientOptions{Compress: true})
		sent = packed
		a, err := client.DB("db").Attachment(t.Context(), "doc", "a", couch.Rev{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Reader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); !errors.Is(err, couch.ErrInflated) || n > couch.FreeBody+100*int64(len(packed)) {
			t.Errorf("%s: an attachment of %d bytes, %v", coding, n, err)
		}
		r.Close()
		sent = many
		resp, err := client.send(t.Context(), request{method: "GET", path: "db/_changes"})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, couch.ErrInflated) || n > couch.FreeAnswer+100*int64(len(many)) {
			t.Errorf("%s: an answer of %d bytes, %v", coding, n, err)
		}
		resp.Body.Close()
		client.Close()
		srv.Close()
	}
}

// A body that is packed too well for the server is sent again as it is.
func TestTooWellPackedIsSentPlain(t *testing.T) {
	docs := []*couch.Doc{{ID: "a", Body: json.RawMessage(`{"a":"` + strings.Repeat("0", 4<<20) + `"}`)}}
	var requests atomic.Int64
	api := NewServer(ServerOptions{})
	defer api.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Accept-Encoding", "zstd")
		n := requests.Add(1)
		c := &call{s: api, w: w, r: r}
		defer c.release()
		body, err := c.bodyReader(1 << 30)
		if err == nil {
			defer body.Close()
			_, err = io.Copy(io.Discard, body)
		}
		if (err != nil) != (n == 2) {
			t.Errorf("request %d, %q: %v", n, r.Header.Get("Content-Encoding"), err)
		}
		if err != nil {
			writeError(w, couch.AsError(readError(err)))
			return
		}
		_ = writeJSON(w, 201, []byte(`[{"ok":true,"id":"a","rev":"1-a"}]`))
	}))
	defer srv.Close()
	base, _ := url.Parse(srv.URL)
	client := NewClient(base, nil, ClientOptions{Compress: true})
	defer client.Close()
	for range 2 { // by the first answer the server says that it takes zstd
		res, err := client.DB("db").BulkDocs(t.Context(), docs, couch.WriteOptions{})
		if err != nil || len(res) != 1 || res[0].Err != nil {
			t.Errorf("%v, %v", res, err)
		}
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("%d requests", n)
	}
}
