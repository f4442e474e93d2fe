package couchhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A jsonStream takes a JSON text apart while it arrives. It finds where values
// end and leaves checking what is in them to whoever reads them: a document is
// checked once, by couch.ParseDoc, and not a second time here.
type jsonStream struct {
	r    io.Reader // nil: buf is all there is
	buf  []byte
	pos  int
	keep bool // values handed out stay valid after the next call
	max  int  // bytes of one value
}

const (
	streamBlock  = 64 << 10
	defaultValue = 64 << 20 // a document with its small attachments in base64
	maxRevs      = 100_000  // leaves of one document
)

var errBadJSON = errors.New("the answer is not valid JSON")

func jsonBytes(b []byte) *jsonStream { return &jsonStream{buf: b, max: len(b) + 1} }

// fill reads more, keeping what is unread from start on; it returns how far the kept bytes moved.
func (s *jsonStream) fill(start int) (moved int, err error) {
	if s.r == nil {
		return 0, io.ErrUnexpectedEOF
	}
	part := s.buf[start:]
	if len(part) > s.max {
		return 0, couch.TooLarge("too_large", "A row of the answer is longer than the limit.")
	}
	if len(s.buf) == cap(s.buf) {
		size := max(streamBlock, cap(s.buf))
		if len(part)*2 > size {
			size = len(part) * 2
		}
		if s.keep || size > cap(s.buf) {
			s.buf = append(make([]byte, 0, size), part...)
		} else {
			s.buf = s.buf[:copy(s.buf[:cap(s.buf)], part)]
		}
		moved = start
	}
	for range 100 {
		n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if n > 0 {
			return moved, nil
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return moved, err
		}
	}
	return moved, io.ErrNoProgress
}

// peek passes white space and returns the next byte without taking it.
func (s *jsonStream) peek() (byte, error) {
	for {
		for ; s.pos < len(s.buf); s.pos++ {
			switch c := s.buf[s.pos]; c {
			case ' ', '\t', '\n', '\r':
			default:
				return c, nil
			}
		}
		moved, err := s.fill(s.pos)
		s.pos -= moved
		if err != nil {
			return 0, err
		}
	}
}

// take passes white space and one byte, which must be c.
func (s *jsonStream) take(c byte) error {
	switch got, err := s.peek(); {
	case err != nil:
		return err
	case got != c:
		return errBadJSON
	}
	s.pos++
	return nil
}

// value returns the next value as it is spelled.
func (s *jsonStream) value() ([]byte, error) {
	first, err := s.peek()
	if err != nil {
		return nil, err
	}
	start, i, depth := s.pos, s.pos, 0
	more := func() error {
		moved, err := s.fill(start)
		start, i = start-moved, i-moved
		return err
	}
	scalar := first != '"' && first != '{' && first != '['
	for {
		if i == len(s.buf) {
			if err := more(); err != nil {
				if s.pos = i; scalar && errors.Is(err, io.ErrUnexpectedEOF) && i > start {
					return s.buf[start:i:i], nil
				}
				return nil, err
			}
		}
		switch c := s.buf[i]; {
		case c == '"':
			for i++; ; {
				n := stringEnd(s.buf[i:])
				if n >= 0 {
					i += n
					break
				}
				i += -n - 1
				if err := more(); err != nil {
					return nil, err
				}
			}
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth < 0 && !scalar {
				return nil, errBadJSON
			}
		}
		if scalar {
			switch s.buf[i] {
			case ',', '}', ']', ' ', '\t', '\n', '\r':
				if s.pos = i; i == start {
					return nil, errBadJSON
				}
				return s.buf[start:i:i], nil
			}
		} else if depth == 0 {
			s.pos = i + 1
			return s.buf[start : i+1 : i+1], nil
		}
		i++
	}
}

// stringEnd returns where the quote that ends a string is in b, the rest of the
// string. If it is not in b it returns -1-n, where n bytes need no second look.
func stringEnd(b []byte) int {
	for i := 0; ; {
		q := bytes.IndexByte(b[i:], '"')
		part := b[i:]
		if q >= 0 {
			part = b[i : i+q]
		}
		e := bytes.IndexByte(part, '\\')
		switch {
		case e < 0 && q >= 0:
			return i + q
		case e < 0:
			return -1 - len(b)
		case i+e+1 >= len(b):
			return -1 - (i + e)
		}
		i += e + 2
	}
}

// object reads {…}: member must take the value of each key.
func (s *jsonStream) object(member func(key string) error) error {
	return s.list('{', '}', func() error {
		raw, err := s.value()
		if err != nil {
			return err
		}
		key, err := unquote(raw)
		if err != nil {
			return err
		}
		if err := s.take(':'); err != nil {
			return err
		}
		return member(key)
	})
}

// array reads […]: element must take each value.
func (s *jsonStream) array(element func() error) error { return s.list('[', ']', element) }

func (s *jsonStream) list(open, end byte, item func() error) error {
	if err := s.take(open); err != nil {
		return err
	}
	c, err := s.peek()
	if err != nil || c == end {
		s.pos++
		return err
	}
	for {
		if err := item(); err != nil {
			return err
		}
		c, err := s.peek()
		if err != nil {
			return err
		}
		s.pos++
		if c == end {
			return nil
		}
		if c != ',' {
			return errBadJSON
		}
	}
}

func (s *jsonStream) skip() error {
	_, err := s.value()
	return err
}

func (s *jsonStream) string() (string, error) {
	raw, err := s.value()
	if err != nil {
		return "", err
	}
	return unquote(raw)
}

// decode reads a value that is rare enough for encoding/json.
func (s *jsonStream) decode(to any) error {
	raw, err := s.value()
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, to)
}

func (s *jsonStream) rev() (couch.Rev, error) {
	text, err := s.string()
	if err != nil {
		return couch.Rev{}, err
	}
	return couch.ParseRev(text)
}

func (s *jsonStream) revs() (revs []couch.Rev, err error) {
	err = s.array(func() error { return s.appendRev(&revs) })
	return revs, err
}

// appendRev reads one of a list of revisions, of which a server may not send without end.
func (s *jsonStream) appendRev(revs *[]couch.Rev) error {
	r, err := s.rev()
	if *revs = append(*revs, r); len(*revs) > maxRevs {
		return couch.TooLarge("too_large", "The answer has too many revisions of one document.")
	}
	return err
}

// seq reads an update sequence: a string, a number or whatever the server makes of it.
func (s *jsonStream) seq() (seq couch.Seq, err error) {
	raw, err := s.value()
	if err != nil {
		return "", err
	}
	if len(raw) > 1 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return couch.Seq(raw[1 : len(raw)-1]), nil
	}
	err = seq.UnmarshalJSON(raw)
	return seq, err
}

func unquote(raw []byte) (string, error) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", errBadJSON
	}
	if in := raw[1 : len(raw)-1]; bytes.IndexByte(in, '\\') < 0 {
		return string(in), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// rowError is {"error":…,"reason":…} as it stands in rows, where no status goes with it.
func rowError(code, reason string) *couch.Error {
	status := 500
	switch code {
	case "not_found":
		status = 404
	case "conflict":
		status = 409
	case "forbidden":
		status = 403
	case "unauthorized":
		status = 401
	case "missing_stub":
		status = 412
	case "document_too_large", "attachment_too_large", "too_large":
		status = 413
	case "bad_request", "doc_validation", "illegal_docid", "invalid_rev", "query_parse_error":
		status = 400
	case "too_many_requests":
		status = 429
	}
	return &couch.Error{Status: status, Code: code, Reason: reason}
}
