package couch

import (
	"cmp"
	"strconv"
	"strings"
)

// MaxGeneration bounds the N of a revision id "N-hash", so that a stranger's
// document cannot make a generation that overflows.
const MaxGeneration = 1 << 40

// Rev is a revision id "N-hash": the generation, from 1, and a hash, usually 32
// hex digits but any text that another implementation made is kept as it is.
// The zero Rev means none.
type Rev struct {
	Gen  int64
	Hash string
}

// ParseRev reads "N-hash". Errors: bad_request "Invalid rev format".
func ParseRev(s string) (Rev, error) {
	n, hash, ok := strings.Cut(s, "-")
	gen, err := strconv.ParseUint(n, 10, 63)
	if !ok || err != nil || gen > MaxGeneration || !validHash(hash) {
		return Rev{}, BadRequest("Invalid rev format")
	}
	return Rev{int64(gen), hash}, nil
}

// validHash reports whether a hash can stand in JSON, URLs and headers as it is.
func validHash(hash string) bool {
	for i := range len(hash) {
		if c := hash[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return hash != "" && len(hash) <= 256
}

// IsZero reports whether r names no revision.
func (r Rev) IsZero() bool { return r == Rev{} }

// Compare orders revisions as CouchDB does to choose among leaves: by generation, then by hash.
func (r Rev) Compare(o Rev) int {
	return cmp.Or(cmp.Compare(r.Gen, o.Gen), cmp.Compare(r.Hash, o.Hash))
}

// String returns "N-hash", or "" for the zero Rev.
func (r Rev) String() string {
	if r.IsZero() {
		return ""
	}
	return string(r.append(make([]byte, 0, len(r.Hash)+8)))
}

func (r Rev) append(dst []byte) []byte {
	dst = strconv.AppendInt(dst, r.Gen, 10)
	dst = append(dst, '-')
	return append(dst, r.Hash...)
}

// AppendText appends what String returns; the error is nil.
func (r Rev) AppendText(dst []byte) ([]byte, error) {
	if r.IsZero() {
		return dst, nil
	}
	return r.append(dst), nil
}

// MarshalText makes a Rev a string in JSON.
func (r Rev) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRev; the empty text is the zero Rev.
func (r *Rev) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*r = Rev{}
		return nil
	}
	v, err := ParseRev(string(b))
	*r = v
	return err
}
