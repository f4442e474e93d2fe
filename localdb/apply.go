package localdb

import (
	"encoding/json"
	"strconv"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/revtree"
)

// apply writes one edit and returns its revision. Everything that can refuse
// the document is found out before anything is written, so that a *couch.Error
// leaves the transaction as it was.
func (t *tx) apply(e *edit, limit int) (couch.Rev, error) {
	mayBeNew := !e.stubs && (e.replicated || e.parent.IsZero())
	if mayBeNew && t.expectNew {
		if inserted, err := t.insertNew(e); inserted || err != nil {
			return e.rev(), err
		}
	}
	r, err := findRow(t.c, e.id)
	if err != nil {
		return couch.Rev{}, err
	}
	t.expectNew = r == nil
	if r == nil {
		if e.stubs {
			return couch.Rev{}, missingStub(e)
		}
		if !mayBeNew {
			return couch.Rev{}, couch.Conflict()
		}
		_, err := t.insertNew(e)
		return e.rev(), err
	}
	tree, err := r.tree()
	if err != nil {
		return couch.Rev{}, err
	}
	r.owned = tree.Bodies(true)
	if e.replicated {
		err = t.graft(e, r, tree, limit)
	} else {
		err = t.extend(e, r, tree, limit)
	}
	return e.rev(), err
}

// rev is the new revision's id.
func (e *edit) rev() couch.Rev {
	if len(e.hashes) == 0 {
		return couch.Rev{} // refused before there was one
	}
	return couch.Rev{Gen: e.gen, Hash: e.hashes[0].String()}
}

// insertNew writes a document that is not there yet; false if it is.
func (t *tx) insertNew(e *edit) (bool, error) {
	bid := t.bid + 1
	tree := make(revtree.Tree, 0, 1)
	tree.Merge(e.gen, e.hashes, e.deleted, bid)
	winner := &tree[len(tree)-1]
	var buf [64]byte
	rev := winner.AppendRoot(buf[:0])
	s := t.c.Prepare("INSERT INTO docs (num, seq, id, flags, rev, tree) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING")
	s.BindInt(1, t.num+1)
	s.BindInt(2, t.seq+1)
	s.BindText(3, e.id)
	s.BindInt(4, int64(btoi(e.deleted)*flagDeleted))
	s.BindBlob(5, rev)
	if len(tree) > 1 {
		s.BindBlob(6, tree.Append(nil))
	} else {
		s.BindNull(6)
	}
	if err := s.Exec(); err != nil || t.c.Changes() == 0 {
		return false, err
	}
	t.num++
	t.seq++
	if e.deleted {
		t.dels++
	} else {
		t.docs++
	}
	return true, t.insertBody(e, t.num)
}

// insertBody appends the body of a new revision, its attachments before it.
func (t *tx) insertBody(e *edit, num int64) error {
	var atts []byte
	if len(e.atts) > 0 {
		rows := make([]attRow, len(e.atts))
		for i := range e.atts {
			if err := t.insertBlob(&e.atts[i], num); err != nil {
				return err
			}
			if rows[i] = e.atts[i].attRow; rows[i].RevPos <= 0 || rows[i].RevPos > e.gen || !e.replicated && !e.atts[i].stub {
				rows[i].RevPos = e.gen
			}
		}
		var err error
		if atts, err = json.Marshal(rows); err != nil {
			return err
		}
	}
	t.bid++
	s := t.c.Prepare("INSERT INTO bodies (bid, atts, body) VALUES (?, ?, ?)")
	s.BindInt(1, t.bid)
	s.BindTextBytes(2, atts)
	s.BindTextBytes(3, e.body)
	return s.Exec()
}

// insertBlob makes an attachment's content known, if it is not, and used by a document.
func (t *tx) insertBlob(a *newAtt, num int64) error {
	if !a.stub {
		s := t.c.Prepare("INSERT INTO blobs (sha256, length, data) VALUES (?, ?, ?) ON CONFLICT (sha256) DO NOTHING")
		s.BindBlob(1, a.SHA256)
		s.BindInt(2, a.Length)
		s.BindBlob(3, a.data)
		if err := s.Exec(); err != nil {
			return err
		}
		if a.data == nil {
			if err := a.file.ensure(); err != nil {
				return err
			}
			if t.c.Changes() > 0 {
				if err := t.addFiles(a.Length); err != nil {
					return err
				}
			}
		}
	}
	s := t.c.Prepare("INSERT INTO att_refs (num, blob) SELECT ?, blob FROM blobs WHERE sha256=? ON CONFLICT DO NOTHING")
	s.BindInt(1, num)
	s.BindBlob(2, a.SHA256)
	return s.Exec()
}

// extend makes an interactive edit of an existing document.
func (t *tx) extend(e *edit, r *row, tree revtree.Tree, limit int) error {
	parent := -1
	switch {
	case !e.parent.IsZero():
		parent = tree.Find(e.parent)
	case r.deleted() && !e.deleted: // a new document in the place of a deleted one goes on from its tombstone
		parent = tree.Winner()
	}
	if parent < 0 || !tree[parent].Leaf {
		return couch.Conflict()
	}
	if e.stubs {
		if err := t.resolveStubs(e, tree, parent); err != nil {
			return err
		}
	}
	if e.stubs || e.parent.IsZero() {
		e.follow(tree[parent].Rev())
	}
	tree.AddChild(parent, revtree.Node{Gen: e.gen, Hash: e.hashes[0], Deleted: e.deleted, Body: t.bid + 1})
	return t.update(e, r, tree, true, limit)
}

// graft merges a replicated revision into an existing document.
func (t *tx) graft(e *edit, r *row, tree revtree.Tree, limit int) error {
	if e.stubs {
		known := -1
		for i := 0; i < len(e.hashes) && known < 0; i++ {
			known = tree.Find(couch.Rev{Gen: e.gen - int64(i), Hash: e.hashes[i].String()})
		}
		if err := t.resolveStubs(e, tree, known); err != nil {
			return err
		}
	}
	before := len(tree)
	leaf, changed := tree.Merge(e.gen, e.hashes, e.deleted, t.bid+1)
	if !changed {
		return nil // it has been here before
	}
	isNew := len(tree) > before && tree[leaf].Body == t.bid+1
	return t.update(e, r, tree, isNew, limit)
}

// update writes a document's changed tree and, if its newest edit brought one, the body.
func (t *tx) update(e *edit, r *row, tree revtree.Tree, body bool, limit int) error {
	stale, err := t.countDead(r, tree)
	if err != nil {
		return err
	}
	for _, bid := range tree.Stem(limit) {
		size, err := t.dropBody(bid)
		if err != nil {
			return err
		}
		t.dead -= size
	}
	t.seq++
	if err := t.writeTree(r, tree, stale); err != nil || !body {
		return err
	}
	return t.insertBody(e, r.num)
}

// writeTree writes a document's tree under the sequence of this moment, and
// what follows from it: winner, flags, counts.
func (t *tx) writeTree(r *row, tree revtree.Tree, stale bool) error {
	w := tree.Winner()
	winner := &tree[w]
	flags := int64(btoi(winner.Deleted)*flagDeleted | btoi(stale)*flagStale)
	for i := range tree {
		if tree[i].Leaf && i != w {
			flags |= flagBranched
			break
		}
	}
	var buf [64]byte
	s := t.c.Prepare("UPDATE docs SET seq=?, flags=?, rev=?, tree=? WHERE num=?")
	s.BindInt(1, t.seq)
	s.BindInt(2, flags)
	s.BindBlob(3, winner.AppendRoot(buf[:0]))
	if len(tree) > 1 {
		s.BindBlob(4, tree.Append(nil))
	} else {
		s.BindNull(4)
	}
	s.BindInt(5, r.num)
	if delta := int64(btoi(winner.Deleted) - btoi(r.deleted())); delta != 0 {
		t.dels += delta
		t.docs -= delta
	}
	return s.Exec()
}

// resolveStubs finds the attachments that come without content in the nearest
// known ancestor and its history. What other branches have is not looked at: a
// writer who does not see them must not get their contents by a guess.
func (t *tx) resolveStubs(e *edit, tree revtree.Tree, ancestor int) error {
	left := 0
	for i := range e.atts {
		if e.atts[i].stub {
			e.atts[i].SHA256 = nil // of an earlier try
			left++
		}
	}
	for _, node := range tree.Path(ancestor) {
		if left == 0 {
			return nil
		}
		if tree[node].Body == 0 {
			continue
		}
		_, stored, err := readBody(t.c, tree[node].Body)
		if asDocError(err) != nil {
			continue // compacted away
		}
		if err != nil {
			return err
		}
		atts, err := parseAtts(stored)
		if err != nil {
			return err
		}
		for i := range e.atts {
			if a := &e.atts[i]; a.stub && a.SHA256 == nil && a.resolve(atts, e.replicated) {
				left--
			}
		}
	}
	if left > 0 {
		return missingStub(e)
	}
	return nil
}

// resolve takes over the stored attachment that a stub stands for, if it is
// among atts; only a replicated stub knows its revpos better.
func (a *newAtt) resolve(atts []attRow, replicated bool) bool {
	digest := parseDigest(a.given)
	for i := range atts {
		s := &atts[i]
		if s.Name != a.Name || digest != nil && string(digest) != string(s.MD5) && !mayBeCompressed(s.Type) {
			continue
		}
		if a.RevPos <= 0 || !replicated {
			a.RevPos = s.RevPos
		}
		a.SHA256, a.MD5, a.Length, a.Type = s.SHA256, s.MD5, s.Length, s.Type
		return true
	}
	return false
}

func missingStub(e *edit) error {
	for i := range e.atts {
		if a := &e.atts[i]; a.stub && a.SHA256 == nil {
			return &couch.Error{Status: 412, Code: "missing_stub", Reason: "Invalid attachment stub in " + e.id + " for " + strconv.Quote(a.Name)}
		}
	}
	return nil
}
