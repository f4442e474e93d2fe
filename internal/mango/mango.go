// Package mango answers Mango queries (POST /{db}/_find) by a scan of the
// documents in the order of their ids, and compiles selectors for whoever
// filters by one (_changes with filter=_selector, replication, shares).
//
// It follows CouchDB 3 (https://docs.couchdb.org/en/stable/api/database/find.html)
// in selectors, errors, bookmarks and collation, with three differences: a sort
// needs no index, $regex is RE2, which cannot be made to run for ever, and what
// one query may ask is bounded (MaxBytes and what follows it).
//
// kivik's x/mango was the first choice and is not used: it compares numbers by
// the integer part of their difference, takes a missing field for null, refuses
// {"a":{"$gt":1,"$lt":5}} and {"a":{"b":1}}, and panics on bad input.
package mango

import (
	"context"
	"encoding/json"
	"errors"
	"math/bits"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// An AllDocser gives the documents of a database in the order of their ids.
type AllDocser interface {
	AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error)
}

// NoIndexWarning is what CouchDB says of a query answered by a scan.
const NoIndexWarning = "No matching index found, create an index to optimize query time."

// errEnough ends a scan that has found all it was asked for.
var errEnough = errors.New("enough")

// Find runs a query, the JSON body of POST /{db}/_find, and calls fn with each
// matching document, or with the fields of it that the query asks for. Design
// documents never match, as in CouchDB without an index. A document that lacks
// a field of the sort is left out, as it is from an index on that field.
//
// Memory: a sorted query holds skip+limit documents at most, others one. It is held by the
// account of ctx ([work.Hold]).
//
// Errors (400): bad_request, missing_required_key, invalid_operator, bad_arg and
// the others of CouchDB's mango_error; invalid_selector for what is beyond a bound, [ErrWork] among them.
func Find(ctx context.Context, db AllDocser, query json.RawMessage, fn func(json.RawMessage) error) (couch.FindResult, error) {
	q, err := parseQuery(ctx, query)
	if err != nil {
		return couch.FindResult{}, err
	}
	res := couch.FindResult{Bookmark: q.bookmarkText, Warning: NoIndexWarning}
	if q.limit == 0 {
		return res, nil
	}
	var last *hit
	emit := func(h *hit) error {
		b := work.NewBudget(ctx, MaxWork)
		defer b.Close()
		out, free, err := q.project(ctx, b, h.doc)
		defer free()
		if err != nil {
			return workError(err)
		}
		b.Close() // before the client is waited for
		if err := fn(out); err != nil {
			return err
		}
		last = h
		return nil
	}
	if len(q.sort) > 0 {
		err = q.findSorted(ctx, db, emit)
	} else {
		err = q.findUnsorted(ctx, db, emit)
	}
	if last != nil && err == nil {
		res.Bookmark, err = q.bookmarkOf(ctx, last)
	}
	return res, err
}

// findUnsorted gives the matches of a scan as they come.
func (q *query) findUnsorted(ctx context.Context, db AllDocser, emit func(*hit) error) error {
	skip, left := q.skip, q.limit
	err := q.scan(ctx, db, func(h *hit) error {
		if skip > 0 {
			skip--
			return nil
		}
		if err := emit(h); err != nil {
			return err
		}
		if left--; left == 0 {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

// A hit is a document that matches, with the values it is sorted by.
type hit struct {
	doc *couch.Doc
	key []any
}

// scan calls fn for each match after the bookmark, in the order of ids.
func (q *query) scan(ctx context.Context, db AllDocser, fn func(*hit) error) error {
	o := couch.AllDocsOptions{IncludeDocs: true, Conflicts: q.conflicts, Descending: q.descendingIDs}
	o.StartKey, o.EndKey = q.idRange()
	view := q.selector.newView(q.sort)
	_, err := db.AllDocs(ctx, o, func(r *couch.Row) error {
		if r.Doc == nil || strings.HasPrefix(r.ID, "_design/") {
			return nil
		}
		free, err := view.hold(ctx, r.Doc)
		if err != nil {
			return err
		}
		defer free()
		h, err := q.hit(ctx, view, r.Doc)
		if h == nil || err != nil {
			return err
		}
		return fn(h)
	})
	return err
}

// hit returns the hit that a document is, nil if it is none or is not after the bookmark.
func (q *query) hit(ctx context.Context, v view, doc *couch.Doc) (*hit, error) {
	fields, err := v.of(doc)
	if err != nil {
		return nil, err
	}
	if ok, err := q.selector.matches(ctx, fields); !ok {
		return nil, err
	}
	key, ok := sortKey(fields, q.sort)
	if !ok {
		return nil, nil
	}
	h := &hit{doc, key}
	if q.bookmark == nil {
		return h, nil
	}
	b := work.NewBudget(ctx, MaxWork)
	defer b.Close()
	if q.compare(b, h, q.bookmark) <= 0 {
		h = nil
	}
	return h, workError(b.Err())
}

// findSorted keeps the best skip+limit matches of a whole scan. A copy of a
// match outlives its row; couch.Doc values are not reused by AllDocs.
func (q *query) findSorted(ctx context.Context, db AllDocser, emit func(*hit) error) error {
	best := topHits{ctx: ctx, compare: q.compare, n: q.skip + q.limit}
	if err := q.scan(ctx, db, best.add); err != nil {
		return err
	}
	hits, err := best.sorted()
	if err != nil {
		return err
	}
	for _, h := range hits[min(q.skip, len(hits)):] {
		if err := emit(h); err != nil {
			return err
		}
	}
	return nil
}

// compare orders hits by the sort, then by id, in the query's direction.
func (q *query) compare(w *work.Budget, a, b *hit) int {
	for i := range a.key {
		if c := compare(w, a.key[i], b.key[i]); c != 0 {
			return q.direct(c)
		}
	}
	return q.direct(strings.Compare(a.doc.ID, b.doc.ID))
}

func (q *query) direct(c int) int {
	if q.descending {
		return -c
	}
	return c
}

// idRange narrows the scan by what the selector says of _id and by the bookmark.
func (q *query) idRange() (start, end *string) {
	low, high := q.selector.low, q.selector.high
	if q.bookmark != nil && len(q.sort) == 0 {
		if q.descendingIDs {
			high = &q.bookmark.doc.ID
		} else {
			low = &q.bookmark.doc.ID
		}
	}
	if q.descendingIDs {
		return high, low
	}
	return low, high
}

// topHits keeps the n least of the hits added: a slice that is sorted and cut
// whenever it has grown to twice n.
type topHits struct {
	ctx     context.Context
	compare func(w *work.Budget, a, b *hit) int
	n       int
	hits    []*hit
}

func (t *topHits) add(h *hit) error {
	if err := work.Hold(t.ctx, h.size()); err != nil {
		return err
	}
	if t.hits = append(t.hits, h); len(t.hits) < 2*t.n+64 {
		return nil
	}
	_, err := t.sorted()
	return err
}

// fairCompare is how many steps a comparison of two hits may take on average.
const fairCompare = 1 << 12

// size is about what a hit holds: its document, its key, and the values of that.
func (h *hit) size() int64 {
	return 512 + int64(len(h.doc.Body)) + work.JSONSize(h.doc.Body) + 16*int64(cap(h.key))
}

func (t *topHits) sorted() ([]*hit, error) {
	n := int64(len(t.hits))
	b := work.NewBudget(t.ctx, MaxWork+n*int64(bits.Len64(uint64(n)))*fairCompare)
	defer b.Close()
	slices.SortFunc(t.hits, func(x, y *hit) int { return t.compare(b, x, y) })
	if b.Err() != nil {
		return nil, workError(b.Err())
	}
	for _, h := range t.hits[min(t.n, len(t.hits)):] {
		work.Release(t.ctx, h.size())
	}
	if len(t.hits) > t.n {
		clear(t.hits[t.n:])
		t.hits = t.hits[:t.n]
	}
	return t.hits, nil
}
