package localdb

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"

	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// What one transaction of a compaction does at most, so that writers wait no
// longer for it than for each other.
const (
	compactDocs  = 200
	compactBytes = 4 << 20 // of dead bodies
)

// Compact implements [couch.DB]. It works in short transactions between those
// of writers; if it is interrupted, what was done is done.
func (d *database) Compact(ctx context.Context) error {
	s, err := d.use()
	if err != nil {
		return d.translate(err)
	}
	defer d.release()
	select {
	case d.tidying <- struct{}{}:
		defer func() { <-d.tidying }()
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return d.translate(errClosed)
	}
	for _, step := range []func(context.Context) error{s.compactBodies, s.sweepAll} {
		if err := step(ctx); err != nil {
			return d.translate(err)
		}
	}
	d.removeLeftovers()
	if err := s.shrink(ctx, 0); err != nil {
		return d.translate(err)
	}
	d.settle("TRUNCATE", 50*time.Millisecond)
	return nil
}

// compactBodies drops the dead bodies of all documents, and the attachments that only they used.
func (s *session) compactBodies(ctx context.Context) error {
	after := int64(0)
	for more := true; more; {
		var next int64
		err := s.drop(ctx, compactDocs, func(t *tx) (err error) {
			next, more, err = t.compactSome(after)
			return err
		})
		if err != nil {
			return err
		}
		after = next
	}
	return nil
}

// compactSome compacts documents after one and returns the last it is done with.
func (t *tx) compactSome(after int64) (last int64, more bool, err error) {
	nums, err := t.staleAfter(after)
	if err != nil {
		return after, false, err
	}
	last = after
	budget := int64(compactBytes)
	for _, num := range nums {
		if budget <= 0 {
			return last, true, nil
		}
		done, err := t.compactDoc(num, &budget)
		if err != nil || !done {
			return last, err == nil, err
		}
		last = num
	}
	if len(nums) == compactDocs {
		return last, true, nil
	}
	left, err := t.c.Int("SELECT EXISTS (SELECT 1 FROM stale)")
	if left == 0 && err == nil {
		t.dead = 0 // what it must be
	}
	return last, false, err
}

func (t *tx) staleAfter(num int64) (nums []int64, err error) {
	s := t.c.Prepare("SELECT num FROM stale WHERE num > ? ORDER BY num LIMIT ?")
	defer s.Reset()
	s.BindInt(1, num)
	s.BindInt(2, compactDocs)
	for {
		found, err := s.Step()
		if err != nil || !found {
			return nums, err
		}
		nums = append(nums, s.Int(0))
	}
}

// compactDoc drops a document's dead bodies; false if the budget did not last.
func (t *tx) compactDoc(num int64, budget *int64) (done bool, err error) {
	tree, err := treeOf(t.c, num)
	if err != nil {
		return false, err
	}
	done = true
	for i := range tree {
		n := &tree[i]
		if n.Leaf || n.Body == 0 {
			continue
		}
		if *budget <= 0 {
			done = false
			break
		}
		size, err := t.dropBody(n.Body)
		if err != nil {
			return false, err
		}
		n.Body = 0
		t.dead -= size
		*budget -= size + 100 // a small one costs, too
	}
	s := t.c.Prepare("UPDATE docs SET flags = flags & ~?, tree=? WHERE num=?")
	s.BindInt(1, int64(btoi(done)*flagStale))
	s.BindNull(2)
	if len(tree) > 1 {
		s.BindBlob(2, tree.Append(nil))
	}
	s.BindInt(3, num)
	if err := s.Exec(); err != nil || !done {
		return false, err
	}
	if err := t.dropContents(num, tree); err != nil {
		return false, err
	}
	return true, t.notStale(num)
}

func treeOf(c *sqlite.Conn, num int64) (revtree.Tree, error) {
	s := c.Prepare("SELECT " + rowColumns + " FROM docs WHERE num=?")
	defer s.Reset()
	s.BindInt(1, num)
	if found, err := s.Step(); err != nil || !found {
		return nil, err
	}
	var r row
	if err := r.read(s, 0, true); err != nil {
		return nil, err
	}
	return r.tree()
}

// sweepAll removes the files of contents that no document uses, because it was
// never written or because a process died before it removed them.
func (s *session) sweepAll(ctx context.Context) error {
	dirs, err := os.ReadDir(attachmentDir(s.d.path))
	if err != nil {
		return nil //nolint:nilerr // there are none
	}
	for _, dir := range dirs {
		var unused [][]byte
		err := s.d.view(ctx, func(c *sqlite.Conn) (err error) {
			unused, err = unusedIn(c, filepath.Join(attachmentDir(s.d.path), dir.Name()))
			return err
		})
		if err == nil {
			err = s.sweep(ctx, unused)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unusedIn lists the contents in a directory of files that no document uses.
func unusedIn(c *sqlite.Conn, dir string) (unused [][]byte, err error) {
	files, _ := os.ReadDir(dir) // of a file: none
	for _, f := range files {
		sum, err := hex.DecodeString(f.Name())
		if err != nil {
			continue // a copy in progress
		}
		used, err := fileUsed(c, sum)
		if err != nil {
			return nil, err
		}
		if !used {
			unused = append(unused, sum)
		}
	}
	return unused, nil
}
