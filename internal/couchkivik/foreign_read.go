package couchkivik

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"

	kivik "github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Get implements couch.DB.
func (f *foreign) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	if !couch.PlainID(id) {
		return nil, couch.NotFound("missing")
	}
	if f.checkPath(id) != nil {
		return f.getByBody(ctx, id, o)
	}
	return f.get(ctx, id, o)
}

// getByBody is Get of an id that has no path, without conflicts and the like: the request names it in its body.
func (f *foreign) getByBody(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	if o.Rev.IsZero() {
		_, err := f.AllDocs(ctx, couch.AllDocsOptions{Keys: []string{id}}, func(r *couch.Row) error {
			if r.Deleted {
				return couch.NotFound("deleted")
			}
			o.Rev = r.Rev
			return nil
		})
		if err != nil {
			return nil, err
		}
		if o.Rev.IsZero() {
			return nil, couch.NotFound("missing")
		}
	}
	rows := f.db.BulkGet(ctx, []kivik.BulkGetReference{{ID: id, Rev: o.Rev.String()}}, kivik.Params(map[string]any{"revs": true, "latest": o.Latest, "attachments": o.Attachments}))
	var text json.RawMessage
	if !rows.Next() {
		return nil, closed(rows, cmp.Or[error](Error(rows.Err()), couch.NotFound("missing")))
	}
	if err := rows.ScanDoc(&text); err != nil {
		return nil, closed(rows, Error(err))
	}
	_ = rows.Close()
	return couch.ParseDoc(text)
}

// attachmentByBody is Attachment of what has no path. It is held in memory.
func (f *foreign) attachmentByBody(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	doc, err := f.getByBody(ctx, id, couch.GetOptions{Rev: rev, Attachments: true})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(doc.Attachments, func(a couch.Attachment) bool { return a.Name == name })
	if i < 0 {
		return nil, couch.NotFound("Document is missing attachment")
	}
	return couch.AttachmentFrom(&doc.Attachments[i], offset)
}

// get is Get of _local documents too.
func (f *foreign) get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	if err := f.checkPath(id); err != nil {
		return nil, err
	}
	p := map[string]any{}
	for name, on := range map[string]bool{
		"latest": o.Latest, "revs": o.Revs || len(o.AttsSince) > 0, "revs_info": o.RevsInfo,
		"conflicts": o.Conflicts, "deleted_conflicts": o.Conflicts, "local_seq": o.LocalSeq,
	} {
		if on {
			p[name] = true
		}
	}
	if !o.Rev.IsZero() {
		p["rev"] = o.Rev.String()
	}
	got := f.db.Get(ctx, id, kivik.Params(p))
	defer got.Close() //nolint:errcheck // read to its end or failed
	var text json.RawMessage
	if err := got.ScanDoc(&text); err != nil {
		return nil, Error(err)
	}
	return f.parse(text, o)
}

// parse reads a document that has stubs, and gives those attachments that are
// asked for a way to be read.
func (f *foreign) parse(text json.RawMessage, o couch.GetOptions) (*couch.Doc, error) {
	doc, err := couch.ParseDoc(text)
	if err != nil {
		return nil, err
	}
	known := knownGeneration(doc, o.AttsSince)
	for i := range doc.Attachments {
		a := &doc.Attachments[i]
		large := o.MaxInlineSize > 0 && a.Length > o.MaxInlineSize
		if a.Stub() && o.Attachments && !large && a.RevPos > known {
			a.Open = f.opener(doc.ID, a.Name, doc.Rev, 0)
		}
	}
	return doc, nil
}

// knownGeneration is the newest generation of doc's history that is among revs: attachments up to it are known to the asker.
func knownGeneration(doc *couch.Doc, revs []couch.Rev) int64 {
	for i, hash := range doc.Ancestry() {
		gen := doc.Rev.Gen - int64(i)
		if slices.Contains(revs, couch.Rev{Gen: gen, Hash: hash}) {
			return gen
		}
	}
	return -1
}

// BulkGet implements couch.Source, by _bulk_get, or a request for each document
// from a server that lacks it. All leaves of a document take a request of their own.
func (f *foreign) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for len(refs) > 0 {
		n := slices.IndexFunc(refs, func(r couch.DocRef) bool { return r.Rev.IsZero() })
		if n == 0 {
			if err := f.leaves(ctx, refs[0], o, fn); err != nil {
				return err
			}
			refs = refs[1:]
			continue
		}
		if n < 0 {
			n = len(refs)
		}
		if err := f.revisions(ctx, refs[:n], o, fn); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

func forRef(o couch.GetOptions, ref couch.DocRef) couch.GetOptions {
	o.Rev, o.AttsSince = ref.Rev, ref.AttsSince
	return o
}

// leaves gives all leaves of one document, which the changes feed names: kivik's
// couchdb driver cannot say open_revs=all.
func (f *foreign) leaves(ctx context.Context, ref couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	var refs []couch.DocRef
	all := couch.ChangesOptions{DocIDs: []string{ref.ID}, AllLeaves: true}
	_, err := f.Changes(ctx, all, func(c *couch.Change) error {
		for _, rev := range c.Revs {
			refs = append(refs, couch.DocRef{ID: c.ID, Rev: rev, AttsSince: ref.AttsSince})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if refs == nil {
		return fn(couch.BulkGetResult{ID: ref.ID, Err: couch.NotFound("missing")})
	}
	return f.revisions(ctx, refs, o, func(r couch.BulkGetResult) error {
		r.Rev = couch.Rev{} // as asked
		return fn(r)
	})
}

// revisions gives named revisions.
func (f *foreign) revisions(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	if f.noBulkGet.Load() {
		return f.oneByOne(ctx, refs, o, fn)
	}
	p := map[string]any{"revs": true}
	if o.Latest {
		p["latest"] = true
	}
	asked := make([]kivik.BulkGetReference, len(refs))
	for i, r := range refs {
		asked[i] = kivik.BulkGetReference{ID: r.ID, Rev: r.Rev.String()}
	}
	rows := f.db.BulkGet(ctx, asked, kivik.Params(p))
	n := 0
	for ; n < len(refs) && rows.Next(); n++ {
		res := couch.BulkGetResult{ID: refs[n].ID, Rev: refs[n].Rev}
		var text json.RawMessage
		err := rows.ScanDoc(&text)
		if err == nil {
			res.Doc, err = f.parse(text, forRef(o, refs[n]))
		}
		if err != nil {
			res.Err = couch.AsError(Error(err))
		}
		if err := fn(res); err != nil {
			return closed(rows, err)
		}
	}
	err := Error(rows.Err())
	_ = rows.Close()
	if n == 0 && f.lacksBulkGet(ctx, err) {
		return f.oneByOne(ctx, refs, o, fn)
	}
	if err == nil && n < len(refs) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// lacksBulkGet tells a server without _bulk_get from a database that is gone or out of reach.
func (f *foreign) lacksBulkGet(ctx context.Context, err error) bool {
	var e *couch.Error
	if !errors.As(err, &e) || !slices.Contains([]int{400, 404, 405, 501}, e.Status) {
		return false
	}
	if _, err := f.Info(ctx); err != nil {
		return false
	}
	f.noBulkGet.Store(true)
	return true
}

func (f *foreign) oneByOne(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for _, ref := range refs {
		res := couch.BulkGetResult{ID: ref.ID, Rev: ref.Rev}
		o := forRef(o, ref)
		o.Revs = true
		doc, err := f.Get(ctx, ref.ID, o)
		switch {
		case err == nil:
			res.Doc = doc
		case errors.Is(err, couch.ErrNotFound), errors.Is(err, couch.ErrForbidden):
			res.Err = couch.AsError(err)
		default:
			return err
		}
		if err := fn(res); err != nil {
			return err
		}
	}
	return nil
}

// Attachment implements couch.Source.
func (f *foreign) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	if !couch.PlainID(id) {
		return nil, couch.NotFound("missing")
	}
	if f.checkPath(id, name) != nil {
		return f.attachmentByBody(ctx, id, name, rev, offset)
	}
	meta, err := f.db.GetAttachmentMeta(ctx, id, f.fileName(name), revOption(rev))
	if err != nil {
		return nil, Error(err)
	}
	if meta.Size >= 0 && offset > meta.Size {
		return nil, &couch.Error{Status: 416, Code: "requested_range_not_satisfiable", Reason: "Requested range not satisfiable"}
	}
	return &couch.Attachment{
		Name: name, ContentType: meta.ContentType, Digest: digest(meta.Digest), Length: meta.Size, RevPos: meta.RevPos,
		Open: f.opener(id, name, rev, offset),
	}, nil
}

// opener reads an attachment from offset; kivik has no ranges, so what is before is read and dropped.
func (f *foreign) opener(id, name string, rev couch.Rev, offset int64) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		a, err := f.db.GetAttachment(ctx, id, f.fileName(name), revOption(rev))
		if err != nil {
			return nil, Error(err)
		}
		if _, err := io.CopyN(io.Discard, a.Content, offset); err != nil {
			return nil, closed(a.Content, err)
		}
		return a.Content, nil
	}
}

// checkPath refuses ids, and names of attachments, that would become another path on their
// way: "..", and, of a server below a path, what has a slash, which kivik's couchdb driver
// leaves bare there. Errors: illegal_docid (400).
func (f *foreign) checkPath(id string, name ...string) error {
	if f.db.Client().Driver() != httpDriver {
		return nil
	}
	for _, prefix := range []string{"_design/", localPrefix} {
		id = strings.TrimPrefix(id, prefix)
	}
	u, err := url.Parse(f.db.Client().DSN())
	below := err != nil || strings.Trim(u.Path, "/") != ""
	for _, part := range append([]string{id}, name...) {
		if couch.LeavesPath(part) || below && strings.Contains(part, "/") {
			return &couch.Error{Status: 400, Code: "illegal_docid", Reason: "This id cannot be asked for by a URL."}
		}
	}
	return nil
}

// httpDriver is the name of kivik's own driver for CouchDB.
const httpDriver = "couch"

// fileName escapes what kivik's couchdb driver puts into its URL as it is.
func (f *foreign) fileName(name string) string {
	if f.db.Client().Driver() == httpDriver {
		return strings.ReplaceAll(url.PathEscape(name), "+", "%2B") // in paths too CouchDB takes "+" for a space
	}
	return name
}

func revOption(rev couch.Rev) kivik.Option {
	if rev.IsZero() {
		return kivik.Params(nil)
	}
	return kivik.Rev(rev.String())
}

// digest makes CouchDB's of an ETag, which is the same without its prefix.
func digest(s string) string {
	if b, err := base64.StdEncoding.DecodeString(s); err == nil && len(b) == 16 {
		return "md5-" + s
	}
	return s
}
