package localdb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Options are the limits of a store. The zero value is CouchDB's defaults.
type Options struct {
	MaxDocumentSize   int64 // bytes of a document's body, attachments not counted; 0: 8,000,000
	MaxAttachmentSize int64 // bytes; 0: 1 GiB
	InlineAttachments int64 // attachments up to so many bytes are kept in SQLite, longer ones as files; 0: 256 KiB
	RevsLimit         int   // generations remembered behind a leaf; 0: 1000
	// RevsLimits is that of single databases, by name: of one whose documents are written again and again, say.
	RevsLimits map[string]int

	// MaxOpen is how many databases are kept open while they are not in use.
	// Others close, and open again with the next call. 0: 100.
	MaxOpen int
}

func (o Options) withDefaults() Options {
	if o.MaxDocumentSize == 0 {
		o.MaxDocumentSize = 8_000_000
	}
	if o.MaxAttachmentSize == 0 {
		o.MaxAttachmentSize = 1 << 30
	}
	if o.InlineAttachments == 0 {
		o.InlineAttachments = 256 << 10
	}
	if o.RevsLimit == 0 {
		o.RevsLimit = 1000
	}
	if o.MaxOpen == 0 {
		o.MaxOpen = 100
	}
	return o
}

var errClosed = errors.New("localdb: the store is closed")

// A Store is a directory of databases. It implements [couch.Store].
type Store struct {
	dir  string
	o    Options
	uuid string

	awake  awake
	mu     sync.Mutex
	open   map[string]*database // open or asleep
	closed bool
}

var _ couch.Store = (*Store)(nil)

// OpenStore opens a directory of databases, making it if need be. Other
// processes may have it open too.
func OpenStore(dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	uuid, err := storeUUID(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, o: o.withDefaults(), uuid: uuid, open: make(map[string]*database)}
	s.awake.max, s.awake.all = s.o.MaxOpen, make(map[*database]struct{})
	return s, nil
}

// UUID is 32 hex digits made when the directory was first opened.
func (s *Store) UUID() string { return s.uuid }

const uuidFile = "store.uuid"

// storeUUID reads the directory's uuid file or makes it; of several processes
// that make it at once, all get that of the first.
func storeUUID(dir string) (string, error) {
	path := filepath.Join(dir, uuidFile)
	if b, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(b)), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	tmp, err := os.CreateTemp(dir, ".uuid-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	_, err = tmp.WriteString(hex.EncodeToString(id[:]) + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(tmp.Name(), path); err != nil { // a file system without links
			return "", err
		}
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), errors.Join(err, syncDir(dir))
}

// syncDir makes new names in a directory durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no such call, and needs none on NTFS
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Databases implements [couch.Store].
func (s *Store) Databases(context.Context) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if name, ok := databaseName(e.Name()); ok && !e.IsDir() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Create implements [couch.Store].
func (s *Store) Create(_ context.Context, name string) error {
	file, err := fileName(name)
	if err != nil {
		return err
	}
	d, err := s.create(name, file)
	if err == nil {
		s.awake.trim(d)
	}
	return err
}

func (s *Store) create(name, file string) (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	path := filepath.Join(s.dir, file+fileSuffix)
	// An empty file is a database whose tables the first opening makes.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, &couch.Error{Status: 412, Code: "file_exists", Reason: "The database could not be created, the file already exists."}
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Close(), syncDir(s.dir)); err != nil {
		return nil, err
	}
	return s.openLocked(name, file)
}

// Open implements [couch.Store].
func (s *Store) Open(_ context.Context, name string) (couch.DB, error) {
	file, err := fileName(name)
	if err != nil {
		return nil, err
	}
	d, err := s.lookUp(name, file, nil)
	if err == nil && !d.isThere() {
		d, err = s.lookUp(name, file, d)
	}
	if err != nil {
		return nil, err
	}
	s.awake.trim(d)
	return d, nil
}

// trustFile is how long the file of a database, once seen, is believed to be
// still there, or another: of 25,000 reads a second, looking each time costs 7 %
// of the processor. Another process takes much longer than this to destroy a
// database, and what is written to one that is destroyed fails in any case.
const trustFile = 200 * time.Microsecond

// lookUp returns the named database, but not one that has been found to be gone.
func (s *Store) lookUp(name, file string, gone *database) (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.open[name]; d != nil && gone == nil && time.Since(d.seen) < trustFile {
		return d, nil
	}
	if gone != nil && s.open[name] == gone {
		delete(s.open, name) // another process destroyed it
		_ = gone.close(errDestroyed)
	}
	return s.openLocked(name, file)
}

func (s *Store) openLocked(name, file string) (*database, error) {
	if s.closed {
		return nil, errClosed
	}
	path := filepath.Join(s.dir, file+fileSuffix)
	info, err := os.Stat(path)
	if d := s.open[name]; d != nil {
		if err == nil && os.SameFile(info, d.file) {
			d.seen = time.Now()
			return d, nil
		}
		delete(s.open, name) // another process destroyed it
		_ = d.close(errDestroyed)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, couch.NotFound("Database does not exist.")
	}
	if err != nil {
		return nil, err
	}
	o := s.o
	if n := o.RevsLimits[name]; n > 0 {
		o.RevsLimit = n
	}
	d, err := openDatabase(name, path, info, o, &s.awake)
	if errors.Is(err, errDestroyed) { // a process died while it destroyed it
		if err := removeFiles(path); err != nil {
			return nil, err
		}
		return nil, couch.NotFound("Database does not exist.")
	}
	if err != nil {
		return nil, err
	}
	s.open[name] = d
	return d, nil
}

// Destroy implements [couch.Store].
func (s *Store) Destroy(ctx context.Context, name string) error {
	file, err := fileName(name)
	if err != nil {
		return err
	}
	if _, err := s.Open(ctx, name); err != nil { // it forgets one that another process has replaced
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.openLocked(name, file)
	if err != nil {
		return err
	}
	// Other processes see the mark before they write again.
	err = d.submit(ctx, 1, func(t *tx) error {
		return t.c.Exec("UPDATE meta SET value='' WHERE key='uuid'")
	})
	if err != nil {
		return err
	}
	d.settle("FULL", time.Second) // without it destroying is still right, but for a crash
	delete(s.open, name)
	return errors.Join(d.close(errDestroyed), removeFiles(d.path))
}

// removeFiles removes a database. The main file goes last: as long as it is
// there nobody can create the name anew, and what carries its name is ours. A
// crash in between leaves a marked file, whose next opening finishes the work.
func removeFiles(path string) error {
	err := os.RemoveAll(attachmentDir(path))
	for _, suffix := range []string{"-shm", "-wal", ""} {
		if e := os.Remove(path + suffix); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Close closes every database: calls in progress end, waiting feeds fail. It is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var err error
	for name, d := range s.open {
		err = errors.Join(err, d.close(errClosed))
		delete(s.open, name)
	}
	return err
}
