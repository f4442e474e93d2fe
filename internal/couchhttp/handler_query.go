package couchhttp

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A docParams is the query string of a document.
// https://docs.couchdb.org/en/stable/api/document/common.html
type docParams struct {
	couch.GetOptions
	deletedConflicts bool
	openRevs         []couch.Rev
	openAll          bool // open_revs=all
	replicated       bool // new_edits=false
}

func parseDocParams(q url.Values) (*docParams, error) {
	if len(q) == 0 {
		return &docParams{}, nil
	}
	on := func(name string) bool { return q.Get(name) == "true" }
	d := &docParams{deletedConflicts: on("deleted_conflicts") || on("meta"), replicated: q.Get("new_edits") == "false"}
	d.Latest = on("latest")
	d.Revs = on("revs")
	d.RevsInfo = on("revs_info") || on("meta")
	d.Conflicts = on("conflicts") || on("meta")
	d.LocalSeq = on("local_seq")
	d.Attachments = on("attachments")
	var err error
	if q.Has("rev") {
		if d.Rev, err = couch.ParseRev(q.Get("rev")); err != nil {
			return nil, err
		}
	}
	if v := q.Get("atts_since"); v != "" {
		if d.AttsSince, err = parseRevs(v); err != nil {
			return nil, err
		}
		d.Attachments = true
	}
	switch v := q.Get("open_revs"); v {
	case "":
	case "all":
		d.openAll = true
	default:
		if d.openRevs, err = parseRevs(v); err != nil { // none of them: the document, as without
			return nil, err
		}
	}
	return d, nil
}

// get is what to ask the database for; CouchDB tells conflicts and deleted
// conflicts apart, which strip does afterwards.
func (d *docParams) get() couch.GetOptions {
	o := d.GetOptions
	o.Conflicts = d.Conflicts || d.deletedConflicts
	return o
}

// strip removes what was not asked for.
func (d *docParams) strip(doc *couch.Doc) *couch.Doc {
	if !d.Conflicts {
		doc.Conflicts = nil
	}
	if !d.deletedConflicts {
		doc.DeletedConflicts = nil
	}
	if doc.Deleted { // of tombstones CouchDB does not tell
		doc.RevsInfo = nil
	}
	return doc
}

// hasMeta reports whether an answer may change though the revision does not.
func hasMeta(d *couch.Doc) bool {
	return d.RevsInfo != nil || d.Conflicts != nil || d.DeletedConflicts != nil || d.LocalSeq != ""
}

var errRevList = couch.BadRequest("Invalid list of revisions")

// parseRevs reads a JSON array of revisions in a query string.
func parseRevs(text string) ([]couch.Rev, error) {
	var revs []couch.Rev
	switch v := rawJSON(text); {
	case !v.IsValid():
		return nil, couch.BadRequest("invalid UTF-8 JSON")
	case v.Kind() != '[':
		return nil, errRevList
	case json.Unmarshal(v, &revs) != nil:
		return nil, couch.BadRequest("Invalid rev format")
	}
	for _, r := range revs {
		if r.IsZero() {
			return nil, couch.BadRequest("Invalid rev format")
		}
	}
	return revs, nil
}

func queryError(reason string) error {
	return &couch.Error{Status: 400, Code: "query_parse_error", Reason: reason}
}

// count reads a number that is not negative; ok is false if the parameter is not there.
func count(q url.Values, name string) (n int, ok bool, err error) {
	v := q.Get(name)
	if v == "" {
		return 0, false, nil
	}
	n, err = strconv.Atoi(v)
	switch {
	case err != nil || n > 1<<53:
		return 0, false, queryError("Invalid value for integer: " + strconv.Quote(v))
	case n < 0:
		return 0, false, queryError("Invalid value for positive integer: " + strconv.Quote(v))
	}
	return n, true, nil
}

// maxWait is the longest that a changes feed without heartbeat waits, as CouchDB's changes_timeout.
const maxWait = 60 * time.Second

// A changesParams is what a request for _changes asks.
// https://docs.couchdb.org/en/stable/api/database/changes.html
type changesParams struct {
	couch.ChangesOptions
	eventSource bool
	designOnly  bool // filter=_design
}

// changesBody is the body of POST /{db}/_changes.
type changesBody struct {
	DocIDs   []string `json:"doc_ids"`
	Selector rawJSON  `json:"selector"`
}

func parseChanges(q url.Values, lastEventID string, body []byte) (*changesParams, error) {
	c := &changesParams{}
	c.Since = sinceParam(q.Get("since"))
	if v := q.Get("last-event-id"); v != "" {
		c.Since = sinceParam(v)
	}
	c.Descending = q.Get("descending") == "true"
	c.IncludeDocs = q.Get("include_docs") == "true"
	c.Conflicts = q.Get("conflicts") == "true"
	c.Attachments = q.Get("attachments") == "true"
	switch v := q.Get("feed"); v {
	case "", "normal":
		c.Feed = couch.FeedNormal
	case "longpoll":
		c.Feed = couch.FeedLongpoll
	case "continuous", "live":
		c.Feed = couch.FeedContinuous
	case "eventsource":
		c.Feed, c.eventSource = couch.FeedContinuous, true
		if lastEventID != "" { // a browser that reconnects
			c.Since = sinceParam(lastEventID)
		}
	default:
		return nil, couch.BadRequest("Supported `feed` types: normal, continuous, live, longpoll, eventsource")
	}
	switch v := q.Get("style"); v {
	case "", "main_only":
	case "all_docs":
		c.AllLeaves = true
	default:
		return nil, queryError("Invalid value for style: " + strconv.Quote(v))
	}
	if n, ok, err := count(q, "limit"); err != nil {
		return nil, err
	} else if ok {
		c.Limit = max(n, 1) // CouchDB: 0 has the effect of 1
	}
	if err := c.parseWaiting(q); err != nil {
		return nil, err
	}
	return c, c.parseFilter(q, body)
}

// sinceParam reads an update sequence; event sources send it back with its quotes.
func sinceParam(v string) couch.Seq {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	return couch.Seq(v)
}

func (c *changesParams) parseWaiting(q url.Values) error {
	switch v := q.Get("heartbeat"); v {
	case "", "false":
	case "true":
		c.Heartbeat = maxWait
	default:
		n, err := strconv.Atoi(v)
		if err != nil {
			return couch.BadRequest("Invalid heartbeat value. Expecting a positive integer value (in milliseconds).")
		}
		if n <= 0 {
			return couch.BadRequest("The heartbeat value should be a positive integer (in milliseconds).")
		}
		c.Heartbeat = min(max(time.Duration(min(n, 1<<31))*time.Millisecond, 100*time.Millisecond), maxWait)
	}
	n, ok, err := count(q, "timeout")
	if err != nil {
		return err
	}
	switch {
	case ok:
		c.Timeout = min(time.Duration(min(n, 1<<31))*time.Millisecond, maxWait)
	case c.Heartbeat == 0:
		c.Timeout = maxWait
	}
	if ok && c.Timeout == 0 {
		c.Timeout = time.Millisecond // 0 means no timeout below
	}
	return nil
}

func (c *changesParams) parseFilter(q url.Values, body []byte) error {
	var b changesBody
	if len(body) > 0 {
		if err := decodeObject(body, &b); err != nil {
			if strings.Contains(err.Error(), `"/doc_ids`) {
				err = errDocIDs
			}
			return err
		}
	}
	switch filter := q.Get("filter"); filter {
	case "":
	case "_doc_ids":
		c.DocIDs = b.DocIDs
		if v := q.Get("doc_ids"); v != "" && c.DocIDs == nil {
			if json.Unmarshal([]byte(v), &c.DocIDs) != nil {
				return errDocIDs
			}
		}
		if c.DocIDs == nil {
			return errDocIDs
		}
	case "_selector":
		if !strings.HasPrefix(string(b.Selector), "{") {
			return couch.BadRequest("Selector must be specified in POST payload")
		}
		c.Selector = []byte(b.Selector)
	case "_design":
		c.designOnly = true
	case "_view":
		if strings.Count(q.Get("view"), "/") != 1 {
			return couch.BadRequest("Invalid `view` parameter.")
		}
		return couch.BadRequest("The filter _view is not supported: no JavaScript runs here.")
	default:
		switch {
		case filter[0] == '_':
			return couch.BadRequest("unknown builtin filter name")
		case len(strings.FieldsFunc(filter, func(r rune) bool { return r == '/' })) != 2:
			return couch.BadRequest("filter parameter must be of the form `designname/filtername`")
		}
		return couch.NoFilter(filter)
	}
	return nil
}

var errDocIDs = couch.BadRequest("`doc_ids` filter parameter is not a list.")
