package hub

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
	"github.com/loveseat-db/loveseat/internal/mango"
)

// A ruledDB is a hub database as a caller sees and may use it. What the
// caller may not see is answered for as if it were absent, whatever the way of asking.
type ruledDB struct {
	couch.DB
	hub *hubDatabase
	who caller
}

// seen reports whether the caller sees a document; byID: who knows the id of a
// share may open it without seeing all of them.
func (d *ruledDB) seen(ctx context.Context, doc *couch.Doc, byID bool) (bool, error) {
	switch {
	case d.who.admin:
		return true, nil
	case strings.HasPrefix(doc.ID, hubdoc.SharePrefix):
		if d.who.may(d.hub.List) || byID && d.who.may(d.hub.Open) {
			return true, nil
		}
		var s struct {
			Peer string `json:"peer"`
		}
		_ = json.Unmarshal(doc.Body, &s) // what is none is nobody's
		return d.hub.owners.is(ctx, d.DB, &d.who, s.Peer)
	case strings.HasPrefix(doc.ID, hubdoc.SignalPrefix) && !doc.Deleted:
		return d.party(ctx, doc)
	}
	return false, nil
}

// party reports whether a signal is to or from the caller.
func (d *ruledDB) party(ctx context.Context, doc *couch.Doc) (bool, error) {
	var p parties
	if json.Unmarshal(doc.Body, &p) != nil {
		return false, nil //nolint:nilerr // what names no parties has none
	}
	return d.isParty(ctx, p)
}

func (d *ruledDB) isParty(ctx context.Context, p parties) (bool, error) {
	is, err := d.hub.owners.is(ctx, d.DB, &d.who, hubdoc.PeerOf(p.To))
	if is || err != nil {
		return is, err
	}
	return d.hub.owners.is(ctx, d.DB, &d.who, hubdoc.PeerOf(p.From))
}

var errMissing = couch.NotFound("missing")

// Get returns a revision of a document that the caller sees.
func (d *ruledDB) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	doc, err := d.DB.Get(ctx, id, o)
	if err != nil {
		if !d.who.admin && errors.Is(err, couch.ErrNotFound) {
			err = errMissing // not whether it has been there
		}
		return nil, err
	}
	return doc, d.check(ctx, doc)
}

// check is not_found for a document that the caller does not see.
func (d *ruledDB) check(ctx context.Context, doc *couch.Doc) error {
	ok, err := d.seen(ctx, doc, true)
	if err == nil && !ok {
		err = errMissing
	}
	return err
}

// BulkGet gives the revisions that the caller sees; the others are missing.
func (d *ruledDB) BulkGet(ctx context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	none := "" // the document of whose leaves the last one was not given
	return d.DB.BulkGet(ctx, refs, o, func(r couch.BulkGetResult) error {
		if r.Doc != nil {
			if err := d.check(ctx, r.Doc); errors.Is(err, couch.ErrNotFound) {
				r.Doc, r.Err = nil, errMissing
			} else if err != nil {
				return err
			}
		} else if !d.who.admin {
			r.Err = errMissing
		}
		before := none
		if none = ""; r.Err != nil && r.Rev.IsZero() {
			if none = r.ID; before == none {
				return nil // as if there were one at most
			}
		}
		return fn(r)
	})
}

// Attachment finds none: shares and signals have no attachments.
func (d *ruledDB) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	if d.who.admin {
		return d.DB.Attachment(ctx, id, name, rev, offset)
	}
	return nil, couch.NotFound("Document is missing attachment")
}

var errEnough = errors.New("enough rows")

// AllDocs gives the rows that the caller sees, and counts no others.
func (d *ruledDB) AllDocs(ctx context.Context, o couch.AllDocsOptions, fn func(*couch.Row) error) (couch.AllDocsResult, error) {
	if d.who.admin {
		return d.DB.AllDocs(ctx, o, fn)
	}
	all := o
	all.IncludeDocs, all.Skip, all.Limit, all.Offset = true, 0, nil, false
	skip, left := o.Skip, -1
	if o.Limit != nil {
		left = *o.Limit
	}
	var rows int64
	res, err := d.DB.AllDocs(ctx, all, func(r *couch.Row) error {
		visible, err := d.row(ctx, r, o.Keys != nil)
		if err != nil || !visible {
			return err
		}
		rows++
		if skip > 0 {
			skip--
			return nil
		}
		if left == 0 {
			return errEnough
		}
		left--
		if !o.IncludeDocs {
			r.Doc = nil
		}
		return fn(r)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	res.Total = rows
	if o.Keys == nil {
		res.Offset = int64(o.Skip - skip)
	}
	return res, err
}

// row reports whether a row is given; one asked for by its key is, if need be as not found.
func (d *ruledDB) row(ctx context.Context, r *couch.Row, byKey bool) (bool, error) {
	if r.Doc != nil {
		ok, err := d.seen(ctx, r.Doc, byKey)
		if ok || err != nil {
			return ok, err
		}
	}
	if byKey {
		*r = couch.Row{ID: r.ID, Err: "not_found"}
	}
	return byKey, nil
}

// Changes tells the changes that the caller sees. A feed that waits does so until
// there is one of them: others' signals wake nobody.
func (d *ruledDB) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	switch {
	case d.who.admin:
		return d.DB.Changes(ctx, o, fn)
	case o.Feed == couch.FeedLongpoll && !o.Descending:
		return d.wait(ctx, o, fn)
	}
	f := &ruledFeed{d: d, o: o, fn: fn}
	return f.run(ctx)
}

// A ruledFeed is a changes feed being filtered.
type ruledFeed struct {
	d    *ruledDB
	o    couch.ChangesOptions
	fn   func(*couch.Change) error
	rows int // told
	last couch.Seq
	lean bool // documents are read one by one, when they are not known to be others'
}

// run reads the database's feed once.
func (f *ruledFeed) run(ctx context.Context) (couch.ChangesResult, error) {
	all := f.o
	all.IncludeDocs, all.Limit = !f.lean, 0
	var end couch.Seq
	if all.DocIDs != nil || all.Descending { // where the database's feed ends depends on rows that are not seen
		info, err := f.d.DB.Info(ctx)
		if err != nil {
			return couch.ChangesResult{}, err
		}
		end = info.UpdateSeq
	}
	res, err := f.d.DB.Changes(ctx, all, func(c *couch.Change) error { return f.change(ctx, c) })
	if errors.Is(err, errEnough) {
		return couch.ChangesResult{LastSeq: f.last, Pending: -1}, nil
	}
	if res.Pending > 0 {
		res.Pending = -1 // how many of them would be seen is not known
	}
	switch {
	case end == "":
	case all.Descending && f.rows > 0:
		res.LastSeq = f.last
	default:
		res.LastSeq = end
	}
	return res, err
}

func (f *ruledFeed) change(ctx context.Context, c *couch.Change) error {
	if f.lean {
		if err := f.read(ctx, c); err != nil {
			return err
		}
	}
	return f.pass(ctx, c)
}

// pass hands a change on, if the caller sees it.
func (f *ruledFeed) pass(ctx context.Context, c *couch.Change) error {
	visible, err := f.visible(ctx, c)
	if err != nil {
		return err
	}
	if !visible {
		return nil
	}
	if !f.o.IncludeDocs {
		c.Doc = nil
	}
	if err := f.fn(c); err != nil {
		return err
	}
	f.last = c.Seq
	if f.rows++; f.rows == f.o.Limit {
		return errEnough
	}
	return nil
}

// read reads a document that may be the caller's business. Most signals are
// not, which is known without that.
func (f *ruledFeed) read(ctx context.Context, c *couch.Change) (err error) {
	if c.Deleted {
		return nil
	}
	if p, ok := f.d.hub.bells.partiesOf(c.ID); ok {
		if mine, err := f.d.isParty(ctx, p); err != nil || !mine {
			return err
		}
	}
	c.Doc, err = f.d.DB.Get(ctx, c.ID, couch.GetOptions{Conflicts: f.o.Conflicts})
	if errors.Is(err, couch.ErrNotFound) { // gone in the meantime
		return nil
	}
	return err
}

func (f *ruledFeed) visible(ctx context.Context, c *couch.Change) (bool, error) {
	switch {
	case c.Deleted && strings.HasPrefix(c.ID, hubdoc.SharePrefix): // its id is as secret as that of a live share
		return f.d.who.may(f.d.hub.List) || f.o.DocIDs != nil && f.d.who.may(f.d.hub.Open), nil
	case c.Doc == nil || c.Deleted:
		return false, nil
	}
	return f.d.seen(ctx, c.Doc, f.o.DocIDs != nil)
}

// Find looks among what the caller sees.
func (d *ruledDB) Find(ctx context.Context, query json.RawMessage, fn func(json.RawMessage) error) (couch.FindResult, error) {
	if d.who.admin {
		return d.DB.Find(ctx, query, fn)
	}
	return mango.Find(ctx, d, query, fn)
}

// GetLocal finds none: _local documents of a hub database are the hubs' own. To
// users who may publish it tells which user a peer belongs to, see [hubdoc.UserLocal].
func (d *ruledDB) GetLocal(ctx context.Context, id string) (*couch.Doc, error) {
	if d.who.admin {
		return d.DB.GetLocal(ctx, id)
	}
	if peer, ok := strings.CutPrefix(id, hubdoc.UserLocal); ok && !d.who.nobody && d.who.may(d.hub.Publish) {
		return d.ownerOf(ctx, id, peer)
	}
	return nil, errMissing
}

func (d *ruledDB) ownerOf(ctx context.Context, id, peer string) (*couch.Doc, error) {
	w, err := d.hub.owners.of(ctx, d.DB, peer)
	if err != nil || w.user == "" {
		return nil, errMissing
	}
	body, err := json.Marshal(map[string]string{"user": w.user})
	return &couch.Doc{ID: id, Rev: couch.Rev{Hash: "1"}, Body: body}, err
}

// RevsDiff is refused: it would tell which revisions there are.
func (d *ruledDB) RevsDiff(ctx context.Context, docs []couch.DocRevs) ([]couch.RevsDiff, error) {
	if d.who.admin {
		return d.DB.RevsDiff(ctx, docs)
	}
	return nil, errOneByOne
}

// Security is for administrators.
func (d *ruledDB) Security(ctx context.Context) (json.RawMessage, error) {
	if d.who.admin {
		return d.DB.Security(ctx)
	}
	return nil, d.who.refusal()
}
