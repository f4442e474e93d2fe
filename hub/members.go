package hub

import (
	"bytes"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// members is a JSON object in its order, so that a document can be changed in
// one place and stay as it was in the others.
type members []member

type member struct {
	name  string
	value jsontext.Value
}

// parseMembers reads an object. An object that names a member twice is refused:
// readers would disagree on it.
func parseMembers(object []byte) (members, error) {
	bad := couch.BadRequest("invalid UTF-8 JSON")
	if len(object) == 0 {
		return nil, nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, bad
	}
	var m members
	for d.PeekKind() == '"' {
		t, err := d.ReadToken()
		if err != nil {
			return nil, bad
		}
		name := t.String()
		v, err := d.ReadValue()
		if err != nil {
			return nil, bad
		}
		m = append(m, member{name, v.Clone()})
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, bad
	}
	return m, nil
}

// get returns the value of a member, nil if there is none.
func (m members) get(name string) jsontext.Value {
	for i := range m {
		if m[i].name == name {
			return m[i].value
		}
	}
	return nil
}

// text returns a member that is a string; ok is false if it is not.
func (m members) text(name string) (s string, ok bool) {
	v := m.get(name)
	ok = v.Kind() == '"' && json.Unmarshal(v, &s) == nil
	return s, ok
}

// set replaces a member, or adds it at the end. v is a string, a number or a list of strings.
func (m members) set(name string, v any) members {
	b, _ := json.Marshal(v) // of these types it cannot fail
	for i := range m {
		if m[i].name == name {
			m[i].value = b
			return m
		}
	}
	return append(m, member{name, b})
}

func (m members) remove(name string) members {
	out := m[:0]
	for _, e := range m {
		if e.name != name {
			out = append(out, e)
		}
	}
	return out
}

// object writes the members as a JSON object.
func (m members) object() []byte {
	b := []byte{'{'}
	for i, e := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = couch.AppendString(b, e.name)
		b = append(b, ':')
		b = append(b, e.value...)
	}
	return append(b, '}')
}
