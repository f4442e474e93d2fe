package couch

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
)

// setInline takes an attachment's content from the document's JSON: base64, and with
// "encoding":"gzip" packed, as CouchDB hands out what it keeps. Errors (400): bad_request
// "Invalid attachment data for NAME"; 415 bad_content_type for another encoding.
func (a *Attachment) setInline(value json.RawMessage, encoding string) error {
	var text *string
	if len(value) == 0 || json.Unmarshal(value, &text) != nil || text == nil {
		return badInline(a.Name)
	}
	data, err := base64.StdEncoding.DecodeString(*text)
	if err != nil {
		return badInline(a.Name)
	}
	switch encoding {
	case "", "identity":
		if a.Data = data; data == nil {
			a.Data = []byte{} // an empty attachment is no stub
		}
		a.Length = int64(len(data))
	case "gzip":
		// Unpacked while it is stored. Its digest is of what is packed.
		a.Digest, a.Length = "", -1
		name := a.Name
		a.Open = func(context.Context) (io.ReadCloser, error) { return unpack(name, data) }
	default:
		return ErrEncoding
	}
	return nil
}

// ErrEncoding is the answer to an attachment that is packed otherwise.
var ErrEncoding = &Error{415, "bad_content_type", "Only gzip and identity content-encodings are supported"}

func badInline(name string) *Error { return BadRequest("Invalid attachment data for " + name) }

func unpack(name string, data []byte) (io.ReadCloser, error) {
	u := &Unpacking{Free: FreeBody}
	z, err := gzip.NewReader(u.Packed(bytes.NewReader(data)))
	if err != nil {
		return nil, badInline(name)
	}
	return &unpacked{u.Unpacked(z), name}, nil
}

// unpacked is inline content being unpacked.
type unpacked struct {
	io.Reader
	name string
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	switch {
	case errors.Is(err, ErrInflated):
		err = TooLarge("attachment_too_large", u.name)
	case err != nil && !errors.Is(err, io.EOF):
		err = badInline(u.name)
	}
	return n, err
}

// Close implements [io.Closer]: nothing is held.
func (u *unpacked) Close() error { return nil }
