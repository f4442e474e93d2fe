// Package cli is what the command lines have in common: how they show what others
// wrote, and how they read URLs with passwords.
package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// How much is shown of one text, in characters.
const (
	maxText = 1000
	maxName = 60
)

// Text makes what others wrote fit for people: one line of characters that can be
// seen, each in its place, and not too many. The others become "?".
func Text(s string) string { return shortened(s, maxText) }

// Name is Text for what stands between other words: the name of a share, of a user, a document's id.
func Name(s string) string { return shortened(s, maxName) }

func shortened(s string, most int) string {
	var b strings.Builder
	marks := 0 // in a row, which pile up over one character
	for _, r := range s {
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		switch {
		case marks > 2 || unicode.Is(unicode.Variation_Selector, r): // nothing is lost
			continue
		case !unicode.IsPrint(r) || unsafe(r):
			r = '?'
		}
		if most--; most < 0 {
			b.WriteString("...")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Sprintf is fmt.Sprintf whose strings and errors are shown as [Text]: all of
// them may be others'.
func Sprintf(format string, args ...any) string {
	shown := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			shown[i] = Text(v)
		case error:
			shown[i] = Text(v.Error())
		case fmt.Stringer:
			shown[i] = Text(v.String())
		default:
			shown[i] = arg
		}
	}
	return fmt.Sprintf(format, shown...)
}

// Lines is Text for several lines, of which those after the first are set in, so
// that none looks as if the program had said it.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	if len(lines) > 20 {
		lines = append(lines[:20], "...")
	}
	for i := range lines {
		lines[i] = Text(lines[i])
	}
	return strings.Join(lines, "\n    ")
}

// unsafe reports whether a character does something to a terminal, or to those next
// to it, or cannot be seen: control characters but tab and line feed, the bidirectional
// ones, those without width, and what looks like nothing at all.
func unsafe(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < ' ' || r >= 0x7f && r < 0xa0:
		return true
	case r < 0xa0:
		return false
	case r == 0x2800: // a braille pattern without dots
		return true
	}
	return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// A Writer writes text with such characters escaped as in JSON: what is JSON
// remains the same JSON, and no terminal obeys. It is the last line of
// defence; what is known to be others' goes through [Text]. It is safe for concurrent use.
type Writer struct {
	mu   sync.Mutex
	to   io.Writer
	rest []byte // the beginning of a character
}

// NewWriter returns a writer to w, or nil if that is nil.
func NewWriter(w io.Writer) io.Writer {
	if w == nil {
		return nil
	}
	return &Writer{to: w}
}

// Write implements [io.Writer].
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) == 0 && isPlain(p) {
		return w.to.Write(p)
	}
	text := append(w.rest, p...)
	out := make([]byte, 0, len(text)+16)
	for len(text) > 0 && utf8.FullRune(text) {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, `\ufffd`...)
		case r == utf8.RuneError:
			out = append(out, text[:n]...)
		case r > 0xffff && unsafe(r):
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		case unsafe(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	w.rest = append([]byte(nil), text...)
	if _, err := w.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func isPlain(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\n' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}
