package localdb

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// A page is what is read in one transaction before it is handed on.
const (
	pageRows  = 1000
	pageBytes = 2 << 20
)

// Get implements [couch.DB].
func (d *database) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	docs, _, err := readPage(ctx, d.peek, func(doc **couch.Doc) *couch.Doc { return *doc }, func(c *sqlite.Conn) ([]*couch.Doc, error) {
		r, err := findRow(c, id)
		if err != nil {
			return nil, err
		}
		if r == nil {
			return nil, couch.NotFound("missing")
		}
		if o.Rev.IsZero() && r.deleted() {
			return nil, couch.NotFound("deleted")
		}
		doc, err := d.readDoc(c, id, r, o)
		return []*couch.Doc{doc}, err
	})
	if err != nil {
		return nil, err
	}
	return docs[0], nil // held until the request has been answered
}

// readDoc reads the revision that o names: o.Rev (with o.Latest its best leaf), or the winner.
func (d *database) readDoc(c *sqlite.Conn, id string, r *row, o couch.GetOptions) (*couch.Doc, error) {
	if (o.Rev.IsZero() || o.Rev == r.winner.Rev()) && !needsTree(o) {
		return d.readNode(c, id, r, revtree.Tree{r.winner}, 0, o)
	}
	t, err := r.tree()
	if err != nil {
		return nil, err
	}
	node := t.Winner()
	if !o.Rev.IsZero() {
		if node = t.Find(o.Rev); node < 0 {
			return nil, couch.NotFound("missing")
		}
		if o.Latest {
			node = latest(t, node)
		}
	}
	return d.readNode(c, id, r, t, node, o)
}

func needsTree(o couch.GetOptions) bool {
	return o.Revs || o.RevsInfo || o.Conflicts || o.Attachments && len(o.AttsSince) > 0
}

// latest is the best leaf that comes from a node.
func latest(t revtree.Tree, node int) int {
	for _, leaf := range t.Leaves() {
		if t.Descends(leaf, node) {
			return leaf
		}
	}
	return node
}

// readNode makes a document of one node of its tree.
func (d *database) readNode(c *sqlite.Conn, id string, r *row, t revtree.Tree, node int, o couch.GetOptions) (*couch.Doc, error) {
	n := &t[node]
	body, atts, err := readBody(c, n.Body)
	if err != nil {
		return nil, err
	}
	doc := &couch.Doc{ID: id, Rev: n.Rev(), Deleted: n.Deleted, Body: body}
	if atts != nil {
		if err := d.addAttachments(c, doc, atts, t, node, o); err != nil {
			return nil, err
		}
	}
	if o.LocalSeq {
		doc.LocalSeq = d.formatSeq(r.seq)
	}
	if o.Revs {
		doc.Revisions = t.Hashes(node)
	}
	if o.RevsInfo {
		doc.RevsInfo = revsInfo(t, node)
	}
	if o.Conflicts {
		doc.Conflicts, doc.DeletedConflicts = conflicts(t, node)
	}
	return doc, nil
}

// readBody reads a body and its attachments as they are stored; not_found if
// it was never here or is compacted away.
func readBody(c *sqlite.Conn, bid int64) (body json.RawMessage, atts []byte, err error) {
	if bid == 0 {
		return nil, nil, couch.NotFound("missing")
	}
	s := c.Prepare("SELECT body, atts FROM bodies WHERE bid=?")
	s.BindInt(1, bid)
	found, err := s.Step()
	if err != nil {
		return nil, nil, err
	}
	if !found {
		return nil, nil, couch.NotFound("missing")
	}
	defer s.Reset()
	return s.Bytes(0), s.Bytes(1), nil
}

func revsInfo(t revtree.Tree, node int) []couch.RevInfo {
	path := t.Path(node)
	info := make([]couch.RevInfo, len(path))
	for i, at := range path {
		info[i] = couch.RevInfo{Rev: t[at].Rev(), Status: "available"}
		if t[at].Body == 0 {
			info[i].Status = "missing"
		} else if t[at].Deleted {
			info[i].Status = "deleted"
		}
	}
	return info
}

func conflicts(t revtree.Tree, except int) (live, deleted []couch.Rev) {
	for _, leaf := range t.Leaves() {
		if leaf == except {
			continue
		}
		if t[leaf].Deleted {
			deleted = append(deleted, t[leaf].Rev())
		} else {
			live = append(live, t[leaf].Rev())
		}
	}
	return live, deleted
}

// BulkGet implements [couch.Source].
func (d *database) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for len(refs) > 0 {
		var n int
		page, free, err := readPage(ctx, d.view, bulkGetDoc, func(c *sqlite.Conn) (page []couch.BulkGetResult, err error) {
			n = 0
			for size := 0; n < len(refs) && n < pageRows && size < pageBytes; n++ {
				from := len(page)
				if page, err = d.readRef(c, refs[n], o, page); err != nil {
					return nil, err
				}
				for _, result := range page[from:] {
					size += docSize(result.Doc)
				}
			}
			return page, nil
		})
		if err != nil {
			return err
		}
		for i := 0; i < len(page) && err == nil; i++ {
			err = fn(page[i])
		}
		if free(); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

func bulkGetDoc(r *couch.BulkGetResult) *couch.Doc { return r.Doc }

// docSize is about the memory a document holds.
func docSize(doc *couch.Doc) int {
	if doc == nil {
		return 0
	}
	n := len(doc.Body)
	for i := range doc.Attachments {
		n += len(doc.Attachments[i].Data)
	}
	return n
}

// readRef appends what one ref of a BulkGet asks for.
func (d *database) readRef(c *sqlite.Conn, ref couch.DocRef, o couch.GetOptions, page []couch.BulkGetResult) ([]couch.BulkGetResult, error) {
	result := couch.BulkGetResult{ID: ref.ID, Rev: ref.Rev}
	r, err := findRow(c, ref.ID)
	if err != nil {
		return page, err
	}
	if r == nil {
		result.Err = couch.NotFound("missing")
		return append(page, result), nil
	}
	o.Rev = ref.Rev
	if len(ref.AttsSince) > 0 {
		o.AttsSince = ref.AttsSince
	}
	revs := []couch.Rev{ref.Rev}
	if ref.Rev.IsZero() {
		if revs, err = r.leaves(); err != nil {
			return page, err
		}
	}
	for _, o.Rev = range revs {
		if result.Doc, err = d.readDoc(c, ref.ID, r, o); err != nil {
			var e *couch.Error
			if !errors.As(err, &e) {
				return page, err
			}
			result.Err = e
		}
		page = append(page, result)
	}
	return page, nil
}

// RevsDiff implements [couch.Target].
func (d *database) RevsDiff(ctx context.Context, docs []couch.DocRevs) ([]couch.RevsDiff, error) {
	var diffs []couch.RevsDiff
	for part := range slices.Chunk(docs, pageRows) {
		err := d.view(ctx, func(c *sqlite.Conn) error {
			for _, doc := range part {
				r, err := findRow(c, doc.ID)
				if err != nil {
					return err
				}
				diff, err := revsDiff(r, doc)
				if err != nil {
					return err
				}
				if len(diff.Missing) > 0 {
					diffs = append(diffs, diff)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return diffs, nil
}

func revsDiff(r *row, doc couch.DocRevs) (couch.RevsDiff, error) {
	diff := couch.RevsDiff{ID: doc.ID}
	if r == nil {
		diff.Missing = slices.Clone(doc.Revs) // the caller may change either
		return diff, nil
	}
	t, err := r.tree()
	if err != nil {
		return diff, err
	}
	newest := int64(0)
	for _, rev := range doc.Revs {
		if t.Find(rev) < 0 {
			diff.Missing = append(diff.Missing, rev)
			newest = max(newest, rev.Gen)
		}
	}
	for i := range t {
		if len(diff.Missing) > 0 && t[i].Leaf && t[i].Gen < newest {
			diff.PossibleAncestors = append(diff.PossibleAncestors, t[i].Rev())
		}
	}
	slices.SortFunc(diff.PossibleAncestors, func(a, b couch.Rev) int { return b.Compare(a) })
	return diff, nil
}
