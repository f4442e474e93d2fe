package couchhttp

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// inlineUpTo is the length up to which an attachment given by Open goes inside
// the JSON of its document, so that small ones do not cost a request each.
const inlineUpTo = 64 << 10

// BulkDocs writes POST /{db}/_bulk_docs. A document with streamed attachments
// goes by a PUT of its own, as multipart/related, so that nobody holds them in memory.
func (d *remote) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	results := make([]couch.WriteResult, len(docs))
	var bulk, single []int
	for i, doc := range docs {
		results[i] = couch.WriteResult{ID: doc.ID, Rev: doc.Rev}
		if hasLarge(doc) {
			single = append(single, i)
		} else {
			bulk = append(bulk, i)
		}
	}
	if len(bulk) > 0 {
		if err := d.bulkDocs(ctx, docs, bulk, o, results); err != nil {
			return nil, err
		}
	}
	for _, i := range single {
		rev, err := d.putMultipart(ctx, docs[i], o)
		if err != nil {
			var e *couch.Error
			if !errors.As(err, &e) || e.Status >= 500 || e.Status == 401 || e.Status == 408 || e.Status == 429 {
				return nil, err // not about this document
			}
			results[i].Err = e
			continue
		}
		results[i].Rev = rev
	}
	return results, nil
}

func hasLarge(doc *couch.Doc) bool {
	for i := range doc.Attachments {
		if a := &doc.Attachments[i]; a.Open != nil && a.Data == nil && (a.Length < 0 || a.Length > inlineUpTo) {
			return true
		}
	}
	return false
}

// withData returns doc with its small streamed attachments read.
func withData(ctx context.Context, doc *couch.Doc) (*couch.Doc, error) {
	var out *couch.Doc
	for i := range doc.Attachments {
		a := &doc.Attachments[i]
		if a.Open == nil || a.Data != nil {
			continue
		}
		if out == nil {
			with := *doc
			with.Attachments = append([]couch.Attachment(nil), doc.Attachments...)
			out = &with
		}
		r, err := a.Open(ctx)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(r, inlineUpTo+1))
		r.Close()
		if err != nil {
			return nil, err
		}
		if int64(len(data)) != a.Length {
			return nil, fmt.Errorf("attachment %q is %d bytes long, not %d: %w", a.Name, len(data), a.Length, io.ErrUnexpectedEOF)
		}
		out.Attachments[i].Data = data
	}
	if out == nil {
		return doc, nil
	}
	return out, nil
}

// bulkDocs writes those docs that which names and notes what became of them.
func (d *remote) bulkDocs(ctx context.Context, docs []*couch.Doc, which []int, o couch.WriteOptions, results []couch.WriteResult) error {
	body := newPayload()
	b := append(body.buf, `{"docs":[`...)
	if o.Replicated {
		b = append(body.buf, `{"new_edits":false,"docs":[`...)
	}
	for n, i := range which {
		doc, err := withData(ctx, docs[i])
		if err != nil {
			return err
		}
		if n > 0 {
			b = append(b, ',')
		}
		b = doc.AppendJSON(b)
	}
	body.buf = append(b, "]}"...)
	r := request{method: "POST", path: d.at("_bulk_docs"), body: body, repeat: o.Replicated}
	match := rowMatcher{docs: docs, which: which, replicated: o.Replicated, results: results}
	return d.c.stream(ctx, r, false, func(s *jsonStream) error {
		return s.array(func() error {
			raw, err := s.value()
			if err != nil {
				return err
			}
			return match.row(raw)
		})
	})
}

// A rowMatcher puts the rows of an answer to the documents they are about. An
// edit has a row each, in order; with new_edits=false CouchDB gives only failures.
type rowMatcher struct {
	docs       []*couch.Doc
	which      []int
	replicated bool
	results    []couch.WriteResult
	next       int
}

// row reads {"id","rev"} or {"id","rev","error","reason"}.
func (m *rowMatcher) row(raw []byte) error {
	var id, code, reason string
	var rev couch.Rev
	s := jsonBytes(raw)
	err := s.object(func(key string) (err error) {
		switch key {
		case "id":
			id, err = s.string()
		case "rev":
			rev, err = s.rev()
		case "error":
			code, err = s.string()
		case "reason":
			var text any // validation functions may throw any JSON
			err = s.decode(&text)
			if reason, _ = text.(string); reason == "" && text != nil {
				reason = marshal(text)
			}
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	at := m.find(id, rev)
	if at < 0 {
		return nil
	}
	if code != "" {
		m.results[at].Err = rowError(code, reason)
	} else if !rev.IsZero() {
		m.results[at].Rev = rev
	}
	m.results[at].ID = id
	return nil
}

func (m *rowMatcher) find(id string, rev couch.Rev) int {
	if !m.replicated {
		if m.next == len(m.which) {
			return -1
		}
		m.next++
		return m.which[m.next-1]
	}
	for range m.which { // rows come in order, so the first look usually hits
		at := m.which[m.next%len(m.which)]
		m.next++
		if m.docs[at].ID == id && (rev.IsZero() || m.docs[at].Rev == rev) {
			return at
		}
	}
	return -1
}
