package localdb

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// An attRow is an attachment as a body's row names it, in JSON.
type attRow struct {
	Name   string `json:"n"`
	Type   string `json:"t"`
	SHA256 []byte `json:"s"` // what the content is known by
	MD5    []byte `json:"d"` // what is told of it, as CouchDB does; it names nothing, anybody can make two contents with one
	Length int64  `json:"l"`
	RevPos int64  `json:"r"`
}

const digestPrefix = "md5-"

func (a *attRow) digest() string {
	return digestPrefix + base64.StdEncoding.EncodeToString(a.MD5)
}

// parseDigest reads "md5-…"; nil if it is of another kind.
func parseDigest(digest string) []byte {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(digest, digestPrefix))
	if err != nil || len(b) != md5.Size || !strings.HasPrefix(digest, digestPrefix) {
		return nil
	}
	return b
}

func parseAtts(stored []byte) (atts []attRow, err error) {
	if stored != nil {
		err = json.Unmarshal(stored, &atts)
	}
	return atts, err
}

// addAttachments gives a document its attachments, with their content as far as o wants it.
func (d *database) addAttachments(c *sqlite.Conn, doc *couch.Doc, stored []byte, t revtree.Tree, node int, o couch.GetOptions) error {
	atts, err := parseAtts(stored)
	if err != nil {
		return err
	}
	since := knownSince(t, node, o.AttsSince)
	doc.Attachments = make([]couch.Attachment, len(atts))
	var read int64
	for i, a := range atts {
		doc.Attachments[i] = couch.Attachment{Name: a.Name, ContentType: a.Type, Digest: a.digest(), Sum: string(a.SHA256), Length: a.Length, RevPos: a.RevPos}
		if !o.Attachments || a.RevPos <= since || o.MaxInlineSize > 0 && a.Length > o.MaxInlineSize {
			continue
		}
		if read += a.Length; read > inlineAtOnce {
			doc.Attachments[i].Open = d.later(a.SHA256)
			continue
		}
		data, open, err := d.content(c, a.SHA256)
		if err != nil {
			return err
		}
		doc.Attachments[i].Data, doc.Attachments[i].Open = data, open
	}
	return nil
}

// inlineAtOnce is how many bytes of a document's attachments are read with it; the others when they are asked for.
const inlineAtOnce = 1 << 20

// later opens content when it is asked for.
func (d *database) later(sum []byte) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (r io.ReadCloser, err error) {
		var data []byte
		var open func(context.Context) (io.ReadCloser, error)
		err = d.view(ctx, func(c *sqlite.Conn) error {
			data, open, err = d.content(c, sum)
			return err
		})
		if err != nil {
			return nil, err
		}
		return from(data, open, 0)(ctx)
	}
}

// knownSince is the newest generation among revs that are the node or its ancestors.
func knownSince(t revtree.Tree, node int, revs []couch.Rev) (gen int64) {
	for _, rev := range revs {
		if at := t.Find(rev); at >= 0 && rev.Gen > gen && t.Descends(node, at) {
			gen = rev.Gen
		}
	}
	return gen
}

// content finds the content that has a SHA-256: the bytes, or how to open the file.
func (d *database) content(c *sqlite.Conn, sum []byte) ([]byte, func(context.Context) (io.ReadCloser, error), error) {
	s := c.Prepare("SELECT data IS NULL, data FROM blobs WHERE sha256=?")
	s.BindBlob(1, sum)
	found, err := s.Step()
	if err != nil {
		return nil, nil, err
	}
	if !found {
		return nil, nil, couch.NotFound("Document is missing attachment")
	}
	defer s.Reset()
	if s.Int(0) == 0 {
		return append([]byte{}, s.View(1)...), nil, nil // not nil: empty content is no stub
	}
	path := d.attachmentPath(sum)
	return nil, func(context.Context) (io.ReadCloser, error) {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) { // purged or compacted away since the document was read
			return nil, couch.NotFound("Document is missing attachment")
		}
		return f, err
	}, nil
}

// Attachment implements [couch.Source].
func (d *database) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	var att *couch.Attachment
	err := d.view(ctx, func(c *sqlite.Conn) error {
		r, err := findRow(c, id)
		if err != nil {
			return err
		}
		if r == nil {
			return couch.NotFound("missing")
		}
		if rev.IsZero() && r.deleted() {
			return couch.NotFound("deleted")
		}
		doc, err := d.readDoc(c, id, r, couch.GetOptions{Rev: rev})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(doc.Attachments, func(a couch.Attachment) bool { return a.Name == name })
		if i < 0 {
			return couch.NotFound("Document is missing attachment")
		}
		att = &doc.Attachments[i]
		if offset < 0 || offset > att.Length {
			return &couch.Error{Status: 416, Code: "requested_range_not_satisfiable", Reason: "Requested range not satisfiable"}
		}
		data, open, err := d.content(c, []byte(att.Sum))
		att.Open = from(data, open, offset)
		return err
	})
	if err != nil {
		return nil, err
	}
	return att, nil
}

// from opens content at an offset.
func from(data []byte, open func(context.Context) (io.ReadCloser, error), offset int64) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		if open == nil {
			return io.NopCloser(bytes.NewReader(data[offset:])), nil
		}
		r, err := open(ctx)
		if err != nil || offset == 0 {
			return r, err
		}
		if _, err := r.(io.Seeker).Seek(offset, io.SeekStart); err != nil {
			r.Close()
			return nil, err
		}
		return r, nil
	}
}
