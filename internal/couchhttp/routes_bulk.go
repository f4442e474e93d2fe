package couchhttp

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/database/bulk-api.html

func bulkDocs(c *call) error {
	if err := c.needJSON(); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	body, err := c.docsBody()
	if err != nil {
		return err
	}
	docs, newEdits, err := couch.ParseBulkDocs(body, c.s.o.Limits.Bulk)
	if err != nil {
		return err
	}
	if err := c.hold(int64(len(docs)) * docOverhead); err != nil {
		return err
	}
	for _, d := range docs {
		if err := c.checkBulkDoc(d, newEdits); err != nil {
			return err
		}
	}
	results, err := c.bulkWrite(db, docs, couch.WriteOptions{Replicated: !newEdits})
	if err != nil {
		return err
	}
	return sendWriteResults(c, docs, results, newEdits)
}

// checkBulkDoc refuses what makes CouchDB refuse the whole request.
func (c *call) checkBulkDoc(d *couch.Doc, newEdits bool) error {
	if d.ID == "" && newEdits {
		d.ID = newUUID()
	}
	if err := couch.ValidID(d.ID); err != nil {
		return err
	}
	if !newEdits && d.Rev.IsZero() {
		return errNoRev
	}
	if err := c.holdInline(d); err != nil {
		return err
	}
	return c.checkSize(d)
}

// bulkWrite writes what the caller may write; results are in the order of docs.
func (c *call) bulkWrite(db couch.DB, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	results := make([]couch.WriteResult, len(docs))
	rest := make([]*couch.Doc, 0, len(docs))
	at := make([]int, 0, len(docs))
	for i, d := range docs {
		results[i].ID = d.ID
		if err := c.authorize(OpWriteDoc, d.ID); err != nil {
			results[i].Err = couch.AsError(err)
			continue
		}
		if id, ok := strings.CutPrefix(d.ID, "_local/"); ok {
			local := *d
			local.ID = id
			rev, err := db.PutLocal(c.r.Context(), &local)
			results[i].Rev, results[i].Err = rev, couch.AsError(err)
			continue
		}
		rest, at = append(rest, d), append(at, i)
	}
	if len(rest) == 0 {
		return results, nil
	}
	written, err := db.BulkDocs(c.r.Context(), rest, o)
	if err != nil {
		return nil, err
	}
	for i, r := range written {
		results[at[i]].Rev, results[at[i]].Err = r.Rev, r.Err
	}
	return results, nil
}

// sendWriteResults tells of every document, or with new_edits=false only of those that failed.
func sendWriteResults(c *call, docs []*couch.Doc, results []couch.WriteResult, newEdits bool) error {
	b := make([]byte, 0, 64+len(results)*64)
	b = append(b, '[')
	for i, r := range results {
		if r.Err == nil && !newEdits {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, '{')
		if r.Err == nil {
			b = appendWritten(b, r.ID, r.Rev)
		} else {
			b = append(b, `"id":`...)
			b = couch.AppendString(b, r.ID)
			if !newEdits {
				b = append(b, `,"rev":`...)
				b = couch.AppendString(b, docs[i].Rev.String())
			}
			b = appendError(append(b, ','), r.Err)
		}
		b = append(b, '}')
	}
	return writeJSON(c.w, http.StatusCreated, append(b, ']'))
}

// bulkGetBody is the body of POST /{db}/_bulk_get.
type bulkGetBody struct {
	Docs *[]struct {
		ID        string      `json:"id"`
		Rev       string      `json:"rev"`
		AttsSince []couch.Rev `json:"atts_since"`
	} `json:"docs"`
}

func bulkGet(c *call) error {
	if err := c.needJSON(); err != nil {
		return err
	}
	for _, p := range []string{"open_revs", "new_edits", "w", "rev", "atts_since"} {
		if c.query.Has(p) {
			return couch.BadRequest(strconv.Quote(p) + " query parameter is not acceptable")
		}
	}
	q, err := parseDocParams(c.query)
	if err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	body, err := c.listBody()
	if err != nil {
		return err
	}
	refs, bad, err := parseBulkGet(body, c.s.o.Limits.Bulk)
	if err != nil {
		return err
	}
	out, o := c.bulkGetOutput(q)
	for _, r := range bad {
		if err := out.revision(r); err != nil {
			return err
		}
	}
	if len(refs) > 0 {
		if err := db.BulkGet(c.context(true), refs, o, out.revision); err != nil {
			return err
		}
	}
	return out.end()
}

// bulkGetOutput is JSON for who takes it, otherwise multipart if that is taken,
// as CouchDB chooses, and what to ask the database for.
func (c *call) bulkGetOutput(q *docParams) (revsOutput, couch.GetOptions) {
	o, accept := q.get(), c.r.Header.Get("Accept")
	if !accepts(accept, "application/json") {
		for _, kind := range []string{"multipart/mixed", "multipart/related"} {
			if accepts(accept, kind) {
				o.Attachments = true
				return &mixedOutput{c: c, q: q, kind: kind, bulk: true}, o
			}
		}
	}
	out := &bulkGetOutput{output: newOutput(c.w), c: c, q: q}
	out.text(`{"results":[`)
	return out, o
}

// parseBulkGet reads what is asked for; an entry whose revision is none, or whose
// id no document can have, is an answer already.
func parseBulkGet(body []byte, limit int) (refs []couch.DocRef, bad []couch.BulkGetResult, err error) {
	var b bulkGetBody
	if err := decodeObject(body, &b); err != nil {
		return nil, nil, err
	}
	if b.Docs == nil {
		return nil, nil, couch.BadRequest("Missing JSON list of 'docs'.")
	}
	if len(*b.Docs) > limit {
		return nil, nil, couch.TooLarge("max_bulk_get_count_exceeded", strconv.Itoa(limit))
	}
	for _, d := range *b.Docs {
		if d.ID == "" {
			return nil, nil, couch.BadRequest("document id missed")
		}
		ref := couch.DocRef{ID: d.ID, AttsSince: d.AttsSince}
		if !couch.PlainID(d.ID) {
			ref.Rev, _ = couch.ParseRev(d.Rev)
			bad = append(bad, couch.BulkGetResult{ID: d.ID, Rev: ref.Rev, Err: couch.AsError(couch.NotFound("missing"))})
			continue
		}
		if d.Rev != "" {
			if ref.Rev, err = couch.ParseRev(d.Rev); err != nil {
				bad = append(bad, couch.BulkGetResult{ID: d.ID, Err: couch.AsError(err)})
				continue
			}
		}
		refs = append(refs, ref)
	}
	return refs, bad, nil
}

// A bulkGetOutput writes {"results":[{"id":…,"docs":[{"ok":…},…]},…]}.
type bulkGetOutput struct {
	*output
	c    *call
	q    *docParams
	last struct {
		id  string
		rev couch.Rev
	}
	open bool // an entry is being written
}

func (o *bulkGetOutput) revision(r couch.BulkGetResult) error {
	switch same := o.open && r.ID == o.last.id && r.Rev == o.last.rev; {
	case same:
		o.text(",")
	case o.open:
		o.text("]},\r\n")
		fallthrough
	default:
		o.text(`{"id":`)
		o.buf = couch.AppendString(o.buf, r.ID)
		o.text(`,"docs":[`)
	}
	o.open, o.last.id, o.last.rev = true, r.ID, r.Rev
	if r.Err != nil {
		o.missing(r)
		return o.grown()
	}
	o.text(`{"ok":`)
	if err := o.doc(o.c.r.Context(), o.q.strip(r.Doc)); err != nil {
		return err
	}
	o.text("}")
	return nil
}

func (o *bulkGetOutput) missing(r couch.BulkGetResult) {
	o.text(`{"error":`)
	o.buf = appendMissing(o.buf, r)
	o.text("}")
}

// appendMissing appends {"id":…,"rev":…,"error":…,"reason":…}.
func appendMissing(b []byte, r couch.BulkGetResult) []byte {
	rev := r.Rev.String()
	if rev == "" {
		rev = "undefined" // CouchDB's word
	}
	b = couch.AppendString(append(b, `{"id":`...), r.ID)
	b = couch.AppendString(append(b, `,"rev":`...), rev)
	return append(appendError(append(b, ','), r.Err), '}')
}

func (o *bulkGetOutput) end() error {
	if o.open {
		o.text("]}")
	}
	o.text("]}")
	return o.output.end()
}

func revsDiff(c *call) error {
	diffs, err := c.diff()
	if err != nil {
		return err
	}
	b := []byte{'{'}
	for i, d := range diffs {
		if i > 0 {
			b = append(b, ',')
		}
		b = couch.AppendString(b, d.ID)
		b = appendRevList(append(b, `:{"missing":`...), d.Missing)
		if len(d.PossibleAncestors) > 0 {
			b = appendRevList(append(b, `,"possible_ancestors":`...), d.PossibleAncestors)
		}
		b = append(b, '}')
	}
	return writeJSON(c.w, http.StatusOK, append(b, '}'))
}

func missingRevs(c *call) error {
	diffs, err := c.diff()
	if err != nil {
		return err
	}
	b := []byte(`{"missing_revs":{`)
	for i, d := range diffs {
		if i > 0 {
			b = append(b, ',')
		}
		b = couch.AppendString(b, d.ID)
		b = appendRevList(append(b, ':'), d.Missing)
	}
	return writeJSON(c.w, http.StatusOK, append(b, "}}"...))
}

func (c *call) diff() ([]couch.RevsDiff, error) {
	if err := c.needJSON(); err != nil {
		return nil, err
	}
	db, err := c.open()
	if err != nil {
		return nil, err
	}
	body, err := c.listBody()
	if err != nil {
		return nil, err
	}
	docs, err := decodeIDsRevs(body, c.s.o.Limits.Bulk)
	if err != nil || len(docs) == 0 {
		return nil, err
	}
	return db.RevsDiff(c.r.Context(), docs)
}
