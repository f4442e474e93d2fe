package localdb

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// Files of versions before 3 kept contents by their MD5. The first opening hashes
// them all again, in short transactions, while the file has the version
// rehashVersion, which serves nobody. The table rehashed holds what each content
// was called before, until nothing calls it so any more; hence an interrupted
// migration goes on where it was, whatever was done last.
const rehashVersion = 3

// What one transaction of the migration does at most.
const (
	rehashContents = 200
	rehashBytes    = 32 << 20 // of contents in SQLite
	rehashBodies   = 1000
)

// hashedAgain reports whether contents are known by their SHA-256 only.
func hashedAgain(c *sqlite.Conn) (bool, error) {
	left, err := c.Int("SELECT EXISTS (SELECT 1 FROM blobs WHERE length(sha256)=16) OR EXISTS (SELECT 1 FROM rehashed)")
	return left == 0, err
}

// A rehash is the migration of one file.
type rehash struct {
	c    *sqlite.Conn
	path string
}

func (r rehash) run() error {
	for _, step := range []func() error{r.contents, r.files, r.bodies, r.dead} {
		if err := step(); err != nil {
			return err
		}
	}
	return r.c.Exec("DELETE FROM rehashed")
}

// An oldContent is a content with its name of before.
type oldContent struct {
	blob        int64
	md5, sha256 []byte
}

// contents hashes all contents again.
func (r rehash) contents() error {
	for last := int64(0); ; {
		batch, err := r.hashSome(last)
		if err != nil || len(batch) == 0 {
			return err
		}
		err = inTransaction(r.c, func() error {
			for i := range batch {
				if err := r.rename(&batch[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		last = batch[len(batch)-1].blob
	}
}

// hashSome hashes contents after one. It holds no lock: a large file takes its time.
func (r rehash) hashSome(after int64) (batch []oldContent, err error) {
	s := r.c.Prepare("SELECT blob, sha256, length, data IS NULL, data FROM blobs WHERE blob > ? AND length(sha256)=16 ORDER BY blob LIMIT ?")
	defer s.Reset()
	s.BindInt(1, after)
	s.BindInt(2, rehashContents)
	for size := int64(0); size < rehashBytes; {
		found, err := s.Step()
		if err != nil || !found {
			return batch, err
		}
		old := oldContent{blob: s.Int(0), md5: s.Bytes(1)}
		sum := newSums()
		if s.Int(3) == 0 {
			_, _ = sum.Write(s.View(4))
		} else if err := sum.readFile(attachmentPath(r.path, old.md5)); err != nil {
			return nil, err
		}
		size += s.Int(2)
		old.sha256 = sum.sha256.Sum(nil)
		if string(sum.md5.Sum(nil)) != string(old.md5) {
			old.sha256 = damaged(old.md5)
		}
		batch = append(batch, old)
	}
	return batch, nil
}

// damaged is what a content is called that was lost or is not what its MD5 says:
// a name of its own, which what is written later does not have.
func damaged(md5 []byte) []byte {
	sum := sha256.Sum256(append([]byte("loveseat damaged content "), md5...))
	return sum[:]
}

// readFile takes in a file, nothing if it is not there.
func (s *sums) readFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(s, f)
	return err
}

// rename gives a content its new name, unless another process has. The file follows in [rehash.files].
func (r rehash) rename(old *oldContent) error {
	s := r.c.Prepare("UPDATE blobs SET sha256=? WHERE blob=? AND length(sha256)=16")
	s.BindBlob(1, old.sha256)
	s.BindInt(2, old.blob)
	if err := s.Exec(); err != nil || r.c.Changes() == 0 {
		return err
	}
	s = r.c.Prepare("INSERT INTO rehashed (md5, sha256) VALUES (?, ?)")
	s.BindBlob(1, old.md5)
	s.BindBlob(2, old.sha256)
	return s.Exec()
}

// files renames the files of contents. They are there under one name or the other.
func (r rehash) files() error {
	dirs := map[string]bool{}
	err := r.eachName(func(old oldContent) error {
		from, to := attachmentPath(r.path, old.md5), attachmentPath(r.path, old.sha256)
		if exists(from) {
			if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
				return err
			}
			if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) { // another process was faster
				return err
			}
		}
		if exists(to) { // whoever renamed it may have died before it was durable
			dirs[filepath.Dir(to)] = true
		}
		return nil
	})
	for dir := range dirs {
		err = errors.Join(err, syncDir(dir))
	}
	if len(dirs) > 0 {
		err = errors.Join(err, syncDir(attachmentDir(r.path)))
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// eachName calls fn with every content that has been renamed.
func (r rehash) eachName(fn func(oldContent) error) error {
	s := r.c.Prepare("SELECT md5, sha256 FROM rehashed")
	defer s.Reset()
	for {
		found, err := s.Step()
		if err != nil || !found {
			return err
		}
		if err := fn(oldContent{md5: s.Bytes(0), sha256: s.Bytes(1)}); err != nil {
			return err
		}
	}
}

// bodies names the contents anew where revisions name them.
func (r rehash) bodies() error {
	for {
		more := false
		err := inTransaction(r.c, func() (err error) {
			more, err = r.nameSome()
			return err
		})
		if err != nil || !more {
			return err
		}
	}
}

// nameSome does that for some bodies after the one that meta knows.
func (r rehash) nameSome() (more bool, err error) {
	last, err := r.c.Int("SELECT value FROM meta WHERE key='rehashed'")
	if err != nil {
		return false, err
	}
	type body struct {
		bid  int64
		atts []byte
	}
	var some []body
	s := r.c.Prepare("SELECT bid, atts FROM bodies WHERE bid > ? AND atts IS NOT NULL ORDER BY bid LIMIT ?")
	defer s.Reset()
	s.BindInt(1, last)
	s.BindInt(2, rehashBodies)
	for {
		found, err := s.Step()
		if err != nil {
			return false, err
		}
		if !found {
			break
		}
		some = append(some, body{s.Int(0), s.Bytes(1)})
	}
	if len(some) == 0 {
		return false, nil
	}
	for _, b := range some {
		if err := r.name(b.bid, b.atts); err != nil {
			return false, err
		}
	}
	set := r.c.Prepare("UPDATE meta SET value=? WHERE key='rehashed'")
	set.BindInt(1, some[len(some)-1].bid)
	return true, set.Exec()
}

func (r rehash) name(bid int64, stored []byte) error {
	atts, err := parseAtts(stored)
	if err != nil {
		return err
	}
	for i := range atts {
		s := r.c.Prepare("SELECT sha256 FROM rehashed WHERE md5=?")
		s.BindBlob(1, atts[i].MD5)
		found, err := s.Step()
		if err != nil {
			return err
		}
		if atts[i].SHA256 = damaged(atts[i].MD5); found {
			atts[i].SHA256 = s.Bytes(0)
		}
		s.Reset()
	}
	if stored, err = json.Marshal(atts); err != nil {
		return err
	}
	s := r.c.Prepare("UPDATE bodies SET atts=? WHERE bid=?")
	s.BindTextBytes(1, stored)
	s.BindInt(2, bid)
	return s.Exec()
}

// dead counts the bytes of dead bodies again, in which contents have longer names now.
func (r rehash) dead() error {
	return inTransaction(r.c, func() error {
		var total int64
		stale := r.c.Prepare("SELECT num FROM stale")
		defer stale.Reset()
		for {
			found, err := stale.Step()
			if err != nil {
				return err
			}
			if !found {
				break
			}
			size, err := deadBytes(r.c, stale.Int(0))
			if err != nil {
				return err
			}
			total += size
		}
		s := r.c.Prepare("UPDATE meta SET value=? WHERE key='dead'")
		s.BindInt(1, total)
		return s.Exec()
	})
}

func deadBytes(c *sqlite.Conn, num int64) (total int64, err error) {
	tree, err := treeOf(c, num)
	if err != nil {
		return 0, err
	}
	for _, bid := range tree.Bodies(false) {
		s := c.Prepare("SELECT " + bodySize + " FROM bodies WHERE bid=?")
		s.BindInt(1, bid)
		if _, err := s.Step(); err != nil {
			return 0, err
		}
		total += s.Int(0)
		s.Reset()
	}
	return total, nil
}
