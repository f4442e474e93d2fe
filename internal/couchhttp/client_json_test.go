package couchhttp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestJSONStreamTakesApartWhatComesByteByByte(t *testing.T) {
	text := ` {"a" : [1, "x\"]\\", {"b":[ ]} , -2.5e3,true] , "s\u0061":null,"e":{}, "l": "` + strings.Repeat(`é\\`, 50_000) + `"} `
	for _, keep := range []bool{false, true} {
		s := &jsonStream{r: iotest.OneByteReader(strings.NewReader(text)), keep: keep, max: 1 << 20}
		got := map[string]string{}
		err := s.object(func(key string) error {
			if key != "a" {
				raw, err := s.value()
				got[key] = string(raw)
				return err
			}
			var parts []string
			err := s.array(func() error {
				raw, err := s.value()
				parts = append(parts, string(raw))
				return err
			})
			got[key] = strings.Join(parts, "|")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got["a"] != `1|"x\"]\\"|{"b":[ ]}|-2.5e3|true` || got["sa"] != "null" || got["e"] != "{}" || len(got["l"]) != 200_002 {
			t.Errorf("keep %v: %.200v", keep, got)
		}
	}
}

func TestJSONStreamBoundsARow(t *testing.T) {
	s := &jsonStream{r: strings.NewReader(`["` + strings.Repeat("x", 1<<20)), max: 1 << 10}
	err := s.array(s.skip)
	if !errors.Is(err, &couch.Error{Status: 413}) {
		t.Errorf("got %v", err)
	}
}

func FuzzJSONStream(f *testing.F) {
	for _, s := range []string{`[1,"a",{"b":[]}]`, `["\"]","\\"]`, `[`, `[1 2]`, `{}`, `["\u00`, "[\"a\\"} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		s := &jsonStream{r: &pieces{data, 1 + size&7}, keep: size&8 != 0, max: 1 << 20}
		var got []string
		err := s.array(func() error {
			raw, err := s.value()
			got = append(got, string(raw))
			return err
		})
		var want []json.RawMessage
		if json.Unmarshal(data, &want) != nil || want == nil {
			return
		}
		if err != nil || len(got) != len(want) {
			t.Fatalf("%q: %q, %v", data, got, err)
		}
		for i := range want {
			if string(want[i]) != got[i] {
				t.Fatalf("%q: %q, want %q", data, got[i], want[i])
			}
		}
	})
}

type pieces struct {
	data []byte
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:min(p.n, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}

type answer []byte

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(&pieces{a, 7}), ContentLength: -1, Request: r}, nil
}

// FuzzAnswers: whatever a server answers, every call ends with a result or an error.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{
		`{"results":[{"id":"a","docs":[{"ok":{"_id":"a","_rev":"1-a"}},{"error":{"id":"a","rev":"undefined","error":"not_found"}}]}]}`,
		`{"results":[{"docs":[{"missing":"1-a"}],"id":"a"}]}`, `[{"ok":{"_id":"a"}}]`, `[{"id":"a","rev":"1-a","error":"x","reason":[]}]`,
		`{"results":[{"seq":[1],"id":"a","changes":[{"rev":"1-a"}],"deleted":true,"doc":null}],"last_seq":null,"pending":1}`,
		`{"total_rows":1,"offset":null,"rows":[{"key":"a","value":{"rev":"1-a"},"doc":{}},{"key":"b","error":"not_found"}]}`,
		`{"a":{"missing":["1-a"],"possible_ancestors":["1-b"]}}`, `{"docs":[{}],"bookmark":"x"}`, `{"rev":"0-1"}`, `[]`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		base := &url.URL{Scheme: "http", Host: "x"}
		db := NewClient(base, &http.Client{Transport: answer(data)}, ClientOptions{MaxRow: 1 << 16}).DB("db")
		ctx := t.Context()
		refs := []couch.DocRef{{ID: "a", Rev: rev("1-a")}, {ID: "a"}}
		_ = db.BulkGet(ctx, refs, couch.GetOptions{Attachments: true, MaxInlineSize: 10}, func(r couch.BulkGetResult) error {
			if (r.Doc == nil) == (r.Err == nil) {
				t.Fatalf("%q: %+v", data, r)
			}
			return nil
		})
		_, _ = db.Changes(ctx, couch.ChangesOptions{}, func(*couch.Change) error { return nil })
		_, _ = db.RevsDiff(ctx, []couch.DocRevs{{ID: "a"}})
		_, _ = db.AllDocs(ctx, couch.AllDocsOptions{}, func(*couch.Row) error { return nil })
		_, _ = db.Find(ctx, []byte(`{}`), func(json.RawMessage) error { return nil })
		_, _ = db.BulkDocs(ctx, []*couch.Doc{{ID: "a", Attachments: []couch.Attachment{{Name: "f", Length: 1 << 20, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("x")), nil
		}}}}, {ID: "b"}}, couch.WriteOptions{})
		_, _ = db.Get(ctx, "a", couch.GetOptions{})
		_, _ = db.GetLocal(ctx, "a")
		_, _ = db.Info(ctx)
	})
}
