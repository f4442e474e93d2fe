package couch

import (
	"strconv"
	"unicode/utf8"
)

// A scanner passes over JSON (RFC 8259) and checks its syntax without making
// values. Its methods return false at the first fault; pos is then near it.
type scanner struct {
	data   []byte
	pos    int
	spaced bool // white space was passed
}

// peek returns the next byte, 0 at the end (which no JSON may contain).
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
			s.spaced = true
		default:
			return
		}
	}
}

// end reports whether only white space is left.
func (s *scanner) end() bool {
	s.space()
	return s.pos == len(s.data)
}

// compact removes white space outside strings from JSON that the scanner has passed, in place.
func compact(json []byte) []byte {
	out := json[:0]
	inString := false
	for i := 0; i < len(json); i++ {
		c := json[i]
		switch {
		case c == '"':
			inString = !inString
		case c == '\\': // only in strings
			out = append(out, c)
			i++
			c = json[i]
		case !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		out = append(out, c)
	}
	return out
}

func (s *scanner) colon() bool {
	s.space()
	if s.peek() != ':' {
		return false
	}
	s.pos++
	s.space()
	return true
}

// object reads {…}, calling member at the value of each key, which it must pass.
func (s *scanner) object(member func(key string) bool) bool {
	return s.list('{', '}', func() bool {
		start := s.pos
		if !s.skipString() {
			return false
		}
		key := unquote(s.data[start:s.pos])
		return s.colon() && member(key)
	})
}

// array reads […], calling element at each value, which it must pass.
func (s *scanner) array(element func() bool) bool { return s.list('[', ']', element) }

func (s *scanner) list(open, close byte, item func() bool) bool {
	s.space()
	if s.peek() != open {
		return false
	}
	s.pos++
	s.space()
	if s.peek() == close {
		s.pos++
		return true
	}
	for {
		s.space()
		if !item() {
			return false
		}
		s.space()
		c := s.peek()
		s.pos++
		if c == close {
			return true
		}
		if c != ',' {
			return false
		}
	}
}

// skipValue passes one value, without white space around it.
func (s *scanner) skipValue(depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch c := s.peek(); c {
	case '"':
		return s.skipString()
	case '{':
		return s.list('{', '}', func() bool { return s.skipString() && s.colon() && s.skipValue(depth+1) })
	case '[':
		return s.list('[', ']', func() bool { return s.skipValue(depth + 1) })
	case 't':
		return s.skipWord("true")
	case 'f':
		return s.skipWord("false")
	case 'n':
		return s.skipWord("null")
	default:
		return s.skipNumber()
	}
}

func (s *scanner) skipWord(w string) bool {
	if len(s.data)-s.pos < len(w) || string(s.data[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

// skipString passes a string: no control characters, known escapes, valid UTF-8.
func (s *scanner) skipString() bool {
	if s.peek() != '"' {
		return false
	}
	data, start := s.data, s.pos+1
	wide := false
	for i := start; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			s.pos = i + 1
			return !wide || utf8.Valid(data[start:i])
		case c == '\\':
			n := escapeLen(data[i:])
			if n == 6 && data[i+2]|0x20 == 'd' && data[i+3] >= '8' {
				n = surrogatesLen(data[i:])
			}
			if n == 0 {
				return false
			}
			i += n - 1
		case c < 0x20:
			return false
		case c >= utf8.RuneSelf:
			wide = true
		}
	}
	return false
}

// escapeLen is the length of the escape at the start of b, 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !('0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// surrogatesLen is the length of an escaped surrogate pair at the start of b, 0 if it is half of one, which
// stands for no character.
func surrogatesLen(b []byte) int {
	low := b[6:]
	if b[3]|0x20 > 'b' || escapeLen(low) != 6 || low[2]|0x20 != 'd' || low[3]|0x20 < 'c' {
		return 0
	}
	return 12
}

// skipNumber passes a number that a float64 can hold, or an integer.
func (s *scanner) skipNumber() bool {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return false
		}
	}
	if s.peek()|0x20 == 'e' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return false
		}
		_, err := strconv.ParseFloat(string(s.data[start:s.pos]), 64)
		return err == nil // 1e400
	}
	return true
}

func (s *scanner) digits() bool {
	start := s.pos
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.pos++
	}
	return s.pos > start
}
