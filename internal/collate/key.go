// Package collate orders JSON values as CouchDB's views do, by comparison and by sort keys that
// compare bytewise.
//
// https://docs.couchdb.org/en/stable/ddocs/views/collation.html#collation-specification
//
// Strings stand in the order of ICU's root collation; golang.org/x/text/collate, whose data is older, gives
// most of the weights, root.txt what has changed since.
package collate

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// What the key of a value begins with. end, which is smaller, closes arrays and objects.
const (
	end byte = iota
	tagNull
	tagFalse
	tagTrue
	tagNumber
	tagString
	tagArray
	tagObject
)

// MaxDepth is how deep the values in a key may be nested.
const MaxDepth = 10_000

var errJSON = errors.New("not a JSON value")

// AppendJSON appends the sort key of a JSON value, which must be valid: keys compare bytewise as CouchDB
// compares the values, also when other keys follow them, and are equal if the values are equal to
// CouchDB (1 and 1.0, strings that differ in control characters). Objects are compared member by member as they are
// written. The error tells of text that is not JSON or is nested too deeply.
func AppendJSON(dst, value []byte) ([]byte, error) {
	k := key{dst: dst, text: value}
	if !k.value(0) {
		return dst, errJSON
	}
	if k.space(); len(k.text) > 0 {
		return dst, errJSON
	}
	return k.dst, nil
}

// A key is being written; text is what is left to read.
type key struct {
	dst, text []byte
}

func (k *key) space() {
	for len(k.text) > 0 && (k.text[0] == ' ' || k.text[0] == '\t' || k.text[0] == '\n' || k.text[0] == '\r') {
		k.text = k.text[1:]
	}
}

func (k *key) take(literal string) bool {
	if len(k.text) < len(literal) || string(k.text[:len(literal)]) != literal {
		return false
	}
	k.text = k.text[len(literal):]
	return true
}

func (k *key) value(depth int) bool {
	k.space()
	if len(k.text) == 0 || depth > MaxDepth {
		return false
	}
	switch k.text[0] {
	case 'n':
		k.dst = append(k.dst, tagNull)
		return k.take("null")
	case 'f':
		k.dst = append(k.dst, tagFalse)
		return k.take("false")
	case 't':
		k.dst = append(k.dst, tagTrue)
		return k.take("true")
	case '"':
		return k.string()
	case '[':
		return k.list(tagArray, ']', func() bool { return k.value(depth + 1) })
	case '{':
		return k.list(tagObject, '}', func() bool {
			if k.space(); !k.string() {
				return false
			}
			k.space()
			return k.take(":") && k.value(depth+1)
		})
	}
	return k.number()
}

func (k *key) list(tag, closing byte, element func() bool) bool {
	k.text = k.text[1:]
	k.dst = append(k.dst, tag)
	if k.space(); !k.take(string(closing)) {
		for {
			if !element() {
				return false
			}
			if k.space(); k.take(",") {
				continue
			}
			if !k.take(string(closing)) {
				return false
			}
			break
		}
	}
	k.dst = append(k.dst, end)
	return true
}

func (k *key) string() bool {
	plain := true
	for i := 1; i < len(k.text); i++ {
		switch k.text[i] {
		case '\\':
			plain = false
			i++
		case '"':
			quoted := k.text[:i+1]
			k.text = k.text[i+1:]
			k.dst = append(k.dst, tagString)
			if plain {
				k.dst = AppendString(k.dst, string(quoted[1:i]))
				return true
			}
			s, err := jsontext.AppendUnquote(nil, quoted)
			k.dst = AppendString(k.dst, string(s)) // with U+FFFD for what is not UTF-8
			return err == nil || len(s) > 0
		}
	}
	return false
}

func (k *key) number() bool {
	n := 0
	for n < len(k.text) && (k.text[n] >= '0' && k.text[n] <= '9' || k.text[n] == '-' || k.text[n] == '+' || k.text[n] == '.' || k.text[n] == 'e' || k.text[n] == 'E') {
		n++
	}
	text := string(k.text[:n])
	k.text = k.text[n:]
	var ok bool
	k.dst, ok = appendNumber(append(k.dst, tagNumber), text)
	return ok
}

// appendNumber appends the number as a float64, by which floats are compared, and then, for integers that
// are none, how much they differ from it: CouchDB's integers are exact.
func appendNumber(dst []byte, text string) ([]byte, bool) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return dst, false
	}
	if f == 0 {
		f = 0 // not -0
	}
	bits := math.Float64bits(f)
	if f < 0 || bits>>63 == 1 && f != 0 {
		bits = ^bits
	} else {
		bits = bits&^(1<<63) | 1<<63
	}
	dst = binary.BigEndian.AppendUint64(dst, bits)
	if math.Abs(f) < 1<<53 {
		return append(dst, 1), true
	}
	return append(dst, rest(text, f)...), true
}

// rest encodes what an integer is more than the float64 next to it: the sign, the length and the bytes of the difference.
func rest(text string, f float64) []byte {
	n, ok := new(big.Int).SetString(text, 10)
	if !ok {
		return []byte{1} // a float
	}
	if !math.IsInf(f, 0) {
		whole, _ := big.NewFloat(f).Int(nil)
		n.Sub(n, whole)
	}
	size := n.Bytes()
	switch n.Sign() {
	case 0:
		return []byte{1}
	case 1:
		return append(binary.BigEndian.AppendUint32([]byte{2}, uint32(len(size))), size...)
	}
	out := append(binary.BigEndian.AppendUint32([]byte{0}, ^uint32(len(size))), size...)
	for i := range size {
		out[5+i] = ^out[5+i]
	}
	return out
}
