package localdb

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A newAtt is an attachment about to be written: a stub to be resolved, bytes
// for SQLite, or a file that is there already.
type newAtt struct {
	attRow
	stub  bool
	given string // a stub's digest, as it was given
	data  []byte // not nil: goes into blobs
	file  *contentFile
}

// A contentFile is large content on its way into a database. It has a name of
// its own until the document is written: whoever tidies up may find that no
// document uses the content yet, and remove the name it will be read by.
type contentFile struct {
	own, path string
	length    int64
}

// attachmentPath is the file of a large attachment.
func (d *database) attachmentPath(sha256 []byte) string { return attachmentPath(d.path, sha256) }

func attachmentPath(database string, sha256 []byte) string {
	name := hex.EncodeToString(sha256)
	return filepath.Join(attachmentDir(database), name[:2], name)
}

// attachmentDir is where the database in a file keeps its large attachments.
func attachmentDir(path string) string { return strings.TrimSuffix(path, fileSuffix) + attsSuffix }

// takeAttachment reads an attachment's content, before and outside of the
// document's transaction: a large one is a durable file when this returns.
func (d *database) takeAttachment(ctx context.Context, a *couch.Attachment) (newAtt, error) {
	n := newAtt{attRow: attRow{Name: a.Name, Type: a.ContentType, Length: a.Length, RevPos: a.RevPos}, stub: a.Stub()}
	if a.Name == "" || a.Name[0] == '_' || !utf8.ValidString(a.Name) {
		return n, couch.BadRequest("Attachment name '" + a.Name + "' is empty, not UTF-8, or starts with prohibited character '_'")
	}
	if n.Type == "" {
		n.Type = "application/octet-stream"
	}
	if n.stub {
		n.given = a.Digest
		return n, nil
	}
	r, err := a.Reader(ctx)
	if err != nil {
		return n, err
	}
	defer r.Close()
	sum := newSums()
	// One byte more than allowed shows that there is more.
	in := io.TeeReader(io.LimitReader(r, d.o.MaxAttachmentSize+1), sum)
	if int64(len(a.Data)) > d.o.InlineAttachments || a.Data == nil {
		n.data, err = readUpTo(in, d.o.InlineAttachments+1)
	} else {
		n.data = a.Data
		_, _ = sum.Write(a.Data)
	}
	if err != nil {
		return n, err
	}
	n.Length = int64(len(n.data))
	if n.Length > d.o.InlineAttachments {
		return n, d.spill(&n, a, in, sum)
	}
	sum.name(&n.attRow)
	return n, d.verify(&n, a)
}

// sums are the hashes of a content that is being read.
type sums struct{ md5, sha256 hash.Hash }

func newSums() *sums { return &sums{md5.New(), sha256.New()} }

// Write takes in both at once where that pays: MD5 takes twice as long as SHA-256.
func (s *sums) Write(p []byte) (int, error) {
	if len(p) < 64<<10 {
		_, _ = s.sha256.Write(p)
		return s.md5.Write(p)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.sha256.Write(p)
	}()
	n, err := s.md5.Write(p)
	<-done
	return n, err
}

func (s *sums) name(a *attRow) { a.MD5, a.SHA256 = s.md5.Sum(nil), s.sha256.Sum(nil) }

// readUpTo reads at most n bytes.
func readUpTo(r io.Reader, n int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, n))
	if data == nil {
		data = []byte{}
	}
	return data, err
}

// verify compares what came with what was announced.
func (d *database) verify(n *newAtt, a *couch.Attachment) error {
	if n.Length > d.o.MaxAttachmentSize {
		return couch.TooLarge("attachment_too_large", a.Name)
	}
	if a.Length >= 0 && a.Data == nil && a.Length != n.Length {
		return couch.BadRequest("Attachment " + a.Name + " does not have the announced length")
	}
	given := parseDigest(a.Digest)
	if given == nil || string(given) == string(n.MD5) || mayBeCompressed(n.Type) {
		return nil
	}
	return &couch.Error{Status: 400, Code: "content_md5_mismatch", Reason: "Possible message corruption."}
}

// mayBeCompressed reports whether CouchDB keeps content of a type compressed:
// the digest it tells is then of the compressed bytes, and not ours to check.
// https://docs.couchdb.org/en/stable/config/misc.html#attachments
func mayBeCompressed(contentType string) bool {
	return strings.HasPrefix(contentType, "text/") || strings.HasPrefix(contentType, "application/javascript") ||
		strings.HasPrefix(contentType, "application/json") || strings.HasPrefix(contentType, "application/xml")
}

// spillBuffer is how much of a large content is read at once.
const spillBuffer = 256 << 10

// spill writes n.data and the rest of the content to a file and drops n.data.
func (d *database) spill(n *newAtt, a *couch.Attachment, rest io.Reader, sum *sums) (err error) {
	dir := attachmentDir(d.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return err
	}
	f := &contentFile{own: tmp.Name()}
	defer func() {
		if err != nil {
			f.discard()
		}
	}()
	if _, err = tmp.Write(n.data); err == nil {
		var more int64
		more, err = io.CopyBuffer(struct{ io.Writer }{tmp}, rest, make([]byte, spillBuffer))
		n.Length += more
	}
	sum.name(&n.attRow)
	n.data = nil
	if err == nil {
		err = d.verify(n, a)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	f.path, f.length, n.file = d.attachmentPath(n.SHA256), n.Length, f
	return f.ensure()
}

// ensure gives finished content the name that it is read by, for good, unless
// it has it already. Under the lock of a write transaction nobody takes that away.
func (f *contentFile) ensure() error {
	if info, err := os.Stat(f.path); err == nil && info.Size() == f.length {
		return nil
	} else if err == nil {
		err = os.Remove(f.path) // it was cut off by something other than us
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err := os.Link(f.own, f.path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = copyFile(f.own, f.path) // a file system without links
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)), syncDir(filepath.Dir(filepath.Dir(dir))))
}

// discard removes the content's own name.
func (f *contentFile) discard() {
	if f != nil {
		_ = os.Remove(f.own) // or removeLeftovers does, some day
	}
}

// copyFile makes a durable copy.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), "new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(out.Name())
		}
	}()
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// removeLeftovers removes what writers that died had not finished.
func (d *database) removeLeftovers() {
	files, _ := filepath.Glob(filepath.Join(attachmentDir(d.path), "new-*"))
	copies, _ := filepath.Glob(filepath.Join(attachmentDir(d.path), "*", "new-*"))
	for _, file := range append(files, copies...) {
		if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.Remove(file) // if not now, next time
		}
	}
}
