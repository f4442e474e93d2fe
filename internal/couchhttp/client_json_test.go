package couchhttp

import (
	"encoding/json"
	"errors"
	"io"
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
