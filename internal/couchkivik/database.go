package couchkivik

import (
	"context"
	"encoding/json"

	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// database implements driver.DB and all that is optional beside it and that a
// couch.DB can do: not LocalDocs, Update and partitions, for which
// kivik itself says that they are not supported.
type database struct{ db *handle }

var (
	_ driver.DB                   = (*database)(nil)
	_ driver.BulkDocer            = (*database)(nil)
	_ driver.BulkGetter           = (*database)(nil)
	_ driver.OpenRever            = (*database)(nil)
	_ driver.RevsDiffer           = (*database)(nil)
	_ driver.RevGetter            = (*database)(nil)
	_ driver.DocCreator           = (*database)(nil)
	_ driver.Copier               = (*database)(nil)
	_ driver.Finder               = (*database)(nil)
	_ driver.SecurityDB           = (*database)(nil)
	_ driver.AttachmentMetaGetter = (*database)(nil)
	_ driver.DesignDocer          = (*database)(nil)
	_ driver.Flusher              = (*database)(nil)
)

// Stats implements driver.DB.
func (d *database) Stats(ctx context.Context) (*driver.DBStats, error) {
	info, err := d.db.Info(ctx)
	if err != nil {
		return nil, err
	}
	return stats(info), nil
}

func stats(i *couch.Info) *driver.DBStats {
	raw, _ := json.Marshal(map[string]any{ // plain values: cannot fail
		"db_name": i.Name, "uuid": i.UUID, "doc_count": i.DocCount, "doc_del_count": i.DelCount, "update_seq": i.UpdateSeq,
		"sizes": map[string]int64{"file": i.FileSize, "active": i.ActiveSize},
	})
	return &driver.DBStats{
		Name: i.Name, DocCount: i.DocCount, DeletedCount: i.DelCount, UpdateSeq: string(i.UpdateSeq),
		DiskSize: i.FileSize, ActiveSize: i.ActiveSize, CompactRunning: i.Compacting, RawResponse: raw,
	}
}

// Security implements driver.SecurityDB. Members that kivik does not know are not told.
func (d *database) Security(ctx context.Context) (*driver.Security, error) {
	text, err := d.db.Security(ctx)
	if err != nil {
		return nil, err
	}
	sec := &driver.Security{}
	return sec, json.Unmarshal(text, sec)
}

// SetSecurity implements driver.SecurityDB.
func (d *database) SetSecurity(ctx context.Context, sec *driver.Security) error {
	text, err := json.Marshal(sec)
	if err != nil {
		return couch.BadRequest(err.Error())
	}
	return d.db.SetSecurity(ctx, text)
}

// Flush implements driver.Flusher: what was written is durable already.
func (d *database) Flush(ctx context.Context) error {
	_, err := d.db.Info(ctx)
	return err
}

// ViewCleanup implements driver.DB: there are no indexes of views that could be left over.
func (d *database) ViewCleanup(ctx context.Context) error { return d.Flush(ctx) }

// CompactView and Query implement driver.DB, which demands them.
func (d *database) CompactView(context.Context, string) error { return notImplemented("Views") }

func (d *database) Query(context.Context, string, string, driver.Options) (driver.Rows, error) {
	return nil, notImplemented("Views")
}

func notImplemented(what string) error {
	return &couch.Error{Status: 501, Code: "not_implemented", Reason: what + " are not available on this database"}
}

// Close implements driver.DB. Databases belong to their store.
func (d *database) Close() error { return nil }
