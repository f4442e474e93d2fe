package couchhttp

import (
	"fmt"
	"mime/multipart"
	"net/textproto"
	"testing"
	"time"
)

// However many attachments follow, and in whatever order: finding the one of a part does not
// take longer the more there are.
func TestFollowersWithoutEnd(t *testing.T) {
	const n = 300_000
	for _, named := range []bool{false, true} {
		f := followers{}
		for i := range n {
			f.all = append(f.all, follower{name: fmt.Sprint(i)})
		}
		end := time.Now().Add(time.Minute)
		for i := range n {
			part, want := &multipart.Part{}, fmt.Sprint(i)
			if named {
				want = fmt.Sprint((i + n/2) % n)
				part.Header = textproto.MIMEHeader{"Content-Disposition": {`attachment; filename="` + want + `"`}}
			}
			if got := f.take(part); got.name != want {
				t.Fatalf("part %d is taken for %q, want %q", i, got.name, want)
			}
			if i%1000 == 0 && time.Now().After(end) {
				t.Fatalf("%d of %d parts (named: %v) took a minute", i, n, named)
			}
		}
	}
}

// A part that names none, or one that has come, is the next; of two of a name the first comes first.
func TestFollowers(t *testing.T) {
	f := followers{all: []follower{{name: "a"}, {name: "b"}, {"a", "gzip"}, {name: "c"}}}
	for i, tt := range []struct{ filename, want, encoding string }{{"b", "b", ""}, {"a", "a", ""}, {"a", "a", "gzip"}, {"b", "c", ""}} {
		part := &multipart.Part{Header: textproto.MIMEHeader{"Content-Disposition": {`attachment; filename="` + tt.filename + `"`}}}
		if got := f.take(part); got.name != tt.want || got.encoding != tt.encoding {
			t.Errorf("part %d: %+v", i, got)
		}
	}
}
