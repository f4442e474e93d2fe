package couchhttp

import (
	"encoding/json"
	"net/http"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/database/find.html

func find(c *call) error {
	db, body, err := c.mangoBody()
	if err != nil {
		return err
	}
	out := newOutput(c.w)
	out.text(`{"docs":[` + "\r\n")
	first := true
	res, err := db.Find(c.context(true), body, func(doc json.RawMessage) error {
		if !first {
			out.text(",\r\n")
		}
		first = false
		out.buf = append(out.buf, doc...)
		return out.grown()
	})
	if err != nil {
		return err
	}
	bookmark := res.Bookmark
	if bookmark == "" {
		bookmark = "nil" // CouchDB's word for the end
	}
	out.text("\r\n],\n" + `"bookmark":`)
	out.buf = couch.AppendString(out.buf, bookmark)
	if res.Warning != "" {
		out.text(`,"warning":`)
		out.buf = couch.AppendString(out.buf, res.Warning)
	}
	out.text("}")
	return out.end()
}

// mangoBody reads the body of a query.
func (c *call) mangoBody() (couch.DB, json.RawMessage, error) {
	if err := c.needJSON(); err != nil {
		return nil, nil, err
	}
	db, err := c.open()
	if err != nil {
		return nil, nil, err
	}
	body, err := c.body(min(couch.MaxQuery, c.s.o.Limits.Body), 1)
	if err != nil {
		return nil, nil, err
	}
	v := rawJSON(body)
	if !v.IsValid() {
		return nil, nil, couch.BadRequest("invalid UTF-8 JSON")
	}
	if v.Kind() != '{' {
		return nil, nil, couch.BadRequest("Request body must be a JSON object")
	}
	return db, json.RawMessage(body), nil
}

// allDocsIndex is the one index there is, in the form of _index and _explain.
const allDocsIndex = `{"ddoc":null,"name":"_all_docs","type":"special","def":{"fields":[{"_id":"asc"}]}}`

func indexes(c *call) error {
	if _, err := c.open(); err != nil {
		return err
	}
	return writeJSON(c.w, http.StatusOK, []byte(`{"total_rows":1,"indexes":[`+allDocsIndex+`]}`))
}

// explain tells that a query scans all documents, in their order of ids.
func explain(c *call) error {
	_, body, err := c.mangoBody()
	if err != nil {
		return err
	}
	q := struct {
		Selector json.RawMessage `json:"selector"`
		Limit    int             `json:"limit"`
		Skip     int             `json:"skip"`
		Fields   json.RawMessage `json:"fields"`
	}{Limit: 25, Fields: json.RawMessage(`"all_fields"`)}
	if err := json.Unmarshal(body, &q); err != nil {
		return couch.BadRequest("Invalid query.")
	}
	if len(q.Selector) == 0 || q.Selector[0] != '{' {
		return &couch.Error{Status: 400, Code: "missing_required_key", Reason: "Missing required key: selector"}
	}
	return c.json(http.StatusOK, struct {
		DB       string          `json:"dbname"`
		Index    json.RawMessage `json:"index"`
		Selector json.RawMessage `json:"selector"`
		Limit    int             `json:"limit"`
		Skip     int             `json:"skip"`
		Fields   json.RawMessage `json:"fields"`
	}{c.db, json.RawMessage(allDocsIndex), q.Selector, q.Limit, q.Skip, q.Fields})
}
