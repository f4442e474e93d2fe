package collate

import (
	"bytes"
	"encoding/json"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// The order of CouchDB's documentation and of its view_collation.js, with numbers that a float64 cannot tell apart.
var ascending = []string{
	`null`, `false`, `true`,
	`-1e400`, `-123456789012345678901234567891`, `-123456789012345678901234567890`, `-9007199254740993`, `-9007199254740992`, `-2.5`, `-1`, `-1e-300`,
	`0`, `1e-300`, `1`, `1.5`, `2`, `3.0`, `4`, `9007199254740992`, `9007199254740993`, `9007199254740994`,
	`18446744073709551615`, `18446744073709551616`, `123456789012345678901234567890`, `123456789012345678901234567891`, `1e300`,
	`""`, `"a"`, `"A"`, `"aa"`, `"b"`, `"B"`, `"ba"`, `"bb"`,
	`[]`, `[null]`, `["a"]`, `["b"]`, `["b","c"]`, `["b","c","a"]`, `["b","d"]`, `["b","d","e"]`, `[[]]`, `[{}]`,
	`{}`, `{"a":1}`, `{"a":2}`, `{"b":1}`, `{"b":2}`, `{"b":2,"a":1}`, `{"b":2,"c":2}`,
}

func keyOf(t interface{ Fatalf(string, ...any) }, value string) []byte {
	k, err := AppendJSON(nil, []byte(value))
	if err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	return k
}

func TestKeysOfValues(t *testing.T) {
	for i, a := range ascending {
		for j, b := range ascending {
			if got, want := bytes.Compare(keyOf(t, a), keyOf(t, b)), max(min(i-j, 1), -1); got != want {
				t.Errorf("%s beside %s: %d, want %d", a, b, got, want)
			}
			// Also within others, with something behind.
			if got, want := bytes.Compare(keyOf(t, "["+a+",2]"), keyOf(t, "["+b+",1]")), max(min(i-j, 1), -1); i != j && got != want {
				t.Errorf("[%s,2] beside [%s,1]: %d, want %d", a, b, got, want)
			}
		}
	}
	for _, equal := range [][2]string{{`1`, `1.0`}, {`1`, `10e-1`}, {`0`, `-0.0`}, {`1e300`, `10e299`}, {`"a"`, `"\u0061"`}, {`"a"`, "\"a\\u0001\""}, {`[ 1 , {"a" : 2} ]`, `[1,{"a":2}]`}} {
		if !bytes.Equal(keyOf(t, equal[0]), keyOf(t, equal[1])) {
			t.Errorf("%s and %s differ", equal[0], equal[1])
		}
	}
}

func TestKeysOfNothing(t *testing.T) {
	for _, bad := range []string{``, ` `, `nul`, `[1`, `[1,`, `{"a"}`, `{1:2}`, `"a`, `1 2`, `-`, `x`, `[1]]`} {
		if k, err := AppendJSON(nil, []byte(bad)); err == nil {
			t.Errorf("%q has the key %x", bad, k)
		}
	}
}

// value makes JSON values.
func value(depth int) *rapid.Generator[any] {
	simple := rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.Float64Range(-1e6, 1e6), func(f float64) any { return f }), rapid.Map(rapid.Int64(), func(i int64) any { return i }),
		rapid.Map(rapid.StringOf(rapid.SampledFrom([]rune("aAbé '’👍🏽漢\x01"))), func(s string) any { return s }),
	)
	if depth == 0 {
		return simple
	}
	return rapid.OneOf(simple, rapid.Map(rapid.SliceOfN(value(depth-1), 0, 3), func(l []any) any { return l }))
}

// compareValues is the order as it is defined, for values of the kinds that value makes.
func compareValues(a, b any) int {
	rank := func(v any) int {
		switch v := v.(type) {
		case nil:
			return 0
		case bool:
			if v {
				return 2
			}
			return 1
		case float64, int64:
			return 3
		case string:
			return 4
		}
		return 5
	}
	if x, y := rank(a), rank(b); x != y {
		return x - y
	}
	switch a := a.(type) {
	case float64, int64:
		return number(a).Cmp(number(b))
	case string:
		return Strings(a, b.(string))
	case []any:
		b := b.([]any)
		for i := range min(len(a), len(b)) {
			if c := compareValues(a[i], b[i]); c != 0 {
				return c
			}
		}
		return len(a) - len(b)
	}
	return 0
}

func TestKeysKeepTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := value(3).Draw(t, "a"), value(3).Draw(t, "b")
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		got, want := bytes.Compare(keyOf(t, string(x)), keyOf(t, string(y))), max(min(compareValues(a, b), 1), -1)
		if got != want {
			t.Fatalf("%s beside %s: %d, want %d", x, y, got, want)
		}
	})
}

func FuzzAppendJSON(f *testing.F) {
	for _, s := range ascending {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := AppendJSON(nil, []byte(s))
		if err != nil && json.Valid([]byte(s)) && len(s) < MaxDepth {
			t.Fatalf("%q is JSON: %v", s, err)
		}
	})
}

func number(v any) *big.Float {
	if i, ok := v.(int64); ok {
		return new(big.Float).SetPrec(200).SetInt64(i)
	}
	return new(big.Float).SetPrec(200).SetFloat64(v.(float64))
}
