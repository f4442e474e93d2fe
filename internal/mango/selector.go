package mango

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// A Selector tells whether documents match. It may be used concurrently.
type Selector struct {
	match     predicate           // nil: everything matches
	fields    map[string]struct{} // the top-level members it looks at
	low, high *string             // every match has an id within these, inclusive; nil: open
}

// A predicate is a test of one value within a budget. Fields are looked up in an
// object. When the budget is spent the result means nothing.
type predicate func(b *work.Budget, v any) bool

// Compile reads a selector of at most the bounds that this package names; what it
// takes of memory is held by the account of ctx ([work.Hold]). Errors (400): bad_request
// for what is not JSON, invalid_selector_json, invalid_operator, bad_arg and others as CouchDB
// names them, invalid_selector for what is beyond a bound.
func Compile(ctx context.Context, selector json.RawMessage) (*Selector, error) {
	if err := hold(ctx, selector); err != nil {
		return nil, err
	}
	v, err := parseValue(selector)
	if err != nil {
		return nil, err
	}
	return compile(&tally{ctx: ctx}, v)
}

// Match reports whether the document matches, by its body and by its members
// _id, _rev, _deleted and _attachments. It reads only the members the selector
// names. Errors: [ErrWork], which is neither a match nor none; the context's; that of
// a body that is not JSON.
func (s *Selector) Match(ctx context.Context, doc *couch.Doc) (bool, error) {
	if s.match == nil {
		return true, nil
	}
	v := s.newView(nil)
	free, err := v.hold(ctx, doc)
	if err != nil {
		return false, err
	}
	defer free()
	fields, err := v.of(doc)
	if err != nil {
		return false, err
	}
	return s.matches(ctx, fields)
}

func (s *Selector) matches(ctx context.Context, fields map[string]any) (bool, error) {
	if s.match == nil {
		return true, nil
	}
	b := work.NewBudget(ctx, MaxWork)
	defer b.Close()
	ok := s.match(b, fields)
	return ok && b.Err() == nil, workError(b.Err())
}

func compile(t *tally, v any) (*Selector, error) {
	sel, ok := v.(map[string]any)
	if !ok {
		return nil, bad("invalid_selector_json", "Selector must be a JSON object")
	}
	s := &Selector{fields: map[string]struct{}{}}
	if len(sel) == 0 {
		return s, nil
	}
	c := compiler{tally: t, fields: s.fields}
	var err error
	if s.match, err = c.object(sel, nil, false); err != nil {
		return nil, err
	}
	s.low, s.high = idBounds(sel)
	return s, nil
}

// A compiler turns a selector into a predicate on an object. Negations are
// pushed down to the operators while it descends, as CouchDB does: so that
// {"$not":{"a":1}} means {"a":{"$ne":1}}, which a document without "a" does not match.
type compiler struct {
	*tally
	fields map[string]struct{} // collects the first steps of all paths
	bare   bool                // operators need no field name: within $elemMatch and its like
}

// object compiles all members of sel, which apply to the value at the path at.
func (c compiler) object(sel map[string]any, at path, negate bool) (predicate, error) {
	terms := make([]predicate, 0, len(sel))
	for _, key := range slices.Sorted(maps.Keys(sel)) {
		term, err := c.member(key, sel[key], at, negate)
		if err != nil {
			return nil, err
		}
		terms = append(terms, term)
	}
	return combine(terms, negate), nil
}

func (c compiler) member(key string, arg any, at path, negate bool) (predicate, error) {
	if err := c.tally.operator(); err != nil {
		return nil, err
	}
	switch {
	case key == "$and" || key == "$or" || key == "$nor":
		return c.combination(key, arg, at, negate)
	case key == "$not":
		sel, ok := arg.(map[string]any)
		if !ok {
			return nil, badArg(key, arg)
		}
		return c.object(sel, at, !negate)
	case strings.HasPrefix(key, "$"):
		return c.operator(key, arg, at, negate)
	}
	rest, err := splitPath(key)
	if err != nil {
		return nil, err
	}
	if at = append(at[:len(at):len(at)], rest...); len(at) > MaxDepth {
		return nil, errPath
	}
	if sel, ok := arg.(map[string]any); ok && len(sel) > 0 {
		return c.object(sel, at, negate)
	}
	return c.operator("$eq", arg, at, negate)
}

func (c compiler) combination(op string, arg any, at path, negate bool) (predicate, error) {
	list, ok := arg.([]any)
	if !ok {
		return nil, badArg(op, arg)
	}
	if op == "$nor" {
		negate = !negate
	}
	terms := make([]predicate, 0, len(list))
	for _, v := range list {
		if err := c.tally.operator(); err != nil {
			return nil, err
		}
		sel, ok := v.(map[string]any)
		if !ok {
			return nil, badArg(op, arg)
		}
		term, err := c.object(sel, at, negate)
		if err != nil {
			return nil, err
		}
		terms = append(terms, term)
	}
	return combine(terms, (op != "$and") != negate), nil
}

// operator compiles one operator on the value at the path at.
func (c compiler) operator(op string, arg any, at path, negate bool) (predicate, error) {
	build, known := operators[op]
	switch {
	case op == "$text":
		return nil, bad("not_supported", "Unsupported operator: $text")
	case !known:
		return nil, bad("invalid_operator", "Invalid operator: "+op)
	case len(at) == 0 && !c.bare:
		return nil, bad("invalid_selector", "One or more conditions is missing a field name.")
	}
	lookup := int64(4 * (len(at) + 1)) // steps
	for _, name := range at {
		lookup += int64(len(name) / 16)
	}
	if len(at) > 0 {
		c.fields[at[0]] = struct{}{}
	}
	if op == "$exists" {
		want, ok := arg.(bool)
		if !ok {
			return nil, badArg(op, arg)
		}
		want = want != negate
		return func(b *work.Budget, v any) bool {
			_, found := at.lookup(v)
			return found == want && b.Spend(lookup) == nil
		}, nil
	}
	test, err := build(op, arg, condition{c.tally, slices.Equal(at, path{"_id"})})
	if err != nil {
		return nil, err
	}
	return func(b *work.Budget, v any) bool {
		v, found := at.lookup(v)
		return b.Spend(lookup) == nil && found && test(b, v) != negate
	}, nil
}

// combine joins terms: all of them, or any of them. Of no terms both are true, as in CouchDB.
func combine(terms []predicate, any_ bool) predicate {
	if len(terms) == 1 {
		return terms[0]
	}
	return func(b *work.Budget, v any) bool {
		for _, t := range terms {
			if t(b, v) == any_ || b.Err() != nil {
				return any_
			}
		}
		return !any_ || len(terms) == 0
	}
}

func badArg(op string, arg any) *couch.Error {
	return bad("bad_arg", "Bad argument for operator "+op+": "+show(arg))
}

// idBounds finds the range of ids that a selector's own members and those of
// its $and allow, so that {"_id":{"$gt":"a","$lt":"b"}} reads only that range.
func idBounds(sel map[string]any) (low, high *string) {
	raise := func(s *string) {
		if s != nil && (low == nil || *s > *low) {
			low = s
		}
	}
	lower := func(s *string) {
		if s != nil && (high == nil || *s < *high) {
			high = s
		}
	}
	bound := func(v any) *string {
		if s, ok := v.(string); ok {
			return &s
		}
		return nil
	}
	raise(bound(sel["_id"]))
	lower(bound(sel["_id"]))
	if ops, ok := sel["_id"].(map[string]any); ok {
		for op, v := range ops {
			if op == "$gt" || op == "$gte" || op == "$eq" {
				raise(bound(v))
			}
			if op == "$lt" || op == "$lte" || op == "$eq" {
				lower(bound(v))
			}
		}
	}
	terms, _ := sel["$and"].([]any)
	for _, t := range terms {
		if sub, ok := t.(map[string]any); ok {
			l, h := idBounds(sub)
			raise(l)
			lower(h)
		}
	}
	return low, high
}
