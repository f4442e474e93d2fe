package localdb

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func FuzzFileName(f *testing.F) {
	for _, name := range []string{"a/b", "_users", "..", "a%2Fb", "A"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		file, err := fileName(name)
		if err != nil {
			return
		}
		if back, ok := databaseName(file + fileSuffix); !ok || back != name || filepath.Base(file) != file || strings.ToLower(name) != name || len(file) > maxName {
			t.Fatalf("%q is in file %q, which is %q", name, file, back)
		}
	})
}

func FuzzSequence(f *testing.F) {
	d := &database{uuid: "0123456789abcdef0123456789abcdef"}
	for _, since := range []string{"", "0", "now", "7", "7-01234567", "8-x", "-1", "99999999999999999999"} {
		f.Add(since)
	}
	f.Fuzz(func(t *testing.T, since string) {
		n, err := d.parseSeq(couch.Seq(since), 100)
		if err != nil {
			return
		}
		if back, err := d.parseSeq(d.formatSeq(n), 100); n < 0 || n > 100 || err != nil || back != n {
			t.Fatalf("%q is %d, then %d, %v", since, n, back, err)
		}
	})
}

func FuzzDigest(f *testing.F) {
	for _, digest := range []string{"md5-XUFAKrxLKna5cZ2REBfFkg==", "md5-", "sha1-x", "md5-AA=="} {
		f.Add(digest)
	}
	f.Fuzz(func(t *testing.T, digest string) {
		if b := parseDigest(digest); b != nil && len(b) != 16 {
			t.Fatalf("%q is %x", digest, b)
		}
	})
}
