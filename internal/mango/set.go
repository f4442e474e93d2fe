package mango

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/loveseat-db/loveseat/internal/collate"
	"github.com/loveseat-db/loveseat/internal/work"
)

// A set is the values of an $in, $nin or $all. Values that collate as equal have
// the same key, so a value is compared with a few of them at most.
type set struct {
	values  []any
	compare comparer
	text    func(dst []byte, s string) []byte
	by      map[string][]int // indexes of values, by key; nil: there are few
	long    []int            // those that have no key
}

const (
	fewValues = 8
	maxKey    = 4 << 10 // bytes of a key, before longer values are compared one by one
)

func newSet(values []any, raw bool) *set {
	s := &set{values: values, compare: compare, text: collate.AppendString}
	if raw {
		s.compare, s.text = compareRaw, func(dst []byte, s string) []byte { return append(dst, s...) }
	}
	if len(values) <= fewValues {
		return s
	}
	s.by = make(map[string][]int, len(values))
	for i, v := range values {
		if key, ok := s.key(nil, nil, v); ok {
			s.by[string(key)] = append(s.by[string(key)], i)
		} else {
			s.long = append(s.long, i)
		}
	}
	return s
}

// find calls fn with the index of each value that is equal to v, until it returns false.
func (s *set) find(b *work.Budget, v any, fn func(i int) bool) {
	var buf [128]byte
	if s.by != nil {
		if key, ok := s.key(b, buf[:0], v); ok && b.Spend(int64(16*len(key))) == nil {
			_ = s.among(b, v, s.by[string(key)], fn) && s.among(b, v, s.long, fn)
			return
		}
	}
	for i := range s.values {
		if !s.try(b, v, i, fn) {
			return
		}
	}
}

func (s *set) among(b *work.Budget, v any, indexes []int, fn func(i int) bool) bool {
	for _, i := range indexes {
		if !s.try(b, v, i, fn) {
			return false
		}
	}
	return true
}

func (s *set) try(b *work.Budget, v any, i int, fn func(i int) bool) bool {
	equal := s.compare(b, v, s.values[i]) == 0
	return b.Err() == nil && (!equal || fn(i))
}

func (s *set) has(b *work.Budget, v any) (found bool) {
	s.find(b, v, func(int) bool { found = true; return false })
	return found
}

// hasAll reports whether a list has each of the set's values.
func (s *set) hasAll(b *work.Budget, list []any) bool {
	missing, seen := len(s.values), make([]bool, len(s.values))
	for _, v := range list {
		s.find(b, v, func(i int) bool {
			if !seen[i] {
				seen[i] = true
				missing--
			}
			return true
		})
		if missing == 0 || b.Err() != nil {
			break
		}
	}
	return missing == 0
}

// key appends what all values have in common that are equal to v; false if that is too long, or the budget is spent.
func (s *set) key(b *work.Budget, dst []byte, v any) (key []byte, ok bool) {
	dst = append(dst, byte(typeOf(v)))
	switch v := v.(type) {
	case bool:
		dst = strconv.AppendBool(dst, v)
	case json.Number: // an integer is equal to the floating-point number that is nearest
		if !spend(b, numberSteps(v)) {
			return dst, false
		}
		f, _ := strconv.ParseFloat(string(v), 64)
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(f+0)) // of -0: 0
	case string:
		if len(v) > maxKey/4 {
			return dst, false
		}
		at := len(dst)
		dst = s.text(binary.BigEndian.AppendUint32(dst, 0), v)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	case []any:
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
		for _, e := range v {
			if dst, ok = s.key(b, dst, e); !ok {
				return dst, false
			}
		}
	case map[string]any:
		return s.objectKey(b, dst, v)
	}
	return dst, len(dst) <= maxKey
}

func (s *set) objectKey(b *work.Budget, dst []byte, v map[string]any) (key []byte, ok bool) {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
	if len(v) > maxKey/8 {
		return dst, false
	}
	size := 0
	for name := range v {
		if size += len(name); size > maxKey { // before they are sorted
			return dst, false
		}
	}
	names := slices.SortedFunc(maps.Keys(v), func(x, y string) int { return s.compare(b, x, y) })
	for _, name := range names {
		for _, part := range []any{name, v[name]} {
			if dst, ok = s.key(b, dst, part); !ok {
				return dst, false
			}
		}
	}
	return dst, true
}
