package mango

import (
	"io"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"

	"github.com/loveseat-db/loveseat/internal/work"
)

// A pattern is a compiled $regex. Go's RE2 takes time in proportion to the length
// of the text times the size of the program, and so is it counted.
type pattern struct {
	re   *regexp.Regexp
	size int64 // of the program
}

const (
	parseMemory   = 2 << 10 // bytes for each byte of a pattern at most: classes of Unicode
	programMemory = 1 << 10 // bytes for each instruction: the program, and what runs it
)

// pattern compiles a $regex. Its size is known before it is expanded: Go's own
// limits are a thousand repetitions and 128 MB.
func (t *tally) pattern(text string) (*pattern, error) {
	if len(text) > MaxPattern {
		return nil, tooLarge(MaxPattern, "bytes of one $regex")
	}
	if err := work.Hold(t.ctx, int64(len(text))*parseMemory); err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, badArg("$regex", text)
	}
	size := programSize(tree)
	if err := count(&t.programs, size, MaxProgram, "instructions of its compiled $regex"); err != nil {
		return nil, err
	}
	if err := work.Hold(t.ctx, int64(size)*programMemory); err != nil {
		return nil, err
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, badArg("$regex", text)
	}
	return &pattern{re, int64(size)}, nil
}

// programSize is at least how many instructions an expression becomes, or more
// than MaxProgram. A large class counts for several.
func programSize(re *syntax.Regexp) int {
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass:
		n += len(re.Rune) / 16
	case syntax.OpCapture:
		n = 2
	case syntax.OpConcat, syntax.OpRepeat:
		n = 0
	case syntax.OpAlternate:
		n = len(re.Sub)
	}
	for _, sub := range re.Sub {
		n = min(n+programSize(sub), MaxProgram+1)
	}
	if re.Op == syntax.OpRepeat {
		times := max(re.Min, re.Max, 1)
		if n *= times; re.Max != re.Min {
			n += times
		}
	}
	return min(max(n, 1), MaxProgram+1)
}

// atOnce is how many steps of a match are not interrupted: about a millisecond.
const atOnce = 1 << 18

func (p *pattern) matches(b *work.Budget, s string) bool {
	if steps := int64(len(s)+1) * p.size; steps <= atOnce {
		return b.Spend(steps) == nil && p.re.MatchString(s)
	}
	return p.re.MatchReader(&meteredText{s: s, p: p, b: b})
}

// A meteredText is a text that is read while a budget lasts. Where that ends, the text seems to.
type meteredText struct {
	s      string
	p      *pattern
	b      *work.Budget
	unpaid int64 // runes
}

// ReadRune implements [io.RuneReader].
func (t *meteredText) ReadRune() (rune, int, error) {
	if t.unpaid--; t.unpaid < 0 {
		t.unpaid = max(1, atOnce/16/t.p.size)
		if t.b.Spend(t.unpaid*t.p.size) != nil {
			return 0, 0, io.EOF
		}
	}
	if t.s == "" {
		return 0, 0, io.EOF
	}
	r, n := utf8.DecodeRuneInString(t.s)
	t.s = t.s[n:]
	return r, n, nil
}
