package localdb

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Nothing of a store or of its backup can be read by other users of the machine.
func TestFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	store, backup := filepath.Join(dir, "made", "store"), filepath.Join(dir, "saved", "backup")
	s, err := OpenStore(store, Options{InlineAttachments: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Create(context.Background(), "some/db"); err != nil {
		t.Fatal(err)
	}
	put(t, reopen(t, s, "some/db"), &couch.Doc{ID: "a", Attachments: []couch.Attachment{attachment("large", strings.Repeat("large", 100))}})
	if err := s.Backup(context.Background(), backup); err != nil {
		t.Fatal(err)
	}
	restore(t, backup)
	seen := 0
	for _, top := range []string{"made", "saved"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a file that SQLite is done with
			}
			if err != nil {
				return err
			}
			seen++
			want := os.FileMode(0o600)
			if e.IsDir() {
				want = 0o700
			}
			if info.Mode().Perm() != want {
				t.Errorf("%s: %v", path, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 12 {
		t.Errorf("%d files and directories", seen)
	}
}
