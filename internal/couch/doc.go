package couch

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Doc is one revision of a document.
type Doc struct {
	ID      string
	Rev     Rev // to write: the revision it edits (zero for a new document), or itself if WriteOptions.Replicated
	Deleted bool

	// Body is the document's JSON object without its members that begin with
	// an underscore, numbers and spelling as they were written, without white
	// space between. nil means {}.
	Body json.RawMessage

	// Revisions is the hashes of Rev and its ancestors, newest first
	// (_revisions.ids; _revisions.start is Rev.Gen). nil: not told.
	Revisions []string

	Attachments []Attachment // by name, sorted

	// Told on request, ignored when written.
	Conflicts        []Rev
	DeletedConflicts []Rev
	RevsInfo         []RevInfo
	LocalSeq         Seq
}

// RevInfo is an entry of _revs_info. Status is "available", "missing" or "deleted".
type RevInfo struct {
	Rev    Rev    `json:"rev"`
	Status string `json:"status"`
}

// Attachment is an attachment of one revision. It is a stub (no data: the
// database written to must have it), or has its bytes in Data, or gives them by Open.
type Attachment struct {
	Name        string
	ContentType string
	Digest      string // "md5-" and base64, as CouchDB writes it; "" when not known yet
	Sum         string // SHA-256 (32 bytes) of the content, "" where the database does not know it: see [SameContent]
	Length      int64  // bytes; -1 when not known yet
	RevPos      int64  // the generation that brought it; 0 when not known yet

	Data []byte
	// Open reads large content without holding it. It may be called again after a failure.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Stub reports whether the attachment comes without data.
func (a *Attachment) Stub() bool { return a.Data == nil && a.Open == nil }

// Reader gives the attachment's bytes, from Data or Open. A stub has none: it is an error (412 missing_stub).
func (a *Attachment) Reader(ctx context.Context) (io.ReadCloser, error) {
	switch {
	case a.Data != nil:
		return io.NopCloser(bytes.NewReader(a.Data)), nil
	case a.Open != nil:
		return a.Open(ctx)
	}
	return nil, &Error{412, "missing_stub", "Attachment " + strconv.Quote(a.Name) + " is a stub without data."}
}

// AttachmentFrom gives an attachment that has its Data as [Source].Attachment does,
// to be opened at an offset. Errors: 416.
func AttachmentFrom(a *Attachment, offset int64) (*Attachment, error) {
	if offset < 0 || offset > int64(len(a.Data)) {
		return nil, &Error{416, "requested_range_not_satisfiable", "Requested range not satisfiable"}
	}
	out := *a
	out.Length, out.Data = int64(len(a.Data)), nil
	out.Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(a.Data[offset:])), nil
	}
	return &out, nil
}

// AttachmentDigest returns the attachment's digest, "md5-" and base64 as CouchDB writes it, reading its content if need be.
func AttachmentDigest(ctx context.Context, a *Attachment) (string, error) {
	if a.Digest != "" {
		return a.Digest, nil
	}
	h := md5.New() // CouchDB's choice: it shows accidents, not malice, see SameContent
	if err := readInto(ctx, a, h); err != nil {
		return "", err
	}
	return digest(h), nil
}

func digest(md5 hash.Hash) string { return "md5-" + base64.StdEncoding.EncodeToString(md5.Sum(nil)) }

func readInto(ctx context.Context, a *Attachment, w io.Writer) error {
	r, err := a.Reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

// FillDigests sets an attachment's Digest and Sum, reading its content if it has
// one and they are not known. The Sum of a stub may stay unknown.
func FillDigests(ctx context.Context, a *Attachment) error {
	if a.Digest != "" && (a.Sum != "" || a.Stub()) {
		return nil
	}
	told, sum := md5.New(), sha256.New()
	if err := readInto(ctx, a, io.MultiWriter(told, sum)); err != nil {
		return err
	}
	a.Digest, a.Sum = digest(told), string(sum.Sum(nil))
	return nil
}

// SameContent reports whether two attachments are known to have the same content.
// Equal digests do not show it where both Sums are known: they are MD5, and anybody
// can make two contents with one. Of a remote database nothing else is known.
func SameContent(a, b *Attachment) bool {
	return a.Digest != "" && a.Digest == b.Digest && (a.Sum == b.Sum || a.Sum == "" || b.Sum == "")
}

// Ancestry returns Revisions, or the one hash known if they are not told.
func (d *Doc) Ancestry() []string {
	if d.Revisions == nil && !d.Rev.IsZero() {
		return []string{d.Rev.Hash}
	}
	return d.Revisions
}

// ValidID checks a document id a client sent. Errors: illegal_docid (400).
func ValidID(id string) error {
	switch {
	case id == "":
		return &Error{400, "illegal_docid", "Document id must not be empty"}
	case len(id) > 7*1024: // CouchDB's own default is "infinity"; an index row must hold it
		return &Error{400, "illegal_docid", "Document id is too long"}
	case !utf8.ValidString(id):
		return &Error{400, "illegal_docid", "Document id must be valid UTF-8"}
	case id[0] == '_' && !strings.HasPrefix(id, "_design/") && !strings.HasPrefix(id, "_local/"):
		return &Error{400, "illegal_docid", "Only reserved document ids may start with underscore."}
	case id == "_design/" || id == "_local/":
		return &Error{400, "illegal_docid", "Illegal document id `" + id + "`"}
	}
	return nil
}

// PlainID reports whether a document can have this id that is not a _local one.
// Those are asked for by other methods, under other rights: what takes an id from
// outside and means a document takes no other.
func PlainID(id string) bool { return ValidID(id) == nil && !strings.HasPrefix(id, "_local/") }

// LeavesPath reports whether a text has "", "." or ".." between slashes. However it
// is escaped in a path, a proxy may make another path of it.
func LeavesPath(text string) bool {
	for part := range strings.SplitSeq(text, "/") {
		if part == "" || part == "." || part == ".." {
			return true
		}
	}
	return false
}

// AppendJSON appends the document as CouchDB writes it: _id, _rev and the other
// underscore members that are set, then the body.
func (d *Doc) AppendJSON(dst []byte) []byte {
	if d.ID != "" {
		return d.appendMembers(dst)
	}
	at := len(dst) + 1 // after the brace
	dst = d.appendMembers(dst)
	rest := bytes.TrimPrefix(dst[at+len(`"_id":""`):], []byte(","))
	return append(dst[:at], rest...) // one that is to be given an id has none
}

func (d *Doc) appendMembers(dst []byte) []byte {
	dst = append(dst, `{"_id":`...)
	dst = AppendString(dst, d.ID)
	if !d.Rev.IsZero() {
		dst = append(dst, `,"_rev":"`...)
		dst = d.Rev.append(dst)
		dst = append(dst, '"')
	}
	if d.Deleted {
		dst = append(dst, `,"_deleted":true`...)
	}
	if d.Revisions != nil {
		dst = append(dst, `,"_revisions":{"start":`...)
		dst = strconv.AppendInt(dst, d.Rev.Gen, 10)
		dst = append(dst, `,"ids":[`...)
		for i, h := range d.Revisions {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendString(dst, h)
		}
		dst = append(dst, "]}"...)
	}
	if len(d.Attachments) > 0 {
		dst = append(dst, `,"_attachments":{`...)
		for i := range d.Attachments {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = d.Attachments[i].appendJSON(dst)
		}
		dst = append(dst, '}')
	}
	dst = appendRevs(dst, `,"_conflicts":`, d.Conflicts)
	dst = appendRevs(dst, `,"_deleted_conflicts":`, d.DeletedConflicts)
	if d.RevsInfo != nil {
		dst = append(dst, `,"_revs_info":`...)
		info, _ := json.Marshal(d.RevsInfo) // strings only: cannot fail
		dst = append(dst, info...)
	}
	if d.LocalSeq != "" {
		dst = append(dst, `,"_local_seq":`...)
		dst = AppendString(dst, string(d.LocalSeq))
	}
	body := bytes.TrimSpace(d.Body)
	if len(body) < 2 {
		return append(dst, '}')
	}
	body = bytes.TrimLeft(body[1:], " \t\r\n") // after "{"
	if body[0] != '}' {
		dst = append(dst, ',')
	}
	return append(dst, body...)
}

func appendRevs(dst []byte, member string, revs []Rev) []byte {
	if len(revs) == 0 {
		return dst
	}
	dst = append(dst, member...)
	for i, r := range revs {
		dst = append(dst, "[,"[min(i, 1)], '"')
		dst = r.append(dst)
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

// appendJSON writes "name":{…}: with Data inline as base64, with "stub" for a
// stub, with "follows" for content that Open gives (a multipart body carries it).
func (a *Attachment) appendJSON(dst []byte) []byte {
	dst = AppendString(dst, a.Name)
	dst = append(dst, `:{"content_type":`...)
	dst = AppendString(dst, a.ContentType)
	if a.RevPos > 0 {
		dst = append(dst, `,"revpos":`...)
		dst = strconv.AppendInt(dst, a.RevPos, 10)
	}
	if a.Digest != "" {
		dst = append(dst, `,"digest":`...)
		dst = AppendString(dst, a.Digest)
	}
	if a.Data != nil {
		dst = append(dst, `,"data":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, a.Data)
		return append(dst, `"}`...)
	}
	if a.Length >= 0 {
		dst = append(dst, `,"length":`...)
		dst = strconv.AppendInt(dst, a.Length, 10)
	}
	if a.Open != nil {
		return append(dst, `,"follows":true}`...)
	}
	return append(dst, `,"stub":true}`...)
}

// AppendJSON appends the attachment as a member of _attachments, "name":{…}: with
// Data inline as base64, as "follows" if Open gives the content, otherwise as "stub".
func (a *Attachment) AppendJSON(dst []byte) []byte { return a.appendJSON(dst) }

// MarshalJSON is AppendJSON.
func (d *Doc) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// UnmarshalJSON is ParseDoc.
func (d *Doc) UnmarshalJSON(b []byte) error {
	p, err := ParseDoc(bytes.Clone(b))
	if err == nil {
		*d = *p
	}
	return err
}
