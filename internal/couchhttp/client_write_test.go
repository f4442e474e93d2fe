package couchhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestBulkDocsRowsFindTheirDocuments(t *testing.T) {
	var body string
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		if r.ContentLength != int64(len(b)) {
			t.Error("no Content-Length")
		}
		io.WriteString(w, `[{"id":"b","rev":"1-b","error":"forbidden","reason":{"no":1}}]`)
	})
	docs := []*couch.Doc{{ID: "a", Rev: rev("1-a")}, {ID: "b", Rev: rev("1-a")}, {ID: "b", Rev: rev("1-b")}}
	var moves atomic.Int32
	defer func() {
		if moves.Load() < 2 {
			t.Error("a watchdog would not see bytes go and come")
		}
	}()
	ctx := couch.WithMoving(context.Background(), func() { moves.Add(1) })
	res, err := c.DB("db").BulkDocs(ctx, docs, couch.WriteOptions{Replicated: true})
	if err != nil || res[0].Err != nil || res[1].Err != nil || res[2].Err == nil || res[2].Err.Status != 403 || res[2].Err.Reason != `{"no":1}` {
		t.Errorf("%+v %v", res, err)
	}
	if body != `{"new_edits":false,"docs":[{"_id":"a","_rev":"1-a"},{"_id":"b","_rev":"1-a"},{"_id":"b","_rev":"1-b"}]}` {
		t.Error(body)
	}
}

func TestLargeAttachmentsGoAsMultipart(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789"), 30_000)
	var query, inline string
	var part []byte
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			b, _ := io.ReadAll(r.Body)
			inline = string(b)
			io.WriteString(w, `[]`)
			return
		}
		if part != nil {
			io.Copy(io.Discard, r.Body) // the one that is cut off
			return
		}
		query = r.URL.RawQuery
		_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		m := multipart.NewReader(r.Body, params["boundary"])
		p, _ := m.NextPart()
		b, _ := io.ReadAll(p)
		if doc, err := couch.ParseDoc(b); err != nil || doc.Attachments[0].Length != int64(len(big)) || !bytes.Contains(b, []byte(`"follows":true`)) {
			t.Errorf("%s %v", b, err)
		}
		p, _ = m.NextPart()
		part, _ = io.ReadAll(p)
		if _, params, _ := mime.ParseMediaType(p.Header.Get("Content-Disposition")); params["filename"] != `a/"f"` {
			t.Errorf("%v", p.Header) // PouchDB Server finds attachments by it
		}
		if _, err := m.NextPart(); err != io.EOF || r.ContentLength < int64(len(big)) {
			t.Error(err, r.ContentLength)
		}
		io.WriteString(w, `{"ok":true,"id":"x","rev":"1-a"}`)
	})
	open := func(b []byte) func(context.Context) (io.ReadCloser, error) {
		return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	}
	docs := []*couch.Doc{
		{ID: "x", Rev: rev("1-a"), Attachments: []couch.Attachment{{Name: `a/"f"`, ContentType: "a/b", Length: int64(len(big)), Open: open(big)}}},
		{ID: "y", Rev: rev("1-a"), Attachments: []couch.Attachment{{Name: "f", ContentType: "a/b", Length: 2, Open: open([]byte("hi"))}}},
	}
	res, err := c.DB("db").BulkDocs(context.Background(), docs, couch.WriteOptions{Replicated: true})
	if err != nil || res[0].Err != nil || res[0].Rev != rev("1-a") {
		t.Fatal(res, err)
	}
	if !bytes.Equal(part, big) || query != "new_edits=false" || !strings.Contains(inline, `"data":"aGk="`) {
		t.Error(len(part), query, inline)
	}
	cut := docs[:1]
	cut[0].Attachments[0].Open = open(big[:len(big)/2])
	if _, err := c.DB("db").BulkDocs(context.Background(), cut, couch.WriteOptions{Replicated: true}); err == nil {
		t.Error("an attachment that is cut off was sent as whole")
	}
}

func TestCompression(t *testing.T) {
	enc, _ := zstd.NewWriter(nil)
	dec, _ := zstd.NewReader(nil)
	defer dec.Close()
	var encodings []string
	c := serve(t, ClientOptions{Compress: true}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		encodings = append(encodings, r.Header.Get("Content-Encoding"))
		if r.Header.Get("Content-Encoding") == "zstd" {
			var err error
			if body, err = dec.DecodeAll(body, nil); err != nil {
				t.Error(err)
			}
		}
		if r.URL.Path == "/db/_bulk_docs" && !json.Valid(body) {
			t.Errorf("%q", body)
		}
		w.Header().Set("Accept-Encoding", "zstd")
		w.Header().Set("Content-Encoding", "zstd")
		w.Write(enc.EncodeAll([]byte(`[]`), nil))
	})
	docs := []*couch.Doc{{ID: "a", Rev: rev("1-a"), Body: json.RawMessage(`{"x":"` + strings.Repeat("lorem ipsum ", 1000) + `"}`)}}
	for range 3 {
		if _, err := c.DB("db").BulkDocs(context.Background(), docs, couch.WriteOptions{Replicated: true}); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(encodings) != "[ zstd zstd]" {
		t.Errorf("%q", encodings)
	}
}

func TestAnswersToASinglePut(t *testing.T) {
	for answer, want := range map[string]string{
		`{"ok":true,"id":"x","rev":"1-b"}`:   "1-b <nil>",
		`[]`:                                 "1-a <nil>",
		`[{"ok":true,"id":"x","rev":"1-c"}]`: "1-c <nil>",
		`[{"id":"x","error":"forbidden","reason":"no"}]`:      " forbidden: no",
		`{"error":"conflict","reason":"not this one either"}`: " conflict: not this one either",
	} {
		got, err := writtenRev([]byte(answer), rev("1-a"))
		if fmt.Sprint(got, " ", err) != want {
			t.Errorf("%s: %v %v", answer, got, err)
		}
	}
}

// TestDeletedLocals: a local document is deleted by the revision that is known, if one is.
func TestDeletedLocals(t *testing.T) {
	var asked string
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		io.WriteString(w, `{"rev":"0-0"}`)
	})
	for want, rev := range map[string]couch.Rev{"DELETE /db/_local/x?rev=0-1": rev("0-1"), "DELETE /db/_local/x": {}} {
		if _, err := c.DB("db").PutLocal(t.Context(), &couch.Doc{ID: "x", Rev: rev, Deleted: true}); err != nil || asked != want {
			t.Errorf("%s, not %s: %v", asked, want, err)
		}
	}
}
