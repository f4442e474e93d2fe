package mango

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/work"
)

// Long values, long names and objects as operands are work too: a query that has little
// else ends when its client has left.
func TestLongValuesAreWork(t *testing.T) {
	digits := strings.Repeat("7", 1<<20)
	name := func(i int) string { return strings.Repeat("n", 8000) + fmt.Sprint(i) }
	object := "{" + strings.Trim(list(500, func(i int) string { return fmt.Sprintf("%q:1", name(i)) }), "[]") + "}"
	doc := docs(t, `{"_id":"x","long":`+digits+`,"number":`+digits[:300]+`,"numbers":`+list(20_000, func(i int) string { return digits[:300] + fmt.Sprint(i) })+
		`,"object":`+object+`,"lists":`+list(100_000, func(int) string { return "[]" })+
		`,"objects":`+list(20_000, func(int) string { return `{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1}` })+`}`)[0]
	nine := list(9, func(i int) string { return fmt.Sprint(i) })
	or := func(n int, item string) string { return `{"$or":` + list(n, func(int) string { return item }) + `}` }
	for label, selector := range map[string]string{
		"a long number":       or(4000, `{"long":1}`),
		"a long divisor":      or(3000, `{"long":{"$mod":[2,5]}}`),
		"a long number, $in":  or(1000, `{"long":{"$in":`+nine+`}}`),
		"large numbers":       or(400, `{"numbers":{"$elemMatch":{"$eq":`+digits[:300]+`}}}`),
		"large numbers, $in":  or(200, `{"numbers":{"$in":`+nine+`}}`),
		"an object, $in":      or(1000, `{"object":{"$in":`+nine+`}}`),
		"values of a kind":    `{"lists":{"$in":` + list(9999, func(i int) string { return fmt.Sprint(i) }) + `}}`,
		"a long index":        `{"lists":{"$elemMatch":{"` + strings.Repeat("x", 900_000) + `":1}}}`,
		"a long name":         `{"objects":{"$elemMatch":{"` + strings.Repeat("x", 900_000) + `":1}}}`,
		"a long name, absent": `{"objects":{"$allMatch":{"` + strings.Repeat("x", 900_000) + `":{"$exists":false}}}}`,
	} {
		s, err := Compile(t.Context(), json.RawMessage(selector))
		if err != nil {
			t.Errorf("%s: %v", label, err)
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
		if took := time.Since(begun); took > time.Second && !errors.Is(b.Err(), errLeft) || took > 3*time.Second {
			t.Errorf("%s: %v after %v", label, b.Err(), took)
		}
		b.Close()
		cancel()
	}
}

// What a sort's fields, a bookmark and the fields of an answer take is held too.
func TestAnswersHoldMemory(t *testing.T) {
	full := errors.New("full")
	m := work.NewMemory(24<<20, 0, full, full)
	var small, large memory
	for i := range 1000 {
		small = append(small, docs(t, fmt.Sprintf(`{"_id":"%04d","n":%d,"a":[%d]}`, i, -i, i))...)
	}
	large = docs(t, `{"_id":"x",`+nest(60, `"a":{`, `"text":"`+strings.Repeat("x", 1<<20)+`"`, "}")+`}`)
	path := func(i int) string { return `"` + strings.Repeat("a.", i) + `a"` }
	deep := list(40, func(i int) string { return path(39 - i) })
	key, _ := json.Marshal(map[string]any{"id": "x", "key": []any{json.RawMessage(list(190_000, func(int) string { return "[]" }))}})
	for label, tt := range map[string]struct {
		db    memory
		query string
		want  error
		n     int
	}{
		"distinct sort fields": {small, `{"selector":{},"sort":` + list(9000, func(i int) string { return fmt.Sprintf(`"%s"`, []string{"n", "a.0"}[i%2]) }) + `,"limit":5000}`, nil, 1000},
		"bookmark":             {large, `{"selector":{},"fields":["_id"],"sort":` + deep + `}`, full, 1},
		"nested fields":        {large, `{"selector":{},"fields":` + list(9, path) + `}`, full, 0},
		"forged bookmark":      {small, `{"selector":{},"sort":["n"],"bookmark":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`, full, 0},
		"honest":               {large, `{"selector":{},"fields":["a.a"]}`, nil, 1},
	} {
		a := m.Account("ann")
		n := 0
		before := allocated()
		_, err := Find(work.WithAccount(t.Context(), a), tt.db, json.RawMessage(tt.query), func(json.RawMessage) error { n++; return nil })
		if more := allocated() - before; !errors.Is(err, tt.want) || n != tt.n || more > 256<<20 {
			t.Errorf("%s: %d, %v, %d MiB", label, n, err, more>>20)
		}
		a.Close()
	}
	if b := m.Account("ann"); !b.TryHold(12 << 20) {
		t.Error("something is held still")
	}
}
