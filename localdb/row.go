package localdb

import (
	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// A row is a row of docs.
type row struct {
	num, seq int64
	flags    int64
	winner   revtree.Node
	packed   []byte // the tree, nil if the winner is all of it

	owned []int64 // bodies of leaves, before an edit
}

// rowColumns are what readRow reads, in its order.
const rowColumns = "num, seq, flags, rev, tree"

const selectRow = "SELECT " + rowColumns + " FROM docs WHERE id=?"

// findRow looks a document up, nil if it has never been.
func findRow(c *sqlite.Conn, id string) (*row, error) {
	s := c.Prepare(selectRow)
	s.BindText(1, id)
	found, err := s.Step()
	if err != nil || !found {
		return nil, err
	}
	defer s.Reset()
	r := new(row)
	return r, r.read(s, 0, true)
}

// read takes rowColumns, the first of which is column at; the tree is copied only if it is wanted.
func (r *row) read(s *sqlite.Stmt, at int, tree bool) (err error) {
	r.num, r.seq, r.flags = s.Int(at), s.Int(at+1), s.Int(at+2)
	r.winner, err = revtree.ParseNode(s.View(at + 3))
	if tree {
		r.packed = s.Bytes(at + 4)
	}
	return err
}

func (r *row) deleted() bool  { return r.flags&flagDeleted != 0 }
func (r *row) branched() bool { return r.flags&flagBranched != 0 }
func (r *row) stale() bool    { return r.flags&flagStale != 0 }

func (r *row) tree() (revtree.Tree, error) {
	if r.packed == nil {
		return revtree.Tree{r.winner}, nil
	}
	return revtree.Parse(r.packed)
}

// leaves are the revisions of all leaves, the winner first.
func (r *row) leaves() ([]couch.Rev, error) {
	if !r.branched() {
		return []couch.Rev{r.winner.Rev()}, nil
	}
	t, err := r.tree()
	if err != nil {
		return nil, err
	}
	leaves := t.Leaves()
	revs := make([]couch.Rev, len(leaves))
	for i, leaf := range leaves {
		revs[i] = t[leaf].Rev()
	}
	return revs, nil
}
