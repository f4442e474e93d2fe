package couchkivik

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A handle is a couch.DB that opens its database when it is first used, because
// kivik makes handles of databases without a context, and before they exist.
// It opens again if the database was destroyed and created anew meanwhile.
type handle struct {
	store couch.Store
	name  string

	mu sync.Mutex
	db couch.DB // nil: not open
}

var _ couch.DB = (*handle)(nil)

// do calls fn with the database, and once more if it was an old one that is gone.
func (h *handle) do(ctx context.Context, fn func(couch.DB) error) error {
	h.mu.Lock()
	old := h.db
	h.mu.Unlock()
	if old != nil {
		err := fn(old)
		if !isGone(err) {
			return err
		}
	}
	db, err := h.store.Open(ctx, h.name)
	h.mu.Lock()
	h.db = db
	if err != nil {
		h.db = nil
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	return fn(db)
}

// follow is do for calls that tell their answer by a callback: they are not repeated once it was called.
func (h *handle) follow(ctx context.Context, fn func(db couch.DB, told *bool) error) error {
	told := false
	var last error
	err := h.do(ctx, func(db couch.DB) error {
		if told {
			return last
		}
		last = fn(db, &told)
		return last
	})
	return err
}

func isGone(err error) bool {
	var e *couch.Error
	return errors.As(err, &e) && errors.Is(e, couch.ErrNotFound) && e.Reason == "Database does not exist."
}

func (h *handle) Info(ctx context.Context) (info *couch.Info, err error) {
	err = h.do(ctx, func(db couch.DB) error { info, err = db.Info(ctx); return err })
	return info, err
}

func (h *handle) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (res couch.ChangesResult, err error) {
	err = h.follow(ctx, func(db couch.DB, told *bool) error {
		res, err = db.Changes(ctx, o, func(c *couch.Change) error { *told = true; return fn(c) })
		return err
	})
	return res, err
}

func (h *handle) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	return h.follow(ctx, func(db couch.DB, told *bool) error {
		return db.BulkGet(ctx, refs, o, func(r couch.BulkGetResult) error { *told = true; return fn(r) })
	})
}

func (h *handle) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (att *couch.Attachment, err error) {
	err = h.do(ctx, func(db couch.DB) error { att, err = db.Attachment(ctx, id, name, rev, offset); return err })
	return att, err
}

func (h *handle) GetLocal(ctx context.Context, id string) (doc *couch.Doc, err error) {
	err = h.do(ctx, func(db couch.DB) error { doc, err = db.GetLocal(ctx, id); return err })
	return doc, err
}

func (h *handle) PutLocal(ctx context.Context, doc *couch.Doc) (rev couch.Rev, err error) {
	err = h.do(ctx, func(db couch.DB) error { rev, err = db.PutLocal(ctx, doc); return err })
	return rev, err
}

func (h *handle) RevsDiff(ctx context.Context, docs []couch.DocRevs) (diffs []couch.RevsDiff, err error) {
	err = h.do(ctx, func(db couch.DB) error { diffs, err = db.RevsDiff(ctx, docs); return err })
	return diffs, err
}

func (h *handle) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) (results []couch.WriteResult, err error) {
	err = h.do(ctx, func(db couch.DB) error { results, err = db.BulkDocs(ctx, docs, o); return err })
	return results, err
}

func (h *handle) Get(ctx context.Context, id string, o couch.GetOptions) (doc *couch.Doc, err error) {
	err = h.do(ctx, func(db couch.DB) error { doc, err = db.Get(ctx, id, o); return err })
	return doc, err
}

func (h *handle) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (res couch.AllDocsResult, err error) {
	err = h.follow(ctx, func(db couch.DB, told *bool) error {
		res, err = db.AllDocs(ctx, o, func(r *couch.Row) error { *told = true; return fn(r) })
		return err
	})
	return res, err
}

func (h *handle) Find(ctx context.Context, query json.RawMessage, fn func(json.RawMessage) error) (res couch.FindResult, err error) {
	err = h.follow(ctx, func(db couch.DB, told *bool) error {
		res, err = db.Find(ctx, query, func(d json.RawMessage) error { *told = true; return fn(d) })
		return err
	})
	return res, err
}

func (h *handle) Security(ctx context.Context) (sec json.RawMessage, err error) {
	err = h.do(ctx, func(db couch.DB) error { sec, err = db.Security(ctx); return err })
	return sec, err
}

func (h *handle) SetSecurity(ctx context.Context, sec json.RawMessage) error {
	return h.do(ctx, func(db couch.DB) error { return db.SetSecurity(ctx, sec) })
}
