package localdb

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// canonical is JSON without the freedom of spelling it: no white space, strings
// without needless escapes, floating-point numbers by their value. Members keep
// their order, and an integer is not the floating-point number of its value, as
// in CouchDB's revision ids. What is spelled that way already, nearly all there
// is, is returned as it is.
func canonical(b []byte) []byte {
	if plain(b) {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			end := stringEnd(b, i)
			out = appendCanonicalString(out, b[i:end])
			i = end
		case c == '-' || '0' <= c && c <= '9':
			end := i + 1
			for end < len(b) && isNumber(b[end]) {
				end++
			}
			out = appendCanonicalNumber(out, b[i:end])
			i = end
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

// plain reports whether JSON has no escapes, no white space, and no numbers but integers.
func plain(b []byte) bool {
	if bytes.IndexByte(b, '\\') >= 0 {
		return false
	}
	for len(b) > 0 {
		text := bytes.IndexByte(b, '"')
		if text < 0 {
			return plainTokens(b)
		}
		if !plainTokens(b[:text]) {
			return false
		}
		b = b[text+1:]
		b = b[bytes.IndexByte(b, '"')+1:] // malformed: the rest is looked at as if it were tokens
	}
	return true
}

func plainTokens(b []byte) bool {
	for i, c := range b {
		switch {
		case c <= ' ' || c == '.' || c == 'E' || c == '-' && i+1 < len(b) && b[i+1] == '0':
			return false
		case c == 'e' && i > 0 && '0' <= b[i-1] && b[i-1] <= '9': // not of "true"
			return false
		}
	}
	return true
}

func isNumber(c byte) bool {
	return '0' <= c && c <= '9' || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

// appendCanonicalNumber keeps integers as they are, of any size.
func appendCanonicalNumber(out, number []byte) []byte {
	if string(number) == "-0" {
		return append(out, '0')
	}
	if bytes.ContainsAny(number, ".eE") {
		if f, err := strconv.ParseFloat(string(number), 64); err == nil {
			return strconv.AppendFloat(out, f, 'e', -1, 64)
		}
	}
	return append(out, number...)
}

// stringEnd is the index after the string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// appendCanonicalString escapes what must be escaped, and half a surrogate pair
// as it is written: it stands for no text, and different ones must not become the same.
func appendCanonicalString(out, s []byte) []byte {
	for len(s) > 0 {
		n := bytes.IndexByte(s, '\\')
		if n < 0 || n+1 == len(s) {
			return append(out, s...)
		}
		out = append(out, s[:n]...)
		s = s[n+1:]
		if s[0] != 'u' {
			out = appendEscape(out, s[0])
			s = s[1:]
			continue
		}
		r := unit(s)
		if r < 0 {
			return append(append(out, '\\'), s...) // malformed
		}
		s = s[5:]
		if utf16.IsSurrogate(r) {
			if low := unit(bytes.TrimPrefix(s, []byte{'\\'})); low >= 0 && s[0] == '\\' && utf16.DecodeRune(r, low) != utf8.RuneError {
				r = utf16.DecodeRune(r, low)
				s = s[6:]
			} else {
				out = append(out, `\u`...)
				out = strconv.AppendInt(out, int64(r), 16)
				continue
			}
		}
		out = appendText(out, r)
	}
	return out
}

// unit is the code unit of "uXXXX", -1 if that is not there.
func unit(s []byte) rune {
	if len(s) < 5 || s[0] != 'u' {
		return -1
	}
	v, err := strconv.ParseUint(string(s[1:5]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(v)
}

// appendEscape appends what "\c" stands for.
func appendEscape(out []byte, c byte) []byte {
	switch c {
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	}
	return appendText(out, rune(c))
}

func appendText(out []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(out, '\\', byte(r))
	case r < ' ':
		out = append(out, `\u00`...)
		return append(out, "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
	}
	return utf8.AppendRune(out, r)
}
