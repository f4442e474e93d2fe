package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func (m *Main) exportCommand() *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "export DB",
		Short: "Print the documents of a local database, one JSON object a line",
		Long: `Export prints every document with its attachments inline (base64) as NDJSON, which
'loveseat import' reads. With --full it prints every leaf revision with its history,
conflicts and tombstones included: a whole backup.`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runExport(cmd.Context(), args[0], full)
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "all leaf revisions with their histories")
	return cmd
}

func (m *Main) runExport(ctx context.Context, path string, full bool) error {
	store, db, err := openLocal(ctx, path, false)
	if err != nil {
		return err
	}
	defer store.Close()
	w := bufio.NewWriterSize(m.documents(), 1<<16)
	if full {
		err = exportLeaves(ctx, w, db)
	} else {
		_, err = db.AllDocs(ctx, couch.AllDocsOptions{IncludeDocs: true, Attachments: true}, func(r *couch.Row) error {
			return writeLine(ctx, w, r.Doc)
		})
	}
	if err != nil {
		return err
	}
	return w.Flush()
}

// documents is where documents are printed: as they are, but for people.
func (m *Main) documents() io.Writer {
	if f, ok := m.raw.(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return f
	}
	return m.Stdout
}

// exportLeaves walks the changes feed, so that deleted documents come too.
func exportLeaves(ctx context.Context, w *bufio.Writer, db couch.DB) error {
	_, err := db.Changes(ctx, couch.ChangesOptions{AllLeaves: true}, func(c *couch.Change) error {
		refs := make([]couch.DocRef, len(c.Revs))
		for i, rev := range c.Revs {
			refs[i] = couch.DocRef{ID: c.ID, Rev: rev}
		}
		return db.BulkGet(ctx, refs, couch.GetOptions{Revs: true, Attachments: true}, func(r couch.BulkGetResult) error {
			if r.Err != nil {
				return r.Err
			}
			return writeLine(ctx, w, r.Doc)
		})
	})
	return err
}

// writeLine writes a document. Attachments that are too long to be held are
// streamed into it, so they come last.
func writeLine(ctx context.Context, w *bufio.Writer, doc *couch.Doc) error {
	bare := *doc
	bare.Attachments = nil
	line := bare.AppendJSON(nil)
	if len(doc.Attachments) == 0 {
		_, err := w.Write(append(line, '\n'))
		return err
	}
	_, _ = w.Write(line[:len(line)-len("}")]) // the writer keeps its first error
	for i := range doc.Attachments {
		_, _ = w.WriteString([]string{`,"_attachments":{`, ","}[min(i, 1)])
		if err := writeAttachment(ctx, w, &doc.Attachments[i]); err != nil {
			return err
		}
	}
	_, err := w.WriteString("}}\n")
	return err
}

func writeAttachment(ctx context.Context, w *bufio.Writer, a *couch.Attachment) error {
	if a.Data != nil || a.Open == nil {
		_, err := w.Write(a.AppendJSON(nil))
		return err
	}
	r, err := a.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	empty := *a
	empty.Data = []byte{}
	head := empty.AppendJSON(nil)
	_, _ = w.Write(head[:len(head)-len(`"}`)])
	enc := base64.NewEncoder(base64.StdEncoding, w)
	if _, err := io.Copy(enc, r); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	_, err = w.WriteString(`"}`)
	return err
}
