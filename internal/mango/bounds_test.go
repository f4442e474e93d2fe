package mango

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// list is n times what item makes, in brackets.
func list(n int, item func(i int) string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = item(i)
	}
	return "[" + strings.Join(items, ",") + "]"
}

func nest(n int, open, inner, end string) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
}

func regex(pattern string) string {
	text, _ := json.Marshal(map[string]any{"a": map[string]string{"$regex": pattern}})
	return string(text)
}

// What is beyond a bound is refused with the bound's name before it takes any memory to speak of.
func TestBounds(t *testing.T) {
	field := func(i int) string { return fmt.Sprintf(`{"f%d":1}`, i) }
	number := func(i int) string { return fmt.Sprint(i) }
	for _, tt := range []struct{ name, selector, want string }{
		{"long", `{"a":"` + strings.Repeat("x", MaxBytes) + `"}`, "1048576 bytes"},
		{"pattern", regex(strings.Repeat("x", MaxPattern+1)), "4096 bytes of one $regex"},
		{"467 KB of repetitions", regex(strings.Repeat(".{1000}", 467<<10/7)), "4096 bytes of one $regex"},
		{"repetitions", regex(strings.Repeat(".{1000}", MaxPattern/7)), "10000 instructions"},
		{"open repetitions", regex(strings.Repeat("(ab|c){999,}", 200)), "10000 instructions"},
		{"optional repetitions", regex(strings.Repeat("(a?){0,1000}", 200)), "10000 instructions"},
		{"nested repetitions", regex(`((a{1000}){1000})`), "Bad argument for operator $regex"},
		{"nested to a thousand", regex(strings.Repeat(`(((a{10}b){10}c){10}d?)`, 150)), "10000 instructions"},
		{"empty matches", regex(strings.Repeat("(|){1000}", 400)), "10000 instructions"},
		{"classes", regex(strings.Repeat(`\pL{100}`, 200)), "10000 instructions"},
		{"folded classes", regex("(?i)" + strings.Repeat(`[\pL\pN]{9}`, 300)), "10000 instructions"},
		{"many patterns", `{"$or":` + list(4000, func(int) string { return regex("(ab?){100}") }) + `}`, "10000 instructions"},
		{"$or of thousands", `{"$or":` + list(20_000, field) + `}`, "10000 operators and fields"},
		{"$and of nothing", `{"$and":` + list(200_000, func(int) string { return "{}" }) + `}`, "10000 operators and fields"},
		{"operators", `{"a":{"$elemMatch":{"$or":` + list(20_000, field) + `}}}`, "10000 operators and fields"},
		{"$in", `{"a":{"$in":` + list(100_000, number) + `}}`, "10000 values in its lists"},
		{"$nin", `{"a":{"$not":{"$nin":` + list(100_000, number) + `}}}`, "10000 values in its lists"},
		{"$all in parts", `{"$or":` + list(20, func(int) string { return `{"a":{"$all":` + list(600, number) + `}}` }) + `}`, "10000 values in its lists"},
		{"$not", nest(50_000, `{"$not":`, "{}", "}"), "100 levels"},
		{"$elemMatch", `{"a":` + nest(5000, `{"$elemMatch":`, "{}", "}") + `}`, "100 levels"},
		{"members", nest(5000, `{"a":`, "1", "}"), "100 levels"},
		{"operand", `{"a":` + nest(5000, "[", "", "]") + `}`, "100 levels"},
		{"path", `{"` + strings.Repeat("a.", 300_000) + `a":1}`, "100 names"},
		{"path in parts", nest(60, `{"a.b":`, "1", "}"), "100 names"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, begun := allocated(), time.Now()
			_, err := Compile(t.Context(), json.RawMessage(tt.selector))
			if e := couch.AsError(err); e == nil || e.Status != 400 || !strings.Contains(e.Reason, tt.want) {
				t.Errorf("%v, not %s", err, tt.want)
			}
			if took, more := time.Since(begun), allocated()-before; more > 256<<20 || took > 10*time.Second {
				t.Errorf("%d MiB, %v", more>>20, took)
			}
		})
	}
	for _, query := range []string{
		`{"selector":{},"fields":` + list(50_000, func(i int) string { return fmt.Sprintf(`"f%d"`, i) }) + `}`,
		`{"selector":{},"sort":` + list(50_000, func(i int) string { return fmt.Sprintf(`"f%d"`, i) }) + `}`,
		`{"selector":{},"fields":["` + strings.Repeat(".", 500_000) + `"]}`,
	} {
		if _, err := Find(t.Context(), nil, json.RawMessage(query), nil); couch.AsError(err) == nil || couch.AsError(err).Code != "invalid_selector" {
			t.Errorf("%.40s: %v", query, err)
		}
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// hostile is selectors within the bounds that take long on the documents of hostileDoc.
func hostile() map[string]string {
	text := func(i int) string { return `"` + strings.Repeat("é", 300) + fmt.Sprint(i) + `"` }
	never := strings.Repeat("(a?){200}", 11) + "b"
	return map[string]string{
		"836 bytes":    `{"$or":` + list(8, func(i int) string { return fmt.Sprintf(`{"%c":{"$regex":"(a?){50}(a|aa|b?a){50}[^a]%d"}}`, 'a', i) }) + `}`,
		"$regex":       regex(never),
		"alternatives": regex(strings.Repeat("(a|aa||aaa){80}", 8) + "$b"),
		"not":          `{"$not":{"$not":` + regex(never) + `}}`,
		"nor":          `{"$nor":[` + regex(never) + `]}`,
		"$elemMatch":   `{"list":{"$elemMatch":{"$regex":"` + strings.Repeat("(a?){200}", 10) + `b"}}}`,
		"$allMatch":    `{"list":{"$allMatch":{"$not":{"$regex":"` + strings.Repeat("(a?){200}", 10) + `b"}}}}`,
		"$keyMapMatch": `{"keys":{"$keyMapMatch":{"$regex":"` + strings.Repeat("(a?){200}", 10) + `b"}}}`,
		"nests":        `{"$or":` + list(200, func(int) string { return `{"deep":` + nest(40, `{"$elemMatch":`, `{"$mod":[2,5]}`, "}") + `}` }) + `}`,
		"$or":          `{"$or":` + list(2000, func(i int) string { return `{"many":{"$elemMatch":{"$eq":` + fmt.Sprint(-i-1) + `}}}` }) + `}`,
		"collation":    `{"$or":` + list(1000, func(i int) string { return `{"accents":{"$elemMatch":{"$lt":` + text(i) + `}}}` }) + `}`,
		"$in of texts": `{"accents":{"$in":` + list(1500, text) + `}}`,
		"$all":         `{"accents":{"$all":` + list(1500, text) + `}}`,
		"objects":      `{"$or":` + list(500, func(i int) string { return `{"keys":{"$lt":{"` + strings.Repeat("a", i) + `":1}}}` }) + `}`,
	}
}

func hostileDoc(t testing.TB) *couch.Doc {
	texts := func(n int, text string) string {
		return list(n, func(i int) string { return `"` + text + fmt.Sprint(i) + `"` })
	}
	keys := list(20_000, func(i int) string { return fmt.Sprintf(`"%s%d":1`, strings.Repeat("a", 60), i) })
	return docs(t, `{"_id":"x","a":"`+strings.Repeat("a", 1<<20)+`","list":`+texts(20_000, strings.Repeat("a", 60))+
		`,"keys":{`+strings.Trim(keys, "[]")+`},"many":`+list(200_000, func(i int) string { return fmt.Sprint(i) })+
		`,"accents":`+texts(1000, strings.Repeat("e\u0301", 700))+
		`,"deep":`+nest(40, "["+strings.Repeat("[],", 2000), "1", "]")+`}`)[0]
}

// Whatever a selector within the bounds asks of a document ends when the client has
// left, though it would take long: here there is no bound of the work.
func TestHostileSelectors(t *testing.T) {
	doc := hostileDoc(t)
	for name, selector := range hostile() {
		s, err := Compile(t.Context(), json.RawMessage(selector))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		fields, err := s.newView(nil).of(doc)
		if err != nil {
			t.Fatal(err)
		}
		left, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errLeft)
		b := work.NewBudget(left, math.MaxInt64)
		begun := time.Now()
		s.match(b, fields)
		if took := time.Since(begun); took > 5*time.Second || !errors.Is(b.Err(), errLeft) {
			t.Errorf("%s: %v after %v", name, b.Err(), took)
		}
		b.Close()
		cancel()
	}
}

var errLeft = errors.New("the client has left")

// A query that is too much work is refused, and is no match and no mismatch.
func TestWorkIsToldNotGuessed(t *testing.T) {
	doc := docs(t, `{"_id":"x","a":"`+strings.Repeat("a", 1<<20)+`"}`)[0]
	hard := regex(strings.Repeat("(a?){200}", 11) + "b")
	s, err := Compile(t.Context(), json.RawMessage(`{"$not":`+hard+`}`))
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Match(t.Context(), doc); ok || !errors.Is(err, ErrWork) {
		t.Error(ok, err)
	}
	_, err = Find(t.Context(), memory{doc}, json.RawMessage(`{"selector":`+hard+`}`), func(json.RawMessage) error { return nil })
	if e := couch.AsError(err); e == nil || e.Status != 400 || e.Reason != "A query is limited to 67108864 steps of work on one document." {
		t.Error(err)
	}
}

// What honest clients ask is far from the bounds, and quick.
func TestHonestQueries(t *testing.T) {
	var m memory
	for i := range 2000 {
		m = append(m, docs(t, fmt.Sprintf(`{"_id":"doc-%05d","mail":"user%d@example.org","tags":["a","b%d"],"n":%d}`, i, i, i, i))...)
	}
	id := func(i int) string { return fmt.Sprintf(`"doc-%05d"`, 3*i) }
	for query, want := range map[string]int{
		`{"_id":{"$in":` + list(5000, id) + `}}`:                                            667,
		`{"_id":{"$nin":` + list(5000, id) + `}}`:                                           1333,
		`{"$or":` + list(1000, func(i int) string { return `{"_id":` + id(i) + `}` }) + `}`: 667,
		`{"tags":{"$all":["a","b7"]}}`:                                                      1,
		regex(`x`):                                                                          0,
		`{"mail":{"$regex":"^[\\w.+-]{1,64}@([\\w-]{1,63}\\.){1,8}[a-z]{2,24}$"},"n":{"$lt":1000}}`: 1000,
		`{"n":{"$in":` + list(5000, func(i int) string { return fmt.Sprintf("%d.0", 2*i) }) + `}}`:  1000,
	} {
		begun := time.Now()
		out, _ := find(t, m, `{"limit":10000,"selector":`+query+`}`)
		if took := time.Since(begun); len(out) != want || took > 10*time.Second {
			t.Errorf("%.60s: %d, not %d, in %v", query, len(out), want, took)
		}
	}
}

// A set finds what comparing with each of its values finds.
func TestSet(t *testing.T) {
	text := rapid.OneOf(rapid.StringN(0, 4, -1), rapid.SampledFrom([]string{"", "a", "A", "á", "a\u0301", "ﬁ", "fi", "\u0000", "a\u0000", "\u200b", "ß", "ss", strings.Repeat("\u0000", 2000), strings.Repeat("a", 2000)}))
	number := rapid.Custom(func(t *rapid.T) any {
		return json.Number(rapid.OneOf(rapid.SampledFrom([]string{
			"0", "-0", "0.0", "1", "1.0", "1e0", "9007199254740992", "9007199254740993", "9007199254740992.0", "1e400", "1e401", "123456789012345678901234567890", "123456789012345678901234567891", "123456789012345678901234567890.0",
		}), rapid.StringMatching(`-?[1-9]\d?(\.\d)?`)).Draw(t, "number"))
	})
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		all := []*rapid.Generator[any]{text.AsAny(), number, rapid.Bool().AsAny(), rapid.Just[any](nil)}
		if depth > 0 {
			all = append(all, rapid.SliceOfN(value(depth-1), 0, 3).AsAny(), rapid.Custom(func(t *rapid.T) any {
				object := map[string]any{}
				for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID).Draw(t, "names") {
					object[name] = value(depth-1).Draw(t, name)
				}
				return object
			}))
		}
		return rapid.OneOf(all...)
	}
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(value(2), fewValues+1, 40).Draw(t, "values")
		v := rapid.OneOf(value(2), rapid.SampledFrom(values)).Draw(t, "v")
		b := work.NewBudget(context.Background(), MaxWork)
		for _, raw := range []bool{false, true} {
			s := newSet(values, raw)
			var want, got []int
			for i := range values {
				if s.compare(b, v, values[i]) == 0 {
					want = append(want, i)
				}
			}
			s.find(b, v, func(i int) bool { got = append(got, i); return true })
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%v in %v (raw: %v): %v, not %v", v, values, raw, got, want)
			}
		}
	})
}

// Operands are looked up, not gone through.
func TestSetIsLookedUp(t *testing.T) {
	s, err := Compile(t.Context(), json.RawMessage(`{"a":{"$in":`+list(MaxOperands, func(i int) string { return fmt.Sprintf(`"%d"`, i) })+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	b := work.NewBudget(t.Context(), 20_000) // two steps for each operand
	defer b.Close()
	if ok := s.match(b, map[string]any{"a": "x"}); ok || b.Err() != nil {
		t.Error(ok, b.Err())
	}
}

// A text that is read within a budget matches as the whole text does.
func TestMeteredText(t *testing.T) {
	patterns := []string{`a*b`, `^(a|ab)(c|bcd)(d*)$`, `\bfoo\b`, `é+$`, `(?m)^x$`, `(?s)a.b`, `(a?){20}a{20}`, `^$`, ``, `[^\x00-\x{10FFFF}]`, `\xff`, `(?i)STRASSE`, `a\z`}
	texts := []string{"", "a", "aab", "abcd", "a foo b", "éé", "x\ny", "y\nx\nz", "a\nb", strings.Repeat("a", 30), "\xff", "strasse", "ba\n"}
	for range 200 {
		text := make([]byte, rand.IntN(40))
		for i := range text {
			text[i] = "abcd \nx\xff"[rand.IntN(8)]
		}
		texts = append(texts, string(text))
	}
	for _, pattern := range patterns {
		p, err := (&tally{ctx: t.Context()}).pattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			b := work.NewBudget(t.Context(), MaxWork)
			want := regexp.MustCompile(pattern).MatchString(text)
			if got := p.re.MatchReader(&meteredText{s: text, p: p, b: b}); got != want || b.Err() != nil {
				t.Errorf("%q of %q: %v", pattern, text, got)
			}
			b.Close()
		}
	}
}

// The size that is counted is not less than what Go makes of a pattern.
func TestProgramSize(t *testing.T) {
	for _, pattern := range []string{`a`, `abc`, `a*`, `a{5}`, `a{2,}`, `(a|b|cd){3,7}`, `((ab?){4}c){5}`, `[a-z]+@[a-z]+\.com`, `(|a){9}`, `(a{0,3}){0,4}`, `\pL{3}`, `(?i)strasse`, `^$`, `\b(foo|bar|baz)\b`} {
		p, err := (&tally{ctx: t.Context()}).pattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if n := instructions(t, pattern); p.size+2 < int64(n) || p.size > int64(2*n) && !strings.Contains(pattern, `\p`) {
			t.Errorf("%s: %d, counted as %d", pattern, n, p.size)
		}
	}
}

// What a query holds is in its request's account: a sort's documents among it.
func TestQueriesHoldMemory(t *testing.T) {
	full := errors.New("full")
	m := work.NewMemory(8<<20, 0, full, full)
	var d memory
	for i := range 64 {
		d = append(d, docs(t, fmt.Sprintf(`{"_id":"%02d","n":%d,"text":"%s"}`, i, -i, strings.Repeat("x", 100_000)))...)
	}
	ask := func(query string) (n int, err error) {
		a := m.Account("ann")
		defer a.Close()
		_, err = Find(work.WithAccount(t.Context(), a), d, json.RawMessage(query), func(json.RawMessage) error { n++; return nil })
		return n, err
	}
	if n, err := ask(`{"selector":{},"sort":["n"],"limit":1000}`); n != 0 || !errors.Is(err, full) {
		t.Errorf("a sort of 6 MB: %d, %v", n, err)
	}
	if n, err := ask(`{"selector":{},"limit":1000}`); n != 64 || err != nil {
		t.Errorf("without a sort: %d, %v", n, err)
	}
	if n, err := ask(`{"selector":{"n":` + list(60_000, func(int) string { return "[]" }) + `}}`); n != 0 || !errors.Is(err, full) {
		t.Errorf("a large operand: %d, %v", n, err)
	}
}

func instructions(t *testing.T, pattern string) int {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		t.Fatal(err)
	}
	p, err := syntax.Compile(re.Simplify())
	if err != nil {
		t.Fatal(err)
	}
	return len(p.Inst)
}
