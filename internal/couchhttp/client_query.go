package couchhttp

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// AllDocs reads GET /{db}/_all_docs, or POST with keys.
func (d *remote) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	out := couch.AllDocsResult{Offset: -1}
	r := request{method: "GET", path: d.at("_all_docs"), query: allDocsQuery(o)}
	if o.Keys != nil {
		r.method, r.repeat, r.body = "POST", true, newPayload()
		r.body.buf = append(r.body.buf, `{"keys":`+marshal(o.Keys)+`}`...)
	}
	err := d.c.stream(ctx, r, o.IncludeDocs, func(s *jsonStream) error {
		return s.object(func(key string) (err error) {
			switch key {
			case "total_rows":
				err = s.decode(&out.Total)
			case "offset":
				offset := int64(-1)
				err = s.decode(&offset) // null with keys
				out.Offset = offset
			case "update_seq":
				out.UpdateSeq, err = s.seq()
			case "rows":
				err = s.array(func() error {
					row, err := allDocsRow(s)
					if err != nil {
						return err
					}
					return fn(row)
				})
			default:
				err = s.skip()
			}
			return err
		})
	})
	return out, err
}

func allDocsQuery(o couch.AllDocsOptions) url.Values {
	q := url.Values{}
	set := func(name, value string, on bool) {
		if on {
			q.Set(name, value)
		}
	}
	if o.StartKey != nil {
		q.Set("start_key", marshal(*o.StartKey))
	}
	if o.EndKey != nil {
		q.Set("end_key", marshal(*o.EndKey))
	}
	if o.Limit != nil {
		q.Set("limit", strconv.Itoa(*o.Limit))
	}
	set("inclusive_end", "false", o.ExclusiveEnd)
	set("descending", "true", o.Descending)
	set("skip", strconv.Itoa(o.Skip), o.Skip > 0)
	set("include_docs", "true", o.IncludeDocs)
	set("conflicts", "true", o.IncludeDocs && o.Conflicts)
	set("attachments", "true", o.IncludeDocs && o.Attachments)
	set("update_seq", "true", o.UpdateSeq)
	return q
}

// allDocsRow reads {"id","key","value":{"rev","deleted"},"doc"} or {"key","error"}.
func allDocsRow(s *jsonStream) (*couch.Row, error) {
	row := &couch.Row{}
	var key string
	err := s.object(func(member string) (err error) {
		switch member {
		case "id":
			row.ID, err = s.string()
		case "key":
			key, err = s.string()
		case "error":
			row.Err, err = s.string()
		case "value":
			var v struct {
				Rev     couch.Rev
				Deleted bool
			}
			err = s.decode(&v)
			row.Rev, row.Deleted = v.Rev, v.Deleted
		case "doc":
			var raw []byte
			if raw, err = s.value(); err == nil && string(raw) != "null" {
				row.Doc, err = couch.ParseDoc(raw)
			}
		default:
			err = s.skip()
		}
		return err
	})
	if row.ID == "" {
		row.ID = key
	}
	return row, err
}

// Find asks POST /{db}/_find.
func (d *remote) Find(ctx context.Context, query json.RawMessage, fn func(json.RawMessage) error) (out couch.FindResult, err error) {
	body := newPayload()
	body.buf = append(body.buf, query...)
	r := request{method: "POST", path: d.at("_find"), body: body, repeat: true}
	err = d.c.stream(ctx, r, true, func(s *jsonStream) error {
		return s.object(func(key string) (err error) {
			switch key {
			case "docs":
				err = s.array(func() error {
					raw, err := s.value()
					if err != nil {
						return err
					}
					if !json.Valid(raw) {
						return errBadJSON
					}
					return fn(raw)
				})
			case "bookmark":
				err = s.decode(&out.Bookmark)
			case "warning":
				err = s.decode(&out.Warning)
			default:
				err = s.skip()
			}
			return err
		})
	})
	return out, err
}
