package couchkivik

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Find implements driver.Finder.
func (d *database) Find(ctx context.Context, query any, _ driver.Options) (driver.Rows, error) {
	text := asJSON(query)
	return newRows(ctx, func(ctx context.Context, r *rows, emit func(driver.Row) error) (err error) {
		r.find, err = d.db.Find(ctx, text, func(doc json.RawMessage) error {
			return emit(driver.Row{Doc: bytes.NewReader(doc)})
		})
		return err
	})
}

// allDocsIndex is the index that every database has.
var allDocsIndex = driver.Index{
	Name: "_all_docs", Type: "special",
	Definition: map[string]any{"fields": []map[string]string{{"_id": "asc"}}},
}

// CreateIndex refuses: queries are answered by a scan, sorted or not, and an
// index that is never used must not seem to exist.
func (d *database) CreateIndex(context.Context, string, string, any, driver.Options) error {
	return couch.BadRequest("Indexes cannot be created: queries are answered by a scan of _all_docs")
}

// GetIndexes gives the one index there is, _all_docs.
func (d *database) GetIndexes(ctx context.Context, _ driver.Options) ([]driver.Index, error) {
	if _, err := d.db.Info(ctx); err != nil {
		return nil, err
	}
	return []driver.Index{allDocsIndex}, nil
}

// DeleteIndex finds none to delete.
func (d *database) DeleteIndex(context.Context, string, string, driver.Options) error {
	return couch.NotFound("Index not found.")
}

// Explain tells that a query scans _all_docs.
func (d *database) Explain(ctx context.Context, query any, _ driver.Options) (*driver.QueryPlan, error) {
	var q struct {
		Selector map[string]any `json:"selector"`
		Fields   []any          `json:"fields"`
		Limit    *int64         `json:"limit"`
		Skip     int64          `json:"skip"`
	}
	if err := json.Unmarshal(asJSON(query), &q); err != nil {
		return nil, couch.BadRequest("invalid UTF-8 JSON")
	}
	limit := int64(25)
	if q.Limit != nil {
		limit = *q.Limit
	}
	// A query for nothing is checked like any other.
	check, err := withLimit(query, 0)
	if err == nil {
		_, err = d.db.Find(ctx, check, func(json.RawMessage) error { return nil })
	}
	if err != nil {
		return nil, err
	}
	return &driver.QueryPlan{
		DBName: d.db.name,
		Index: map[string]any{
			"ddoc": nil, "name": allDocsIndex.Name, "type": allDocsIndex.Type, "def": allDocsIndex.Definition,
		},
		Selector: q.Selector, Fields: q.Fields, Limit: limit, Skip: q.Skip,
	}, nil
}

func withLimit(query any, limit int) (json.RawMessage, error) {
	var q map[string]json.RawMessage
	if err := json.Unmarshal(asJSON(query), &q); err != nil || q == nil {
		return nil, couch.BadRequest("Request body must be a JSON object")
	}
	q["limit"], _ = json.Marshal(limit)
	return json.Marshal(q)
}
