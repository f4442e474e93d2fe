package replicate

import (
	"github.com/loveseat-db/loveseat/internal/couch"
)

// A Document is one revision of a document.
type Document = couch.Doc

// A Rev is a revision id, "N-hash".
type Rev = couch.Rev

// A Filter says whether a revision is copied. It is asked about every leaf
// that the target lacks, after it was read from the source, with long attachments as stubs;
// also about tombstones, whose body is mostly empty: without them the
// target keeps what was deleted. It may be called from several goroutines, and must not change the document.
type Filter func(id string, doc *Document) bool

// A Modifier transforms a revision on its way. It may change Body, and
// change, add or remove Attachments (with Digest "" and Length -1 where the content changes); nil
// drops the revision. It may be called from several goroutines, and again for the same revision.
//
// The id, the revision id, the history and whether it is a deletion stay as they are,
// whatever the modifier does to them: a revision id names an edit, and both ends have
// the same edits, if spelled differently. So a transformed document comes to rest:
// neither end lacks a revision of the other, nothing is copied back, edits of either side extend
// the other's, and [Verify] finds no difference. For it to read the same again at home, Pull
// undoes what Push does. Whoever pulls the revision from elsewhere gets that one's
// spelling; modifiers that are no one's inverse belong on ends that everything passes through.
//
// An error ends the replication with an [Error] of stage "modify", before a checkpoint passes over the document.
type Modifier func(doc *Document) (*Document, error)

// pass drops what the filter does not let through and transforms the rest.
func (r *run) pass(docs []*couch.Doc) ([]*couch.Doc, error) {
	modify := r.o.modifier()
	if r.o.Filter == nil && modify == nil {
		return docs, nil
	}
	out := docs[:0]
	for _, doc := range docs {
		if r.o.Filter != nil && !r.o.Filter(doc.ID, doc) {
			continue
		}
		if modify != nil {
			var err error
			if doc, err = modified(doc, modify); err != nil {
				return nil, &Error{"modify", sourceEnd, err}
			}
		}
		if doc != nil {
			out = append(out, doc)
		}
	}
	r.report.count(func(c *Result) { c.DocsFiltered += int64(len(docs) - len(out)) })
	return out, nil
}

// modified is what modify makes of doc, nil if it drops it.
func modified(doc *couch.Doc, modify Modifier) (*couch.Doc, error) {
	mine := *doc // the modifier's
	mine.Attachments = append([]couch.Attachment(nil), doc.Attachments...)
	out, err := modify(&mine)
	if err != nil || out == nil {
		return nil, err
	}
	body := &couch.Doc{}
	if len(out.Body) > 0 {
		if body, err = couch.ParseDoc(out.Body); err != nil {
			return nil, err
		}
	}
	return &couch.Doc{
		ID: doc.ID, Rev: doc.Rev, Deleted: doc.Deleted, Revisions: doc.Revisions,
		Body: body.Body, Attachments: out.Attachments,
	}, nil
}
