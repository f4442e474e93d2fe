package revtree

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A branch is a leaf with its history, newest first.
type branch struct {
	gen     int64
	hashes  []string
	deleted bool
}

func (b branch) merge(t *Tree, body int64) (int, bool) {
	hashes := make([]Hash, len(b.hashes))
	for i, h := range b.hashes {
		hashes[i] = HashOf(h)
	}
	return t.Merge(b.gen, hashes, b.deleted, body)
}

// canonical is what must not depend on the order of merging: revisions with
// their parents, leaves and tombstones.
func canonical(t Tree) []string {
	var all []string
	for _, n := range t {
		parent := "root"
		if n.Parent >= 0 {
			parent = t[n.Parent].Rev().String()
		}
		all = append(all, fmt.Sprintf("%s<-%s leaf=%t deleted=%t", n.Rev(), parent, n.Leaf, n.Leaf && n.Deleted))
	}
	slices.Sort(all)
	return all
}

// check holds a tree against what every tree must satisfy.
func check(t *rapid.T, tree Tree) {
	seen := map[couch.Rev]bool{}
	leaf := make([]bool, len(tree))
	for i, n := range tree {
		if n.Parent >= i || n.Parent < -1 {
			t.Fatalf("node %d comes before its parent %d", i, n.Parent)
		}
		if n.Parent >= 0 {
			if tree[n.Parent].Gen+1 != n.Gen {
				t.Fatalf("node %d is of generation %d, its parent of %d", i, n.Gen, tree[n.Parent].Gen)
			}
			leaf[n.Parent] = false
		}
		leaf[i] = true
		if seen[n.Rev()] {
			t.Fatalf("revision %s is there twice", n.Rev())
		}
		seen[n.Rev()] = true
	}
	for i, n := range tree {
		if n.Leaf != leaf[i] {
			t.Fatalf("node %d: leaf is %t", i, n.Leaf)
		}
	}
	back, err := Parse(tree.Append(nil))
	if err != nil || len(tree) > 0 && !reflect.DeepEqual(back, tree) {
		t.Fatalf("packed and read back: %v, %v, want %v", back, err, tree)
	}
}

// universe draws histories in which every revision has one parent, cut off at
// any length as peers with different limits tell them.
func universe(t *rapid.T) []branch {
	type rev struct {
		gen    int64
		hash   string
		parent int
	}
	n := rapid.IntRange(1, 12).Draw(t, "revisions")
	revs := make([]rev, n)
	for i := range revs {
		revs[i] = rev{gen: 1, hash: fmt.Sprintf("%032x", i*7919%n), parent: -1}
		if i%3 == 1 {
			revs[i].hash = fmt.Sprintf("text%d", i)
		}
		if i > 0 {
			if p := rapid.IntRange(-1, i-1).Draw(t, "parent"); p >= 0 {
				revs[i].parent, revs[i].gen = p, revs[p].gen+1
			}
		}
	}
	var branches []branch
	for range rapid.IntRange(1, 8).Draw(t, "branches") {
		at := rapid.IntRange(0, n-1).Draw(t, "leaf")
		b := branch{gen: revs[at].gen, deleted: at%2 == 0}
		for keep := rapid.IntRange(1, n).Draw(t, "length"); at >= 0 && keep > 0; keep-- {
			b.hashes = append(b.hashes, revs[at].hash)
			at = revs[at].parent
		}
		branches = append(branches, b)
	}
	return branches
}

func TestMergeOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		branches := universe(t)
		var one, other Tree
		for i, b := range branches {
			leaf, _ := b.merge(&one, int64(i+1))
			check(t, one)
			if one[leaf].Gen != b.gen || one[leaf].Hash != HashOf(b.hashes[0]) {
				t.Fatalf("Merge returned node %d, which is %s", leaf, one[leaf].Rev())
			}
			if _, changed := b.merge(&one, 99); changed {
				t.Fatal("merging again changed the tree")
			}
		}
		shuffled := rapid.Permutation(branches).Draw(t, "order")
		for i, b := range shuffled {
			b.merge(&other, int64(i+1))
		}
		if a, b := canonical(one), canonical(other); !slices.Equal(a, b) {
			t.Fatalf("one order gives\n%s\nthe other\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
		if a, b := one[one.Winner()].Rev(), other[other.Winner()].Rev(); a != b {
			t.Fatalf("winners %s and %s", a, b)
		}
	})
}

func TestStemKeepsLeavesAndLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree
		for i, b := range universe(t) {
			b.merge(&tree, int64(i+1))
		}
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		winner, leaves := tree[tree.Winner()].Rev(), len(tree.Leaves())
		bodies := 0
		for _, n := range tree {
			bodies += min(int(n.Body), 1)
		}
		dropped := tree.Stem(limit)
		check(t, tree)
		for _, n := range tree {
			bodies -= min(int(n.Body), 1)
		}
		if bodies != len(dropped) {
			t.Fatalf("%d bodies went, %d were told", bodies, len(dropped))
		}
		if got := tree[tree.Winner()].Rev(); got != winner || len(tree.Leaves()) != leaves {
			t.Fatalf("winner %s became %s, %d leaves became %d", winner, got, leaves, len(tree.Leaves()))
		}
		near := make([]bool, len(tree))
		for _, leaf := range tree.Leaves() {
			for i, node := range tree.Path(leaf) {
				near[node] = near[node] || i < limit
			}
		}
		if slices.Contains(near, false) {
			t.Fatalf("limit %d left %v", limit, tree)
		}
	})
}

// TestPurgeIsAsIfTheyHadNeverBeen compares a tree after a purge with one made of the other leaves alone.
func TestPurgeIsAsIfTheyHadNeverBeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree, want Tree
		for i, b := range universe(t) {
			b.merge(&tree, int64(i+1))
		}
		var ask, leaves []couch.Rev
		for i := range tree {
			if !rapid.Bool().Draw(t, "purged") {
				if tree[i].Leaf {
					branch{tree[i].Gen, tree.Hashes(i), tree[i].Deleted}.merge(&want, 1)
				}
				continue
			}
			ask = append(ask, tree[i].Rev())
			if tree[i].Leaf {
				leaves = append(leaves, tree[i].Rev())
			}
		}
		before := len(tree)
		purged, dropped := tree.Purge(append(ask, couch.Rev{Gen: 99, Hash: "unknown"}))
		check(t, tree)
		if !slices.Equal(purged, leaves) || before != len(tree)+len(dropped) {
			t.Fatalf("purged %v of leaves %v, dropped %d of %d", purged, leaves, len(dropped), before)
		}
		if a, b := canonical(tree), canonical(want); !slices.Equal(a, b) {
			t.Fatalf("left\n%s\nwant\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
	})
}

func TestWinner(t *testing.T) {
	for _, tt := range []struct {
		name     string
		branches []branch
		want     string
	}{
		{"one", []branch{{1, []string{"a"}, false}}, "1-a"},
		{"longer history", []branch{{1, []string{"z"}, false}, {2, []string{"b", "a"}, false}}, "2-b"},
		{"higher hash", []branch{{2, []string{"b", "a"}, false}, {2, []string{"c", "a"}, false}}, "2-c"},
		{"not deleted first", []branch{{3, []string{"c", "b", "a"}, true}, {2, []string{"x", "a"}, false}}, "2-x"},
		{"all deleted", []branch{{3, []string{"c", "b", "a"}, true}, {2, []string{"x", "a"}, true}}, "3-c"},
		{"generation is a number", []branch{{10, []string{"a"}, false}, {9, []string{"b"}, false}}, "10-a"},
		{"packed and plain hashes compare as text", []branch{
			{1, []string{"00000000000000000000000000000001"}, false}, {1, []string{"!"}, false}}, "1-00000000000000000000000000000001"},
	} {
		for _, order := range [][]branch{tt.branches, {tt.branches[len(tt.branches)-1], tt.branches[0]}} {
			var tree Tree
			for i, b := range order {
				b.merge(&tree, int64(i+1))
			}
			if got := tree[tree.Winner()].Rev().String(); got != tt.want {
				t.Errorf("%s: winner %s, want %s", tt.name, got, tt.want)
			}
			if leaves := tree.Leaves(); leaves[0] != tree.Winner() {
				t.Errorf("%s: leaves %v do not begin with the winner", tt.name, leaves)
			}
		}
	}
}

func TestMergeGrowsHistoriesBackwards(t *testing.T) {
	var tree Tree
	branch{5, []string{"e", "d"}, false}.merge(&tree, 1)
	branch{2, []string{"b", "a"}, false}.merge(&tree, 2)
	if _, changed := (branch{5, []string{"e", "d", "c", "b"}, false}).merge(&tree, 3); !changed {
		t.Fatal("ancestors that were not known change the tree")
	}
	if got := tree.Hashes(tree.Winner()); !slices.Equal(got, []string{"e", "d", "c", "b", "a"}) || len(tree.Leaves()) != 1 {
		t.Fatalf("history %v, tree %v", got, tree)
	}
	if w := tree[tree.Winner()]; w.Body != 1 {
		t.Fatalf("the body became %d", w.Body)
	}
}

// TestMergeJoinsBranches: what reaches back to a known revision may reach further than that does.
func TestMergeJoinsBranches(t *testing.T) {
	var tree Tree
	branch{3, []string{"c", "b"}, false}.merge(&tree, 1)
	branch{3, []string{"d"}, false}.merge(&tree, 2)
	branch{3, []string{"d", "b", "a"}, false}.merge(&tree, 3)
	for _, leaf := range tree.Leaves() {
		if got := tree.Hashes(leaf); len(got) != 3 || got[2] != "a" {
			t.Errorf("history %v in %v", got, tree)
		}
	}
}

func TestTwoParentsOfOneRevision(t *testing.T) {
	var tree Tree
	branch{2, []string{"b", "a"}, false}.merge(&tree, 1)
	if _, changed := (branch{2, []string{"b", "x"}, false}).merge(&tree, 2); changed {
		t.Fatalf("a lie changed the tree: %v", tree)
	}
}

func TestHash(t *testing.T) {
	for _, s := range []string{"a", "967a00dff5e02add41819138abb3284d", "967A00DFF5E02ADD41819138ABB3284D", strings.Repeat("g", 32), strings.Repeat("a", 256)} {
		if h := HashOf(s); h.String() != s {
			t.Errorf("%q came back as %q", s, h)
		}
	}
	if h := HashOf("967a00dff5e02add41819138abb3284d"); len(h.raw) != 16 {
		t.Errorf("hex digits are not packed: %v", h)
	}
}

func FuzzParse(f *testing.F) {
	var tree Tree
	branch{3, []string{"c", "967a00dff5e02add41819138abb3284d", "a"}, true}.merge(&tree, 300)
	branch{2, []string{"x", "a"}, false}.merge(&tree, 1)
	f.Add(tree.Append(nil))
	f.Add([]byte{flagRoot})
	f.Fuzz(func(t *testing.T, packed []byte) {
		tree, err := Parse(packed)
		if err != nil {
			return
		}
		again, err := Parse(tree.Append(nil))
		if err != nil || len(again) != len(tree) {
			t.Fatalf("%x: %v, then %v, %v", packed, tree, again, err)
		}
		tree.Winner()
		tree.Leaves()
	})
}
