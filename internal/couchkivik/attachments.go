package couchkivik

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// kivikAttachment gives an attachment as kivik knows it.
func kivikAttachment(a *couch.Attachment, content io.ReadCloser) driver.Attachment {
	return driver.Attachment{
		Filename: a.Name, ContentType: a.ContentType, Stub: content == nil, Content: content,
		Size: a.Length, RevPos: a.RevPos, Digest: a.Digest,
	}
}

// GetAttachment implements driver.DB. The content is streamed; the caller closes it.
func (d *database) GetAttachment(ctx context.Context, id, name string, options driver.Options) (*driver.Attachment, error) {
	a, err := d.attachment(ctx, id, name, options)
	if err != nil {
		return nil, err
	}
	content, err := a.Reader(ctx)
	if err != nil {
		return nil, err
	}
	out := kivikAttachment(a, content)
	return &out, nil
}

// GetAttachmentMeta implements driver.AttachmentMetaGetter.
func (d *database) GetAttachmentMeta(ctx context.Context, id, name string, options driver.Options) (*driver.Attachment, error) {
	p := parseOptions(options)
	o := couch.GetOptions{Rev: p.rev("rev")}
	if p.err != nil {
		return nil, p.err
	}
	doc, err := d.db.Get(ctx, id, o)
	if err != nil {
		return nil, err
	}
	i := indexAttachment(doc, name)
	if i < 0 {
		return nil, couch.NotFound("Document is missing attachment")
	}
	out := kivikAttachment(&doc.Attachments[i], nil)
	return &out, nil
}

func (d *database) attachment(ctx context.Context, id, name string, options driver.Options) (*couch.Attachment, error) {
	p := parseOptions(options)
	rev := p.rev("rev")
	if p.err != nil {
		return nil, p.err
	}
	return d.db.Attachment(ctx, id, name, rev, 0)
}

func indexAttachment(doc *couch.Doc, name string) int {
	return slices.IndexFunc(doc.Attachments, func(a couch.Attachment) bool { return a.Name == name })
}

// PutAttachment implements driver.DB: it makes a revision of the document (or,
// without the option rev, a new document) with the attachment added or replaced.
func (d *database) PutAttachment(ctx context.Context, id string, att *driver.Attachment, options driver.Options) (string, error) {
	doc, err := d.attachTo(ctx, id, options)
	if err != nil {
		return "", err
	}
	added := couch.Attachment{Name: att.Filename, ContentType: att.ContentType, Length: -1}
	if added.ContentType == "" {
		added.ContentType = "application/octet-stream"
	}
	switch {
	case att.Content == nil:
		added.Data, added.Length = []byte{}, 0
	case att.Size > 0:
		added.Length = att.Size
		fallthrough
	default:
		added.Open = once(att.Content)
	}
	if i := indexAttachment(doc, att.Filename); i >= 0 {
		doc.Attachments[i] = added
	} else {
		doc.Attachments = append(doc.Attachments, added)
	}
	rev, err := d.write(ctx, doc, couch.WriteOptions{})
	return rev.String(), err
}

// DeleteAttachment implements driver.DB.
func (d *database) DeleteAttachment(ctx context.Context, id, name string, options driver.Options) (string, error) {
	doc, err := d.attachTo(ctx, id, options)
	if err != nil {
		return "", err
	}
	i := indexAttachment(doc, name)
	if doc.Rev.IsZero() {
		return "", couch.Conflict()
	}
	if i < 0 {
		return "", couch.NotFound("Document is missing attachment")
	}
	doc.Attachments = slices.Delete(doc.Attachments, i, i+1)
	rev, err := d.write(ctx, doc, couch.WriteOptions{})
	return rev.String(), err
}

// attachTo gives the revision whose attachments are to be changed, those there are as stubs.
func (d *database) attachTo(ctx context.Context, id string, options driver.Options) (*couch.Doc, error) {
	p := parseOptions(options)
	rev := p.rev("rev")
	if p.err != nil {
		return nil, p.err
	}
	if rev.IsZero() {
		return &couch.Doc{ID: id}, nil
	}
	doc, err := d.db.Get(ctx, id, couch.GetOptions{Rev: rev})
	if errors.Is(err, couch.ErrNotFound) && !isGone(err) {
		return nil, couch.Conflict()
	}
	if err != nil {
		return nil, err
	}
	return &couch.Doc{ID: id, Rev: doc.Rev, Body: doc.Body, Attachments: slices.Clone(doc.Attachments)}, nil
}

// once gives content that can be read a single time: what the caller of kivik passed.
func once(content io.ReadCloser) func(context.Context) (io.ReadCloser, error) {
	var mu sync.Mutex
	return func(context.Context) (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		if content == nil {
			return nil, errors.New("the attachment's content was read already")
		}
		c := content
		content = nil
		return c, nil
	}
}
