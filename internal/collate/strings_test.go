package collate

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// groups reads strings in an order; those of one group are equal.
func groups(t *testing.T, file string) (all [][]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// couchdb.json has strings in the order in which views of CouchDB 3.5.2 gave them; icu.json characters of
// all blocks, alone and in words, in that of ICU 78.
func TestOrderOfCouchDB(t *testing.T) {
	for _, file := range []string{"testdata/collation.json", "testdata/icu.json"} {
		ordered(t, file)
	}
}

func ordered(t *testing.T, file string) {
	all := groups(t, file)
	bad := 0
	for i, group := range all {
		for _, s := range group {
			if Strings(s, group[0]) != 0 || !bytes.Equal(AppendString(nil, s), AppendString(nil, group[0])) {
				bad++
				t.Errorf("%s: %+q and %+q are not equal", file, group[0], s)
			}
			if i > 0 && Strings(all[i-1][0], s) >= 0 {
				bad++
				t.Errorf("%s: %+q is not before %+q", file, all[i-1][0], s)
			}
		}
		if bad > 60 {
			t.Fatal("and more")
		}
	}
}

// Keys and comparisons agree, whichever of the two ways each takes.
func TestKeysAndComparisons(t *testing.T) {
	var all []string
	for _, g := range groups(t, "testdata/collation.json") {
		all = append(all, g...)
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) > 12 })
	for i, a := range all {
		for _, b := range all[i:min(i+40, len(all))] {
			if x, y := Strings(a, b), bytes.Compare(AppendString(nil, a), AppendString(nil, b)); x != y {
				t.Fatalf("%+q %+q: %d by comparison, %d by keys", a, b, x, y)
			}
		}
	}
}

func BenchmarkAppendString(b *testing.B) {
	for name, s := range map[string]string{"ascii12": "Hello, world", "ascii43": "The quick brown fox jumps over the lazy dog", "latin": "Zürich, Genève", "emoji": "👍🏽 ok"} {
		b.Run(name, func(b *testing.B) {
			var buf [512]byte
			for b.Loop() {
				AppendString(buf[:0], s)
			}
		})
	}
}
