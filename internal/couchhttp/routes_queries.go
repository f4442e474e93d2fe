package couchhttp

import (
	"maps"
	"net/url"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/database/bulk-api.html#sending-multiple-queries-to-a-database

// maxQueries bounds how many times one request can make the database be read.
const maxQueries = 100

func allDocsQueries(c *call) error { return manyQueries(c, func(*couch.AllDocsOptions) {}) }

func designDocsQueries(c *call) error { return manyQueries(c, designOnly) }

// manyQueries answers {"results":[…]}, each as _all_docs does.
func manyQueries(c *call, narrow func(*couch.AllDocsOptions)) error {
	all, err := c.readQueries()
	if err != nil {
		return err
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	out := newOutput(c.w)
	out.text(`{"results":[`)
	for i := range all {
		narrow(&all[i])
		out.text([]string{"", ","}[min(i, 1)] + "\r\n" + `{"rows":[` + "\r\n")
		res, err := appendRows(c, out, db, all[i])
		if err != nil {
			return err
		}
		out.text("\r\n]," + allDocsTotals(res) + "}")
	}
	out.text("\r\n]}")
	return out.end()
}

// readQueries reads {"queries":[…]}; the query string has what they share.
func (c *call) readQueries() ([]couch.AllDocsOptions, error) {
	body, err := c.listBody()
	if err != nil {
		return nil, err
	}
	var b struct {
		Queries *[]allDocsBody `json:"queries"`
	}
	if err := decodeObject(body, &b); err != nil {
		if strings.Contains(err.Error(), `"/queries"`) {
			return nil, couch.BadRequest("`queries` member must be an array.")
		}
		return nil, keysMemberError(err)
	}
	switch {
	case b.Queries == nil:
		return nil, couch.BadRequest("POST body must include `queries` parameter.")
	case len(*b.Queries) > maxQueries:
		return nil, errTooLarge
	}
	var all []couch.AllDocsOptions
	for _, one := range *b.Queries {
		q := url.Values{}
		maps.Copy(q, c.query)
		one.merge(func(name, value string) { q[name] = []string{value} })
		o, err := parseAllDocs(q, one.Keys, c.s.o.Limits.Bulk)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// keysMemberError gives the fault of "keys" CouchDB's wording.
func keysMemberError(err error) error {
	if strings.Contains(err.Error(), `/keys`) {
		return couch.BadRequest("`keys` member must be an array.")
	}
	return err
}
