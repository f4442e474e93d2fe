package mango

import (
	"encoding/json"
	"strings"

	"github.com/loveseat-db/loveseat/internal/work"
)

// An operatorBuilder checks an operator's argument and makes its test.
type operatorBuilder func(op string, arg any, c condition) (predicate, error)

// A condition is what an operator is built for.
type condition struct {
	*tally
	raw bool // of ids, whose strings are compared by their bytes
}

func (c condition) compare() comparer {
	if c.raw {
		return compareRaw
	}
	return compare
}

// operators are CouchDB's condition operators and the combination operators on
// arrays and objects; $and, $or, $nor, $not are the compiler's own.
// https://docs.couchdb.org/en/stable/api/database/find.html#operators
var operators map[string]operatorBuilder

func init() { // not in the declaration: elements refers back to it through the compiler
	operators = map[string]operatorBuilder{
		"$lt":          comparison(func(c int) bool { return c < 0 }),
		"$lte":         comparison(func(c int) bool { return c <= 0 }),
		"$eq":          comparison(func(c int) bool { return c == 0 }),
		"$ne":          comparison(func(c int) bool { return c != 0 }),
		"$gte":         comparison(func(c int) bool { return c >= 0 }),
		"$gt":          comparison(func(c int) bool { return c > 0 }),
		"$exists":      nil, // the compiler's: the only one that looks at what is not there
		"$type":        typeIs,
		"$in":          memberOf,
		"$nin":         notMemberOf,
		"$size":        size,
		"$mod":         modulo,
		"$regex":       matchesRegexp,
		"$beginsWith":  beginsWith,
		"$all":         hasAll,
		"$elemMatch":   elements(anyElement),
		"$allMatch":    elements(allElements),
		"$keyMapMatch": elements(anyKey),
	}
}

func comparison(holds func(int) bool) operatorBuilder {
	return func(_ string, arg any, c condition) (predicate, error) {
		compare := c.compare()
		return func(b *work.Budget, v any) bool { return holds(compare(b, v, arg)) }, nil
	}
}

func typeIs(op string, arg any, _ condition) (predicate, error) {
	name, ok := arg.(string)
	if !ok {
		return nil, badArg(op, arg)
	}
	return func(_ *work.Budget, v any) bool { return typeOf(v).String() == name }, nil
}

// setArg reads the list of an $in, $nin or $all.
func setArg(op string, arg any, c condition) (*set, error) {
	list, ok := arg.([]any)
	if !ok {
		return nil, badArg(op, arg)
	}
	if err := c.list(len(list)); err != nil {
		return nil, err
	}
	return newSet(list, c.raw), nil
}

// memberOf: an array is in the list if one of its elements is.
func memberOf(op string, arg any, c condition) (predicate, error) {
	list, err := setArg(op, arg, c)
	if err != nil {
		return nil, err
	}
	return func(b *work.Budget, v any) bool {
		if values, ok := v.([]any); ok {
			return anyElement(b, values, list.has)
		}
		return list.has(b, v)
	}, nil
}

func notMemberOf(op string, arg any, c condition) (predicate, error) {
	in, err := memberOf(op, arg, c)
	if err != nil {
		return nil, err
	}
	return func(b *work.Budget, v any) bool { return !in(b, v) }, nil
}

func size(op string, arg any, _ condition) (predicate, error) {
	n, ok := integer(arg)
	if !ok || n < 0 {
		return nil, badArg(op, arg)
	}
	return func(_ *work.Budget, v any) bool {
		list, ok := v.([]any)
		return ok && int64(len(list)) == n
	}, nil
}

func modulo(op string, arg any, _ condition) (predicate, error) {
	list, _ := arg.([]any)
	if len(list) != 2 {
		return nil, badArg(op, arg)
	}
	divisor, ok1 := integer(list[0])
	remainder, ok2 := integer(list[1])
	if !ok1 || !ok2 || divisor == 0 {
		return nil, badArg(op, arg)
	}
	return func(b *work.Budget, v any) bool {
		number, ok := v.(json.Number)
		if !ok || b.Spend(numberSteps(number)) != nil {
			return false
		}
		n, ok := integer(number)
		return ok && n%divisor == remainder
	}, nil
}

func matchesRegexp(op string, arg any, c condition) (predicate, error) {
	text, ok := arg.(string)
	if !ok {
		return nil, badArg(op, arg)
	}
	p, err := c.pattern(text)
	if err != nil {
		return nil, err
	}
	return func(b *work.Budget, v any) bool {
		s, ok := v.(string)
		return ok && p.matches(b, s)
	}, nil
}

func beginsWith(op string, arg any, _ condition) (predicate, error) {
	prefix, ok := arg.(string)
	if !ok {
		return nil, badArg(op, arg)
	}
	return func(b *work.Budget, v any) bool {
		s, ok := v.(string)
		return ok && b.Spend(int64(min(len(s), len(prefix))/16)) == nil && strings.HasPrefix(s, prefix)
	}, nil
}

// hasAll: an array that holds every element of arg, or is the one array in arg.
func hasAll(op string, arg any, c condition) (predicate, error) {
	want, err := setArg(op, arg, c)
	if err != nil {
		return nil, err
	}
	return func(b *work.Budget, v any) bool {
		list, ok := v.([]any)
		if !ok || len(want.values) == 0 {
			return false
		}
		if whole, ok := want.values[0].([]any); ok && len(want.values) == 1 && want.compare(b, list, whole) == 0 {
			return true
		}
		return want.hasAll(b, list)
	}, nil
}

// elements compiles a selector on the parts of an array or object.
func elements(over func(b *work.Budget, v any, test predicate) bool) operatorBuilder {
	return func(op string, arg any, c condition) (predicate, error) {
		sel, ok := arg.(map[string]any)
		if !ok {
			return nil, badArg(op, arg)
		}
		test, err := compiler{tally: c.tally, fields: map[string]struct{}{}, bare: true}.object(sel, nil, false)
		if err != nil {
			return nil, err
		}
		return func(b *work.Budget, v any) bool { return over(b, v, test) }, nil
	}
}

func anyElement(b *work.Budget, v any, test predicate) bool {
	list, _ := v.([]any)
	for _, e := range list {
		if b.Spend(1) != nil || test(b, e) {
			return true
		}
	}
	return false
}

// allElements is false of an empty array, as in CouchDB.
func allElements(b *work.Budget, v any, test predicate) bool {
	list, _ := v.([]any)
	for _, e := range list {
		if b.Spend(1) != nil || !test(b, e) {
			return false
		}
	}
	return len(list) > 0
}

func anyKey(b *work.Budget, v any, test predicate) bool {
	object, _ := v.(map[string]any)
	for key := range object {
		if b.Spend(1) != nil || test(b, key) {
			return true
		}
	}
	return false
}
