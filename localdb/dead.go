package localdb

import (
	"slices"

	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// Bodies that no leaf owns are dead: they can be read until the database is
// compacted. They are counted in bytes (meta dead), and the documents that have
// some are listed (stale), so that nobody has to look for them.

const bodySize = "octet_length(body) + ifnull(octet_length(atts), 0)"

// countDead counts what an edit has made dead, and tells whether the document has dead bodies now.
func (t *tx) countDead(r *row, tree revtree.Tree) (stale bool, err error) {
	stale = r.stale()
	owned := tree.Bodies(true)
	for _, bid := range r.owned {
		if slices.Contains(owned, bid) {
			continue
		}
		s := t.c.Prepare("SELECT " + bodySize + " FROM bodies WHERE bid=?")
		s.BindInt(1, bid)
		if _, err := s.Step(); err != nil {
			return false, err
		}
		t.dead += s.Int(0)
		s.Reset()
		if stale {
			continue
		}
		s = t.c.Prepare("INSERT OR IGNORE INTO stale (num) VALUES (?)")
		s.BindInt(1, r.num)
		if err := s.Exec(); err != nil {
			return false, err
		}
		stale = true
	}
	return stale, nil
}

// dropBody deletes a body and returns its size.
func (t *tx) dropBody(bid int64) (size int64, err error) {
	s := t.c.Prepare("DELETE FROM bodies WHERE bid=? RETURNING " + bodySize)
	defer s.Reset()
	s.BindInt(1, bid)
	if found, err := s.Step(); err != nil || !found {
		return 0, err
	}
	t.freed = true
	return s.Int(0), nil
}

// dropContents forgets the attachments that a document's bodies no longer use,
// all of them if the document is gone, and deletes contents that nobody uses.
func (t *tx) dropContents(num int64, tree revtree.Tree) error {
	held, err := t.contentsOf(num)
	if err != nil || len(held) == 0 {
		return err
	}
	used := make(map[string]bool)
	for i := range tree {
		if err := addContents(t.c, tree[i].Body, used); err != nil {
			return err
		}
	}
	for blob, sum := range held {
		if used[sum] {
			continue
		}
		s := t.c.Prepare("DELETE FROM att_refs WHERE num=? AND blob=?")
		s.BindInt(1, num)
		s.BindInt(2, blob)
		if err := s.Exec(); err != nil {
			return err
		}
		if err := t.dropContent(blob); err != nil {
			return err
		}
	}
	return nil
}

// contentsOf is what att_refs says of a document, SHA-256 by blob.
func (t *tx) contentsOf(num int64) (map[int64]string, error) {
	s := t.c.Prepare("SELECT blob, sha256 FROM att_refs JOIN blobs USING (blob) WHERE num=?")
	defer s.Reset()
	s.BindInt(1, num)
	var held map[int64]string
	for {
		row, err := s.Step()
		if err != nil || !row {
			return held, err
		}
		if held == nil {
			held = make(map[int64]string)
		}
		held[s.Int(0)] = s.Text(1)
	}
}

// addContents adds the contents that a body uses.
func addContents(c *sqlite.Conn, bid int64, used map[string]bool) error {
	if bid == 0 {
		return nil
	}
	s := c.Prepare("SELECT atts FROM bodies WHERE bid=?")
	defer s.Reset()
	s.BindInt(1, bid)
	if _, err := s.Step(); err != nil {
		return err
	}
	atts, err := parseAtts(s.Bytes(0))
	for i := range atts {
		used[string(atts[i].SHA256)] = true
	}
	return err
}

// dropContent deletes a content that no document uses. That of a file is left
// to [session.sweep].
func (t *tx) dropContent(blob int64) error {
	s := t.c.Prepare("DELETE FROM blobs WHERE blob=?1 AND NOT EXISTS (SELECT 1 FROM att_refs WHERE blob=?1) RETURNING sha256, length, data IS NULL")
	defer s.Reset()
	s.BindInt(1, blob)
	found, err := s.Step()
	if err != nil || !found {
		return err
	}
	t.freed = true
	if s.Int(2) == 0 {
		return nil
	}
	t.orphans = append(t.orphans, s.Bytes(0))
	return t.addFiles(-s.Int(1))
}

// addFiles counts the bytes of contents that are files.
func (t *tx) addFiles(n int64) error {
	s := t.c.Prepare("UPDATE meta SET value = value + ? WHERE key='files'")
	s.BindInt(1, n)
	return s.Exec()
}
