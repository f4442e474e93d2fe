package replicate

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A Resolver decides what a document with conflicts becomes: one of c.Leaves, or
// one made of them (Body, Attachments; Deleted deletes the document); nil leaves the
// conflict as it is. It may be called from several goroutines.
//
// Its answer must depend on c alone (no clocks, no chance), for then it does not
// matter where it is given: the resolution's revision ids are made of its content, so
// that all who resolve the same conflict write the same revisions.
//
// An error ends the replication with an [Error] of stage "resolve".
type Resolver func(c Conflict) (*Document, error)

// A Conflict is a document with several leaf revisions that are not deleted.
type Conflict struct {
	ID string
	// Leaves are those revisions, the winner first, with their histories and with attachments as stubs.
	Leaves []*Document
}

var resolving = where{"resolve", sourceEnd}

// conflictChunk is how many documents with several leaves are read at a time.
const conflictChunk = 100

// conflictsAmong reads the documents of rows that have several leaves and calls fn with the conflicts.
func conflictsAmong(ctx context.Context, db couch.Source, rows []couch.Change, fn func(Conflict) error) error {
	refs := make([]couch.DocRef, 0, len(rows))
	for _, row := range rows {
		ref := couch.DocRef{ID: row.ID}
		if len(row.Revs) > 1 && !slices.ContainsFunc(refs, func(r couch.DocRef) bool { return r.ID == ref.ID }) {
			refs = append(refs, ref) // all leaves there are now, which may be others
		}
	}
	if len(refs) == 0 {
		return nil
	}
	leaves := make(map[string][]*couch.Doc, len(refs))
	err := db.BulkGet(ctx, refs, couch.GetOptions{Revs: true}, func(got couch.BulkGetResult) error {
		if got.Err == nil && got.Doc != nil && !got.Doc.Deleted {
			leaves[got.Doc.ID] = append(leaves[got.Doc.ID], got.Doc)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, ref := range refs {
		c := Conflict{ID: ref.ID, Leaves: leaves[ref.ID]}
		slices.SortFunc(c.Leaves, func(a, b *couch.Doc) int { return b.Rev.Compare(a.Rev) })
		c.Leaves = slices.CompactFunc(c.Leaves, func(a, b *couch.Doc) bool { return a.Rev == b.Rev })
		if len(c.Leaves) > 1 {
			if err := fn(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// ConflictsDB calls fn with each conflict of db. See [Conflicts].
func ConflictsDB(ctx context.Context, db couch.Source, fn func(Conflict) error) error {
	var rows []couch.Change
	tell := func() error {
		err := conflictsAmong(ctx, db, rows, fn)
		rows = rows[:0]
		return err
	}
	_, err := db.Changes(ctx, couch.ChangesOptions{AllLeaves: true}, func(c *couch.Change) error {
		if len(c.Revs) < 2 {
			return nil
		}
		if rows = append(rows, *c); len(rows) < conflictChunk {
			return nil
		}
		return tell()
	})
	if err == nil {
		err = tell()
	}
	return err
}

// ResolveDB ends the conflicts of db. See [Resolve].
func ResolveDB(ctx context.Context, db couch.DB, resolve Resolver) (n int, err error) {
	err = ConflictsDB(ctx, db, func(c Conflict) error {
		ended, err := c.end(ctx, db, resolve)
		if ended {
			n++
		}
		return err
	})
	return n, err
}

// KeepResolvedDB ends the conflicts that db has, and those that come, until ctx ends. See
// [KeepResolved].
func KeepResolvedDB(ctx context.Context, db couch.DB, resolve Resolver) error {
	_, err := db.Changes(ctx, couch.ChangesOptions{AllLeaves: true, Feed: couch.FeedContinuous}, func(row *couch.Change) error {
		return conflictsAmong(ctx, db, []couch.Change{*row}, func(c Conflict) error {
			_, err := c.end(ctx, db, resolve)
			return err
		})
	})
	return err
}

// end writes the resolution of c, if there is one.
func (c Conflict) end(ctx context.Context, db couch.DB, resolve Resolver) (ended bool, err error) {
	docs, err := c.resolution(ctx, db, resolve)
	if err != nil || len(docs) == 0 {
		return false, err
	}
	results, err := db.BulkDocs(ctx, docs, couch.WriteOptions{Replicated: true})
	if err == nil {
		err = refusal(results)
	}
	return err == nil, err
}

// refusal is the first error of results.
func refusal(results []couch.WriteResult) error {
	for _, res := range results {
		if res.Err != nil {
			return res.Err
		}
	}
	return nil
}

// resolveRows ends the conflicts that rows of the source name, before the checkpoint passes over them.
func (r *run) resolveRows(ctx context.Context, rows []couch.Change) error {
	branched := slices.DeleteFunc(slices.Clone(rows), func(c couch.Change) bool { return len(c.Revs) < 2 })
	for part := range slices.Chunk(branched, conflictChunk) {
		var found []Conflict
		err := r.try(ctx, resolving, func(ctx context.Context, _ *attempt) error {
			found = found[:0]
			return conflictsAmong(ctx, r.source, part, func(c Conflict) error { found = append(found, c); return nil })
		})
		if err != nil {
			return err
		}
		for _, c := range found {
			if err := r.resolve(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// resolve writes the resolution of c to the source, or if that takes none, to the
// target, which has the same leaves by now.
func (r *run) resolve(ctx context.Context, c Conflict) error {
	docs, err := c.resolution(ctx, r.source, r.o.Resolver)
	if err != nil {
		return &Error{resolving.stage, resolving.end, err}
	}
	if len(docs) == 0 {
		return nil
	}
	err = r.tryResolution(ctx, resolving, r.home, docs)
	if status := statusOf(err); status == 401 || status == 403 {
		err = r.tryResolution(ctx, where{resolving.stage, targetEnd}, r.target, docs)
	}
	if statusOf(err) >= 400 && ctx.Err() == nil && !transient(err) {
		r.report.refused(c.ID, c.Leaves[0].Rev, couch.AsError(err))
		return nil
	}
	if err == nil {
		r.report.count(func(c *Result) { c.Resolved++ })
	}
	return err
}

func (r *run) tryResolution(ctx context.Context, at where, db couch.Target, docs []*couch.Doc) error {
	var refused error
	err := r.try(ctx, at, func(ctx context.Context, _ *attempt) error {
		results, err := db.BulkDocs(ctx, docs, couch.WriteOptions{Replicated: true})
		if refused = refusal(results); err == nil && refused != nil && transient(refused) {
			err = refused
		}
		return err
	})
	return errors.Join(err, refused)
}

// resolution is the revisions that end c: what is kept as a child of the winner,
// unless it is the winner itself, and a tombstone after each other leaf. Two
// resolutions of the same conflict to the same content are the same revisions.
func (c Conflict) resolution(ctx context.Context, db couch.Source, resolve Resolver) (docs []*couch.Doc, err error) {
	kept, err := resolve(c)
	if err != nil || kept == nil {
		return nil, err
	}
	winner := c.Leaves[0]
	if kept.Deleted {
		docs = append(docs, tombstone(winner))
	} else if !sameContent(kept, winner) {
		merged, err := c.merged(ctx, db, kept)
		if err != nil {
			return nil, err
		}
		docs = append(docs, merged)
	}
	for _, leaf := range c.Leaves[1:] {
		docs = append(docs, tombstone(leaf))
	}
	return docs, nil
}

// merged is kept as the next revision after the winner.
func (c Conflict) merged(ctx context.Context, db couch.Source, kept *couch.Doc) (*couch.Doc, error) {
	body := &couch.Doc{}
	if len(kept.Body) > 0 {
		var err error
		if body, err = couch.ParseDoc(kept.Body); err != nil {
			return nil, err
		}
	}
	winner := c.Leaves[0]
	atts := slices.Clone(kept.Attachments)
	for i := range atts {
		a := &atts[i]
		if a.Stub() {
			if attachmentOf(winner, a) {
				continue // the database has it by the winner
			}
			if err := c.openAttachment(db, a); err != nil {
				return nil, err
			}
		}
		a.RevPos = winner.Rev.Gen + 1
		if err := couch.FillDigests(ctx, a); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(atts, func(a, b couch.Attachment) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return childOf(winner, false, body.Body, atts), nil
}

// openAttachment gives a stub the content it has in one of the leaves.
func (c Conflict) openAttachment(db couch.Source, a *couch.Attachment) error {
	for _, leaf := range c.Leaves {
		if attachmentOf(leaf, a) {
			id, name, rev := c.ID, a.Name, leaf.Rev
			a.Open = func(ctx context.Context) (io.ReadCloser, error) {
				whole, err := db.Attachment(ctx, id, name, rev, 0)
				if err != nil {
					return nil, err
				}
				return whole.Reader(ctx)
			}
			return nil
		}
	}
	return missingStub
}

// attachmentOf reports whether doc has a under the same name.
func attachmentOf(doc *couch.Doc, a *couch.Attachment) bool {
	return slices.ContainsFunc(doc.Attachments, func(b couch.Attachment) bool {
		return a.Name == b.Name && couch.SameContent(a, &b) && a.ContentType == b.ContentType
	})
}

func sameContent(a, b *couch.Doc) bool {
	if len(a.Attachments) != len(b.Attachments) || canonical(a.Body) != canonical(b.Body) {
		return false
	}
	for i := range a.Attachments {
		if !attachmentOf(b, &a.Attachments[i]) {
			return false
		}
	}
	return true
}

func tombstone(leaf *couch.Doc) *couch.Doc { return childOf(leaf, true, nil, nil) }

// childOf makes a revision whose hash is a digest of what it says and what it comes after.
func childOf(parent *couch.Doc, deleted bool, body []byte, atts []couch.Attachment) *couch.Doc {
	h := sha256.New()
	field := func(s string) { // with its length, so that no two lists of fields are alike
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		_, _ = h.Write(n[:])
		_, _ = io.WriteString(h, s)
	}
	field(parent.ID)
	field(parent.Rev.String())
	field(map[bool]string{true: "deleted"}[deleted])
	field(canonical(body))
	for _, a := range atts {
		field(a.Name)
		field(a.ContentType)
		field(cmp.Or(a.Sum, a.Digest))
	}
	hash := hex.EncodeToString(h.Sum(nil)[:16])
	return &couch.Doc{
		ID: parent.ID, Rev: couch.Rev{Gen: parent.Rev.Gen + 1, Hash: hash}, Deleted: deleted,
		Revisions: append([]string{hash}, parent.Ancestry()...), Body: body, Attachments: atts,
	}
}
