package couchkivik

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	kivik "github.com/go-kivik/kivik/v4"
	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// foreign implements couch.DB over a *kivik.DB of any driver: see From.
type foreign struct {
	db        *kivik.DB
	noBulkGet atomic.Bool // the server has shown that it lacks _bulk_get
}

var _ couch.DB = (*foreign)(nil)

// Error makes a couch.Error of what a kivik driver says, of which it keeps only
// the status and a text, "Status Text: reason". Ended contexts stay as they are.
func Error(err error) error {
	var e *couch.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	status := kivik.HTTPStatus(err)
	reason := strings.TrimPrefix(err.Error(), http.StatusText(status)+": ")
	if code, rest, ok := strings.Cut(reason, ": "); ok && codes[code] != 0 { // a row of _bulk_get
		return &couch.Error{Status: codes[code], Code: code, Reason: rest}
	}
	for code, s := range codes {
		if s == status {
			return &couch.Error{Status: status, Code: code, Reason: reason}
		}
	}
	return &couch.Error{Status: status, Code: "unknown_error", Reason: reason}
}

// codes are CouchDB's codes, one for each status: kivik keeps only that.
var codes = map[string]int{
	"bad_request": 400, "unauthorized": 401, "forbidden": 403, "not_found": 404, "method_not_allowed": 405, "conflict": 409,
	"precondition_failed": 412, "too_large": 413, "bad_content_type": 415, "internal_server_error": 500, "not_implemented": 501,
}

// Info implements couch.Source.
func (f *foreign) Info(ctx context.Context) (*couch.Info, error) {
	s, err := f.db.Stats(ctx)
	if err != nil {
		return nil, Error(err)
	}
	return &couch.Info{
		Name: s.Name, DocCount: s.DocCount, DelCount: s.DeletedCount, UpdateSeq: couch.Seq(s.UpdateSeq),
		FileSize: s.DiskSize, ActiveSize: s.ActiveSize, Compacting: s.CompactRunning,
	}, nil
}

// Security implements couch.DB, with the members that kivik knows.
func (f *foreign) Security(ctx context.Context) (json.RawMessage, error) {
	s, err := f.db.Security(ctx)
	if err != nil {
		return nil, Error(err)
	}
	return json.Marshal(driver.Security{
		Admins: driver.Members(s.Admins), Members: driver.Members(s.Members), Cloudant: s.Cloudant, CouchdbAuthOnly: s.CouchdbAuthOnly,
	})
}

// SetSecurity implements couch.DB, with the members that kivik knows.
func (f *foreign) SetSecurity(ctx context.Context, text json.RawMessage) error {
	var s driver.Security
	if err := json.Unmarshal(text, &s); err != nil {
		return couch.BadRequest("_security must be a JSON object")
	}
	return Error(f.db.SetSecurity(ctx, &kivik.Security{
		Admins: kivik.Members(s.Admins), Members: kivik.Members(s.Members), Cloudant: s.Cloudant, CouchdbAuthOnly: s.CouchdbAuthOnly,
	}))
}

// Find implements couch.DB.
func (f *foreign) Find(ctx context.Context, query json.RawMessage, fn func(json.RawMessage) error) (couch.FindResult, error) {
	rows := f.db.Find(ctx, query)
	for rows.Next() {
		var doc json.RawMessage
		if err := rows.ScanDoc(&doc); err != nil {
			return couch.FindResult{}, closed(rows, Error(err))
		}
		if err := fn(doc); err != nil {
			return couch.FindResult{}, closed(rows, err)
		}
	}
	meta, err := metadata(rows)
	return couch.FindResult{Bookmark: meta.Bookmark, Warning: meta.Warning}, err
}

// AllDocs implements couch.DB.
func (f *foreign) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	if o.Keys != nil && len(o.Keys) == 0 {
		info, err := f.Info(ctx)
		if err != nil {
			return couch.AllDocsResult{}, err
		}
		return couch.AllDocsResult{Total: info.DocCount, Offset: -1}, nil
	}
	rows := f.db.AllDocs(ctx, allDocsParams(o))
	for rows.Next() {
		row, err := f.row(rows, o)
		if err == nil {
			err = fn(row)
		}
		if err != nil {
			return couch.AllDocsResult{}, closed(rows, err)
		}
	}
	meta, err := metadata(rows)
	res := couch.AllDocsResult{Total: meta.TotalRows, Offset: meta.Offset, UpdateSeq: couch.Seq(meta.UpdateSeq)}
	if o.Keys != nil {
		res.Offset = -1
	}
	return res, err
}

func allDocsParams(o couch.AllDocsOptions) kivik.Option {
	p := map[string]any{}
	set := func(name string, v any, when bool) {
		if when {
			p[name] = v
		}
	}
	if o.StartKey != nil {
		p["startkey"] = *o.StartKey
	}
	if o.EndKey != nil {
		p["endkey"] = *o.EndKey
	}
	if o.Limit != nil {
		p["limit"] = *o.Limit
	}
	set("keys", o.Keys, o.Keys != nil)
	set("inclusive_end", false, o.ExclusiveEnd)
	set("descending", true, o.Descending)
	set("skip", o.Skip, o.Skip > 0)
	set("include_docs", true, o.IncludeDocs)
	set("conflicts", true, o.IncludeDocs && o.Conflicts)
	set("update_seq", true, o.UpdateSeq)
	return kivik.Params(p)
}

func (f *foreign) row(rows *kivik.ResultSet, o couch.AllDocsOptions) (*couch.Row, error) {
	id, missing := rows.ID() // kivik's couchdb driver passes over the error of a row and tells no id
	if id == "" || missing != nil {
		var key string
		_ = rows.ScanKey(&key)
		return &couch.Row{ID: key, Err: "not_found"}, nil //nolint:nilerr // it is the row's
	}
	var value struct {
		Rev     couch.Rev `json:"rev"`
		Deleted bool      `json:"deleted"`
	}
	if err := rows.ScanValue(&value); err != nil {
		return nil, Error(err)
	}
	row := &couch.Row{ID: id, Rev: value.Rev, Deleted: value.Deleted}
	if !o.IncludeDocs || value.Deleted {
		return row, nil
	}
	var text json.RawMessage
	if err := rows.ScanDoc(&text); err != nil {
		return nil, Error(err)
	}
	var err error
	row.Doc, err = f.parse(text, couch.GetOptions{Attachments: o.Attachments})
	return row, err
}

// closed ends an iteration early and gives err.
func closed(rows interface{ Close() error }, err error) error {
	_ = rows.Close()
	return err
}

// metadata ends an iteration that has come to its end or failed.
func metadata(rows *kivik.ResultSet) (kivik.ResultMetadata, error) {
	if err := rows.Err(); err != nil {
		return kivik.ResultMetadata{}, closed(rows, Error(err))
	}
	meta, err := rows.Metadata()
	if err != nil || meta == nil {
		return kivik.ResultMetadata{}, closed(rows, Error(err))
	}
	return *meta, nil
}

// RevsDiff implements couch.Target.
func (f *foreign) RevsDiff(ctx context.Context, docs []couch.DocRevs) ([]couch.RevsDiff, error) {
	if len(docs) == 0 {
		return nil, nil
	}
	asked := make(map[string][]couch.Rev, len(docs))
	for _, d := range docs {
		asked[d.ID] = append(asked[d.ID], d.Revs...)
	}
	told := make(map[string]couch.RevsDiff)
	rows := f.db.RevsDiff(ctx, asked)
	for rows.Next() {
		id, err := rows.ID()
		var v struct {
			Missing           []couch.Rev `json:"missing"`
			PossibleAncestors []couch.Rev `json:"possible_ancestors"`
		}
		if err == nil {
			err = rows.ScanValue(&v)
		}
		if err != nil {
			return nil, closed(rows, Error(err))
		}
		told[id] = couch.RevsDiff{ID: id, Missing: v.Missing, PossibleAncestors: v.PossibleAncestors}
	}
	if err := rows.Err(); err != nil {
		return nil, closed(rows, Error(err))
	}
	var diffs []couch.RevsDiff
	for _, d := range docs {
		if diff, ok := told[d.ID]; ok && len(diff.Missing) > 0 {
			diffs = append(diffs, diff)
			delete(told, d.ID)
		}
	}
	return slices.Clip(diffs), nil
}
