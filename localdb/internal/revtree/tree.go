// Package revtree is the revision tree of a document: CouchDB's rules for
// merging histories and choosing the winner, without any storage.
//
// https://docs.couchdb.org/en/stable/replication/conflicts.html
package revtree

import (
	"cmp"
	"encoding/hex"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A Hash is the hash of a revision, 16 bytes if it is 32 lower-case hex digits
// and its text otherwise. Hashes are compared with ==.
type Hash struct {
	raw string
	hex bool
}

// HashOf packs a hash.
func HashOf(text string) Hash {
	if len(text) != 32 {
		return Hash{raw: text}
	}
	for i := range len(text) {
		if c := text[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return Hash{raw: text}
		}
	}
	var b [16]byte
	_, _ = hex.Decode(b[:], []byte(text)) // checked above
	return Hash{string(b[:]), true}
}

// RawHash is the hash whose 32 hex digits stand for b.
func RawHash(b [16]byte) Hash { return Hash{string(b[:]), true} }

// String is the hash as it is written in a revision id.
func (h Hash) String() string {
	if h.hex {
		var b [32]byte
		hex.Encode(b[:], []byte(h.raw))
		return string(b[:])
	}
	return h.raw
}

func (h Hash) compare(o Hash) int {
	if h.hex && o.hex {
		return cmp.Compare(h.raw, o.raw)
	}
	return cmp.Compare(h.String(), o.String())
}

// A Node is one revision.
type Node struct {
	Gen     int64
	Hash    Hash
	Parent  int // index of the parent, which comes before; -1 for a root
	Deleted bool
	Leaf    bool
	Body    int64 // where the revision's body is; 0: not here
}

// Rev is the revision's id.
func (n *Node) Rev() couch.Rev { return couch.Rev{Gen: n.Gen, Hash: n.Hash.String()} }

// better reports whether leaf n wins over leaf o: not deleted first, then the
// longest history, then the highest hash.
func (n *Node) better(o *Node) bool {
	if n.Deleted != o.Deleted {
		return o.Deleted
	}
	return cmp.Or(cmp.Compare(n.Gen, o.Gen), n.Hash.compare(o.Hash)) > 0
}

// A Tree is all known revisions of one document, each after its parent. It may
// have several roots: histories that share no known revision.
type Tree []Node

// Find returns the index of a revision, -1 if it is unknown.
func (t Tree) Find(rev couch.Rev) int { return t.find(rev.Gen, HashOf(rev.Hash)) }

func (t Tree) find(gen int64, hash Hash) int {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i].Gen == gen && t[i].Hash == hash {
			return i
		}
	}
	return -1
}

// Winner returns the index of the winning leaf, -1 in an empty tree.
func (t Tree) Winner() int {
	best := -1
	for i := range t {
		if t[i].Leaf && (best < 0 || t[i].better(&t[best])) {
			best = i
		}
	}
	return best
}

// Leaves returns the indices of all leaves, the winner first.
func (t Tree) Leaves() []int {
	var leaves []int
	for i := range t {
		if t[i].Leaf {
			leaves = append(leaves, i)
		}
	}
	slices.SortFunc(leaves, func(a, b int) int {
		if t[a].better(&t[b]) {
			return -1
		}
		return 1
	})
	return leaves
}

// Path returns the indices of node i and its ancestors, newest first.
func (t Tree) Path(i int) []int {
	var path []int
	for ; i >= 0; i = t[i].Parent {
		path = append(path, i)
	}
	return path
}

// Hashes returns the hashes of node i and its ancestors, newest first, as in _revisions.ids.
func (t Tree) Hashes(i int) []string {
	n := 0
	for j := i; j >= 0; j = t[j].Parent {
		n++
	}
	hashes := make([]string, 0, n)
	for ; i >= 0; i = t[i].Parent {
		hashes = append(hashes, t[i].Hash.String())
	}
	return hashes
}

// Descends reports whether node i is node ancestor or comes from it.
func (t Tree) Descends(i, ancestor int) bool {
	for i > ancestor {
		i = t[i].Parent
	}
	return i == ancestor
}

// Bodies returns the bodies of the leaves, or those of all other nodes.
func (t Tree) Bodies(leaves bool) (bodies []int64) {
	for i := range t {
		if t[i].Body != 0 && t[i].Leaf == leaves {
			bodies = append(bodies, t[i].Body)
		}
	}
	return bodies
}

// AddChild appends a leaf below a node, or a root if parent is -1, and returns its index.
func (t *Tree) AddChild(parent int, n Node) int {
	if n.Parent = parent; parent >= 0 {
		(*t)[parent].Leaf = false
	}
	n.Leaf = true
	*t = append(*t, n)
	return len(*t) - 1
}

// Merge adds a leaf with its history: hashes are its own and its ancestors',
// newest first. It reports the leaf's index and whether the tree changed. If
// the revision is known already, its Deleted and Body stay as they are.
//
// The order in which histories are merged does not matter as long as every
// revision has one parent in all of them, which holds for hashes that depend on it.
func (t *Tree) Merge(gen int64, hashes []Hash, deleted bool, body int64) (leaf int, changed bool) {
	known, at := -1, 0 // the newest known revision of the history
	for ; at < len(hashes); at++ {
		if known = t.find(gen-int64(at), hashes[at]); known >= 0 {
			break
		}
	}
	leaf = known
	for i := at - 1; i >= 0; i-- {
		n := Node{Gen: gen - int64(i), Hash: hashes[i]}
		if i == 0 {
			n.Deleted, n.Body = deleted, body
		}
		leaf, changed = t.AddChild(leaf, n), true
	}
	if known >= 0 && t.lengthen(known, gen-int64(at), hashes[at:]) {
		leaf, changed = t.find(gen, hashes[0]), true
	}
	return leaf, changed
}

// lengthen follows a history down from a known revision and gives the roots it
// comes to the ancestors they lacked.
func (t *Tree) lengthen(i int, gen int64, hashes []Hash) (changed bool) {
	for len(hashes) > 1 {
		gen, hashes = gen-1, hashes[1:]
		parent := (*t)[i].Parent
		if parent < 0 {
			if parent = t.find(gen, hashes[0]); parent >= 0 {
				(*t)[parent].Leaf = false
			} else {
				parent = len(*t)
				*t = append(*t, Node{Gen: gen, Hash: hashes[0], Parent: -1})
			}
			(*t)[i].Parent, changed = parent, true
		} else if (*t)[parent].Hash != hashes[0] {
			break // two parents of one revision: somebody lies; the first one known stays
		}
		i = parent
	}
	if changed {
		t.reorder()
	}
	return changed
}

// reorder puts every node after its parent again, in preorder.
func (t *Tree) reorder() {
	old := *t
	children := make(map[int][]int, len(old))
	for i := len(old) - 1; i >= 0; i-- {
		children[old[i].Parent] = append(children[old[i].Parent], i)
	}
	out := make(Tree, 0, len(old))
	type todo struct{ node, parent int }
	var stack []todo
	push := func(nodes []int, parent int) {
		for _, i := range nodes {
			stack = append(stack, todo{i, parent})
		}
	}
	push(children[-1], -1)
	for len(stack) > 0 {
		next := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		n := old[next.node]
		n.Parent = next.parent
		out = append(out, n)
		push(children[next.node], len(out)-1)
	}
	*t = out
}

// Stem forgets the revisions that are limit or more generations behind every
// leaf that comes from them, and returns the bodies it let go.
func (t *Tree) Stem(limit int) (bodies []int64) {
	old := *t
	if len(old) <= limit {
		return nil
	}
	behind := make([]int, len(old)) // the least distance to a leaf, plus one; 0: none seen
	for i := len(old) - 1; i >= 0; i-- {
		if old[i].Leaf {
			behind[i] = 1
		}
		if p := old[i].Parent; p >= 0 && (behind[p] == 0 || behind[i]+1 < behind[p]) {
			behind[p] = behind[i] + 1
		}
	}
	for _, n := range t.keep(func(i int) bool { return behind[i] <= limit }) {
		if n.Body != 0 {
			bodies = append(bodies, n.Body)
		}
	}
	return bodies
}

// Purge removes leaves, and the ancestors that no other leaf has, as if they
// had never been. It returns which of the given revisions were leaves, and the
// removed nodes. Other revisions are left alone, as in CouchDB.
func (t *Tree) Purge(revs []couch.Rev) (purged []couch.Rev, dropped []Node) {
	old := *t
	kept := make([]bool, len(old))
	for i := range old {
		kept[i] = old[i].Leaf
	}
	for _, rev := range revs {
		if i := old.Find(rev); i >= 0 && kept[i] {
			kept[i] = false
			purged = append(purged, rev)
		}
	}
	if purged == nil {
		return nil, nil
	}
	for i := len(old) - 1; i >= 0; i-- {
		if p := old[i].Parent; kept[i] && p >= 0 {
			kept[p] = true
		}
	}
	return purged, t.keep(func(i int) bool { return kept[i] })
}

// keep removes the nodes that wanted does not name, and returns them. A node
// whose parent goes becomes a root.
func (t *Tree) keep(wanted func(i int) bool) (dropped []Node) {
	old := *t
	out := make(Tree, 0, len(old))
	moved := make([]int, len(old))
	for i, n := range old {
		if !wanted(i) {
			moved[i] = -1
			dropped = append(dropped, n)
			continue
		}
		if n.Parent >= 0 {
			n.Parent = moved[n.Parent]
		}
		moved[i] = len(out)
		out = append(out, n)
	}
	*t = out
	return dropped
}
