package couchhttp

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// remote is a database on a server.
type remote struct {
	c    *Client
	name string
	path string // escaped
}

var _ couch.DB = (*remote)(nil)

func (d *remote) at(rest string) string { return d.path + "/" + rest }

// docPath is the path of a document, or with a name of its attachment. Errors:
// illegal_docid (400) for what a server, or a proxy before it, may take for another
// path: see [remote.getByBody].
func (d *remote) docPath(id string, name ...string) (string, error) {
	path := d.at(escapeID(id))
	for _, n := range name {
		path += "/" + escape(n)
	}
	if !couch.PlainID(id) || couch.LeavesPath(id) || slices.ContainsFunc(name, couch.LeavesPath) {
		return "", errPath
	}
	return path, nil
}

// getByBody is Get of an id that has no path: the request names it in its body.
func (d *remote) getByBody(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	if !couch.PlainID(id) {
		return nil, errPath
	}
	if o.Rev.IsZero() {
		_, err := d.AllDocs(ctx, couch.AllDocsOptions{Keys: []string{id}}, func(r *couch.Row) error {
			if r.Deleted {
				return couch.NotFound("deleted")
			}
			o.Rev = r.Rev
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var doc *couch.Doc
	missing := couch.AsError(couch.NotFound("missing"))
	if o.Rev.IsZero() {
		return nil, missing
	}
	err := d.bulkGet(ctx, []couch.DocRef{{ID: id, Rev: o.Rev, AttsSince: o.AttsSince}}, o, func(r couch.BulkGetResult) error {
		doc, missing = r.Doc, cmp.Or(r.Err, missing)
		return nil
	})
	if err == nil && doc == nil {
		err = missing
	}
	return doc, err
}

// attachmentByBody is Attachment of what has no path. It is held in memory, as far as an answer may be.
func (d *remote) attachmentByBody(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	doc, err := d.getByBody(ctx, id, couch.GetOptions{Rev: rev, Attachments: true})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(doc.Attachments, func(a couch.Attachment) bool { return a.Name == name })
	if i < 0 {
		return nil, couch.NotFound("Document is missing attachment")
	}
	return couch.AttachmentFrom(&doc.Attachments[i], offset)
}

// localPath is the path of a _local document, given without "_local/".
func (d *remote) localPath(id string) (string, error) {
	if couch.ValidID("_local/"+id) != nil || couch.LeavesPath(id) {
		return "", errPath
	}
	return d.at("_local/" + escape(id)), nil
}

var errPath = &couch.Error{Status: 400, Code: "illegal_docid", Reason: "This id cannot be asked for by a URL."}

// Info reads GET /{db}. A server that does not identify its databases is asked
// for its own uuid (GET /), and failing that the database is its URL.
func (d *remote) Info(ctx context.Context) (*couch.Info, error) {
	var in struct {
		Name      string                       `json:"db_name"`
		UUID      string                       `json:"uuid"`
		DocCount  int64                        `json:"doc_count"`
		DelCount  int64                        `json:"doc_del_count"`
		UpdateSeq couch.Seq                    `json:"update_seq"`
		CommitSeq couch.Seq                    `json:"committed_update_seq"`
		PurgeSeq  couch.Seq                    `json:"purge_seq"`
		Compacts  bool                         `json:"compact_running"`
		DiskSize  int64                        `json:"disk_size"` // CouchDB 1
		DataSize  int64                        `json:"data_size"`
		AllSizes  struct{ File, Active int64 } `json:"sizes"`
	}
	if err := d.c.json(ctx, request{method: "GET", path: d.path}, &in); err != nil {
		return nil, err
	}
	info := &couch.Info{
		Name: in.Name, UUID: in.UUID, DocCount: in.DocCount, DelCount: in.DelCount, UpdateSeq: in.UpdateSeq, PurgeSeq: in.PurgeSeq, Compacting: in.Compacts,
		FileSize: max(in.AllSizes.File, in.DiskSize), ActiveSize: max(in.AllSizes.Active, in.DataSize),
	}
	if info.Name == "" {
		info.Name = d.name
	}
	if info.UUID == "" {
		server, err := d.c.serverUUID(ctx)
		if err != nil {
			return nil, err
		}
		info.UUID = server + d.path
	}
	return info, nil
}

// serverUUID returns the uuid of GET / with a slash, or the base URL.
func (c *Client) serverUUID(ctx context.Context) (string, error) {
	if known := c.uuid.Load(); known != nil {
		return *known, nil
	}
	var welcome struct{ UUID string }
	err := c.json(ctx, request{method: "GET", path: ""}, &welcome)
	if err != nil && (couch.AsError(err).Status >= 500 || ctx.Err() != nil) {
		return "", err // an answer like "forbidden" or a page of a proxy is for good, this may not be
	}
	id := c.base
	if welcome.UUID != "" {
		id = welcome.UUID + "/"
	}
	c.uuid.Store(&id)
	return id, nil
}

// Get reads GET /{db}/{docid}.
func (d *remote) Get(ctx context.Context, id string, o couch.GetOptions) (*couch.Doc, error) {
	path, err := d.docPath(id)
	if err != nil {
		return d.getByBody(ctx, id, o)
	}
	q := getQuery(o)
	doc, err := d.getDoc(ctx, path, q)
	if err != nil || !o.Attachments || o.MaxInlineSize == 0 {
		return doc, err
	}
	switch wantsInline(doc, o.AttsSince, o.MaxInlineSize) {
	case inlineAll:
		q.Set("attachments", "true")
		return d.getDoc(ctx, path, q)
	case inlineSome:
		err = d.fillSmall(ctx, doc, o.AttsSince, o.MaxInlineSize)
	}
	return doc, err
}

func (d *remote) getDoc(ctx context.Context, path string, q url.Values) (*couch.Doc, error) {
	resp, err := d.c.send(ctx, request{method: "GET", path: path, query: q})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	b, err := readAll(resp, d.c.o.MaxRow)
	if err != nil {
		return nil, cause(ctx, err)
	}
	return couch.ParseDoc(b)
}

// getQuery is the query of a document. Attachments with a size limit are asked
// for as stubs at first: CouchDB has no such limit.
func getQuery(o couch.GetOptions) url.Values {
	q := url.Values{}
	if !o.Rev.IsZero() {
		q.Set("rev", o.Rev.String())
	}
	for name, on := range map[string]bool{
		"latest": o.Latest, "revs": o.Revs, "revs_info": o.RevsInfo, "local_seq": o.LocalSeq,
		"conflicts": o.Conflicts, "deleted_conflicts": o.Conflicts, "attachments": o.Attachments && o.MaxInlineSize == 0,
	} {
		if on {
			q.Set(name, "true")
		}
	}
	if len(o.AttsSince) > 0 {
		q.Set("atts_since", marshal(o.AttsSince))
	}
	return q
}

// GetLocal reads GET /{db}/_local/{id}.
func (d *remote) GetLocal(ctx context.Context, id string) (*couch.Doc, error) {
	path, err := d.localPath(id)
	if err != nil {
		return nil, err
	}
	doc, err := d.getDoc(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	doc.ID = strings.TrimPrefix(doc.ID, "_local/")
	return doc, nil
}

// PutLocal writes PUT /{db}/_local/{id}, or DELETE for a deleted document.
func (d *remote) PutLocal(ctx context.Context, doc *couch.Doc) (couch.Rev, error) {
	path, err := d.localPath(doc.ID)
	if err != nil {
		return couch.Rev{}, err
	}
	r := request{method: "PUT", path: path}
	if doc.Deleted {
		if r.method = "DELETE"; !doc.Rev.IsZero() { // CouchDB takes an empty one for a malformed one
			r.query = url.Values{"rev": {doc.Rev.String()}}
		}
	} else {
		with := *doc
		with.ID = "_local/" + doc.ID
		r.body = newPayload()
		r.body.buf = with.AppendJSON(r.body.buf)
	}
	var out struct{ Rev couch.Rev }
	err = d.c.json(ctx, r, &out)
	return out.Rev, err
}

// Security reads GET /{db}/_security.
func (d *remote) Security(ctx context.Context) (security json.RawMessage, err error) {
	err = d.c.json(ctx, request{method: "GET", path: d.at("_security")}, &security)
	return security, err
}

// SetSecurity writes PUT /{db}/_security.
func (d *remote) SetSecurity(ctx context.Context, security json.RawMessage) error {
	body := newPayload()
	body.buf = append(body.buf, security...)
	return d.c.json(ctx, request{method: "PUT", path: d.at("_security"), body: body}, nil)
}

// RevsDiff asks POST /{db}/_revs_diff.
func (d *remote) RevsDiff(ctx context.Context, docs []couch.DocRevs) (diffs []couch.RevsDiff, err error) {
	if len(docs) == 0 {
		return nil, nil
	}
	body := newPayload()
	b := append(body.buf, '{')
	for i, doc := range docs {
		if i > 0 {
			b = append(b, ',')
		}
		b = couch.AppendString(b, doc.ID)
		b = appendRevList(append(b, ':'), doc.Revs)
	}
	body.buf = append(b, '}')
	r := request{method: "POST", path: d.at("_revs_diff"), body: body, repeat: true}
	err = d.c.stream(ctx, r, false, func(s *jsonStream) error {
		return s.object(func(id string) error {
			diff := couch.RevsDiff{ID: id}
			err := s.object(func(key string) (err error) {
				switch key {
				case "missing":
					diff.Missing, err = s.revs()
				case "possible_ancestors":
					diff.PossibleAncestors, err = s.revs()
				default:
					err = s.skip()
				}
				return err
			})
			if diffs = append(diffs, diff); len(diffs) > len(docs) {
				return errTooMuch
			}
			return err
		})
	})
	return diffs, err
}

func appendRevList(b []byte, revs []couch.Rev) []byte {
	b = append(b, '[')
	for i, r := range revs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b, _ = r.AppendText(b)
		b = append(b, '"')
	}
	return append(b, ']')
}

// marshal is JSON of values that cannot fail.
func marshal(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
