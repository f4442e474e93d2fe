// Package mango answers Mango queries (POST /{db}/_find) by a scan of the
// documents in the order of their ids, and compiles selectors for whoever
// filters by one (_changes with filter=_selector, replication, shares).
//
// It follows CouchDB 3 (https://docs.couchdb.org/en/stable/api/database/find.html)
// in selectors, errors, bookmarks and collation, with two differences: a sort
// needs no index, and $regex is RE2, which cannot be made to run for ever.
//
// kivik's x/mango was the first choice and is not used: it compares numbers by
// the integer part of their difference, takes a missing field for null, refuses
// {"a":{"$gt":1,"$lt":5}} and {"a":{"b":1}}, and panics on bad input.
package mango

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
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
// Memory: a sorted query holds skip+limit documents at most, others one.
//
// Errors (400): bad_request, missing_required_key, invalid_operator, bad_arg and
// the others of CouchDB's mango_error.
func Find(ctx context.Context, db AllDocser, query json.RawMessage, fn func(json.RawMessage) error) (couch.FindResult, error) {
	q, err := parseQuery(query)
	if err != nil {
		return couch.FindResult{}, err
	}
	res := couch.FindResult{Bookmark: q.bookmarkText, Warning: NoIndexWarning}
	if q.limit == 0 {
		return res, nil
	}
	emit := func(h *hit) error {
		out, err := q.project(h.doc)
		if err != nil {
			return err
		}
		if err := fn(out); err != nil {
			return err
		}
		res.Bookmark = bookmark{ID: h.doc.ID, Key: h.key}.String()
		return nil
	}
	if len(q.sort) > 0 {
		return res, q.findSorted(ctx, db, emit)
	}
	skip, left := q.skip, q.limit
	err = q.scan(ctx, db, func(h *hit) error {
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
	return res, err
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
		fields, err := view.of(r.Doc)
		if err != nil {
			return err
		}
		if !q.selector.matches(fields) {
			return nil
		}
		key, ok := sortKey(fields, q.sort)
		if h := (&hit{r.Doc, key}); ok && q.afterBookmark(h) {
			return fn(h)
		}
		return nil
	})
	return err
}

// findSorted keeps the best skip+limit matches of a whole scan. A copy of a
// match outlives its row; couch.Doc values are not reused by AllDocs.
func (q *query) findSorted(ctx context.Context, db AllDocser, emit func(*hit) error) error {
	best := topHits{compare: q.compare, n: q.skip + q.limit}
	if err := q.scan(ctx, db, func(h *hit) error { best.add(h); return nil }); err != nil {
		return err
	}
	hits := best.sorted()
	for _, h := range hits[min(q.skip, len(hits)):] {
		if err := emit(h); err != nil {
			return err
		}
	}
	return nil
}

// compare orders hits by the sort, then by id, in the query's direction.
func (q *query) compare(a, b *hit) int {
	for i := range a.key {
		if c := Compare(a.key[i], b.key[i]); c != 0 {
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

func (q *query) afterBookmark(h *hit) bool {
	return q.bookmark == nil || q.compare(h, q.bookmark) > 0
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
	compare func(a, b *hit) int
	n       int
	hits    []*hit
}

func (t *topHits) add(h *hit) {
	t.hits = append(t.hits, h)
	if len(t.hits) >= 2*t.n+64 {
		t.sorted()
	}
}

func (t *topHits) sorted() []*hit {
	slices.SortFunc(t.hits, t.compare)
	if len(t.hits) > t.n {
		clear(t.hits[t.n:])
		t.hits = t.hits[:t.n]
	}
	return t.hits
}
