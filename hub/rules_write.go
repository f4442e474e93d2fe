package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

var (
	errOneByOne   = couch.Forbidden("A hub database is not a target of replication.")
	errOnlyShares = couch.Forbidden("Only shares and signals can be written into a hub database.")
	errBare       = couch.Forbidden("Documents of a hub database have no attachments, and none of their own when they are deleted.")
	errOwner      = couch.Forbidden("Only its owner may change this document.")
	errSigned     = couch.Forbidden("A signal is written once.")
	errStale      = couch.Forbidden("The document is out of date; is the clock right?")
)

// BulkDocs writes what the caller may write, and what is as it must be.
func (d *ruledDB) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	current, err := d.current(ctx, docs)
	if err != nil {
		return nil, err
	}
	results := make([]couch.WriteResult, len(docs))
	var allowed []*incoming
	var at []int // where the results of allowed belong
	defer func() {
		for _, w := range allowed {
			w.undo() // of what was not written
		}
	}()
	for i, doc := range docs {
		w := &incoming{doc: doc, before: current[doc.ID], undo: func() {}}
		if err := d.writable(ctx, w, o); err != nil {
			e := couch.AsError(err)
			if e.Status >= 500 {
				return nil, err
			}
			if len(docs) == 1 && couch.RetryAfter(err) > 0 {
				return nil, err // with its Retry-After
			}
			results[i] = couch.WriteResult{ID: doc.ID, Err: e}
			continue
		}
		allowed, at = append(allowed, w), append(at, i)
	}
	if len(allowed) == 0 {
		return results, nil
	}
	written, err := d.write(ctx, allowed, o)
	if err != nil {
		return nil, err
	}
	for i, r := range written {
		results[at[i]] = r
	}
	return results, nil
}

// An incoming is one document on its way into the database.
type incoming struct {
	doc    *couch.Doc
	before *couch.Doc    // what it replaces, nil if that is nothing
	peer   string        // that has signed it; "" if nobody did
	share  *hubdoc.Share // if it is one
	till   time.Time     // how long the peer is known to be alive
	undo   func()        // what was counted, if it is not written
}

// write writes what was allowed, with a note of each share that is withdrawn, and then
// does what follows from that.
func (d *ruledDB) write(ctx context.Context, allowed []*incoming, o couch.WriteOptions) ([]couch.WriteResult, error) {
	docs := make([]*couch.Doc, len(allowed))
	for i, w := range allowed {
		docs[i] = w.doc
	}
	notes, err := d.withdrawals(ctx, allowed)
	if err != nil {
		return nil, err
	}
	written, err := d.DB.BulkDocs(ctx, append(notes, docs...), o) // the notes first: see stillAllowed
	if err != nil {
		return nil, err
	}
	written = written[len(notes):]
	for i, w := range allowed {
		if written[i].Err != nil {
			continue
		}
		w.undo = func() {}
		if err := d.wrote(ctx, w, written[i].Rev); err != nil {
			if couch.AsError(err).Status >= 500 {
				return nil, err
			}
			written[i] = couch.WriteResult{ID: w.doc.ID, Err: couch.AsError(err)}
		}
	}
	return written, nil
}

// wrote is what follows from a document that was written.
func (d *ruledDB) wrote(ctx context.Context, w *incoming, rev couch.Rev) error {
	d.hub.counts.wrote(w.doc)
	if w.doc.Deleted {
		d.hub.held.removed(w.doc.ID)
		return nil
	}
	if w.peer == "" {
		return nil
	}
	if err := d.stillAllowed(ctx, w, rev); err != nil {
		return err
	}
	d.hub.counts.saw(w.peer)
	if d.who.admin {
		return nil
	}
	return d.hub.owners.claim(ctx, d.DB, w.peer, d.who.Name, w.till)
}

// current reads the winners of the documents that an edit replaces.
func (d *ruledDB) current(ctx context.Context, docs []*couch.Doc) (map[string]*couch.Doc, error) {
	var refs []couch.DocRef
	for _, doc := range docs {
		if !doc.Rev.IsZero() && ruled(doc.ID) {
			refs = append(refs, couch.DocRef{ID: doc.ID, Rev: doc.Rev})
		}
	}
	if refs == nil {
		return nil, nil
	}
	found := map[string]*couch.Doc{}
	err := d.DB.BulkGet(ctx, refs, couch.GetOptions{}, func(r couch.BulkGetResult) error {
		if r.Doc != nil && !r.Doc.Deleted {
			found[r.ID] = r.Doc
		}
		return nil
	})
	return found, err
}

// ruled reports whether an id is one of those whose documents have a format.
func ruled(id string) bool {
	return strings.HasPrefix(id, hubdoc.SharePrefix) || strings.HasPrefix(id, hubdoc.SignalPrefix)
}

// writable decides on one document.
func (d *ruledDB) writable(ctx context.Context, w *incoming, o couch.WriteOptions) error {
	doc := w.doc
	switch {
	case d.who.admin && (!ruled(doc.ID) || doc.Deleted):
		return nil
	case o.Replicated:
		return errOneByOne
	case !ruled(doc.ID):
		return errOnlyShares
	case len(doc.Attachments) > 0 || doc.Deleted && len(doc.Body) > len("{}"):
		return errBare
	case doc.Deleted && w.before == nil:
		return couch.Conflict() // whether another revision is there or none
	case doc.Deleted:
		return d.removable(ctx, w.before)
	case strings.HasPrefix(doc.ID, hubdoc.SharePrefix):
		return d.writableShare(ctx, w)
	}
	return d.writableSignal(ctx, w)
}

// removable reports whether the caller may remove a document: its owner, and whom a signal is to.
func (d *ruledDB) removable(ctx context.Context, before *couch.Doc) error {
	owns := d.party
	if strings.HasPrefix(before.ID, hubdoc.SharePrefix) {
		owns = d.owns
	}
	ok, err := owns(ctx, before)
	if err != nil || ok {
		return err
	}
	if seen, err := d.seen(ctx, before, true); err != nil || !seen {
		return cmp.Or[error](err, couch.Conflict()) // as if it were not there
	}
	return errOwner
}

// owns reports whether a share is the caller's.
func (d *ruledDB) owns(ctx context.Context, doc *couch.Doc) (bool, error) {
	var s struct {
		Peer string `json:"peer"`
	}
	if json.Unmarshal(doc.Body, &s) != nil {
		return false, nil //nolint:nilerr // what names no peer is nobody's
	}
	return d.hub.owners.is(ctx, d.DB, &d.who, s.Peer)
}

// malformed refuses a document in words that name what is wrong.
func malformed(doc *couch.Doc, err error) error {
	if limit := map[bool]int{true: hubdoc.MaxShare, false: hubdoc.MaxSignal}[strings.HasPrefix(doc.ID, hubdoc.SharePrefix)]; len(doc.Body) > limit {
		return couch.TooLarge("document_too_large", doc.ID)
	}
	return couch.Forbidden("Not a valid document of a hub: " + err.Error())
}

// writableShare checks a share document: signed just now by its peer, which the
// caller proves to be, and newer than what it replaces or was withdrawn.
func (d *ruledDB) writableShare(ctx context.Context, w *incoming) error {
	if !d.who.may(d.hub.Publish) {
		return d.who.refusal()
	}
	if err := d.hub.quotas.document(&d.who); err != nil {
		return err
	}
	s, err := hubdoc.ParseShare(w.doc)
	if err != nil {
		return malformed(w.doc, err)
	}
	published, expires, err := s.Lease()
	if err != nil {
		return malformed(w.doc, err)
	}
	now := time.Now()
	if now.Sub(published).Abs() > hubdoc.SignalAge || !now.Before(expires.Add(hubdoc.ClockSkew)) {
		return errStale
	}
	if w.before != nil {
		if old, err := hubdoc.ParseShare(w.before); err == nil && s.Published <= old.Published {
			return errStale // someone writes again what its owner has signed earlier
		}
	}
	w.peer, w.share, w.till = s.Peer, s, expires
	if err := d.notWithdrawn(ctx, w); err != nil {
		return err
	}
	return d.take(ctx, w, expires.Add(2*hubdoc.ClockSkew))
}

// writableSignal checks a signal: signed just now by its sender, which the caller
// proves to be, and of a kind that leads only to what the caller may do.
func (d *ruledDB) writableSignal(ctx context.Context, w *incoming) error {
	if !d.who.may(d.hub.Signal) {
		return d.who.refusal()
	}
	if err := d.hub.quotas.signal(&d.who); err != nil {
		return err
	}
	if w.before != nil || !w.doc.Rev.IsZero() { // whether or not the caller sees it, and it is there
		return errSigned
	}
	s, sent, err := hubdoc.ParseSignal(w.doc)
	if err != nil {
		return malformed(w.doc, err)
	}
	if err := d.mayLead(s); err != nil {
		return err
	}
	at, err := hubdoc.SignalTime(w.doc.ID)
	if err != nil {
		return malformed(w.doc, err)
	}
	now := time.Now()
	if at.Sub(sent).Abs() > time.Second || now.Sub(sent).Abs() > hubdoc.SignalAge {
		return errStale
	}
	if err := s.Verify(w.doc); err != nil {
		return malformed(w.doc, err)
	}
	w.peer, w.till = hubdoc.PeerOf(s.From), now
	return d.take(ctx, w, sent.Add(2*hubdoc.SignalAge))
}

// take ends the check of a signed document: the caller has the key of its peer, which
// belongs to no other user, and there is room for it until the document ends by itself.
func (d *ruledDB) take(ctx context.Context, w *incoming, until time.Time) error {
	if d.who.admin {
		return nil
	}
	if err := d.who.claims(w.peer); err != nil {
		return err
	}
	if err := d.hub.owners.free(ctx, d.DB, w.peer, d.who.Name); err != nil {
		return err
	}
	var err error
	w.undo, err = d.hub.held.reserve(ctx, d.DB, &d.who, w, until)
	return err
}

// claims reports why a caller may not write what a peer has signed: whoever reads a signed
// document could write it again, here or elsewhere, but only the device has the key.
func (c *caller) claims(peer string) error {
	switch {
	case c.err != nil:
		return c.err
	case c.peer == peer && c.purpose == hubdoc.ToClaim:
		return nil
	case c.peer != "":
		return couch.Forbidden("The proof in the header " + ProofHeader + " is not of the peer that signed the document.")
	}
	return couch.Forbidden("Shares and signals are written with a proof of the peer's key in the header " + ProofHeader + "; peers of earlier releases must be updated.")
}

// PutLocal is refused: _local documents of a hub database are the hubs' own.
func (d *ruledDB) PutLocal(ctx context.Context, doc *couch.Doc) (couch.Rev, error) {
	if d.who.admin {
		return d.DB.PutLocal(ctx, doc)
	}
	return couch.Rev{}, errOnlyShares
}

// SetSecurity is for administrators.
func (d *ruledDB) SetSecurity(ctx context.Context, security json.RawMessage) error {
	if d.who.admin {
		return d.DB.SetSecurity(ctx, security)
	}
	return d.who.refusal()
}

// Purge is for administrators.
func (d *ruledDB) Purge(ctx context.Context, docs []couch.DocRevs) ([]couch.DocRevs, error) {
	if d.who.admin {
		return d.DB.Purge(ctx, docs)
	}
	return nil, d.who.refusal()
}

// Compact is for administrators.
func (d *ruledDB) Compact(ctx context.Context) error {
	if d.who.admin {
		return d.DB.Compact(ctx)
	}
	return d.who.refusal()
}
