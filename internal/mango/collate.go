package mango

import (
	"cmp"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/loveseat-db/loveseat/internal/collate"
	"github.com/loveseat-db/loveseat/internal/work"
)

// A kind is a JSON type; kinds are in the order in which CouchDB collates them.
// https://docs.couchdb.org/en/stable/ddocs/views/collation.html#collation-specification
type kind int

const (
	kindNull kind = iota
	kindBoolean
	kindNumber
	kindString
	kindArray
	kindObject
)

func (k kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "array", "object"}[k]
}

func typeOf(v any) kind {
	switch v.(type) {
	case bool:
		return kindBoolean
	case json.Number:
		return kindNumber
	case string:
		return kindString
	case []any:
		return kindArray
	case map[string]any:
		return kindObject
	}
	return kindNull
}

// Compare orders JSON values as CouchDB's views and sorts do: null, booleans,
// numbers, strings by the Unicode collation algorithm, arrays, objects. Values
// are nil, bool, json.Number, string, []any and map[string]any.
//
// Objects are compared by their members in the order of keys; CouchDB takes the
// order in which the members were written, which not all peers preserve.
func Compare(a, b any) int { return compare(nil, a, b) }

// A comparer compares values within a budget, which may be nil. When that is spent the result means nothing.
type comparer func(w *work.Budget, a, b any) int

func compare(w *work.Budget, a, b any) int { return compareWith(w, a, b, compareStrings) }

// compareRaw compares strings by their bytes, as CouchDB compares ids.
func compareRaw(w *work.Budget, a, b any) int { return compareWith(w, a, b, compareBytes) }

// A textComparer compares strings within a budget.
type textComparer func(w *work.Budget, a, b string) int

func compareWith(w *work.Budget, a, b any, text textComparer) int {
	k := typeOf(a)
	if !spend(w, 4) {
		return 0
	}
	if c := cmp.Compare(k, typeOf(b)); c != 0 {
		return c
	}
	switch k {
	case kindBoolean:
		return compareBools(a.(bool), b.(bool))
	case kindNumber:
		m, n := a.(json.Number), b.(json.Number)
		if !spend(w, numberSteps(m)+numberSteps(n)) {
			return 0
		}
		return compareNumbers(m, n)
	case kindString:
		return text(w, a.(string), b.(string))
	case kindArray:
		return slices.CompareFunc(a.([]any), b.([]any), func(a, b any) int { return compareWith(w, a, b, text) })
	case kindObject:
		return compareObjects(w, a.(map[string]any), b.(map[string]any), text)
	}
	return 0
}

// spend reports whether a budget, if there is one, has steps left.
func spend(w *work.Budget, steps int64) bool { return w == nil || w.Spend(steps) == nil }

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// numberSteps is what reading a number costs: its digits are as many as its writer likes.
func numberSteps(n json.Number) int64 {
	if steps := int64(len(n)); steps <= 19 {
		return steps
	}
	return 8 * int64(len(n))
}

// compareNumbers is exact for integers of any size, which float64 is not.
func compareNumbers(a, b json.Number) int {
	x, errX := strconv.ParseInt(string(a), 10, 64)
	y, errY := strconv.ParseInt(string(b), 10, 64)
	if errX == nil && errY == nil {
		return cmp.Compare(x, y)
	}
	f, _ := strconv.ParseFloat(string(a), 64) // out of range gives an infinity of the right sign
	g, _ := strconv.ParseFloat(string(b), 64)
	if c := cmp.Compare(f, g); c != 0 || len(a) > 400 || len(b) > 400 {
		return c
	}
	m, okM := new(big.Int).SetString(string(a), 10)
	n, okN := new(big.Int).SetString(string(b), 10)
	if okM && okN {
		return m.Cmp(n)
	}
	return 0
}

func compareObjects(w *work.Budget, a, b map[string]any, text textComparer) int {
	byText := func(a, b string) int { return text(w, a, b) }
	keys := func(m map[string]any) []string { return slices.SortedFunc(maps.Keys(m), byText) }
	ka, kb := keys(a), keys(b)
	for i := range min(len(ka), len(kb)) {
		if c := byText(ka[i], kb[i]); c != 0 {
			return c
		}
		if c := compareWith(w, a[ka[i]], b[kb[i]], text); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(ka), len(kb))
}

// collationSteps is what collating a byte costs.
const collationSteps = 16

func compareStrings(w *work.Budget, a, b string) int {
	if a == b || !spend(w, int64(min(len(a), len(b))+8)*collationSteps) {
		return 0
	}
	return collate.Strings(a, b)
}

func compareBytes(w *work.Budget, a, b string) int {
	spend(w, int64(min(len(a), len(b))/16))
	return strings.Compare(a, b)
}

// integer reads a number without a fraction: 3, and 3.0 and 3e0 too.
func integer(v any) (int64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	if i, err := n.Int64(); err == nil {
		return i, true
	}
	f, err := n.Float64()
	const exact = 1 << 53
	if err != nil || f != float64(int64(f)) || f > exact || f < -exact {
		return 0, false
	}
	return int64(f), true
}
