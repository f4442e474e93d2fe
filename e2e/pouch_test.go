package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// A pouch is a Node process with a real PouchDB, driven step by step: see pouchdb/peer.mjs.
type pouch struct {
	w  *world
	p  *proc.Proc
	in io.Writer
}

func (w *world) pouch() *pouch {
	w.Helper()
	cmd := w.command("node", "pouchdb/peer.mjs")
	in, err := cmd.StdinPipe()
	w.ok(err)
	return &pouch{w, w.start(cmd), in}
}

// A step is what the PouchDB is to do, and with what.
type step map[string]any

// pouchError is how a step failed.
type pouchError struct {
	Status       int
	Name, Reason string
}

func (e *pouchError) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Name, e.Reason) }

// try does a step and decodes its value into out (if not nil).
func (p *pouch) try(name string, s step, out any) error {
	p.w.Helper()
	s["do"] = name
	_, err := io.WriteString(p.in, jsonOf(s)+"\n")
	p.w.ok(err)
	var answer struct {
		Value json.RawMessage
		Error *pouchError
	}
	p.w.next(p.p, "answer", &answer)
	if answer.Error != nil {
		return answer.Error
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, out)
}

// do is try for a step that must succeed.
func (p *pouch) do(name string, s step, out any) {
	p.w.Helper()
	if err := p.try(name, s, out); err != nil {
		p.w.Fatalf("PouchDB %s %v: %v", name, s, err)
	}
}

// call calls a method of a database.
func (p *pouch) call(db, method string, out any, args ...any) {
	p.w.Helper()
	if args == nil {
		args = []any{}
	}
	p.do("call", step{"db": db, "method": method, "args": args}, out)
}

// bulk writes documents, all of which must be accepted.
func (p *pouch) bulk(db string, docs ...string) {
	p.w.Helper()
	p.bulkWith(db, map[string]any{}, docs...)
}

func (p *pouch) bulkWith(db string, options map[string]any, docs ...string) {
	p.w.Helper()
	var results []struct {
		ID, Rev, Reason string
		Error           any
	}
	p.call(db, "bulkDocs", &results, json.RawMessage("["+strings.Join(docs, ",")+"]"), options)
	for _, r := range results {
		if r.Error != nil {
			p.w.Fatalf("PouchDB bulkDocs to %s: %+v", db, r)
		}
	}
}

// sync replicates both ways, once, without failures.
func (p *pouch) sync(a, b string) (c complete) {
	p.w.Helper()
	p.do("sync", step{"a": a, "b": b}, &c)
	if c.Pushed.Failed+c.Pulled.Failed > 0 {
		p.w.Fatalf("PouchDB sync: %+v", c)
	}
	return c
}

// rev is a document's current revision.
func (p *pouch) rev(db, id string) string {
	p.w.Helper()
	var doc struct {
		Rev string `json:"_rev"`
	}
	p.call(db, "get", &doc, id)
	return doc.Rev
}

// leaves reads a database with PouchDB, also one behind a URL.
func (p *pouch) leaves(db string) leaves {
	p.w.Helper()
	var rows changes
	p.call(db, "changes", &rows, map[string]any{"style": "all_docs"})
	all := leaves{}
	for some := range slices.Chunk(rows.Results, 100) {
		var refs []map[string]string
		for _, r := range some {
			for _, c := range r.Changes {
				refs = append(refs, map[string]string{"id": r.ID, "rev": c.Rev})
			}
		}
		var got struct {
			Results []struct {
				Docs []struct{ OK json.RawMessage }
			}
		}
		p.call(db, "bulkGet", &got, map[string]any{"docs": refs, "revs": true, "attachments": true})
		for _, r := range got.Results {
			for _, d := range r.Docs {
				all.add(p.w, d.OK)
			}
		}
	}
	return all
}
