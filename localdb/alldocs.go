package localdb

import (
	"context"
	"math"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// countAhead is up to how many rows before a range are counted, in milliseconds.
const countAhead = 10_000

// AllDocs implements [couch.DB]. AllDocsResult.Offset is not told when more than
// countAhead rows are before a range.
func (d *database) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	var result couch.AllDocsResult
	err := d.view(ctx, func(c *sqlite.Conn) error {
		n, err := readCounters(c, d.uuid)
		result.Total = n.docs
		if o.UpdateSeq {
			result.UpdateSeq = d.formatSeq(n.seq)
		}
		if err != nil {
			return err
		}
		result.Offset, err = offset(c, o, n.docs)
		return err
	})
	if err != nil {
		return result, err
	}
	if o.Keys != nil {
		return result, d.rowsByKeys(ctx, o, fn)
	}
	return result, d.rowsInOrder(ctx, o, fn)
}

// offset is how many of all rows come before those asked for; -1: it is not told.
func offset(c *sqlite.Conn, o couch.AllDocsOptions, total int64) (int64, error) {
	switch {
	case o.Keys != nil, o.StartKey != nil && !o.Offset:
		return -1, nil
	case o.StartKey == nil:
		return min(int64(o.Skip), total), nil
	}
	s := c.Prepare("SELECT count(*) FROM (SELECT 1 FROM docs WHERE id " + [2]string{"<", ">"}[btoi(o.Descending)] + " ?1 AND flags & 1 = 0 LIMIT ?2)")
	s.BindText(1, *o.StartKey)
	s.BindInt(2, countAhead+1)
	defer s.Reset()
	if _, err := s.Step(); err != nil {
		return -1, err
	}
	ahead := s.Int(0)
	if ahead > countAhead {
		return -1, nil
	}
	return min(ahead+int64(o.Skip), total), nil
}

// limitOf is the limit as a count.
func limitOf(o couch.AllDocsOptions) int {
	if o.Limit == nil {
		return math.MaxInt
	}
	return max(*o.Limit, 0)
}

// A span is a range of ids that a scan has still to visit.
type span struct {
	from, to   *string // bounds in the order of ids, nil: none
	afterFrom  bool    // from itself is not in it
	beforeTo   bool    // to itself is not in it
	down       bool
	skip, left int
}

// statement prepares the next page: ids and what a row tells.
func (p *span) statement(c *sqlite.Conn) *sqlite.Stmt {
	sql := "SELECT id, " + rowColumns + " FROM docs WHERE flags & 1 = 0"
	if p.from != nil {
		sql += [2]string{" AND id >= ?1", " AND id > ?1"}[btoi(p.afterFrom)]
	}
	if p.to != nil {
		sql += [2]string{" AND id <= ?2", " AND id < ?2"}[btoi(p.beforeTo)]
	}
	sql += [2]string{" ORDER BY id", " ORDER BY id DESC"}[btoi(p.down)] + " LIMIT ?3 OFFSET ?4"
	s := c.Prepare(sql)
	if p.from != nil {
		s.BindText(1, *p.from)
	}
	if p.to != nil {
		s.BindText(2, *p.to)
	}
	s.BindInt(3, int64(min(p.left, pageRows)))
	s.BindInt(4, int64(p.skip))
	return s
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// passed leaves out id and what came before it.
func (p *span) passed(id string) {
	if p.down {
		p.to, p.beforeTo = &id, true
	} else {
		p.from, p.afterFrom = &id, true
	}
}

func (d *database) rowsInOrder(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) error {
	p := span{from: o.StartKey, to: o.EndKey, beforeTo: o.ExclusiveEnd, down: o.Descending, skip: o.Skip, left: limitOf(o)}
	if o.Descending {
		p.from, p.to, p.afterFrom, p.beforeTo = o.EndKey, o.StartKey, o.ExclusiveEnd, false
	}
	for p.left > 0 {
		var more bool
		page, free, err := readPage(ctx, d.view, rowDoc, func(c *sqlite.Conn) (page []couch.Row, err error) {
			page, more, err = d.pageOfRows(c, &p, o)
			return page, err
		})
		if err != nil {
			return err
		}
		for i := 0; i < len(page) && err == nil; i++ {
			err = fn(&page[i])
		}
		if free(); err != nil {
			return err
		}
		if !more {
			return nil
		}
		p.skip = 0
		p.left -= len(page)
		p.passed(page[len(page)-1].ID)
	}
	return nil
}

func rowDoc(r *couch.Row) *couch.Doc { return r.Doc }

// pageOfRows reads one page and tells whether there may be another.
func (d *database) pageOfRows(c *sqlite.Conn, p *span, o couch.AllDocsOptions) (page []couch.Row, more bool, err error) {
	page = make([]couch.Row, 0, min(p.left, pageRows))
	s := p.statement(c)
	defer s.Reset()
	for size := 0; size < pageBytes; {
		found, err := s.Step()
		if err != nil || !found {
			return page, len(page) == pageRows, err
		}
		var r row
		if err := r.read(s, 1, o.IncludeDocs && o.Conflicts); err != nil {
			return nil, false, err
		}
		item := couch.Row{ID: s.Text(0), Rev: r.winner.Rev()}
		if o.IncludeDocs {
			if item.Doc, err = d.readDoc(c, item.ID, &r, couch.GetOptions{Conflicts: o.Conflicts, Attachments: o.Attachments}); err != nil {
				return nil, false, err
			}
			size += docSize(item.Doc)
		}
		page = append(page, item)
	}
	return page, true, nil
}

func (d *database) rowsByKeys(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) error {
	keys := o.Keys
	if o.Descending {
		keys = make([]string, 0, len(o.Keys))
		for i := len(o.Keys) - 1; i >= 0; i-- {
			keys = append(keys, o.Keys[i])
		}
	}
	keys = keys[min(o.Skip, len(keys)):]
	keys = keys[:min(limitOf(o), len(keys))]
	for len(keys) > 0 {
		page, free, err := readPage(ctx, d.view, rowDoc, func(c *sqlite.Conn) ([]couch.Row, error) {
			page := make([]couch.Row, 0, min(len(keys), pageRows))
			for size := 0; len(page) < cap(page) && size < pageBytes; {
				item, err := d.rowByKey(c, keys[len(page)], o)
				if err != nil {
					return nil, err
				}
				size += docSize(item.Doc)
				page = append(page, item)
			}
			return page, nil
		})
		if err != nil {
			return err
		}
		for i := 0; i < len(page) && err == nil; i++ {
			err = fn(&page[i])
		}
		if free(); err != nil {
			return err
		}
		keys = keys[len(page):]
	}
	return nil
}

func (d *database) rowByKey(c *sqlite.Conn, key string, o couch.AllDocsOptions) (couch.Row, error) {
	r, err := findRow(c, key)
	if err != nil {
		return couch.Row{}, err
	}
	if r == nil {
		return couch.Row{ID: key, Err: "not_found"}, nil
	}
	item := couch.Row{ID: key, Rev: r.winner.Rev(), Deleted: r.deleted()}
	if o.IncludeDocs && !item.Deleted {
		item.Doc, err = d.readDoc(c, key, r, couch.GetOptions{Conflicts: o.Conflicts, Attachments: o.Attachments})
	}
	return item, err
}
