package couchhttp

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// rawJSON is a value kept as it is spelled.
type rawJSON = jsontext.Value

// decodeObject reads a JSON object into the struct v; unknown members are ignored.
func decodeObject(body []byte, v any) error {
	if k := jsontext.Value(body).Kind(); k != '{' && jsontext.Value(body).IsValid() {
		return couch.BadRequest("Request body must be a JSON object")
	}
	err := json.Unmarshal(body, v)
	var wrong *json.SemanticError
	if errors.As(err, &wrong) && rawJSON(body).IsValid() {
		return couch.BadRequest("Invalid value at " + strconv.Quote(string(wrong.JSONPointer)))
	}
	if err != nil {
		return couch.BadRequest("invalid UTF-8 JSON")
	}
	return nil
}

// decodeIDsRevs reads {"id":["1-a","2-b"],…} in its order, at most limit ids.
func decodeIDsRevs(body []byte, limit int) ([]couch.DocRevs, error) {
	docs, err := readIDsRevs(body, limit)
	if err != nil && !rawJSON(body).IsValid() { // which comes first for CouchDB
		err = couch.BadRequest("invalid UTF-8 JSON")
	}
	return docs, err
}

func readIDsRevs(body []byte, limit int) ([]couch.DocRevs, error) {
	var docs []couch.DocRevs
	d := jsontext.NewDecoder(bytes.NewReader(body))
	bad := couch.BadRequest("invalid UTF-8 JSON")
	if d.PeekKind() != '{' {
		if jsontext.Value(body).IsValid() {
			return nil, couch.BadRequest("Request body must be a JSON object")
		}
		return nil, bad
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, bad
	}
	for d.PeekKind() == '"' {
		id, err := d.ReadToken()
		if err != nil {
			return nil, bad
		}
		one := couch.DocRevs{ID: id.String()}
		if one.Revs, err = decodeRevs(d); err != nil {
			return nil, err
		}
		if docs = append(docs, one); len(docs) > limit {
			return nil, couch.TooLarge("too_large", "more than "+strconv.Itoa(limit)+" documents")
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, bad
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, bad
	}
	return docs, nil
}

// decodeRevs reads ["1-a","2-b"].
func decodeRevs(d *jsontext.Decoder) ([]couch.Rev, error) {
	if d.PeekKind() != '[' {
		if _, err := d.ReadValue(); err != nil {
			return nil, couch.BadRequest("invalid UTF-8 JSON")
		}
		return nil, errRevList
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, couch.BadRequest("invalid UTF-8 JSON")
	}
	var revs []couch.Rev
	for {
		t, err := d.ReadToken()
		switch {
		case err != nil:
			return nil, couch.BadRequest("invalid UTF-8 JSON")
		case t.Kind() == ']':
			return revs, nil
		case t.Kind() != '"':
			return nil, couch.BadRequest("Invalid rev format")
		}
		r, err := couch.ParseRev(t.String())
		if err != nil {
			return nil, err
		}
		revs = append(revs, r)
	}
}
