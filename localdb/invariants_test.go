package localdb

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkInvariants holds a file against what every file must satisfy.
func checkInvariants(t fataler, d *database) {
	t.Helper()
	v := &inspection{d: d, bodies: map[int64]int64{}, stale: map[int64]bool{}, blobs: map[int64]blobRow{}, refs: map[int64]map[int64]bool{}}
	if err := d.view(context.Background(), v.run); err != nil {
		t.Fatalf("%v", err)
	}
	for _, fault := range v.faults {
		t.Fatalf("%s", fault)
	}
}

// checkNoOrphans demands that there is no file of an attachment that no document uses.
func checkNoOrphans(t fataler, d *database) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(attachmentDir(d.path), "*", "*"))
	more, _ := filepath.Glob(filepath.Join(attachmentDir(d.path), "new-*"))
	for _, path := range append(files, more...) {
		digest, err := hex.DecodeString(filepath.Base(path))
		used := false
		if err == nil {
			err = d.view(context.Background(), func(c *sqlite.Conn) (err error) { used, err = fileUsed(c, digest); return err })
		}
		if err != nil || !used {
			t.Fatalf("nobody uses %s (%v)", path, err)
		}
	}
}

type blobRow struct {
	digest []byte
	length int64
	file   bool
}

type inspection struct {
	d      *database
	bodies map[int64]int64 // sizes
	stale  map[int64]bool
	blobs  map[int64]blobRow
	refs   map[int64]map[int64]bool // by num, blobs
	dead   int64
	docs   int64
	dels   int64
	faults []string
}

func (v *inspection) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, args...))
}

func each(c *sqlite.Conn, sql string, fn func(s *sqlite.Stmt)) error {
	s := c.Prepare(sql)
	defer s.Reset()
	for {
		row, err := s.Step()
		if err != nil || !row {
			return err
		}
		fn(s)
	}
}

func (v *inspection) run(c *sqlite.Conn) error {
	n, err := readCounters(c, v.d.uuid)
	if err != nil {
		return err
	}
	used := map[int64]bool{}
	for _, q := range []struct {
		sql string
		fn  func(s *sqlite.Stmt)
	}{
		{"SELECT bid, " + bodySize + " FROM bodies", func(s *sqlite.Stmt) { v.bodies[s.Int(0)] = s.Int(1) }},
		{"SELECT num FROM stale", func(s *sqlite.Stmt) { v.stale[s.Int(0)] = true }},
		{"SELECT blob, sha256, length, data IS NULL FROM blobs", func(s *sqlite.Stmt) {
			v.blobs[s.Int(0)] = blobRow{s.Bytes(1), s.Int(2), s.Int(3) != 0}
		}},
		{"SELECT num, blob FROM att_refs", func(s *sqlite.Stmt) {
			if v.refs[s.Int(0)] == nil {
				v.refs[s.Int(0)] = map[int64]bool{}
			}
			v.refs[s.Int(0)][s.Int(1)] = true
			used[s.Int(1)] = true
		}},
	} {
		if err := each(c, q.sql, q.fn); err != nil {
			return err
		}
	}
	var rows []row
	err = each(c, "SELECT "+rowColumns+" FROM docs", func(s *sqlite.Stmt) {
		var r row
		if err := r.read(s, 0, true); err != nil {
			v.fault("document %d: %v", s.Int(0), err)
		}
		rows = append(rows, r)
	})
	for i := range rows {
		if err := v.document(c, &rows[i], n.seq); err != nil {
			return err
		}
	}
	for bid := range v.bodies {
		v.fault("no revision has body %d", bid)
	}
	for num := range v.stale {
		v.fault("document %d is stale, but is not there or not marked so", num)
	}
	for num := range v.refs {
		v.fault("attachments of document %d, which is not there", num)
	}
	if got := (counters{n.seq, v.docs, v.dels, v.dead}); got != n {
		v.fault("counters are %+v, should be %+v", n, got)
	}
	return errors.Join(err, v.contents(c, used))
}

func (v *inspection) document(c *sqlite.Conn, r *row, seq int64) error {
	tree, err := r.tree()
	if err != nil {
		return err
	}
	w := tree[tree.Winner()]
	if w.Parent = -1; w != r.winner || r.seq > seq {
		v.fault("document %d at %d: winner is %+v, should be %+v", r.num, r.seq, r.winner, w)
	}
	if r.deleted() {
		v.dels++
	} else {
		v.docs++
	}
	if w.Deleted != r.deleted() || r.branched() != (len(tree.Leaves()) > 1) || r.stale() != v.stale[r.num] {
		v.fault("document %d has flags %d", r.num, r.flags)
	}
	if len(tree.Bodies(false)) > 0 && !r.stale() {
		v.fault("document %d has dead bodies and is not stale", r.num)
	}
	delete(v.stale, r.num)
	err = v.attachments(c, r, tree)
	for _, n := range tree {
		size, ok := v.bodies[n.Body]
		if n.Body != 0 && !ok || n.Leaf && n.Body == 0 {
			v.fault("document %d: %s lacks its body", r.num, n.Rev())
		}
		if !n.Leaf {
			v.dead += size
		}
		delete(v.bodies, n.Body)
	}
	return err
}

func (v *inspection) attachments(c *sqlite.Conn, r *row, tree revtree.Tree) error {
	used := map[string]bool{}
	for _, n := range tree {
		if err := addContents(c, n.Body, used); err != nil {
			return err
		}
	}
	for blob := range v.refs[r.num] {
		delete(used, string(v.blobs[blob].digest))
	}
	for digest := range used {
		v.fault("document %d uses %x, which it does not refer to", r.num, digest)
	}
	delete(v.refs, r.num)
	return nil
}

func (v *inspection) contents(c *sqlite.Conn, used map[int64]bool) error {
	files := int64(0)
	for blob, b := range v.blobs {
		if !used[blob] {
			v.fault("no document refers to %x", b.digest)
		}
		if !b.file {
			continue
		}
		files += b.length
		if info, err := os.Stat(v.d.attachmentPath(b.digest)); err != nil || info.Size() != b.length {
			v.fault("the file of %x is %+v (%v)", b.digest, info, err)
		}
	}
	for blob := range used {
		if bytes.Equal(v.blobs[blob].digest, nil) {
			v.fault("content %d is referred to and not there", blob)
		}
	}
	told, err := c.Int("SELECT value FROM meta WHERE key='files'")
	if told != files {
		v.fault("files are told to be %d bytes, are %d", told, files)
	}
	return err
}
