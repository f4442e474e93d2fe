package localdb

import (
	"context"
	"strconv"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// GetLocal implements [couch.Locals].
func (d *database) GetLocal(ctx context.Context, id string) (*couch.Doc, error) {
	var doc *couch.Doc
	err := d.view(ctx, func(c *sqlite.Conn) error {
		s := c.Prepare("SELECT rev, body FROM locals WHERE id=?")
		s.BindText(1, id)
		found, err := s.Step()
		if err != nil {
			return err
		}
		if !found {
			return couch.NotFound("missing")
		}
		defer s.Reset()
		doc = &couch.Doc{ID: id, Rev: localRev(s.Int(0)), Body: s.Bytes(1)}
		return nil
	})
	return doc, err
}

// PutLocal implements [couch.Locals].
func (d *database) PutLocal(ctx context.Context, doc *couch.Doc) (rev couch.Rev, err error) {
	if err := couch.ValidID("_local/" + doc.ID); err != nil {
		return couch.Rev{}, err
	}
	body, err := d.checkBody(doc)
	if err != nil {
		return couch.Rev{}, err
	}
	var refused error
	err = d.submit(ctx, 1, func(t *tx) error {
		rev, refused = couch.Rev{}, nil
		current, err := t.localRev(doc.ID)
		if err != nil {
			return err
		}
		switch {
		case doc.Rev != current:
			refused = couch.Conflict()
			return nil
		case doc.Deleted && current.IsZero():
			refused = couch.NotFound("missing")
			return nil
		case doc.Deleted:
			rev = localRev(0)
			s := t.c.Prepare("DELETE FROM locals WHERE id=?")
			s.BindText(1, doc.ID)
			return s.Exec()
		}
		n, _ := strconv.ParseInt(current.Hash, 10, 64) // ours, or "" for none
		rev = localRev(n + 1)
		s := t.c.Prepare("INSERT INTO locals (id, rev, body) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET rev=?2, body=?3")
		s.BindText(1, doc.ID)
		s.BindInt(2, n+1)
		s.BindTextBytes(3, body)
		return s.Exec()
	})
	if err != nil {
		return couch.Rev{}, err
	}
	return rev, refused
}

func localRev(n int64) couch.Rev { return couch.Rev{Hash: strconv.FormatInt(n, 10)} }

// localRev is the current revision of a local document, zero if there is none.
func (t *tx) localRev(id string) (couch.Rev, error) {
	s := t.c.Prepare("SELECT rev FROM locals WHERE id=?")
	s.BindText(1, id)
	found, err := s.Step()
	if err != nil || !found {
		return couch.Rev{}, err
	}
	defer s.Reset()
	return localRev(s.Int(0)), nil
}
