package couchhttp

import (
	"context"
	"encoding/base64"
	"io"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// doc appends a document. Attachments whose content is not held in memory are
// streamed into it as base64.
func (o *output) doc(ctx context.Context, d *couch.Doc) error {
	if len(d.Body) > flushAt { // in one piece: appending would take twice as much
		o.buf = slices.Grow(o.buf, len(d.Body)+512)
	}
	if !streams(d) {
		o.buf = d.AppendJSON(o.buf)
		return o.grown()
	}
	without := *d
	without.Attachments = nil
	o.buf = without.AppendJSON(o.buf)
	o.buf = o.buf[:len(o.buf)-1] // "}"
	for i := range d.Attachments {
		if i == 0 {
			o.text(`,"_attachments":{`)
		} else {
			o.text(",")
		}
		if err := o.attachment(ctx, &d.Attachments[i]); err != nil {
			return err
		}
	}
	o.text("}}")
	return o.grown()
}

func streams(d *couch.Doc) bool {
	for i := range d.Attachments {
		if d.Attachments[i].Open != nil && d.Attachments[i].Data == nil {
			return true
		}
	}
	return false
}

func (o *output) attachment(ctx context.Context, a *couch.Attachment) error {
	if a.Data != nil || a.Open == nil {
		o.buf = a.AppendJSON(o.buf)
		return o.grown()
	}
	r, err := a.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	empty := *a
	empty.Data = []byte{}
	o.buf = empty.AppendJSON(o.buf)
	o.buf = o.buf[:len(o.buf)-len(`"}`)] // "data":"
	enc := base64.NewEncoder(base64.StdEncoding, o)
	if _, err := io.Copy(enc, r); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	o.text(`"}`)
	return nil
}
