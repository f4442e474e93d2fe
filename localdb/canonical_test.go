package localdb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                                   `{}`,
		`{"a":1,"b":[true,false,null,-7,"e"]}`: ``,
		`{"b":1,"a":2}`:                        ``,
		`{"a":12345678901234567890123}`:        ``,
		"{ \"a\" :\t[ 1 ,\r\n2 ] }":            `{"a":[1,2]}`,
		`{"a":" 1.0 \/"}`:                      `{"a":" 1.0 /"}`,
		`{"a":"\u00e9\u00E9é\u0041"}`:          `{"a":"éééA"}`,
		`{"\u0061":"\ud83d\ude00"}`:            `{"a":"😀"}`,
		`{"a":"\ud83d","b":"\uDE00x\ud83dA"}`:  `{"a":"\ud83d","b":"\ude00x\ud83dA"}`,
		`{"a":"\ud83d\u0041"}`:                 `{"a":"\ud83dA"}`,
		`{"a":"\"\\\b\f\n\r\t\u0000\u001F"}`:   `{"a":"\"\\\u0008\u000c\u000a\u000d\u0009\u0000\u001f"}`,
		`{"a":[1.0,1e0,10E-1,1,-0,-0.0,0.1]}`:  `{"a":[1e+00,1e+00,1e+00,1,0,-0e+00,1e-01]}`,
		`{"a":1e400}`:                          ``,
		`{"a":0.1000000000000000055511151231257827021181583404541015625}`: `{"a":1e-01}`,
	} {
		if want == "" {
			want = in
		}
		if got := string(canonical([]byte(in))); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// FuzzCanonical: the canonical form says what the text says, and says it one way.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"a":[1.50,-0,"\ud83d\ude00\u0000",true]}`, `{"\ud83d":" \\"}`, `{"a":"`, `{"a":"\`, `{"a":"\u00`, `e`, `{"a":1e5}`, `"\ud83d\`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := canonical(data)
		if !jsontext.Value(data).IsValid(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) {
			return // it must come back, no more
		}
		if again := canonical(got); !bytes.Equal(again, got) {
			t.Fatalf("%q became %q, then %q", data, got, again)
		}
		if a, b := meaning(data), meaning(got); a != b {
			t.Fatalf("%q became %q: %s, not %s", data, got, b, a)
		}
	})
}

// meaning is the tokens of JSON.
func meaning(data []byte) string {
	var out strings.Builder
	for d := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)); ; {
		t, err := d.ReadToken()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprint(&out, err)
			}
			return out.String()
		}
		if t.Kind() == '0' {
			f, _ := t.Float()
			if t.String() == "-0" {
				f = 0 // as an integer
			}
			fmt.Fprint(&out, f, " ")
		} else {
			fmt.Fprintf(&out, "%q ", t.String())
		}
	}
}

func TestRevisionDoesNotDependOnSpelling(t *testing.T) {
	_, d := openTest(t, Options{})
	revs := map[couch.Rev]string{}
	for i, same := range [][]string{
		{`{"a":"é","n":1.50}`, `{"a":"\u00e9","n":15e-1}`, `{ "a" : "é" , "n" : 1.5 }`},
		{`{"n":1.50,"a":"é"}`}, {`{"a":"é","n":1}`}, {`{"a":"é","n":1.0}`}, {`{"a":"\ud83d"}`}, {`{"a":"\ud83e"}`}, {`{"a":"\ufffd"}`},
	} {
		first := couch.Rev{}
		for j, text := range same {
			rev := put(t, d, &couch.Doc{ID: fmt.Sprint(i, "-", j), Body: json.RawMessage(text)})
			if j == 0 {
				if first = rev; revs[rev] != "" {
					t.Errorf("%s and %s are both %s", text, revs[rev], rev)
				}
				revs[rev] = text
			} else if rev != first {
				t.Errorf("%s is %s, %s is %s", same[0], first, text, rev)
			}
		}
	}
}

func BenchmarkCanonical(b *testing.B) {
	record := []byte(`{"name":"Aruba","cca2":"AW","area":180,"borders":[],"latlng":[12,-69],"landlocked":false,"languages":{"nld":"Dutch","pap":"Papiamento"},"text":"` + strings.Repeat("lorem ipsum ", 60) + `"}`)
	for name, body := range map[string][]byte{
		"text": benchBody, "record": record,
		"float":  bytes.Replace(record, []byte("12,"), []byte("12.5,"), 1),
		"escape": bytes.ReplaceAll(record, []byte("m "), []byte(`\n`)),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				canonical(body)
			}
		})
	}
	e := &edit{body: record}
	b.Run("follow", func(b *testing.B) {
		b.SetBytes(int64(len(record)))
		for b.Loop() {
			e.follow(couch.Rev{Gen: 1, Hash: "a"})
		}
	})
}
