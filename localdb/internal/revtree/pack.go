package revtree

import (
	"encoding/binary"
	"errors"
)

// A packed tree is its nodes one after the other, each
//
//	flags   1 byte
//	gen     uvarint        if flagRoot; otherwise the parent's plus one
//	parent  uvarint        unless flagRoot or flagNext: the parent's index
//	hash    16 bytes       if flagHex; otherwise a uvarint length and the text
//	body    uvarint        if flagBody
const (
	flagDeleted = 1 << iota
	flagLeaf
	flagHex
	flagBody
	flagRoot
	flagNext // the parent is the node before
)

// ErrCorrupt is the error of a tree that does not read back.
var ErrCorrupt = errors.New("revtree: corrupt revision tree")

// Append appends the packed tree.
func (t Tree) Append(dst []byte) []byte {
	for i := range t {
		n := &t[i]
		if n.Parent >= 0 && n.Parent == i-1 {
			dst = n.append(dst, flagNext)
		} else if n.Parent >= 0 {
			dst = n.append(dst, 0)
		} else {
			dst = n.append(dst, flagRoot)
		}
	}
	return dst
}

// AppendRoot appends the node as a packed tree of its own, whatever its parent.
func (n *Node) AppendRoot(dst []byte) []byte { return n.append(dst, flagRoot) }

func (n *Node) append(dst []byte, flags byte) []byte {
	if n.Deleted {
		flags |= flagDeleted
	}
	if n.Leaf {
		flags |= flagLeaf
	}
	if n.Hash.hex {
		flags |= flagHex
	}
	if n.Body != 0 {
		flags |= flagBody
	}
	dst = append(dst, flags)
	switch {
	case flags&flagRoot != 0:
		dst = binary.AppendUvarint(dst, uint64(n.Gen))
	case flags&flagNext == 0:
		dst = binary.AppendUvarint(dst, uint64(n.Parent))
	}
	if !n.Hash.hex {
		dst = binary.AppendUvarint(dst, uint64(len(n.Hash.raw)))
	}
	dst = append(dst, n.Hash.raw...)
	if n.Body != 0 {
		dst = binary.AppendUvarint(dst, uint64(n.Body))
	}
	return dst
}

// Parse reads a packed tree.
func Parse(packed []byte) (Tree, error) {
	r := reader{text: string(packed)} // hashes are parts of it: one allocation for all
	t := make(Tree, 0, len(packed)/18+1)
	for len(r.text) > 0 {
		n, ok := r.node(t)
		if !ok {
			return nil, ErrCorrupt
		}
		t = append(t, n)
	}
	if len(t) > 0 && t.Winner() < 0 {
		return nil, ErrCorrupt
	}
	return t, nil
}

// ParseNode reads a tree of one node.
func ParseNode(packed []byte) (Node, error) {
	r := reader{text: string(packed)}
	n, ok := r.node(nil)
	if !ok || len(r.text) > 0 {
		return Node{}, ErrCorrupt
	}
	return n, nil
}

type reader struct{ text string }

func (r *reader) uvarint() (uint64, bool) {
	var v uint64
	for i := range min(len(r.text), binary.MaxVarintLen64) {
		b := r.text[i]
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.text = r.text[i+1:]
			return v, v < 1<<63
		}
	}
	return 0, false
}

func (r *reader) take(n uint64) (string, bool) {
	if uint64(len(r.text)) < n {
		return "", false
	}
	s := r.text[:n]
	r.text = r.text[n:]
	return s, true
}

func (r *reader) node(before Tree) (n Node, ok bool) {
	if len(r.text) == 0 {
		return n, false
	}
	flags := r.text[0]
	r.text = r.text[1:]
	n.Deleted, n.Leaf, n.Hash.hex = flags&flagDeleted != 0, flags&flagLeaf != 0, flags&flagHex != 0
	n.Parent = len(before) - 1
	v := uint64(0)
	switch {
	case flags&flagRoot != 0:
		if v, ok = r.uvarint(); !ok {
			return n, false
		}
		n.Gen, n.Parent = int64(v), -1
	case flags&flagNext == 0:
		if v, ok = r.uvarint(); !ok || v >= uint64(len(before)) {
			return n, false
		}
		n.Parent = int(v)
		fallthrough
	default:
		if n.Parent < 0 {
			return n, false
		}
		n.Gen = before[n.Parent].Gen + 1
	}
	size := uint64(16)
	if !n.Hash.hex {
		if size, ok = r.uvarint(); !ok {
			return n, false
		}
	}
	if n.Hash.raw, ok = r.take(size); !ok {
		return n, false
	}
	if flags&flagBody != 0 {
		v, ok = r.uvarint()
		n.Body = int64(v)
	}
	return n, ok
}
