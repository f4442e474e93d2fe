package collate

import (
	"bytes"
	"cmp"
	"sync"
)

// ASCII's weights, which most keys need alone.
type ascii struct {
	primary  [128]uint16 // 0: ignored
	tertiary [128]byte
}

var loadASCII = sync.OnceValue(func() *ascii {
	t := new(ascii)
	c := standards.Get().(*standard)
	defer standards.Put(c)
	for i := range t.primary {
		var w weights
		if c.add(&w, string(rune(i))); len(w.primary) == 2 {
			t.primary[i], t.tertiary[i] = uint16(w.primary[0])<<8|uint16(w.primary[1]), w.tertiary[0]
		}
	}
	return t
})

// isASCII is a loop that the compiler makes fast.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// Strings compares strings as CouchDB's views do: by ICU's root collation, of which only what makes no
// difference to it, control characters for example, is equal.
func Strings(a, b string) int {
	if a == b {
		return 0
	}
	if isASCII(a) && isASCII(b) {
		return compareASCII(a, b)
	}
	var buf [256]byte
	x := AppendString(buf[:0], a)
	return bytes.Compare(x, AppendString(x[len(x):], b))
}

func compareASCII(a, b string) int {
	t := loadASCII()
	tertiary, i, j := 0, 0, 0
	for {
		for i < len(a) && t.primary[a[i]] == 0 {
			i++
		}
		for j < len(b) && t.primary[b[j]] == 0 {
			j++
		}
		if i == len(a) || j == len(b) {
			break
		}
		if c := cmp.Compare(t.primary[a[i]], t.primary[b[j]]); c != 0 {
			return c
		}
		if tertiary == 0 {
			tertiary = cmp.Compare(t.tertiary[a[i]], t.tertiary[b[j]])
		}
		i, j = i+1, j+1
	}
	if c := cmp.Compare(len(a)-i, len(b)-j); c != 0 {
		return c
	}
	return tertiary
}

// AppendString appends a sort key: keys compare bytewise as [Strings] compares the strings, also
// when more follows them.
func AppendString(dst []byte, s string) []byte {
	if isASCII(s) {
		return appendASCII(dst, s)
	}
	w := scratch.Get().(*weights)
	defer scratch.Put(w)
	*w = weights{primary: w.primary[:0], secondary: w.secondary[:0], tertiary: w.tertiary[:0]}
	weigh(w, s)
	dst = append(append(dst, w.primary...), 0)
	dst = append(append(dst, w.secondary[:w.secondaries]...), 0)
	return append(append(dst, w.tertiary[:w.tertiaries]...), 0)
}

var scratch = sync.Pool{New: func() any { return new(weights) }}

func appendASCII(dst []byte, s string) []byte {
	t := loadASCII()
	counts := 0 // bytes up to the last character that is not in the common form
	for i := range len(s) {
		p := t.primary[s[i]]
		if p == 0 {
			continue
		}
		dst = append(dst, byte(p>>8), byte(p))
		if t.tertiary[s[i]] != commonTertiary[0] {
			counts = i + 1
		}
	}
	dst = append(dst, 0, 0)
	for i := range counts {
		if t.primary[s[i]] != 0 {
			dst = append(dst, t.tertiary[s[i]])
		}
	}
	return append(dst, 0)
}
