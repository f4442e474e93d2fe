package replicate

import (
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// TestCollidingContentsConflict: leaves whose attachments have one MD5 and differ
// do not say the same, and what is kept of them are different revisions.
func TestCollidingContentsConflict(t *testing.T) {
	leaf := func(sum string) *couch.Doc {
		return &couch.Doc{ID: "a", Rev: couch.Rev{Gen: 1, Hash: "x"}, Body: []byte(`{}`), Attachments: []couch.Attachment{{Name: "a", ContentType: "a/b", Digest: "md5-eQVAJSVfsaJuS8QirvVOtA==", Sum: sum}}}
	}
	one, two := leaf("one"), leaf("two")
	if sameContent(one, two) || !sameContent(one, leaf("one")) || !sameContent(one, leaf("")) {
		t.Error("told apart by MD5")
	}
	a, b := childOf(one, false, one.Body, one.Attachments), childOf(one, false, one.Body, two.Attachments)
	if a.Rev == b.Rev || a.Rev != childOf(two, false, one.Body, leaf("one").Attachments).Rev {
		t.Errorf("they became %s and %s", a.Rev, b.Rev)
	}
}
