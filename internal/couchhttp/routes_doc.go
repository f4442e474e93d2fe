package couchhttp

import (
	"errors"
	"net/http"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/document/common.html

func getDoc(c *call) error {
	if strings.HasPrefix(c.doc, "_local/") { // with %2F
		return getLocal(c)
	}
	if to := c.designPath(); to != "" {
		return c.redirect(to)
	}
	q, err := parseDocParams(c.query)
	if err != nil {
		return err
	}
	if err := c.existingID(); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	if q.openAll || len(q.openRevs) > 0 {
		return openRevs(c, db, q)
	}
	doc, err := db.Get(c.context(true), c.doc, q.get())
	if err != nil {
		return err
	}
	q.strip(doc)
	if !hasMeta(doc) {
		etag := `"` + doc.Rev.String() + `"`
		if c.notModified(etag) {
			return nil
		}
		c.w.Header().Set("ETag", etag)
	}
	if q.Attachments && hasContent(doc) && accepts(c.r.Header.Get("Accept"), "multipart/related") {
		return c.sendRelated(doc)
	}
	out := &output{w: c.w, buf: make([]byte, 0, len(doc.Body)+512)}
	if err := out.doc(c.r.Context(), doc); err != nil {
		return err
	}
	return out.end()
}

// designPath is the path of a design document, or of its attachment, whose slash the client
// has escaped: CouchDB sends it on. "" if it has not.
func (c *call) designPath() string {
	if !strings.HasPrefix(c.doc, "_design/") {
		return ""
	}
	path := c.r.URL.EscapedPath()
	const escaped = "/_design%2f"
	i := strings.Index(strings.ToLower(path), escaped)
	if i < 0 || strings.Count(path[:i], "/") != 1 { // after the database
		return ""
	}
	return path[:i] + "/_design/" + path[i+len(escaped):]
}

// redirect sends a client to another path of the same host.
func (c *call) redirect(path string) error {
	if _, err := c.open(); err != nil {
		return err
	}
	if c.r.URL.RawQuery != "" {
		path += "?" + c.r.URL.RawQuery
	}
	c.w.Header().Set("Location", c.origin()+path)
	c.w.WriteHeader(http.StatusMovedPermanently)
	return nil
}

// existingID answers for ids that no document can have: _view_cleanup and the
// like are endpoints that are not offered here, and _local documents have their own.
func (c *call) existingID() error {
	if couch.PlainID(c.doc) {
		return nil
	}
	return couch.NotFound("missing")
}

func putDoc(c *call) error {
	if strings.HasPrefix(c.doc, "_local/") {
		return putLocal(c)
	}
	q, err := parseDocParams(c.query)
	if err != nil {
		return err
	}
	if err := couch.ValidID(c.doc); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	var doc *couch.Doc
	if t, params := mediaType(c.r.Header.Get("Content-Type")); t == "multipart/related" {
		var done func()
		if doc, done, err = c.readRelated(params["boundary"]); err != nil {
			return err
		}
		defer done()
	} else if doc, err = c.readDoc(); err != nil {
		return err
	}
	doc.ID = c.doc
	if doc.Rev, err = c.editRev(doc.Rev); err != nil {
		return err
	}
	if q.replicated && doc.Rev.IsZero() {
		return errNoRev
	}
	return c.write(db, doc, couch.WriteOptions{Replicated: q.replicated})
}

var errNoRev = couch.BadRequest("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")

// readDoc reads a document from a JSON body.
func (c *call) readDoc() (*couch.Doc, error) {
	body, err := c.docsBody()
	if err != nil {
		return nil, err
	}
	return c.parseDoc(body)
}

func (c *call) parseDoc(body []byte) (*couch.Doc, error) {
	doc, err := couch.ParseDoc(body)
	if err != nil {
		return nil, err
	}
	if doc.ID != "" { // whatever the path names
		if err := couch.ValidID(doc.ID); err != nil {
			return nil, err
		}
	}
	if err := c.holdInline(doc); err != nil {
		return nil, err
	}
	return doc, c.checkSize(doc)
}

func (c *call) checkSize(doc *couch.Doc) error {
	if int64(len(doc.Body)) > c.s.o.Limits.Document {
		return couch.TooLarge("document_too_large", doc.ID)
	}
	for i := range doc.Attachments {
		if int64(len(doc.Attachments[i].Data)) > c.s.o.Limits.Attachment {
			return couch.TooLarge("attachment_too_large", doc.Attachments[i].Name)
		}
	}
	return nil
}

// write writes one document and answers for it.
func (c *call) write(db couch.DB, doc *couch.Doc, o couch.WriteOptions) error {
	rev, err := writeOne(c, db, doc, o)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if doc.Deleted {
		status = http.StatusOK
	}
	if c.query.Get("batch") == "ok" && (c.r.Method == "PUT" || c.r.Method == "POST") {
		return c.accepted(doc.ID)
	}
	if c.r.Method == "POST" { // without an ETag, as in CouchDB
		status = http.StatusCreated
	} else {
		c.w.Header()["Etag"] = []string{`"` + rev.String() + `"`}
	}
	if c.r.Method != "DELETE" {
		c.w.Header().Set("Location", c.location(c.db, doc.ID))
	}
	return c.written(status, doc.ID, rev)
}

// accepted is CouchDB's answer to a write with batch=ok. Here it has been done
// nevertheless: writes of many clients are committed together anyway.
func (c *call) accepted(id string) error {
	return c.json(http.StatusAccepted, struct {
		OK bool   `json:"ok"`
		ID string `json:"id"`
	}{true, id})
}

func writeOne(c *call, db couch.DB, doc *couch.Doc, o couch.WriteOptions) (couch.Rev, error) {
	given := doc.Rev
	results, err := db.BulkDocs(c.r.Context(), []*couch.Doc{doc}, o)
	switch {
	case err != nil:
		return couch.Rev{}, err
	case len(results) == 0: // a replicated write has no news
		return given, nil
	case results[0].Err != nil:
		return couch.Rev{}, results[0].Err
	case results[0].Rev.IsZero():
		return given, nil
	}
	return results[0].Rev, nil
}

// postDoc is POST /{db}: a document with the id in its body, or a new one.
func postDoc(c *call) error {
	if err := c.needJSON(); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	doc, err := c.readDoc()
	if err != nil {
		return err
	}
	if doc.ID == "" {
		doc.ID = newUUID()
	}
	if err := couch.ValidID(doc.ID); err != nil {
		return err
	}
	if err := c.authorize(OpWriteDoc, doc.ID); err != nil {
		return err
	}
	if local, ok := strings.CutPrefix(doc.ID, "_local/"); ok {
		return c.writeLocal(db, local, doc)
	}
	return c.write(db, doc, couch.WriteOptions{})
}

func deleteDoc(c *call) error {
	if strings.HasPrefix(c.doc, "_local/") {
		return deleteLocal(c)
	}
	rev, err := c.editRev(couch.Rev{})
	if err != nil {
		return err
	}
	if err := c.existingID(); err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	_, none := db.Get(c.context(true), c.doc, couch.GetOptions{})
	switch known := new(couch.Error); {
	case none != nil && (rev.IsZero() || !errors.As(none, &known) || known.Reason == "deleted"): // a tombstone is not deleted again
		return none
	case rev.IsZero():
		return couch.Conflict()
	}
	err = c.write(db, &couch.Doc{ID: c.doc, Rev: rev, Deleted: true}, couch.WriteOptions{Replicated: c.query.Get("new_edits") == "false"})
	if none != nil && errors.Is(err, couch.ErrConflict) {
		return none // who must not write it at all has been told so
	}
	return err
}

// copyDoc is COPY /{db}/{docid} with the header Destination: newid[?rev=…].
func copyDoc(c *call) error {
	if err := c.existingID(); err != nil {
		return err
	}
	target, rev, err := copyDestination(c.r.Header.Get("Destination"))
	if err != nil {
		return err
	}
	if err := c.authorize(OpWriteDoc, target); err != nil {
		return err
	}
	from, err := c.editRev(couch.Rev{})
	if err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	doc, err := db.Get(c.context(true), c.doc, couch.GetOptions{Rev: from, Attachments: true})
	if err != nil {
		return err
	}
	return c.write(db, &couch.Doc{ID: target, Rev: rev, Body: doc.Body, Attachments: doc.Attachments}, couch.WriteOptions{})
}

// copyDestination reads "newid" or "newid?rev=2-x", percent-encoded.
func copyDestination(h string) (id string, rev couch.Rev, err error) {
	if h == "" {
		return "", rev, couch.BadRequest("Destination header is mandatory for COPY.")
	}
	if strings.Contains(h, "://") {
		return "", rev, couch.BadRequest("Destination URL must be relative.")
	}
	h, query, _ := strings.Cut(h, "?")
	if id, err = unescape(h); err != nil {
		return "", rev, err
	}
	if err := couch.ValidID(id); err != nil {
		return "", rev, err
	}
	if strings.HasPrefix(id, "_local/") {
		return "", rev, couch.BadRequest("A document cannot be copied to a _local document.")
	}
	if r, ok := strings.CutPrefix(query, "rev="); ok {
		rev, err = couch.ParseRev(r)
	} else if query != "" {
		err = couch.BadRequest("Destination may have the parameter rev only.")
	}
	return id, rev, err
}
