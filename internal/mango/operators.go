package mango

import (
	"regexp"
	"strings"
)

// An operatorBuilder checks an operator's argument and makes its test.
type operatorBuilder func(op string, arg any, compare func(a, b any) int) (predicate, error)

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
	return func(_ string, arg any, compare func(a, b any) int) (predicate, error) {
		return func(v any) bool { return holds(compare(v, arg)) }, nil
	}
}

func typeIs(op string, arg any, _ func(a, b any) int) (predicate, error) {
	name, ok := arg.(string)
	if !ok {
		return nil, badArg(op, arg)
	}
	return func(v any) bool { return typeOf(v).String() == name }, nil
}

// memberOf: an array is in the list if one of its elements is.
func memberOf(op string, arg any, compare func(a, b any) int) (predicate, error) {
	list, ok := arg.([]any)
	if !ok {
		return nil, badArg(op, arg)
	}
	return func(v any) bool {
		if values, ok := v.([]any); ok {
			for _, v := range values {
				if contains(list, v, compare) {
					return true
				}
			}
			return false
		}
		return contains(list, v, compare)
	}, nil
}

func notMemberOf(op string, arg any, compare func(a, b any) int) (predicate, error) {
	in, err := memberOf(op, arg, compare)
	if err != nil {
		return nil, err
	}
	return func(v any) bool { return !in(v) }, nil
}

func contains(list []any, v any, compare func(a, b any) int) bool {
	for _, e := range list {
		if compare(v, e) == 0 {
			return true
		}
	}
	return false
}

func size(op string, arg any, _ func(a, b any) int) (predicate, error) {
	n, ok := integer(arg)
	if !ok || n < 0 {
		return nil, badArg(op, arg)
	}
	return func(v any) bool {
		list, ok := v.([]any)
		return ok && int64(len(list)) == n
	}, nil
}

func modulo(op string, arg any, _ func(a, b any) int) (predicate, error) {
	list, _ := arg.([]any)
	if len(list) != 2 {
		return nil, badArg(op, arg)
	}
	divisor, ok1 := integer(list[0])
	remainder, ok2 := integer(list[1])
	if !ok1 || !ok2 || divisor == 0 {
		return nil, badArg(op, arg)
	}
	return func(v any) bool {
		n, ok := integer(v)
		return ok && n%divisor == remainder
	}, nil
}

func matchesRegexp(op string, arg any, _ func(a, b any) int) (predicate, error) {
	pattern, ok := arg.(string)
	re, err := regexp.Compile(pattern)
	if !ok || err != nil {
		return nil, badArg(op, arg)
	}
	return func(v any) bool {
		s, ok := v.(string)
		return ok && re.MatchString(s)
	}, nil
}

func beginsWith(op string, arg any, _ func(a, b any) int) (predicate, error) {
	prefix, ok := arg.(string)
	if !ok {
		return nil, badArg(op, arg)
	}
	return func(v any) bool {
		s, ok := v.(string)
		return ok && strings.HasPrefix(s, prefix)
	}, nil
}

// hasAll: an array that holds every element of arg, or is the one array in arg.
func hasAll(op string, arg any, compare func(a, b any) int) (predicate, error) {
	want, ok := arg.([]any)
	if !ok {
		return nil, badArg(op, arg)
	}
	return func(v any) bool {
		list, ok := v.([]any)
		if !ok || len(want) == 0 {
			return false
		}
		if whole, ok := want[0].([]any); ok && len(want) == 1 && compare(list, whole) == 0 {
			return true
		}
		for _, w := range want {
			if !contains(list, w, compare) {
				return false
			}
		}
		return true
	}, nil
}

// elements compiles a selector on the parts of an array or object.
func elements(over func(v any, test predicate) bool) operatorBuilder {
	return func(op string, arg any, _ func(a, b any) int) (predicate, error) {
		sel, ok := arg.(map[string]any)
		if !ok {
			return nil, badArg(op, arg)
		}
		test, err := compiler{fields: map[string]struct{}{}, bare: true}.object(sel, nil, false)
		if err != nil {
			return nil, err
		}
		return func(v any) bool { return over(v, test) }, nil
	}
}

func anyElement(v any, test predicate) bool {
	list, _ := v.([]any)
	for _, e := range list {
		if test(e) {
			return true
		}
	}
	return false
}

// allElements is false of an empty array, as in CouchDB.
func allElements(v any, test predicate) bool {
	list, _ := v.([]any)
	for _, e := range list {
		if !test(e) {
			return false
		}
	}
	return len(list) > 0
}

func anyKey(v any, test predicate) bool {
	object, _ := v.(map[string]any)
	for key := range object {
		if test(key) {
			return true
		}
	}
	return false
}
