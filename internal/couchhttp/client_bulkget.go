package couchhttp

import (
	"context"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// BulkGet asks POST /{db}/_bulk_get, and where there is none GET /{db}/{docid}?open_revs.
//
// CouchDB cannot be told how long an attachment may be to come inline, so with
// GetOptions.MaxInlineSize the revisions are read with stubs first, and those that
// turn out to bring small new attachments once more: see client_inline.go.
func (d *remote) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	if len(refs) == 0 {
		return nil
	}
	if !o.Attachments || o.MaxInlineSize == 0 {
		return d.bulkGet(ctx, refs, o, fn)
	}
	return d.bulkGetInline(ctx, refs, o, fn)
}

func (d *remote) bulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	body := newPayload()
	b := append(body.buf, `{"docs":[`...)
	for i, ref := range refs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":`...)
		b = couch.AppendString(b, ref.ID)
		if !ref.Rev.IsZero() {
			b = append(b, `,"rev":"`...)
			b, _ = ref.Rev.AppendText(b)
			b = append(b, '"')
		}
		if len(ref.AttsSince) > 0 {
			b = appendRevList(append(b, `,"atts_since":`...), ref.AttsSince)
		}
		b = append(b, '}')
	}
	body.buf = append(b, "]}"...)
	o.Rev, o.AttsSince = couch.Rev{}, nil
	r := request{method: "POST", path: d.at("_bulk_get"), query: getQuery(o), body: body, repeat: true}
	if o.Attachments {
		r.query.Set("attachments", "true")
	}
	rows := bulkGetRows{refs: refs, fn: fn}
	err := d.c.stream(ctx, r, true, func(s *jsonStream) error {
		return s.object(func(key string) error {
			if key != "results" {
				return s.skip()
			}
			return s.array(func() error { return rows.row(s) })
		})
	})
	if unsupported(err) && !rows.any {
		return d.openRevs(ctx, refs, o, fn)
	}
	return err
}

// bulkGetRows matches the rows of an answer to the refs that were asked for.
// CouchDB gives a row per ref, PouchDB Server one per document.
type bulkGetRows struct {
	refs []couch.DocRef
	next int
	any  bool
	// leaves: the row is giving what refs[next], which names no revision, asks for.
	leaves bool
	fn     func(couch.BulkGetResult) error
}

// row reads {"id":…,"docs":[{"ok":{…}} or {"error":{"id","rev","error","reason"}}, …]}.
func (b *bulkGetRows) row(s *jsonStream) error {
	b.any = true
	var id string
	var early []byte // docs that come before id
	err := s.object(func(key string) (err error) {
		switch {
		case key == "id":
			id, err = s.string()
		case key == "docs" && id == "":
			early, err = s.value()
		case key == "docs":
			err = b.docs(id, s)
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil && early != nil {
		err = b.docs(id, jsonBytes(early))
	}
	return err
}

func (b *bulkGetRows) docs(id string, s *jsonStream) error {
	first := b.next
	err := s.array(func() error { return b.doc(id, s) })
	if b.leaves || b.next == first && b.next < len(b.refs) && b.refs[b.next].ID == id {
		b.next++ // all leaves of it were in this row
	}
	b.leaves = false
	return err
}

func (b *bulkGetRows) doc(id string, s *jsonStream) error {
	out := couch.BulkGetResult{ID: id}
	err := s.object(func(key string) (err error) {
		switch key {
		case "ok":
			var raw []byte
			if raw, err = s.value(); err == nil {
				var bad error
				if out.Doc, bad = couch.ParseDoc(raw); bad != nil { // does not end the others
					out.Doc, out.Err = nil, couch.AsError(bad)
				}
			}
		case "error":
			var e struct{ Rev, Error, Reason string }
			err = s.decode(&e)
			out.Rev, _ = couch.ParseRev(e.Rev) // "undefined" if none was asked for
			out.Err = rowError(e.Error, e.Reason)
		case "missing":
			out.Rev, err = s.rev()
			out.Err = couch.NotFound("missing")
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if b.next < len(b.refs) && b.refs[b.next].ID == id {
		if out.Rev = b.refs[b.next].Rev; out.Rev.IsZero() { // as asked: not which leaves there are
			b.leaves = true
		} else {
			b.next++
		}
	} else if out.Doc != nil {
		out.Rev = out.Doc.Rev
	}
	if out.Doc == nil && out.Err == nil {
		return errBadJSON
	}
	return b.fn(out)
}

// openRevs reads each ref by GET /{db}/{docid}?open_revs, for servers older than _bulk_get.
func (d *remote) openRevs(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for i := range refs {
		ref := refs[i]
		q := getQuery(couch.GetOptions{Latest: o.Latest, Revs: o.Revs, AttsSince: ref.AttsSince, Attachments: o.Attachments})
		q.Set("open_revs", "all")
		if !ref.Rev.IsZero() {
			q.Set("open_revs", marshal([]couch.Rev{ref.Rev}))
		}
		rows := bulkGetRows{refs: refs[i : i+1], fn: fn}
		path, err := d.docPath(ref.ID)
		if err != nil {
			if err := fn(couch.BulkGetResult{ID: ref.ID, Rev: ref.Rev, Err: couch.AsError(err)}); err != nil {
				return err
			}
			continue
		}
		r := request{method: "GET", path: path, query: q}
		err = d.c.stream(ctx, r, true, func(s *jsonStream) error {
			return s.array(func() error {
				rows.any = true
				return rows.doc(ref.ID, s)
			})
		})
		if e := couch.AsError(err); err != nil && !rows.any && e.Status == 404 && e.Reason != "Database does not exist." {
			err = fn(couch.BulkGetResult{ID: ref.ID, Rev: ref.Rev, Err: e})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
