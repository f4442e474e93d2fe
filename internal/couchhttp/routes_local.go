package couchhttp

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/local.html

// localID is the id below _local/.
func (c *call) localID() (string, error) {
	id := strings.TrimPrefix(c.doc, "_local/")
	if id == "" {
		return "", couch.BadRequest("Invalid _local document id.")
	}
	return id, couch.ValidID(c.doc)
}

func getLocal(c *call) error {
	id, err := c.localID()
	if err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	doc, err := db.GetLocal(c.r.Context(), id)
	if err != nil {
		return err
	}
	body, etag := localJSON(doc, id, doc.Rev)
	if c.notModified(etag) {
		return nil
	}
	c.w.Header().Set("ETag", etag)
	return writeJSON(c.w, http.StatusOK, body)
}

// localJSON is a local document as it is answered, and its ETag: one that was removed and made again has the same revisions.
func localJSON(doc *couch.Doc, id string, rev couch.Rev) (body []byte, etag string) {
	body = (&couch.Doc{ID: "_local/" + id, Rev: rev, Body: doc.Body}).AppendJSON(nil)
	sum := sha256.Sum256(body)
	return body, `"` + hex.EncodeToString(sum[:16]) + `"`
}

func putLocal(c *call) error {
	id, err := c.localID()
	if err != nil {
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
	if doc.Rev, err = c.editRev(doc.Rev); err != nil {
		return err
	}
	return c.writeLocal(db, id, doc)
}

func (c *call) writeLocal(db couch.DB, id string, doc *couch.Doc) error {
	if len(doc.Attachments) > 0 {
		return couch.BadRequest("_local documents do not accept attachments.")
	}
	doc.ID = id
	rev, err := db.PutLocal(c.r.Context(), doc)
	if err != nil {
		return err
	}
	if c.r.Method != http.MethodPost { // as CouchDB
		_, etag := localJSON(doc, id, rev)
		c.w.Header().Set("ETag", etag)
	}
	status := http.StatusCreated
	if doc.Deleted {
		status = http.StatusOK
	}
	c.w.Header().Set("Location", c.location(c.db, "_local/"+id))
	return c.written(status, "_local/"+id, rev)
}

func deleteLocal(c *call) error {
	id, err := c.localID()
	if err != nil {
		return err
	}
	rev, err := c.editRev(couch.Rev{})
	if err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	if _, err := db.GetLocal(c.r.Context(), id); err != nil {
		return err
	}
	if rev.IsZero() {
		return couch.Conflict()
	}
	return c.writeLocal(db, id, &couch.Doc{Rev: rev, Deleted: true})
}

func noLocalAttachment(*call) error {
	return couch.BadRequest("_local documents do not accept attachments.")
}
