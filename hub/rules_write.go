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
	var allowed []*couch.Doc
	var at []int // where the results of allowed belong
	for i, doc := range docs {
		if err := d.writable(ctx, doc, current[doc.ID], o); err != nil {
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
		allowed, at = append(allowed, doc), append(at, i)
	}
	if len(allowed) == 0 {
		return results, nil
	}
	written, err := d.DB.BulkDocs(ctx, allowed, o)
	if err != nil {
		return nil, err
	}
	for i, r := range written {
		results[at[i]] = r
		if r.Err == nil {
			d.hub.counts.wrote(allowed[i])
		}
	}
	return results, nil
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

// writable decides on one document; before is what it replaces, nil if there is none.
func (d *ruledDB) writable(ctx context.Context, doc, before *couch.Doc, o couch.WriteOptions) error {
	switch {
	case d.who.admin && (!ruled(doc.ID) || doc.Deleted):
		return nil
	case o.Replicated:
		return errOneByOne
	case !ruled(doc.ID):
		return errOnlyShares
	case len(doc.Attachments) > 0 || doc.Deleted && len(doc.Body) > len("{}"):
		return errBare
	case doc.Deleted && before == nil:
		return couch.Conflict() // whether another revision is there or none
	case doc.Deleted:
		return d.removable(ctx, before)
	case strings.HasPrefix(doc.ID, hubdoc.SharePrefix):
		return d.writableShare(ctx, doc, before)
	}
	return d.writableSignal(ctx, doc)
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

// writableShare checks a share document: signed by its peer, which is the
// caller's, now, and newer than what it replaces.
func (d *ruledDB) writableShare(ctx context.Context, doc, before *couch.Doc) error {
	if !d.who.may(d.hub.Publish) {
		return d.who.refusal()
	}
	if err := d.hub.quotas.document(&d.who); err != nil {
		return err
	}
	s, err := hubdoc.ParseShare(doc)
	if err != nil {
		return malformed(doc, err)
	}
	published, expires, err := s.Lease()
	if err != nil {
		return malformed(doc, err)
	}
	now := time.Now()
	if published.After(now.Add(hubdoc.SignalAge)) || !now.Before(expires.Add(hubdoc.ClockSkew)) {
		return errStale
	}
	if before != nil {
		if old, err := hubdoc.ParseShare(before); err == nil && s.Published <= old.Published {
			return errStale // someone writes again what its owner has signed earlier
		}
	}
	return d.claim(ctx, s.Peer, expires)
}

// writableSignal checks a signal: signed by its sender, which is the caller's peer, just now.
func (d *ruledDB) writableSignal(ctx context.Context, doc *couch.Doc) error {
	if !d.who.may(d.hub.Signal) {
		return d.who.refusal()
	}
	if err := d.hub.quotas.signal(&d.who); err != nil {
		return err
	}
	if !doc.Rev.IsZero() {
		return errSigned
	}
	s, sent, err := hubdoc.ParseSignal(doc)
	if err != nil {
		return malformed(doc, err)
	}
	if s.Kind == "offer" && !d.who.may(d.hub.Open) {
		return d.who.refusal()
	}
	at, err := hubdoc.SignalTime(doc.ID)
	if err != nil {
		return malformed(doc, err)
	}
	now := time.Now()
	if at.Sub(sent).Abs() > time.Second || now.Sub(sent).Abs() > hubdoc.SignalAge {
		return errStale
	}
	if err := s.Verify(doc); err != nil {
		return malformed(doc, err)
	}
	return d.claim(ctx, hubdoc.PeerOf(s.From), now)
}

// claim makes the caller the owner of a peer whose signature it has brought.
func (d *ruledDB) claim(ctx context.Context, peer string, till time.Time) error {
	d.hub.counts.saw(peer)
	if d.who.admin {
		return nil
	}
	return d.hub.owners.claim(ctx, d.DB, peer, d.who.Name, till)
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
