package couch

import (
	"errors"
	"io"
)

// MaxRatio is how many times its packed size content may have, whoever packed it and wherever it
// comes in: a little that is sent must not fill memory or a disk.
const MaxRatio = 100

// What is free of [MaxRatio], in bytes.
const (
	FreeBody   = 1 << 20  // of a request with all its attachments, and of an answer that was not to be packed
	FreeAnswer = 64 << 20 // of an answer that may be packed: as much as one row of it may have
)

// ErrInflated is the error of content that is packed more than [MaxRatio] times.
var ErrInflated = errors.New("the content is packed more than a hundredfold")

// Unpacking watches content that is being unpacked: the decoder, whichever it is, reads
// what Packed returns, and who wants the content reads the decoder through Unpacked.
type Unpacking struct {
	Free int64 // bytes that content may have, however little is packed

	in, out int64
}

// Add counts bytes that came otherwise.
func (u *Unpacking) Add(packed int) { u.in += int64(packed) }

// Packed counts what is packed.
func (u *Unpacking) Packed(r io.Reader) io.Reader { return &packedReader{r, u} }

// Unpacked reads a decoder and fails with [ErrInflated].
func (u *Unpacking) Unpacked(decoder io.Reader) io.Reader { return &unpackedReader{decoder, u} }

type packedReader struct {
	io.Reader
	u *Unpacking
}

func (r *packedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.u.in += int64(n)
	return n, err
}

type unpackedReader struct {
	io.Reader
	u *Unpacking
}

func (r *unpackedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.u.out += int64(n); r.u.out > r.u.Free+r.u.in*MaxRatio {
		return 0, ErrInflated
	}
	return n, err
}
