package mango

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

var errJSON = couch.BadRequest("invalid UTF-8 JSON")

// newDecoder reads stored documents, which may hold lone surrogates in escapes, as CouchDB's do.
func newDecoder(data []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// parseValue reads one JSON value that a client sent: nil, bool, json.Number, string, []any or map[string]any.
func parseValue(data []byte) (any, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true))
	v, err := readValue(d, MaxDepth)
	if errors.Is(err, errDepth) {
		return nil, err
	}
	if err != nil {
		return nil, errJSON
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errJSON
	}
	return v, nil
}

var errDepth = tooLarge(MaxDepth, "levels of nesting")

// anyDepth is for documents, whose nesting was checked when they were written.
const anyDepth = math.MaxInt

func readValue(d *jsontext.Decoder, depth int) (any, error) {
	if depth < 0 {
		return nil, errDepth
	}
	switch d.PeekKind() {
	case '{':
		object := map[string]any{}
		err := readObject(d, func(name string) (err error) {
			object[name], err = readValue(d, depth-1)
			return err
		})
		return object, err
	case '[':
		return readArray(d, depth-1)
	case '0': // a number's token does not keep its spelling
		v, err := d.ReadValue()
		return json.Number(v), err
	}
	t, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case '"':
		return t.String(), nil
	case 't', 'f':
		return t.Bool(), nil
	}
	return nil, nil
}

// readObject calls member at each value, which it must read.
func readObject(d *jsontext.Decoder, member func(name string) error) error {
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return cmp.Or(err, error(errJSON))
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

func readArray(d *jsontext.Decoder, depth int) (any, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	list := []any{}
	for d.PeekKind() != ']' {
		v, err := readValue(d, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.ReadToken()
	return list, err
}

// A path leads to a value within a document: member names, and indexes of arrays.
type path []string

var errPath = tooLarge(MaxDepth, "names in one field's path")

// splitPath reads "a.b", where \. is a dot within a name.
func splitPath(field string) (path, error) {
	if strings.Count(field, ".") >= MaxDepth {
		return nil, errPath
	}
	var p path
	var name strings.Builder
	for i := 0; i < len(field); i++ {
		switch c := field[i]; {
		case c == '\\' && i+1 < len(field) && (field[i+1] == '.' || field[i+1] == '\\'):
			i++
			name.WriteByte(field[i])
		case c == '.':
			p = append(p, name.String())
			name.Reset()
		default:
			name.WriteByte(c)
		}
	}
	return append(p, name.String()), nil
}

// index reads a name as the index of an element of a list of n. Each has one
// spelling, so that an element is not asked for under many names.
func index(name string, n int) (i int, ok bool) {
	if len(name) > 19 || len(name) > 1 && name[0] == '0' {
		return 0, false
	}
	i, err := strconv.Atoi(name)
	return i, err == nil && '0' <= name[0] && name[0] <= '9' && i < n
}

func (p path) lookup(v any) (any, bool) {
	for _, name := range p {
		switch in := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = in[name]; !ok {
				return nil, false
			}
		case []any:
			i, ok := index(name, len(in))
			if !ok {
				return nil, false
			}
			v = in[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// A view is the members of a document that a selector and a sort look at: the
// others are passed over, which costs a fraction of reading them.
type view struct {
	fields  map[string]struct{}
	special bool // some of them begin with an underscore
}

func (s *Selector) newView(sort []path) view {
	v := view{fields: s.fields}
	if len(sort) > 0 {
		v.fields = make(map[string]struct{}, len(s.fields)+len(sort))
		for name := range s.fields {
			v.fields[name] = struct{}{}
		}
		for _, p := range sort {
			v.fields[p[0]] = struct{}{}
		}
	}
	for name := range v.fields {
		v.special = v.special || strings.HasPrefix(name, "_")
	}
	return v
}

// largeDoc is from which size on the memory for a document's values is held.
const largeDoc = 64 << 10

// hold takes the memory that a large document's values need, until free is called.
func (w view) hold(ctx context.Context, doc *couch.Doc) (free func(), err error) {
	if len(doc.Body) < largeDoc || len(w.fields) == 0 {
		return func() {}, nil
	}
	size := work.JSONSize(doc.Body)
	return func() { work.Release(ctx, size) }, work.Hold(ctx, size)
}

func (w view) of(doc *couch.Doc) (map[string]any, error) {
	out := make(map[string]any, len(w.fields))
	if len(w.fields) == 0 {
		return out, nil
	}
	if w.special {
		meta := *doc
		meta.Body = nil
		if err := w.read(meta.AppendJSON(nil), out); err != nil {
			return nil, err
		}
	}
	return out, w.read(doc.Body, out)
}

func (w view) read(object []byte, out map[string]any) error {
	if len(object) == 0 {
		return nil
	}
	d := newDecoder(object)
	return readObject(d, func(name string) (err error) {
		if _, ok := w.fields[name]; !ok {
			return d.SkipValue()
		}
		out[name], err = readValue(d, anyDepth)
		return err
	})
}

// sortKey is the values of a sort's fields; false if one is not there.
func sortKey(fields map[string]any, sort []path) ([]any, bool) {
	key := make([]any, 0, len(sort))
	for _, p := range sort {
		v, ok := p.lookup(fields)
		if !ok {
			return nil, false
		}
		key = append(key, v)
	}
	return key, true
}
