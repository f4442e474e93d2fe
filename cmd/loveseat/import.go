package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// importBatch is how many documents are written in one transaction.
const importBatch = 1000

func (m *Main) importCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import DB FILE",
		Short: "Write the documents of a JSON file into a local database",
		Long: `Import reads a JSON array of documents, NDJSON (one document a line) or an object
{"docs": […]} from FILE ("-": standard input) into DB, which it creates if need be.

A document that carries a _rev is stored as that revision, as a replication would;
others become new documents, or new revisions where they differ from what is there.
Importing a file again changes nothing.`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runImport(cmd.Context(), args[0], args[1], o)
		},
	}
	cmd.Flags().StringVar(&o.idField, "id", "", "take the document's id from this `FIELD` (default: _id, else a new id)")
	cmd.Flags().StringVar(&o.attachDir, "attach", "", "attach the files `DIR`/<id>.* to each document")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON event a line")
	return cmd
}

type importOptions struct {
	idField   string
	attachDir string
	json      bool
}

// imported counts what became of the documents.
type imported struct {
	Created     int64 `json:"created"`
	Updated     int64 `json:"updated"`
	Unchanged   int64 `json:"unchanged"`
	Failed      int64 `json:"failed"`
	Attachments int64 `json:"attachments"`
	Bytes       int64 `json:"bytes"`
}

func (m *Main) runImport(ctx context.Context, path, file string, o importOptions) error {
	in := m.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	files, err := listAttachments(o.attachDir)
	if err != nil {
		return err
	}
	store, db, err := openLocal(ctx, path, true)
	if err != nil {
		return err
	}
	defer store.Close()

	im := &importer{db: db, o: o, files: files, report: m.reporter(o.json)}
	defer im.report.Close()
	if err := readDocs(in, func(raw jsontext.Value) error { return im.add(ctx, raw) }); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := im.flush(ctx); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	im.report.Done("imported", im.n, fmt.Sprintf("%s: %d documents created, %d updated, %d unchanged, %d failed; %d attachments",
		path, im.n.Created, im.n.Updated, im.n.Unchanged, im.n.Failed, im.n.Attachments))
	if im.n.Failed > 0 {
		return fmt.Errorf("%d documents were not written", im.n.Failed)
	}
	return nil
}

// importer gathers documents into batches and writes them.
type importer struct {
	db     couch.DB
	o      importOptions
	files  map[string][]string // attachments by lower-case id
	report *reporter
	n      imported
	edits  []*couch.Doc // without a _rev
	exact  []*couch.Doc // with a _rev, stored as it is
}

func (im *importer) add(ctx context.Context, raw jsontext.Value) error {
	doc, err := couch.ParseDoc(bytes.Clone(raw))
	if err != nil {
		im.fail(fmt.Sprintf("%.60s", raw), couch.AsError(err))
		return nil
	}
	if err := im.identify(doc); err != nil {
		im.fail(fmt.Sprintf("%.60s", raw), couch.AsError(err))
		return nil
	}
	if err := im.attach(doc); err != nil {
		return err
	}
	im.n.Bytes += int64(len(raw))
	if doc.Rev.IsZero() {
		im.edits = append(im.edits, doc)
	} else {
		im.exact = append(im.exact, doc)
	}
	if len(im.edits)+len(im.exact) >= importBatch {
		return im.flush(ctx)
	}
	return nil
}

// identify gives the document its id.
func (im *importer) identify(doc *couch.Doc) error {
	if im.o.idField != "" && im.o.idField != "_id" {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(doc.Body, &members); err != nil {
			return err
		}
		v := members[im.o.idField]
		var s string
		switch {
		case v == nil:
			return couch.BadRequest("the document has no field " + im.o.idField)
		case v[0] == '{' || v[0] == '[' || string(v) == "null":
			return couch.BadRequest("the field " + im.o.idField + " is no id: " + string(v))
		case json.Unmarshal(v, &s) == nil:
			doc.ID = s
		default:
			doc.ID = string(v) // a number or a boolean
		}
	}
	if doc.ID == "" {
		doc.ID = newID()
	}
	return couch.ValidID(doc.ID)
}

// attach adds the files of --attach that are named after the document.
func (im *importer) attach(doc *couch.Doc) error {
	for _, path := range im.files[strings.ToLower(doc.ID)] {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		name := filepath.Base(path)
		doc.Attachments = slices.DeleteFunc(doc.Attachments, func(a couch.Attachment) bool { return a.Name == name })
		doc.Attachments = append(doc.Attachments, couch.Attachment{
			Name:        name,
			ContentType: cmp.Or(mime.TypeByExtension(filepath.Ext(name)), "application/octet-stream"),
			Length:      info.Size(),
			Open:        func(context.Context) (io.ReadCloser, error) { return os.Open(path) },
		})
		im.n.Attachments++
		im.n.Bytes += info.Size()
	}
	slices.SortFunc(doc.Attachments, func(a, b couch.Attachment) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// listAttachments finds the files of dir by the lower-case part of their names before the first dot.
func listAttachments(dir string) (map[string][]string, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]string)
	for _, e := range entries {
		id, _, dotted := strings.Cut(e.Name(), ".")
		if e.Type().IsRegular() && dotted && id != "" {
			id = strings.ToLower(id)
			files[id] = append(files[id], filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

func (im *importer) flush(ctx context.Context) error {
	created, err := im.write(ctx, im.exact, couch.WriteOptions{Replicated: true})
	if err != nil {
		return err
	}
	conflicts, err := im.writeEdits(ctx, im.edits)
	if err != nil {
		return err
	}
	im.n.Created += created
	if err := im.update(ctx, conflicts); err != nil {
		return err
	}
	im.edits, im.exact = im.edits[:0], im.exact[:0]
	im.report.Progress("importing", im.n.Created+im.n.Updated+im.n.Unchanged, -1, im.n.Bytes)
	return nil
}

// write stores documents and returns how many were.
func (im *importer) write(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) (written int64, err error) {
	if len(docs) == 0 {
		return 0, nil
	}
	results, err := im.db.BulkDocs(ctx, docs, o)
	for _, r := range results {
		if r.Err != nil {
			im.fail(r.ID, r.Err)
		} else {
			written++
		}
	}
	return written, err
}

// writeEdits stores new documents and returns those that exist already.
func (im *importer) writeEdits(ctx context.Context, docs []*couch.Doc) (existing []*couch.Doc, err error) {
	if len(docs) == 0 {
		return nil, nil
	}
	results, err := im.db.BulkDocs(ctx, docs, couch.WriteOptions{})
	for i, r := range results {
		switch {
		case r.Err == nil:
			im.n.Created++
		case r.Err.Is(couch.ErrConflict):
			existing = append(existing, docs[i])
		default:
			im.fail(r.ID, r.Err)
		}
	}
	return existing, err
}

// update writes documents that exist already as new revisions of them, one by one
// since the same id may come several times.
func (im *importer) update(ctx context.Context, docs []*couch.Doc) error {
	for _, doc := range docs {
		if err := im.updateOne(ctx, doc); err != nil {
			return err
		}
	}
	return nil
}

// updateTries is how often a document is written that others (a live sync) change at the same time.
const updateTries = 10

// updateOne writes a document as a new revision of the one that is stored, unless it says the same.
func (im *importer) updateOne(ctx context.Context, doc *couch.Doc) error {
	var refused *couch.Error
	for range updateTries {
		old, err := im.db.Get(ctx, doc.ID, couch.GetOptions{})
		switch {
		case errors.Is(err, couch.ErrNotFound) && doc.Deleted: // deleted already
			im.n.Unchanged++
			return nil
		case errors.Is(err, couch.ErrNotFound): // deleted since it was in the way
			old = &couch.Doc{Deleted: true}
		case err != nil:
			return err
		}
		same, err := sameContent(ctx, old, doc)
		if err != nil {
			return err
		}
		if same {
			im.n.Unchanged++
			return nil
		}
		doc.Rev = old.Rev
		results, err := im.db.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{})
		if err != nil {
			return err
		}
		if refused = results[0].Err; refused == nil {
			im.n.Updated++
			return nil
		}
		if !refused.Is(couch.ErrConflict) {
			break
		}
	}
	im.fail(doc.ID, refused)
	return nil
}

func (im *importer) fail(what string, err *couch.Error) {
	im.n.Failed++
	im.report.Warn("failed", map[string]any{"doc": what, "error": err.Code, "reason": err.Reason}, fmt.Sprintf("%s: %v", what, err))
}

// sameContent reports whether doc would not change what old says.
func sameContent(ctx context.Context, old, doc *couch.Doc) (bool, error) {
	if old.Deleted != doc.Deleted || len(old.Attachments) != len(doc.Attachments) || !sameJSON(old.Body, doc.Body) {
		return false, nil
	}
	for i := range doc.Attachments {
		a, b := &old.Attachments[i], &doc.Attachments[i]
		if a.Name != b.Name || b.Length >= 0 && a.Length != b.Length {
			return false, nil
		}
		if err := couch.FillDigests(ctx, b); err != nil || !couch.SameContent(a, b) {
			return false, err
		}
	}
	return true, nil
}

// sameJSON compares values without regard to white space, order of members and spelling.
func sameJSON(a, b json.RawMessage) bool {
	x, y := jsontext.Value(bytes.Clone(a)), jsontext.Value(bytes.Clone(b))
	return bytes.Equal(a, b) || x.Canonicalize() == nil && y.Canonicalize() == nil && bytes.Equal(x, y)
}
