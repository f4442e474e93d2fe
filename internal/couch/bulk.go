package couch

import "strconv"

// ParseBulkDocs reads the body of POST /{db}/_bulk_docs, {"docs":[…],"new_edits":true},
// each document once and in place: the documents refer to data, as with [ParseDoc].
// A body of more than maxDocs documents is refused (413).
//
// https://docs.couchdb.org/en/stable/api/database/bulk-api.html#db-bulk-docs
//
// Errors (400, besides those of [ParseDoc]): bad_request for a body that is not
// an object with an array "docs".
func ParseBulkDocs(data []byte, maxDocs int) (docs []*Doc, newEdits bool, err error) {
	s := scanner{data: data}
	s.space()
	if s.peek() != '{' {
		if s.skipValue(0) && s.end() {
			return nil, false, BadRequest("Request body must be a JSON object")
		}
		return nil, false, errJSON()
	}
	b := bulk{scanner: &s, newEdits: true, max: maxDocs}
	if ok := s.object(b.member) && s.end(); b.err != nil {
		return nil, false, b.err
	} else if !ok {
		return nil, false, errJSON()
	}
	if b.docs == nil {
		return nil, false, BadRequest("POST body must include `docs` parameter.")
	}
	return b.docs, b.newEdits, nil
}

// A bulk is a _bulk_docs body being read.
type bulk struct {
	*scanner
	docs     []*Doc
	newEdits bool
	max      int
	err      error // why a method returned false, if not the syntax
}

func (b *bulk) member(key string) bool {
	switch key {
	case "docs":
		if b.peek() != '[' {
			return b.fail(BadRequest("`docs` parameter must be an array."))
		}
		b.docs = make([]*Doc, 0, 16)
		return b.array(b.element)
	case "new_edits":
		switch b.peek() {
		case 't':
			b.newEdits = true
		case 'f':
			b.newEdits = false
		default:
			return b.fail(BadRequest("`new_edits` parameter must be a boolean."))
		}
	}
	return b.skipValue(1)
}

func (b *bulk) element() bool {
	if len(b.docs) >= b.max {
		return b.fail(TooLarge("max_bulk_docs_count_exceeded", strconv.Itoa(b.max)))
	}
	d, err := b.doc()
	if err != nil {
		return b.fail(err)
	}
	b.docs = append(b.docs, d)
	return true
}

func (b *bulk) fail(err error) bool {
	b.err = err
	return false
}
