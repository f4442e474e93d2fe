package localdb

import (
	"context"
	"os"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// chunkPurge is how many documents are purged in one transaction.
const chunkPurge = 500

// Purge implements [couch.DB].
func (d *database) Purge(ctx context.Context, docs []couch.DocRevs) ([]couch.DocRevs, error) {
	s, err := d.use()
	if err != nil {
		return nil, d.translate(err)
	}
	defer d.release()
	purged := make([]couch.DocRevs, 0, len(docs))
	for part := range slices.Chunk(docs, chunkPurge) {
		var done []couch.DocRevs
		err := s.drop(ctx, len(part), func(t *tx) (err error) {
			done, err = t.purgeAll(part)
			return err
		})
		if err != nil {
			return nil, d.translate(err)
		}
		purged = append(purged, done...)
	}
	return purged, nil
}

// drop is submit for what may delete attachments; it removes their files, too.
func (s *session) drop(ctx context.Context, weight int, apply func(*tx) error) error {
	var orphans [][]byte
	err := s.submit(ctx, weight, func(t *tx) error {
		before := len(t.orphans)
		err := apply(t)
		orphans = t.orphans[before:]
		return err
	})
	if err != nil {
		return err
	}
	return s.sweep(ctx, orphans)
}

// sweep removes the files of contents that no document uses. It holds the write
// lock, so that no document begins to use them meanwhile (see contentFile).
func (s *session) sweep(ctx context.Context, sums [][]byte) error {
	for part := range slices.Chunk(sums, 50) {
		err := s.submit(ctx, len(part), func(t *tx) error {
			if kept, err := t.filesKept(); kept || err != nil {
				return err
			}
			for _, sum := range part {
				if used, err := fileUsed(t.c, sum); used || err != nil {
					if err != nil {
						return err
					}
					continue
				}
				_ = os.Remove(s.d.attachmentPath(sum)) // or the next compaction does
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func fileUsed(c *sqlite.Conn, sum []byte) (bool, error) {
	s := c.Prepare("SELECT 1 FROM blobs WHERE sha256=? AND data IS NULL")
	defer s.Reset()
	s.BindBlob(1, sum)
	return s.Step()
}

func (t *tx) purgeAll(docs []couch.DocRevs) ([]couch.DocRevs, error) {
	purged := make([]couch.DocRevs, len(docs))
	changed := int64(0)
	for i, doc := range docs {
		revs, err := t.purge(doc)
		if err != nil {
			return nil, err
		}
		purged[i] = couch.DocRevs{ID: doc.ID, Revs: revs}
		changed += int64(min(len(revs), 1))
	}
	if changed == 0 {
		return purged, nil
	}
	s := t.c.Prepare("UPDATE meta SET value = value + ? WHERE key='purges'")
	s.BindInt(1, changed)
	return purged, s.Exec()
}

// purge removes leaves of one document and returns those that it had. What is
// left of the document takes a new sequence, as in CouchDB; what is gone takes none.
func (t *tx) purge(doc couch.DocRevs) ([]couch.Rev, error) {
	r, err := findRow(t.c, doc.ID)
	if r == nil || err != nil {
		return nil, err
	}
	tree, err := r.tree()
	if err != nil {
		return nil, err
	}
	purged, dropped := tree.Purge(doc.Revs)
	if purged == nil {
		return nil, nil
	}
	if err := t.dropNodes(dropped); err != nil {
		return nil, err
	}
	if len(tree) == 0 {
		err = t.deleteRow(r)
	} else {
		t.seq++
		err = t.writeTree(r, tree, r.stale())
	}
	if err == nil {
		err = t.dropContents(r.num, tree)
	}
	return purged, err
}

func (t *tx) dropNodes(nodes []revtree.Node) error {
	for i := range nodes {
		if nodes[i].Body == 0 {
			continue
		}
		size, err := t.dropBody(nodes[i].Body)
		if err != nil {
			return err
		}
		if !nodes[i].Leaf {
			t.dead -= size
		}
	}
	return nil
}

// deleteRow deletes a document of which nothing is left.
func (t *tx) deleteRow(r *row) error {
	if r.deleted() {
		t.dels--
	} else {
		t.docs--
	}
	t.freed = true
	s := t.c.Prepare("DELETE FROM docs WHERE num=?")
	s.BindInt(1, r.num)
	if err := s.Exec(); err != nil || !r.stale() {
		return err
	}
	return t.notStale(r.num)
}

func (t *tx) notStale(num int64) error {
	s := t.c.Prepare("DELETE FROM stale WHERE num=?")
	s.BindInt(1, num)
	return s.Exec()
}
