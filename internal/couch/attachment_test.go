package couch

import (
	"context"
	"encoding/hex"
	"testing"
)

// TestSameContent: two contents with one MD5 (https://eprint.iacr.org/2004/199) are not the same.
func TestSameContent(t *testing.T) {
	const one = "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b" +
		"d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
	const two = "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b" +
		"d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
	with := func(content string) Attachment {
		data, err := hex.DecodeString(content)
		a := Attachment{Name: "a", Length: int64(len(data)), Data: data}
		if err == nil {
			err = FillDigests(context.Background(), &a)
		}
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a, b := with(one), with(two)
	if a.Digest != b.Digest || a.Sum == b.Sum {
		t.Fatal("they do not collide")
	}
	unknown := a
	unknown.Sum = ""
	changed := a
	changed.Digest = "" // as a function says that changed the content
	for _, tt := range []struct {
		a, b *Attachment
		want bool
	}{
		{&a, &a, true}, {&a, &b, false}, {&a, &unknown, true}, {&unknown, &unknown, true}, {&a, &changed, false}, {&changed, &changed, false}, {&a, &Attachment{}, false},
	} {
		if got := SameContent(tt.a, tt.b); got != tt.want {
			t.Errorf("%s %x and %s %x: %v", tt.a.Digest, tt.a.Sum, tt.b.Digest, tt.b.Sum, got)
		}
	}
}
