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
	with := *doc
	with.ID = "_local/" + id
	body := with.AppendJSON(nil)
	sum := sha256.Sum256(body) // a local document that was removed and made again has the same revisions
	etag := `"` + hex.EncodeToString(sum[:16]) + `"`
	if c.notModified(etag) {
		return nil
	}
	c.w.Header().Set("ETag", etag)
	return writeJSON(c.w, http.StatusOK, body)
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
