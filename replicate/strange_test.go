package replicate_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

func TestASourceMaySendMoreThanAsked(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 1000)
	mustRun(t, &limitless{a}, b, replicate.Options{BatchSize: 10})
	wantEqual(t, a, b)
}

type limitless struct{ *memory }

func (l *limitless) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	o.Limit = 0
	return l.memory.Changes(ctx, o, fn)
}

func TestASourceMayAnswerInAnyOrder(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 100)
	mustRun(t, &shuffled{a}, b, replicate.Options{})
	wantEqual(t, a, b)
}

type shuffled struct{ *memory }

func (s *shuffled) BulkGet(_ context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for start := range 2 {
		for i := 1 - start; i < len(refs); i += 2 {
			if err := fn(s.get(refs[i], o)); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestRefusedDocumentsAreListed(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 300)
	b.refuse = func(doc *couch.Doc) *couch.Error {
		if strings.HasSuffix(doc.ID, "7") {
			return couch.Forbidden("no sevens")
		}
		return nil
	}
	res := mustRun(t, a, b, replicate.Options{})
	if res.DocsWritten != 270 || res.DocWriteFailures != 30 || len(res.Errors) != 30 || res.Errors[0].Error != "forbidden" || res.Errors[0].Reason != "no sevens" {
		t.Errorf("%+v", res)
	}
	if got := mustRun(t, a, b, replicate.Options{}); got.DocsRead != 0 {
		t.Error("refused documents are tried for ever")
	}
}

func TestOneBadDocumentDoesNotHoldUpItsBatch(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 100)
	target := &picky{DB: b}
	res := mustRun(t, a, target, replicate.Options{})
	if res.DocsWritten != 99 || res.DocWriteFailures != 1 || res.Errors[0].ID != "doc-00042" {
		t.Errorf("%+v", res)
	}
}

type picky struct{ couch.DB }

func (p *picky) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	for _, doc := range docs {
		if doc.ID == "doc-00042" {
			return nil, couch.BadRequest("I do not like it")
		}
	}
	return p.DB.BulkDocs(ctx, docs, o)
}

func TestATargetGetsOnlyWhatItWasOffered(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	a.edit("public", couch.Rev{}, `{}`, false)
	rev := a.edit("secret", couch.Rev{}, `{}`, false)
	res := mustRun(t, a, &greedy{DB: b, rev: rev}, replicate.Options{DocIDs: []string{"public"}})
	if res.DocsWritten != 1 || b.docs["secret"] != nil {
		t.Errorf("%+v", res)
	}
}

type greedy struct {
	couch.DB
	rev couch.Rev
}

func (g *greedy) RevsDiff(ctx context.Context, docs []couch.DocRevs) ([]couch.RevsDiff, error) {
	diffs, err := g.DB.RevsDiff(ctx, docs)
	return append(diffs, couch.RevsDiff{ID: "secret", Missing: []couch.Rev{g.rev}}), err
}

func TestMemoryIsBounded(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	for i := range 200 {
		a.edit(fmt.Sprint("doc", i), couch.Rev{}, `{"x":"`+strings.Repeat("x", 10_000)+`"}`, false)
	}
	target := &measuring{DB: b, source: a}
	mustRun(t, a, target, replicate.Options{BatchBytes: 100_000, InFlight: 2})
	wantEqual(t, a, b)
	if most := target.most.Load(); most > 2*25 { // two batches of at most twice BatchBytes
		t.Errorf("%d documents were held at a time", most)
	}
}

type measuring struct {
	couch.DB
	source  *memory
	written atomic.Int64
	most    atomic.Int64
}

func (m *measuring) BulkDocs(ctx context.Context, docs []*couch.Doc, o couch.WriteOptions) ([]couch.WriteResult, error) {
	m.source.mu.Lock()
	read := int64(m.source.calls["get"])
	m.source.mu.Unlock()
	m.most.Store(max(m.most.Load(), read-m.written.Load()))
	m.written.Add(int64(len(docs)))
	return m.DB.BulkDocs(ctx, docs, o)
}
