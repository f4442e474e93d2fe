package mango

import (
	"context"
	"encoding/json"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// project gives the document, or the fields of it that the query names, with
// all values spelled as in the document. A field that is not there is left out.
// The fields' memory is held until free is called.
func (q *query) project(ctx context.Context, b *work.Budget, doc *couch.Doc) (out json.RawMessage, free func(), err error) {
	var held int64
	free = func() { work.Release(ctx, held) }
	whole := doc.AppendJSON(nil)
	if len(q.fields) == 0 {
		return whole, free, nil
	}
	var fields node
	for _, p := range q.fields {
		v, ok, err := p.raw(b, whole)
		if err != nil {
			return nil, free, err
		}
		if !ok {
			continue
		}
		if size := 2 * int64(len(v)); len(v) >= largeDoc { // it, and in the answer
			if err := work.Hold(ctx, size); err != nil {
				return nil, free, err
			}
			held += size
		}
		fields.set(p, v)
	}
	return fields.appendJSON(nil), free, nil
}

// raw finds the JSON text at a path.
func (p path) raw(b *work.Budget, v []byte) ([]byte, bool, error) {
	for _, name := range p {
		if err := b.Spend(int64(len(v))); err != nil {
			return nil, false, err
		}
		var found []byte
		d := newDecoder(v)
		switch d.PeekKind() {
		case '{':
			err := readObject(d, func(n string) error {
				if n != name {
					return d.SkipValue()
				}
				value, err := d.ReadValue()
				found = append([]byte(nil), value...)
				return err
			})
			if err != nil {
				return nil, false, err
			}
		case '[':
			var list []json.RawMessage
			if err := json.Unmarshal(v, &list); err != nil {
				return nil, false, err
			}
			if i, ok := index(name, len(list)); ok {
				found = list[i]
			}
		}
		if found == nil {
			return nil, false, nil
		}
		v = found
	}
	return v, true, nil
}

// A node is an object being put together from paths, its members in the order they came.
type node struct {
	names    []string
	children map[string]*node
	value    []byte // a leaf
}

func (n *node) set(p path, value []byte) {
	for _, name := range p {
		if n.value != nil {
			return // "a" holds "a.b" already
		}
		child := n.children[name]
		if child == nil {
			if n.children == nil {
				n.children = map[string]*node{}
			}
			child = &node{}
			n.children[name] = child
			n.names = append(n.names, name)
		}
		n = child
	}
	n.value = value
}

func (n *node) appendJSON(dst []byte) []byte {
	if n.value != nil {
		return append(dst, n.value...)
	}
	dst = append(dst, '{')
	for i, name := range n.names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(couch.AppendString(dst, name), ':')
		dst = n.children[name].appendJSON(dst)
	}
	return append(dst, '}')
}
