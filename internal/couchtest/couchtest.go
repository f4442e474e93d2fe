// Package couchtest is the conformance suite of [couch.Store] and [couch.DB]:
// CouchDB's semantics as tests, which every implementation passes, whether it
// keeps the data (localdb) or reaches it (couchhttp's client, a share, an
// adapter).
//
//	func TestConformance(t *testing.T) { couchtest.Run(t, openStore) }
package couchtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// patience bounds every wait of the suite.
const patience = 20 * time.Second

// Run runs the whole suite on the store that open gives, which open closes by
// t.Cleanup. Every test uses a database of its own.
func Run(t *testing.T, open func(t *testing.T) couch.Store) { RunWith(t, Options{}, open) }

// Options adjusts the suite to a store that stands for something that is not CouchDB's API itself.
type Options struct {
	StatusOnly bool     // of errors only the status arrives
	Skip       []string // tests that cannot pass, as "Group/Name"
}

// RunWith is Run for a store that has reasons to be less exact.
func RunWith(t *testing.T, o Options, open func(t *testing.T) couch.Store) {
	s := &suite{Store: open(t), o: o}
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Store", storeTests}, {"Edit", editTests}, {"Revision", revisionTests}, {"Read", readTests},
		{"Attachment", attachmentTests}, {"Local", localTests}, {"Changes", changesTests}, {"Query", queryTests},
		{"Purge", purgeTests}, {"Compact", compactTests}, {"Load", loadTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, tt := range group.tests {
				t.Run(tt.name, func(t *testing.T) {
					if slices.Contains(o.Skip, group.name+"/"+tt.name) {
						t.Skip("cannot pass on this store")
					}
					tt.run(&env{T: t, suite: s})
				})
			}
		})
	}
}

type test struct {
	name string
	run  func(e *env)
}

type suite struct {
	couch.Store
	o Options
}

// env is one test, with checks that end it.
type env struct {
	*testing.T
	*suite
}

var counter atomic.Int64

func freshName() string {
	return fmt.Sprintf("test%d-%d", time.Now().UnixNano(), counter.Add(1))
}

// db makes an empty database, which goes away with the test.
func (e *env) db() couch.DB {
	e.Helper()
	name := freshName()
	e.ok(e.Create(e.Context(), name))
	e.Cleanup(func() { _ = e.Destroy(context.WithoutCancel(e.Context()), name) })
	db, err := e.Open(e.Context(), name)
	e.ok(err)
	return db
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("unexpected error: %v", err)
	}
}

// fails checks an error's status and code, and its reason unless that is "".
func (e *env) fails(err error, status int, code, reason string) {
	e.Helper()
	var ce *couch.Error
	same := errors.As(err, &ce) && ce.Status == status
	if same && !e.o.StatusOnly {
		same = ce.Code == code && (reason == "" || ce.Reason == reason)
	}
	if !same {
		e.Fatalf("error is %#v (%v); want %d %s: %s", ce, err, status, code, reason)
	}
}

// equal compares values by what they print.
func (e *env) equal(what string, got, want any) {
	e.Helper()
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); g != w {
		e.Fatalf("%s: got %s, want %s", what, g, w)
	}
}

func parse(e *env, text string) *couch.Doc {
	e.Helper()
	d, err := couch.ParseDoc([]byte(text))
	e.ok(err)
	return d
}

// put writes documents as edits, all of which must succeed, and returns the last new revision.
func (e *env) put(db couch.DB, texts ...string) couch.Rev {
	e.Helper()
	docs := make([]*couch.Doc, len(texts))
	for i, text := range texts {
		docs[i] = parse(e, text)
	}
	return e.write(db, couch.WriteOptions{}, docs...)
}

// replicate writes revisions as they are.
func (e *env) replicate(db couch.DB, texts ...string) {
	e.Helper()
	for _, text := range texts { // one call each: the order matters to some tests
		e.write(db, couch.WriteOptions{Replicated: true}, parse(e, text))
	}
}

func (e *env) write(db couch.DB, o couch.WriteOptions, docs ...*couch.Doc) couch.Rev {
	e.Helper()
	results, err := db.BulkDocs(e.Context(), docs, o)
	e.ok(err)
	e.equal("results", len(results), len(docs))
	for i, r := range results {
		if r.Err != nil || r.ID != docs[i].ID || r.Rev.IsZero() {
			e.Fatalf("writing %s: %+v", docs[i].ID, r)
		}
	}
	return results[len(results)-1].Rev
}

// refused writes one document and returns why it could not be written.
func (e *env) refused(db couch.DB, o couch.WriteOptions, doc *couch.Doc) error {
	e.Helper()
	results, err := db.BulkDocs(e.Context(), []*couch.Doc{doc}, o)
	if err != nil {
		return err
	}
	e.equal("results", len(results), 1)
	if results[0].Err == nil {
		e.Fatalf("%s was written as %v", doc.ID, results[0].Rev)
	}
	return results[0].Err
}

func (e *env) get(db couch.DB, id string, o couch.GetOptions) *couch.Doc {
	e.Helper()
	d, err := db.Get(e.Context(), id, o)
	e.ok(err)
	e.equal("id", d.ID, id)
	return d
}

func (e *env) info(db couch.DB) *couch.Info {
	e.Helper()
	i, err := db.Info(e.Context())
	e.ok(err)
	return i
}

func (e *env) bulkGet(db couch.DB, o couch.GetOptions, refs ...couch.DocRef) (got []couch.BulkGetResult) {
	e.Helper()
	e.ok(db.BulkGet(e.Context(), refs, o, func(r couch.BulkGetResult) error { got = append(got, r); return nil }))
	return got
}

// content reads an attachment, in whichever way it comes.
func (e *env) content(a *couch.Attachment) []byte {
	e.Helper()
	r, err := a.Reader(e.Context())
	e.ok(err)
	defer r.Close()
	b, err := io.ReadAll(r)
	e.ok(err)
	return b
}

func rev(s string) couch.Rev {
	r, err := couch.ParseRev(s)
	if err != nil {
		panic(err)
	}
	return r
}

func revs(list ...string) (out []couch.Rev) {
	for _, s := range list {
		out = append(out, rev(s))
	}
	return out
}

// history is a replicated revision: its id, its ancestry newest first, and a body.
func history(id, ancestry, members string) string {
	hashes := strings.Fields(ancestry)
	return fmt.Sprintf(`{"_id":%q,"_rev":"%d-%s","_revisions":{"start":%d,"ids":["%s"]}%s}`,
		id, len(hashes), hashes[0], len(hashes), strings.Join(hashes, `","`), members)
}

func opener(data []byte) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func sortedRevs(list []couch.Rev) []couch.Rev {
	list = slices.Clone(list)
	slices.SortFunc(list, couch.Rev.Compare)
	return list
}

// words puts a space between all values.
func words(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }
