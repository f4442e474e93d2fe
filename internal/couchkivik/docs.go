package couchkivik

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-kivik/kivik/v4/driver"

	"github.com/loveseat-db/loveseat/internal/couch"
)

const localPrefix = "_local/"

// toDoc reads a document given as JSON (json.RawMessage, []byte, string, a
// Reader) or as anything that marshals to a JSON object.
func toDoc(v any) (*couch.Doc, error) {
	var text []byte
	switch v := v.(type) {
	case *couch.Doc:
		doc := *v
		return &doc, nil
	case json.RawMessage:
		text = bytes.Clone(v)
	case []byte:
		text = bytes.Clone(v)
	case string:
		text = []byte(v)
	case io.Reader:
		var err error
		if text, err = io.ReadAll(v); err != nil {
			return nil, err
		}
	default:
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return nil, couch.BadRequest(err.Error())
		}
		text = b.Bytes()
	}
	return couch.ParseDoc(text)
}

// Get implements driver.DB. Attachments asked for come beside the body, as in a multipart answer.
func (d *database) Get(ctx context.Context, id string, options driver.Options) (*driver.Document, error) {
	doc, o, err := d.get(ctx, id, options)
	if err != nil {
		return nil, err
	}
	body, atts := document(ctx, doc, o)
	return &driver.Document{Rev: doc.Rev.String(), Body: io.NopCloser(bytes.NewReader(body)), Attachments: atts}, nil
}

// GetRev implements driver.RevGetter, and serves From.
func (d *database) GetRev(ctx context.Context, id string, options driver.Options) (string, error) {
	p := probe{db: d.db}
	if options.Apply(&p); p.taken {
		return "", errCaptured
	}
	doc, _, err := d.get(ctx, id, options)
	if err != nil {
		return "", err
	}
	return doc.Rev.String(), nil
}

func (d *database) get(ctx context.Context, id string, options driver.Options) (*couch.Doc, couch.GetOptions, error) {
	p := parseOptions(options)
	o := p.get()
	if p.err != nil {
		return nil, o, p.err
	}
	if local, ok := strings.CutPrefix(id, localPrefix); ok {
		doc, err := d.db.GetLocal(ctx, local)
		if err != nil {
			return nil, o, err
		}
		named := *doc
		named.ID = id
		return &named, o, nil
	}
	doc, err := d.db.Get(ctx, id, o)
	return doc, o, err
}

// document gives a document's JSON, and its attachments if they were asked for:
// kivik's way to read them is an iterator beside a body that says "follows".
func document(ctx context.Context, doc *couch.Doc, o couch.GetOptions) ([]byte, driver.Attachments) {
	if !o.Attachments || len(doc.Attachments) == 0 {
		return doc.AppendJSON(nil), nil
	}
	out := *doc
	out.Attachments = slices.Clone(doc.Attachments)
	for i := range out.Attachments {
		a := &out.Attachments[i]
		if data := a.Data; data != nil {
			a.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
			a.Data, a.Length = nil, int64(len(data))
		}
	}
	return out.AppendJSON(nil), &attachments{ctx: ctx, list: out.Attachments}
}

// Put implements driver.DB. The option rev stands for _rev, new_edits=false for a replicated revision.
func (d *database) Put(ctx context.Context, id string, v any, options driver.Options) (string, error) {
	doc, err := toDoc(v)
	if err != nil {
		return "", err
	}
	doc.ID = id
	return d.put(ctx, doc, options)
}

func (d *database) put(ctx context.Context, doc *couch.Doc, options driver.Options) (string, error) {
	p := parseOptions(options)
	o := couch.WriteOptions{Replicated: !p.bool("new_edits", true)}
	if rev := p.rev("rev"); !rev.IsZero() {
		doc.Rev = rev
	}
	if p.err != nil {
		return "", p.err
	}
	if local, ok := strings.CutPrefix(doc.ID, localPrefix); ok {
		doc.ID = local
		rev, err := d.db.PutLocal(ctx, doc)
		return rev.String(), err
	}
	rev, err := d.write(ctx, doc, o)
	return rev.String(), err
}

// write writes one document.
func (d *database) write(ctx context.Context, doc *couch.Doc, o couch.WriteOptions) (couch.Rev, error) {
	results, err := d.db.BulkDocs(ctx, []*couch.Doc{doc}, o)
	switch {
	case err != nil:
		return couch.Rev{}, err
	case len(results) != 1:
		return couch.Rev{}, &couch.Error{Status: 500, Code: "internal_server_error", Reason: "a write without a result"}
	case results[0].Err != nil:
		return couch.Rev{}, results[0].Err
	}
	return results[0].Rev, nil
}

// CreateDoc implements driver.DocCreator: a document without an id gets a random one.
func (d *database) CreateDoc(ctx context.Context, v any, options driver.Options) (id, rev string, err error) {
	doc, err := toDoc(v)
	if err != nil {
		return "", "", err
	}
	if doc.ID == "" {
		doc.ID = newID()
	}
	id = doc.ID
	rev, err = d.put(ctx, doc, options)
	return id, rev, err
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Delete implements driver.DB. As in CouchDB a document that is not there is
// not_found, whatever the revision.
func (d *database) Delete(ctx context.Context, id string, options driver.Options) (string, error) {
	rev, err := d.put(ctx, &couch.Doc{ID: id, Deleted: true}, options)
	if errors.Is(err, couch.ErrConflict) && !strings.HasPrefix(id, localPrefix) {
		if _, missing := d.db.Get(ctx, id, couch.GetOptions{}); errors.Is(missing, couch.ErrNotFound) {
			return "", missing
		}
	}
	return rev, err
}

// BulkDocs implements driver.BulkDocer.
func (d *database) BulkDocs(ctx context.Context, values []any, options driver.Options) ([]driver.BulkResult, error) {
	p := parseOptions(options)
	o := couch.WriteOptions{Replicated: !p.bool("new_edits", true)}
	if p.err != nil {
		return nil, p.err
	}
	docs := make([]*couch.Doc, len(values))
	for i, v := range values {
		doc, err := toDoc(v)
		if err != nil {
			return nil, err
		}
		if doc.ID == "" {
			doc.ID = newID()
		}
		docs[i] = doc
	}
	results, err := d.db.BulkDocs(ctx, docs, o)
	if err != nil {
		return nil, err
	}
	out := make([]driver.BulkResult, len(results))
	for i, r := range results {
		out[i] = driver.BulkResult{ID: r.ID, Rev: r.Rev.String()}
		if r.Err != nil { // not a nil *couch.Error in an error
			out[i].Error = r.Err
		}
	}
	return out, nil
}

// Copy implements driver.Copier: the option rev is the source's; the target,
// with "?rev=" and a revision to overwrite it, gets body and attachments.
func (d *database) Copy(ctx context.Context, target, source string, options driver.Options) (string, error) {
	p := parseOptions(options)
	rev := p.rev("rev")
	if p.err != nil {
		return "", p.err
	}
	doc, err := d.db.Get(ctx, source, couch.GetOptions{Rev: rev, Attachments: true})
	if err != nil {
		return "", err
	}
	target, targetRev, _ := strings.Cut(target, "?rev=")
	copied := &couch.Doc{ID: target, Body: doc.Body, Attachments: doc.Attachments}
	if targetRev != "" {
		if copied.Rev, err = couch.ParseRev(targetRev); err != nil {
			return "", err
		}
	}
	written, err := d.write(ctx, copied, couch.WriteOptions{})
	return written.String(), err
}
