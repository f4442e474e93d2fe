package localdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// Backup copies all databases into dir, which must be empty or not exist, while
// they are used. Each database is copied as it is at one moment, checked with
// SQLite's integrity_check, and on disk when Backup returns. What is not
// complete never appears under the name dir.
//
// The copy is a store: opening it restores it. Its databases keep their
// identities, and their sequences go on far above those of the originals, so
// that nobody who has read changes of the original that the copy lacks misses
// new changes of the copy. Large attachments are hard links if dir is in the same file system.
func (s *Store) Backup(ctx context.Context, dir string) error {
	if entries, err := os.ReadDir(dir); len(entries) > 0 {
		return fmt.Errorf("localdb: %s is not empty", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".backup-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // if it was not renamed
	names, err := s.Databases(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.backupDatabase(ctx, name, tmp); err != nil && !errors.Is(err, couch.ErrNotFound) { // destroyed meanwhile
			return fmt.Errorf("backup of database %s: %w", name, err)
		}
	}
	if err := copyFile(filepath.Join(s.dir, uuidFile), filepath.Join(tmp, uuidFile)); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	return errors.Join(os.Rename(tmp, dir), syncDir(parent))
}

func (s *Store) backupDatabase(ctx context.Context, name, dir string) error {
	db, err := s.Open(ctx, name)
	if err != nil {
		return err
	}
	d := db.(*database)
	done, err := d.keepFiles(ctx)
	if err != nil {
		return err
	}
	defer done()
	path := filepath.Join(dir, filepath.Base(d.path))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.copyTo(ctx, path); err != nil {
		return d.translate(err)
	}
	if err := d.finishCopy(ctx, path); err != nil {
		return err
	}
	return f.Sync()
}

// keepTime is how long the files of attachments stay for a backup that died; one that lives asks again.
const keepTime = 10 * time.Minute

// keepFiles keeps the files of attachments from being removed until done is called.
func (d *database) keepFiles(ctx context.Context) (done func(), err error) {
	key := "keep:" + rand.Text()
	if err := d.keepUntil(ctx, key, time.Now().Add(keepTime)); err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(keepTime / 4)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				_ = d.keepUntil(ctx, key, now.Add(keepTime)) // three more to come
			}
		}
	})
	return func() {
		close(stop)
		wg.Wait()
		_ = d.keepUntil(context.WithoutCancel(ctx), key, time.Time{}) // or it runs out
	}, nil
}

// keepUntil notes a time under a key, and forgets those that have passed.
func (d *database) keepUntil(ctx context.Context, key string, end time.Time) error {
	return d.submit(ctx, 1, func(t *tx) error {
		s := t.c.Prepare("INSERT OR REPLACE INTO meta VALUES (?, ?)")
		s.BindText(1, key)
		s.BindInt(2, end.Unix())
		if err := s.Exec(); err != nil {
			return err
		}
		s = t.c.Prepare("DELETE FROM meta WHERE key >= 'keep:' AND key < 'keep;' AND value <= ?")
		s.BindInt(1, time.Now().Unix())
		return s.Exec()
	})
}

// filesKept reports whether a backup needs the files of attachments to stay.
func (t *tx) filesKept() (bool, error) {
	s := t.c.Prepare("SELECT 1 FROM meta WHERE key >= 'keep:' AND key < 'keep;' AND value > ?")
	defer s.Reset()
	s.BindInt(1, time.Now().Unix())
	return s.Step()
}

func (d *database) copyTo(ctx context.Context, path string) error {
	c, err := d.openReader()
	if err != nil {
		return err
	}
	return errors.Join(c.BackupTo(ctx, path), c.Close())
}

// backupJump is how far a copy's sequences are above those of its original:
// farther than the original comes.
const backupJump = 1 << 32

// finishCopy makes a copied file a database of its own: it checks it, and adds the attachments.
func (d *database) finishCopy(ctx context.Context, path string) error {
	c, err := openConn(path, writerCache)
	if err != nil {
		return err
	}
	stop := c.Watch(ctx)
	err = checkIntegrity(c)
	stop()
	if sqlite.IsInterrupt(err) && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		err = c.Exec(fmt.Sprintf("BEGIN; UPDATE meta SET value = value + %d WHERE key='seq'; DELETE FROM meta WHERE key >= 'keep:' AND key < 'keep;'; COMMIT", int64(backupJump)))
	}
	if err == nil {
		err = d.copyContents(ctx, c, path)
	}
	return errors.Join(err, c.Close())
}

func checkIntegrity(c *sqlite.Conn) error {
	s := c.Prepare("PRAGMA integrity_check")
	defer s.Reset()
	if _, err := s.Step(); err != nil {
		return err
	}
	if said := s.Text(0); said != "ok" {
		return fmt.Errorf("localdb: the database is damaged: %s", said)
	}
	return nil
}

// copyContents gives a copy the files of its attachments.
func (d *database) copyContents(ctx context.Context, c *sqlite.Conn, path string) error {
	s := c.Prepare("SELECT sha256, length FROM blobs WHERE data IS NULL")
	defer s.Reset()
	made := map[string]bool{}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		found, err := s.Step()
		if err != nil {
			return err
		}
		if !found {
			break
		}
		from, to := d.attachmentPath(s.View(0)), attachmentPath(path, s.View(0))
		if err := copyContent(from, to, s.Int(1)); err != nil {
			return err
		}
		made[filepath.Dir(to)] = true
	}
	var err error
	for dir := range made {
		err = errors.Join(err, syncDir(dir))
	}
	if len(made) > 0 {
		err = errors.Join(err, syncDir(attachmentDir(path)))
	}
	return err
}

// copyContent links or copies a file, which nobody changes once it is there.
func copyContent(from, to string, length int64) error {
	if info, err := os.Stat(from); err != nil || info.Size() != length {
		return errors.Join(err, fmt.Errorf("localdb: the attachment %s is damaged", filepath.Base(from)))
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	return copyFile(from, to)
}
