package couch

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document's JSON.
const maxDepth = 3000

// ParseDoc reads one document as a client writes it. It checks the whole
// syntax once, takes the members that begin with an underscore and keeps the
// rest as it is spelled, without white space: 1 KB costs about 1 µs, a tenth of encoding/json.
//
// The document refers to data, which the caller must not change afterwards.
//
// Errors (400): bad_request "invalid UTF-8 JSON" or "Document must be a JSON
// object"; doc_validation for an unknown or malformed underscore member.
func ParseDoc(data []byte) (*Doc, error) {
	s := scanner{data: data}
	s.space()
	d, err := s.doc()
	if err == nil && !s.end() {
		err = errJSON()
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// doc reads the document at pos; see [ParseDoc].
func (s *scanner) doc() (*Doc, error) {
	data := s.data
	if s.peek() != '{' {
		if s.skipValue(0) {
			return nil, BadRequest("Document must be a JSON object")
		}
		return nil, errJSON()
	}
	d := &Doc{}
	open := s.pos
	runs := make([]span, 0, 4) // members to keep, neighbours as one run
	kept, taken := false, false
	s.pos++
	for first := true; ; first = false {
		s.space()
		if first && s.peek() == '}' {
			s.pos++
			break
		}
		start := s.pos
		if !s.skipString() {
			return nil, errJSON()
		}
		key := data[start+1 : s.pos-1]
		if !s.colon() {
			return nil, errJSON()
		}
		valueAt := s.pos
		if !s.skipValue(1) {
			return nil, errJSON()
		}
		// A key with an escape could hide an underscore: \u005f.
		if bytes.IndexByte(key, '\\') >= 0 {
			key = []byte(unquote(data[start : start+len(key)+2]))
		}
		if len(key) > 0 && key[0] == '_' && !ofReplicator(string(key)) {
			if err := d.setMember(string(key), data[valueAt:s.pos]); err != nil {
				return nil, err
			}
			kept, taken = false, true
		} else if kept {
			runs[len(runs)-1].end = s.pos
		} else {
			runs = append(runs, span{start, s.pos})
			kept = true
		}
		s.space()
		c := s.peek()
		s.pos++
		if c == '}' {
			break
		}
		if c != ',' {
			return nil, errJSON()
		}
		s.space()
	}
	end := s.pos
	switch {
	case taken:
		d.Body = joinRuns(data, runs)
	case s.spaced:
		d.Body = bytes.Clone(data[open:end])
	default:
		d.Body = data[open:end:end]
	}
	if s.spaced { // rows of feeds and exports are lines, so documents must be
		d.Body = compact(d.Body)
	}
	return d, nil
}

type span struct{ start, end int }

// joinRuns makes an object of the kept members.
func joinRuns(data []byte, runs []span) json.RawMessage {
	n := 2
	for _, r := range runs {
		n += r.end - r.start + 1
	}
	body := append(make([]byte, 0, n), '{')
	for i, r := range runs {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, data[r.start:r.end]...)
	}
	return append(body, '}')
}

func errJSON() *Error { return BadRequest("invalid UTF-8 JSON") }

func badMember(reason string) *Error { return &Error{400, "doc_validation", reason} }

// ofReplicator reports whether an underscore member is one that CouchDB's replicator writes
// into the documents of _replicator, and that stays in the body.
func ofReplicator(key string) bool {
	switch key {
	case "_replication_state", "_replication_state_time", "_replication_state_reason", "_replication_id", "_replication_stats":
		return true
	}
	return false
}

// setMember takes one underscore member. https://docs.couchdb.org/en/stable/api/document/common.html
func (d *Doc) setMember(key string, value []byte) error {
	switch key {
	case "_id":
		if value[0] != '"' {
			return &Error{400, "illegal_docid", "Document id must be a string"}
		}
		if d.ID = unquote(value); d.ID == "" {
			return ValidID(d.ID)
		}
	case "_rev":
		if value[0] != '"' {
			return BadRequest("Invalid rev format")
		}
		rev, err := ParseRev(unquote(value))
		if d.Revisions == nil {
			d.Rev = rev
		}
		return err
	case "_deleted":
		switch string(value) {
		case "true":
			d.Deleted = true
		case "false":
		default:
			return badSpecial(key)
		}
	case "_revisions":
		return d.setRevisions(value)
	case "_attachments":
		return d.setAttachments(value)
	case "_conflicts":
		told(value, &d.Conflicts)
	case "_deleted_conflicts":
		told(value, &d.DeletedConflicts)
	case "_revs_info":
		told(value, &d.RevsInfo)
	case "_local_seq":
		told(value, &d.LocalSeq)
	default:
		return badSpecial(key)
	}
	return nil
}

// badSpecial is CouchDB's answer to an underscore member that it does not know, or that is not of its type.
func badSpecial(key string) *Error { return badMember("Bad special document member: " + key) }

// told reads a member that answers have and that is ignored when written: whatever it is, it is no fault.
func told[T any](value []byte, to *T) {
	if json.Unmarshal(value, to) != nil {
		*to = *new(T)
	}
}

// setRevisions reads {"start":3,"ids":["c","b","a"]} with a scanner of its own:
// replication reads one per document, and encoding/json took a third of its time there.
func (d *Doc) setRevisions(value []byte) error {
	if value[0] != '{' {
		return badSpecial("_revisions")
	}
	s := scanner{data: value}
	var start int64 = -1
	var ids []string
	bad := "_revisions.ids isn't a array." // with CouchDB's article
	ok := s.object(func(key string) bool {
		switch key {
		case "start":
			at := s.pos
			if !s.skipValue(1) {
				return false
			}
			n, err := strconv.ParseInt(string(value[at:s.pos]), 10, 64)
			if start = n; err != nil || n < 0 || n > MaxGeneration {
				start, bad = -1, "_revisions.start isn't an integer."
			}
			return start >= 0
		case "ids":
			return s.array(func() bool {
				at := s.pos
				if s.peek() != '"' || !s.skipString() {
					bad = "RevId isn't a string"
					return false
				}
				id := unquote(value[at:s.pos])
				ids = append(ids, id)
				if !validHash(id) {
					bad = "RevId isn't a valid hexadecimal"
				}
				return validHash(id)
			})
		}
		return s.skipValue(1)
	})
	switch {
	case ok && start < 0:
		return badMember("_revisions.start isn't an integer.")
	case !ok || len(ids) == 0:
		return badMember(bad)
	}
	d.Rev = Rev{start, ids[0]} // whatever _rev says, as in CouchDB
	d.Revisions = ids[:min(start, int64(len(ids)))]
	if start == 0 { // a local document, as CouchDB's replicator writes its checkpoints
		d.Revisions = nil
	}
	return nil
}

func (d *Doc) setAttachments(value []byte) error {
	var atts map[string]*struct {
		ContentType string          `json:"content_type"`
		Digest      string          `json:"digest"`
		Length      *int64          `json:"length"`
		RevPos      int64           `json:"revpos"`
		Stub        bool            `json:"stub"`
		Follows     bool            `json:"follows"`
		Data        json.RawMessage `json:"data"`
		Encoding    string          `json:"encoding"`
	}
	if err := json.Unmarshal(value, &atts); err != nil {
		return badSpecial("_attachments")
	}
	d.Attachments = make([]Attachment, 0, len(atts))
	for name, a := range atts {
		if a == nil || name == "" {
			return badMember("Bad attachment " + strconv.Quote(name))
		}
		if name[0] == '_' {
			return BadRequest("Attachment name '" + name + "' starts with prohibited character '_'")
		}
		out := Attachment{Name: name, ContentType: cmp.Or(a.ContentType, "application/octet-stream"), Digest: a.Digest, Length: -1, RevPos: a.RevPos}
		if a.Length != nil {
			out.Length = *a.Length
		}
		if a.Data != nil || !a.Stub && !a.Follows {
			if err := out.setInline(a.Data, a.Encoding); err != nil {
				return err
			}
		}
		d.Attachments = append(d.Attachments, out)
	}
	slices.SortFunc(d.Attachments, func(a, b Attachment) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// AppendString appends s as a JSON string.
func AppendString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEscaped(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:]) // invalid bytes become U+FFFD
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		default:
			dst = append(dst, c)
		}
		i++
	}
	return append(dst, '"')
}

// unquote reads a JSON string that the scanner has passed.
func unquote(b []byte) string {
	if in := b[1 : len(b)-1]; bytes.IndexByte(in, '\\') < 0 {
		return string(in)
	}
	var s string
	_ = json.Unmarshal(b, &s) // the scanner has checked its syntax
	return s
}
