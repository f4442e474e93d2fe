package collate

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

// rootText says where characters stand that golang.org/x/text/collate, whose data is of Unicode 6.2, orders
// otherwise than ICU. In a line, the code point of a character that both order alike is followed by those that
// come behind it, as ranges of code points with the level of each one's difference from the one before: 1
// primary, 2 secondary, 3 tertiary, 0 none. The last line, "=", has those that are worth as much as their
// compatibility decomposition but for their form.
//
//go:generate sh -c "node gen.mjs > order.json && go run gen.go order.json > root.txt; rm -f order.json"
//go:embed root.txt
var rootText string

// weights are the collation weights of a text, level by level: https://www.unicode.org/reports/tr10/#Main_Algorithm.
// A level's text sorts by its bytes: no weight begins with 0.
type weights struct {
	primary, secondary, tertiary []byte
	// How much of the levels counts: behind that all weights are the common ones, which are the smallest and so left out.
	secondaries, tertiaries int
}

const (
	commonSecondary = "\x01\x20"
	commonTertiary  = "\x02"
)

// add appends the weights of one element.
func (w *weights) add(primary, secondary, tertiary string) {
	w.primary = append(w.primary, primary...)
	if w.secondary = append(w.secondary, secondary...); secondary != "" && secondary != commonSecondary {
		w.secondaries = len(w.secondary)
	}
	if w.tertiary = append(w.tertiary, tertiary...); tertiary != "" && tertiary != commonTertiary {
		w.tertiaries = len(w.tertiary)
	}
}

// A standard is a collator of x/text with its scratch space, for one goroutine at a time.
type standard struct {
	*collate.Collator
	buffer collate.Buffer
}

var standards = sync.Pool{New: func() any { return &standard{Collator: collate.New(language.Und)} }}

// add appends the weights that x/text gives to a text.
func (c *standard) add(w *weights, text string) {
	c.buffer.Reset()
	key := c.KeyFromString(&c.buffer, text)
	i := 0
	for ; key[i] != 0 || key[i+1] != 0; i += 2 {
		if key[i]&0x80 != 0 {
			i++ // of three bytes
		}
	}
	w.primary = append(w.primary, key[:i]...)
	for i += 2; key[i] != 0 || key[i+1] != 0; i += 2 {
		w.secondary = append(w.secondary, key[i]+1, key[i+1]) // so that none begins with 0
		if key[i] != 0 || key[i+1] != commonSecondary[1] {
			w.secondaries = len(w.secondary)
		}
	}
	for _, t := range key[i+2:] {
		if w.tertiary = append(w.tertiary, t); t != commonTertiary[0] {
			w.tertiaries = len(w.tertiary)
		}
	}
}

// A moved range of characters stands elsewhere than x/text has it.
type moved struct {
	first, last                  rune
	level                        byte   // the difference of each from the one before
	number                       int    // of the first among its equals
	primary, secondary, tertiary string // without the numbers of this level
}

// numbered appends a number to a weight, so that the result stands behind all that begins with the weight itself, and before its successor.
func numbered(weight string, n int) string {
	return weight + string([]byte{0xF0 | byte(n>>16), byte(n >> 8), byte(n)})
}

func (m *moved) add(w *weights, r rune) {
	n := m.number + int(r-m.first)
	switch m.level {
	case 1:
		w.add(numbered(m.primary, n), m.secondary, m.tertiary)
	case 2:
		w.add(m.primary, numbered(m.secondary, n), m.tertiary)
	case 3:
		w.add(m.primary, m.secondary, numbered(m.tertiary, n))
	default:
		w.add(m.primary, m.secondary, m.tertiary)
	}
}

// accented are Cyrillic letters that ICU takes for a letter with an accent, as their decomposition says, and
// x/text for letters of the alphabet.
const accented = "ЃЇЌЎѓїќўѶѷӐӑӒӓӖӗӚӛӜӝӞӟӤӥӦӧӪӫӬӭӰӱӲӳӴӵӸӹ"

// root is rootText, read.
type root struct {
	moved    []moved // in the order of code points
	compat   map[rune]bool
	composed map[rune]bool    // of moved characters, and the accented
	accents  map[[2]rune]bool // the accented, decomposed
}

var loadRoot = sync.OnceValue(func() *root {
	t := &root{compat: map[rune]bool{}, composed: map[rune]bool{}, accents: map[[2]rune]bool{}}
	c := standards.Get().(*standard)
	defer standards.Put(c)
	for line := range strings.Lines(rootText) {
		words := strings.Fields(line)
		switch {
		case words[0] == "#":
		case words[0] == "=":
			for _, word := range words[1:] {
				t.compat[codePoint(word)] = true
			}
		default:
			t.behind(c, codePoint(words[0]), words[1:])
		}
	}
	slices.SortFunc(t.moved, func(a, b moved) int { return int(a.first - b.first) })
	t.compose()
	return t
})

// compose finds the characters whose decompositions have moved ones.
func (t *root) compose() {
	for r := rune(0x80); r <= 0x2FA1D; r++ {
		if d := norm.NFD.PropertiesString(string(r)).Decomposition(); d != nil && !t.known(string(d)) {
			t.composed[r] = true
		}
	}
	for _, r := range accented {
		d := []rune(norm.NFD.String(string(r)))
		t.composed[r], t.accents[[2]rune{d[0], d[1]}] = true, true
	}
}

// behind reads the characters that stand behind another.
func (t *root) behind(c *standard, anchor rune, ranges []string) {
	var w weights
	c.add(&w, string(anchor))
	p, s, te := string(w.primary), string(w.secondary), string(w.tertiary)
	m := moved{primary: p, secondary: s, tertiary: te}
	var n [4]int // the numbers given at each level
	for _, text := range ranges {
		level := text[0] - '0'
		from, to, isRange := strings.Cut(text[1:], "-")
		m.first = codePoint(from)
		if m.last = m.first; isRange {
			m.last = codePoint(to)
		}
		m.level, m.number = level, n[level]+1
		if level != 0 {
			n[level] += int(m.last-m.first) + 1
		}
		switch level { // what is below begins anew
		case 1:
			m.primary, m.secondary, m.tertiary = p, commonSecondary, commonTertiary
			s, te, n[2], n[3] = commonSecondary, commonTertiary, 0, 0
		case 2:
			m.secondary, m.tertiary = s, commonTertiary
			te, n[3] = commonTertiary, 0
		case 3:
			m.tertiary = te
		}
		t.moved = append(t.moved, m)
		switch level { // what follows at a lower level refers to the last one
		case 1:
			m.primary = numbered(p, n[1])
		case 2:
			m.secondary = numbered(s, n[2])
		case 3:
			m.tertiary = numbered(te, n[3])
		}
	}
}

func codePoint(hex string) rune {
	n, err := strconv.ParseInt(hex, 16, 32)
	if err != nil {
		panic(fmt.Sprintf("collate: root.txt: %v", err)) // a fault of the build
	}
	return rune(n)
}

// find returns where a character has been moved to; nil: it has not.
func (t *root) find(r rune) *moved {
	i, found := slices.BinarySearchFunc(t.moved, r, func(m moved, r rune) int {
		switch {
		case m.last < r:
			return -1
		case m.first > r:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &t.moved[i]
}

// known reports whether x/text's weights of a text are those of ICU.
func (t *root) known(text string) bool {
	var before rune
	for _, r := range text {
		if r >= 0x80 && (t.find(r) != nil || t.compat[r] || t.composed[r] || t.accents[[2]rune{before, r}]) {
			return false
		}
		before = r
	}
	return true
}

// weigh appends the weights of a text.
func weigh(w *weights, text string) {
	c := standards.Get().(*standard)
	defer standards.Put(c)
	t := loadRoot()
	if t.known(text) {
		c.add(w, text)
		return
	}
	text = norm.NFD.String(text)
	from := 0 // of what is not weighed yet
	var before rune
	for i, r := range text {
		m, apart := t.find(r), t.accents[[2]rune{before, r}]
		if before = r; m == nil && !t.compat[r] && !apart {
			continue
		}
		if from < i {
			c.add(w, text[from:i])
		}
		if from = i; apart {
			continue
		}
		from += utf8.RuneLen(r)
		if m != nil {
			m.add(w, r)
		} else {
			c.form(w, r)
		}
	}
	if from < len(text) {
		c.add(w, text[from:])
	}
}

// form appends the weights of a character's compatibility decomposition, with the difference that it is one.
func (c *standard) form(w *weights, r rune) {
	before := len(w.tertiary)
	for _, d := range norm.NFKD.String(string(r)) {
		if m := loadRoot().find(d); m != nil {
			m.add(w, d)
		} else {
			c.add(w, string(d))
		}
	}
	w.tertiary = append(w.tertiary[:before], numbered(string(w.tertiary[before:]), 1)...)
	w.tertiaries = len(w.tertiary)
}
