package couchhttp

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/database/bulk-api.html#db-all-docs

func allDocs(c *call) error {
	o, err := c.allDocsOptions()
	if err != nil {
		return err
	}
	return sendAllDocs(c, o)
}

// designDocs is /{db}/_design_docs: _all_docs, narrowed.
func designDocs(c *call) error {
	o, err := c.allDocsOptions()
	if err != nil {
		return err
	}
	designOnly(&o)
	return sendAllDocs(c, o)
}

// designOnly narrows a query to design documents.
func designOnly(o *couch.AllDocsOptions) {
	first, last := "_design/", "_design0" // "0" follows "/"
	if o.Descending {
		first, last = last, first
	}
	if o.Keys == nil && o.StartKey == nil {
		o.StartKey = &first
	}
	if o.Keys == nil && o.EndKey == nil {
		o.EndKey = &last
	}
}

// allDocsBody is the body of POST /{db}/_all_docs: any of the query's parameters.
type allDocsBody struct {
	Keys         *[]rawJSON `json:"keys"`
	Key          rawJSON    `json:"key"`
	StartKey     rawJSON    `json:"startkey"`
	StartKey2    rawJSON    `json:"start_key"`
	EndKey       rawJSON    `json:"endkey"`
	EndKey2      rawJSON    `json:"end_key"`
	InclusiveEnd rawJSON    `json:"inclusive_end"`
	Descending   rawJSON    `json:"descending"`
	IncludeDocs  rawJSON    `json:"include_docs"`
	Conflicts    rawJSON    `json:"conflicts"`
	Attachments  rawJSON    `json:"attachments"`
	UpdateSeq    rawJSON    `json:"update_seq"`
	Skip         rawJSON    `json:"skip"`
	Limit        rawJSON    `json:"limit"`
}

// merge puts the members of the body over the query's parameters.
func (b *allDocsBody) merge(set func(name, value string)) {
	for name, v := range map[string]rawJSON{
		"key": b.Key, "startkey": b.StartKey, "start_key": b.StartKey2, "endkey": b.EndKey, "end_key": b.EndKey2,
		"inclusive_end": b.InclusiveEnd, "descending": b.Descending, "include_docs": b.IncludeDocs, "conflicts": b.Conflicts,
		"attachments": b.Attachments, "update_seq": b.UpdateSeq, "skip": b.Skip, "limit": b.Limit,
	} {
		if v != nil {
			set(name, string(v))
		}
	}
}

func (c *call) allDocsOptions() (couch.AllDocsOptions, error) {
	var keys *[]rawJSON
	if c.query == nil {
		c.query = map[string][]string{}
	}
	if c.r.Method == "POST" {
		if err := c.needJSON(); err != nil {
			return couch.AllDocsOptions{}, err
		}
		body, err := c.listBody()
		if err != nil {
			return couch.AllDocsOptions{}, err
		}
		var b allDocsBody
		if err := decodeObject(body, &b); err != nil {
			return couch.AllDocsOptions{}, keysError(err)
		}
		keys = b.Keys
		b.merge(c.query.Set)
	} else if v := c.query.Get("keys"); v != "" {
		keys = new([]rawJSON)
		if json.Unmarshal([]byte(v), keys) != nil {
			return couch.AllDocsOptions{}, couch.BadRequest("`keys` parameter must be an array.")
		}
	}
	return parseAllDocs(c.query, keys, c.s.o.Limits.Bulk)
}

// keysError gives the fault of "keys" CouchDB's wording.
func keysError(err error) error {
	if strings.Contains(err.Error(), `"/keys`) {
		return couch.BadRequest("`keys` body member must be an array.")
	}
	return err
}

func parseAllDocs(q url.Values, keys *[]rawJSON, limit int) (couch.AllDocsOptions, error) {
	o := couch.AllDocsOptions{Offset: true}
	get := func(name string) string { return strings.Join(q[name], "") }
	var err error
	for name, to := range map[string]*bool{"descending": &o.Descending, "include_docs": &o.IncludeDocs, "conflicts": &o.Conflicts, "attachments": &o.Attachments, "update_seq": &o.UpdateSeq} {
		if *to, err = boolParam(name, get(name), false); err != nil {
			return o, err
		}
	}
	inclusive, err := boolParam("inclusive_end", get("inclusive_end"), true)
	if err != nil {
		return o, err
	}
	o.ExclusiveEnd = !inclusive
	if o.Skip, _, err = count(q, "skip"); err != nil {
		return o, err
	}
	if n, ok, err := count(q, "limit"); err != nil {
		return o, err
	} else if ok {
		o.Limit = &n
	}
	if o.StartKey, o.EndKey, err = keyRange(q); err != nil {
		return o, err
	}
	if v := get("key"); v != "" {
		if o.StartKey, err = stringKey("key", v); err != nil {
			return o, err
		}
		o.EndKey, o.ExclusiveEnd = o.StartKey, false
	}
	if keys != nil {
		if len(*keys) > 0 && (o.StartKey != nil || o.EndKey != nil) {
			return o, queryError("`keys` is incompatible with `key`, `start_key` and `end_key`")
		}
		o.Keys, err = stringKeys(*keys, limit)
	}
	if err == nil {
		err = checkViewParams(q)
	}
	return o, err
}

// checkViewParams refuses parameters of views that make no sense here, or none at all.
func checkViewParams(q url.Values) error {
	for _, name := range []string{"reduce", "group", "sorted", "att_encoding_info"} {
		on, err := boolParam(name, q.Get(name), false)
		switch {
		case err != nil:
			return err
		case on && name == "reduce":
			return queryError("Reduce is invalid for map-only views.")
		case on && name == "group":
			return errGroup
		}
	}
	if n, _, err := count(q, "group_level"); err != nil {
		return err
	} else if n > 0 {
		return errGroup
	}
	for name, values := range map[string][]string{"stale": {"ok", "update_after"}, "stable": {"true", "false"}, "update": {"true", "false", "lazy"}} {
		if q.Has(name) && !slices.Contains(values, q.Get(name)) {
			return queryError("Invalid value for `" + name + "`.")
		}
	}
	return nil
}

var errGroup = queryError("Invalid use of grouping on a map view.")

// stringKeys reads keys; one that is no string is no document's and cannot be found.
func stringKeys(raw []rawJSON, limit int) ([]string, error) {
	if len(raw) > limit {
		return nil, couch.TooLarge("too_large", "more than "+strconv.Itoa(limit)+" keys")
	}
	keys := make([]string, len(raw))
	for i, r := range raw {
		if r.Kind() != '"' || json.Unmarshal(r, &keys[i]) != nil {
			return nil, couch.BadRequest("`keys` must be an array of strings.")
		}
	}
	return keys, nil
}

func boolParam(name, v string, absent bool) (bool, error) {
	switch strings.ToLower(v) {
	case "":
		return absent, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, queryError("Invalid boolean parameter: " + strconv.Quote(v))
}

// sendAllDocs writes {"total_rows":…,"offset":…,"rows":[…]}. The totals are known
// when the rows have been read: a long answer has them at its end.
func sendAllDocs(c *call, o couch.AllDocsOptions) error {
	db, err := c.open()
	if err != nil {
		return err
	}
	out := newOutput(c.w)
	const room = 160 // for the totals before the first row
	out.buf = append(out.buf, make([]byte, room)...)
	out.start = func() { startRows(out, room, `{"rows":[`+"\r\n") }
	res, err := appendRows(c, out, db, o)
	if err != nil {
		return err
	}
	totals := allDocsTotals(res)
	if out.sent {
		out.text("\r\n]," + totals + "}")
		return out.end()
	}
	startRows(out, room, "{"+totals+`,"rows":[`+"\r\n")
	out.text("\r\n]}")
	return out.end()
}

func appendRows(c *call, out *output, db couch.DB, o couch.AllDocsOptions) (couch.AllDocsResult, error) {
	first := true
	return db.AllDocs(c.context(o.IncludeDocs), o, func(r *couch.Row) error {
		if !first {
			out.text(",\r\n")
		}
		first = false
		return appendRow(c, out, r, o.Keys != nil && o.IncludeDocs)
	})
}

// startRows puts head into the room left before the first row.
func startRows(out *output, room int, head string) {
	start := room - len(head)
	copy(out.buf[start:], head)
	out.buf = out.buf[start:]
}

func allDocsTotals(res couch.AllDocsResult) string {
	b := strconv.AppendInt([]byte(`"total_rows":`), res.Total, 10)
	b = append(b, `,"offset":`...)
	if res.Offset >= 0 {
		b = strconv.AppendInt(b, res.Offset, 10)
	} else {
		b = append(b, "null"...)
	}
	if res.UpdateSeq != "" {
		b = couch.AppendString(append(b, `,"update_seq":`...), string(res.UpdateSeq))
	}
	return string(b)
}

func appendRow(c *call, out *output, r *couch.Row, nullDoc bool) error {
	if r.Err != "" {
		out.text(`{"key":`)
		out.buf = couch.AppendString(out.buf, r.ID)
		out.text(`,"error":`)
		out.buf = couch.AppendString(out.buf, r.Err)
		out.text("}")
		return nil
	}
	out.text(`{"id":`)
	out.buf = couch.AppendString(out.buf, r.ID)
	out.text(`,"key":`)
	out.buf = couch.AppendString(out.buf, r.ID)
	out.text(`,"value":{"rev":`)
	out.buf = couch.AppendString(out.buf, r.Rev.String())
	if r.Deleted {
		out.text(`,"deleted":true`)
	}
	out.text("}")
	switch {
	case r.Doc != nil && !r.Deleted:
		r.Doc.DeletedConflicts = nil
		out.text(`,"doc":`)
		if err := out.doc(c.r.Context(), r.Doc); err != nil {
			return err
		}
	case nullDoc:
		out.text(`,"doc":null`)
	}
	out.text("}")
	return out.grown()
}
