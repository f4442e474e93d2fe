package localdb

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func attachment(name, data string) couch.Attachment {
	return couch.Attachment{Name: name, ContentType: "image/png", Length: -1, Data: []byte(data)}
}

func files(t testing.TB, s *Store) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(s.dir, "test.attachments", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func content(t testing.TB, d *database, id, name string, offset int64) string {
	t.Helper()
	a, err := d.Attachment(context.Background(), id, name, couch.Rev{}, offset)
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Reader(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAttachmentsSmallAndLarge(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	large := strings.Repeat("0123456789", 1000)
	for _, id := range []string{"a", "b"} { // the second finds everything there
		put(t, d, &couch.Doc{ID: id, Attachments: []couch.Attachment{attachment("large", large), attachment("small", "0123456789")}})
		if got := content(t, d, id, "large", 0); got != large {
			t.Errorf("%d bytes", len(got))
		}
		if got := content(t, d, id, "large", 9995); got != "56789" {
			t.Errorf("from an offset: %q", got)
		}
		if got := content(t, d, id, "small", 8); got != "89" {
			t.Errorf("from an offset: %q", got)
		}
		doc := get(t, d, id, couch.GetOptions{Attachments: true})
		if doc.Attachments[0].Open == nil || string(doc.Attachments[1].Data) != "0123456789" {
			t.Errorf("got %+v", doc.Attachments)
		}
		if n := len(files(t, s)); n != 1 {
			t.Errorf("%d files", n)
		}
	}
	_, err := d.Attachment(context.Background(), "a", "large", couch.Rev{}, 10001)
	wantStatus(t, err, 416, "requested_range_not_satisfiable")
	if left, _ := filepath.Glob(filepath.Join(s.dir, "test.attachments", "new-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestAnnouncedDigestAndLength(t *testing.T) {
	_, d := openTest(t, Options{InlineAttachments: 4})
	const right, wrong = "md5-XUFAKrxLKna5cZ2REBfFkg==", "md5-AAAAAAAAAAAAAAAAAAAAAA==" // of "hello"
	for _, tt := range []struct {
		name, contentType, digest string
		length                    int64
		code                      string
	}{
		{"right", "image/png", right, 5, ""},
		{"none", "image/png", "", -1, ""},
		{"another kind", "image/png", "sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=", 5, ""},
		{"wrong digest", "image/png", wrong, 5, "content_md5_mismatch"},
		{"digest of what CouchDB compressed", "text/plain", wrong, 5, ""},
		{"wrong length", "image/png", right, 4, "bad_request"},
	} {
		a := couch.Attachment{Name: "a", ContentType: tt.contentType, Digest: tt.digest, Length: tt.length,
			Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("hello")), nil }}
		_, err := tryPut(t, d, &couch.Doc{ID: tt.name, Attachments: []couch.Attachment{a}})
		if got := couch.AsError(err); tt.code == "" && err != nil || tt.code != "" && (got == nil || got.Code != tt.code) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.code == "" && get(t, d, tt.name, couch.GetOptions{}).Attachments[0].Digest != right {
			t.Errorf("%s: the digest is not ours", tt.name)
		}
	}
}

func TestStubs(t *testing.T) {
	_, d := openTest(t, Options{})
	rev := put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{attachment("x", "one"), attachment("y", "two")}})
	stored := get(t, d, "a", couch.GetOptions{}).Attachments
	rev = put(t, d, &couch.Doc{ID: "a", Rev: rev, Attachments: stored[:1]})
	if got := get(t, d, "a", couch.GetOptions{}).Attachments; len(got) != 1 || got[0].RevPos != 1 || got[0].Length != 3 {
		t.Errorf("got %+v", got)
	}
	// What only an older revision has.
	rev = put(t, d, &couch.Doc{ID: "a", Rev: rev, Attachments: []couch.Attachment{{Name: "y"}}})
	if got := content(t, d, "a", "y", 0); got != "two" {
		t.Errorf("got %q", got)
	}
	// A stub goes by its digest among contents that had one name.
	rev = put(t, d, &couch.Doc{ID: "a", Rev: rev, Attachments: []couch.Attachment{attachment("x", "three")}})
	rev = put(t, d, &couch.Doc{ID: "a", Rev: rev, Attachments: stored[:1]})
	if got := content(t, d, "a", "x", 0); got != "one" {
		t.Errorf("got %q", got)
	}
	for _, a := range []couch.Attachment{{Name: "z"}, {Name: "x", Digest: "md5-AAAAAAAAAAAAAAAAAAAAAA=="}} {
		_, err := tryPut(t, d, &couch.Doc{ID: "a", Rev: rev, Attachments: []couch.Attachment{a}})
		wantStatus(t, err, 412, "missing_stub")
		_, err = tryPut(t, d, &couch.Doc{ID: "b", Attachments: []couch.Attachment{a}})
		wantStatus(t, err, 412, "missing_stub")
	}
	if info, _ := d.Info(context.Background()); info.UpdateSeq != d.formatSeq(5) {
		t.Errorf("a refused document took a sequence: %+v", info)
	}
}

func TestAttachmentNames(t *testing.T) {
	_, d := openTest(t, Options{})
	for _, atts := range [][]couch.Attachment{{attachment("", "")}, {attachment("_a", "")}, {attachment("\xff", "")}, {attachment("a", "1"), attachment("a", "2")}} {
		_, err := tryPut(t, d, &couch.Doc{ID: "a", Attachments: atts})
		wantStatus(t, err, 400, "bad_request")
	}
}

func TestFailingContentWritesNothing(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	lost := errors.New("connection lost")
	a := couch.Attachment{Name: "a", Length: -1, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), failing{lost})), nil
	}}
	if _, err := d.BulkDocs(context.Background(), []*couch.Doc{{ID: "a", Attachments: []couch.Attachment{a}}}, couch.WriteOptions{}); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if left := files(t, s); len(left) > 0 {
		t.Fatal(left)
	}
	_, err := d.Get(context.Background(), "a", couch.GetOptions{})
	wantStatus(t, err, 404, "not_found")
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestLargeContentIsStreamed writes more than a test should hold.
func TestLargeContentIsStreamed(t *testing.T) {
	s, d := openTest(t, Options{})
	const size = 32 << 20
	a := couch.Attachment{Name: "a", Length: size, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(rand.Reader, size)), nil
	}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{a}})
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > size/4 {
		t.Errorf("%d bytes were allocated", used)
	}
	info, err := os.Stat(files(t, s)[0])
	if err != nil || info.Size() != size {
		t.Fatal(info, err)
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	s, d := openTest(t, Options{InlineAttachments: 10})
	put(t, d, &couch.Doc{ID: "a", Attachments: []couch.Attachment{attachment("x", strings.Repeat("x", 100))}})
	dir := filepath.Join(s.dir, "test.attachments")
	for name, age := range map[string]time.Duration{"new-old": 48 * time.Hour, "new-young": 0} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, time.Now().Add(-age), time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	d.removeLeftovers()
	left, _ := filepath.Glob(filepath.Join(dir, "new-*"))
	if len(left) != 1 || filepath.Base(left[0]) != "new-young" || len(files(t, s)) != 1 {
		t.Fatal(left, files(t, s))
	}
}
