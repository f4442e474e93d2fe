package replicate_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// memory is a database in memory: just enough of one, and made of the
// interface's words alone, so that the tests of the protocol need no engine.
type memory struct {
	couch.DB // what replication does not use

	name string
	mu   sync.Mutex
	seq  int64
	docs map[string]*memDoc
	log  map[string]*couch.Doc // _local
	wake chan struct{}         // closed at the next write

	refuse   func(*couch.Doc) *couch.Error
	noLocals bool
	noUUID   bool
	calls    map[string]int
}

type memDoc struct {
	seq  int64
	revs map[couch.Rev]*couch.Doc // with a body, all of them
	gone map[couch.Rev]bool       // ancestors that are known of
}

func newMemory(name string) *memory {
	return &memory{name: name, docs: map[string]*memDoc{}, log: map[string]*couch.Doc{}, wake: make(chan struct{}), calls: map[string]int{}}
}

func (m *memory) call(name string) func() {
	m.mu.Lock()
	m.calls[name]++
	return m.mu.Unlock
}

// leaves returns the leaves of d, the winner first.
func (d *memDoc) leaves() []*couch.Doc {
	parents := map[couch.Rev]bool{}
	for _, doc := range d.revs {
		for i, hash := range doc.Revisions[1:] {
			parents[couch.Rev{Gen: doc.Rev.Gen - int64(i) - 1, Hash: hash}] = true
		}
	}
	var out []*couch.Doc
	for rev, doc := range d.revs {
		if !parents[rev] {
			out = append(out, doc)
		}
	}
	slices.SortFunc(out, func(a, b *couch.Doc) int {
		if a.Deleted != b.Deleted {
			return map[bool]int{true: 1, false: -1}[a.Deleted]
		}
		return b.Rev.Compare(a.Rev)
	})
	return out
}

// state is every leaf with its body and attachments, to compare databases by.
func (m *memory) state() map[string]string {
	defer m.call("state")()
	out := map[string]string{}
	for id, d := range m.docs {
		for _, leaf := range d.leaves() {
			whole := *leaf
			whole.Attachments = slices.Clone(whole.Attachments)
			out[id+" "+leaf.Rev.String()] = string(whole.AppendJSON(nil))
		}
	}
	return out
}

func (m *memory) Info(context.Context) (*couch.Info, error) {
	defer m.call("Info")()
	uuid := m.name
	if m.noUUID {
		uuid = ""
	}
	return &couch.Info{Name: m.name, UUID: uuid, UpdateSeq: couch.Seq(strconv.FormatInt(m.seq, 10))}, nil
}

func (m *memory) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	since, _ := strconv.ParseInt(string(o.Since), 10, 64)
	for {
		rows, now, wake := m.changes(since, o)
		for _, c := range rows {
			if err := fn(c); err != nil {
				return couch.ChangesResult{}, err
			}
			since, _ = strconv.ParseInt(string(c.Seq), 10, 64)
		}
		if len(rows) < o.Limit || o.Limit == 0 {
			since = now
		}
		if o.Feed != couch.FeedContinuous {
			return couch.ChangesResult{LastSeq: couch.Seq(strconv.FormatInt(since, 10)), Pending: now - since}, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return couch.ChangesResult{}, ctx.Err()
		}
	}
}

func (m *memory) changes(since int64, o couch.ChangesOptions) (rows []*couch.Change, now int64, wake chan struct{}) {
	defer m.call("Changes")()
	for id, d := range m.docs {
		if d.seq <= since || o.DocIDs != nil && !slices.Contains(o.DocIDs, id) {
			continue
		}
		c := &couch.Change{Seq: couch.Seq(strconv.FormatInt(d.seq, 10)), ID: id}
		for _, leaf := range d.leaves() {
			c.Revs = append(c.Revs, leaf.Rev)
		}
		if !o.AllLeaves {
			c.Revs = c.Revs[:1]
		}
		rows = append(rows, c)
	}
	slices.SortFunc(rows, func(a, b *couch.Change) int { return cmp.Compare(m.docs[a.ID].seq, m.docs[b.ID].seq) })
	if o.Limit > 0 && len(rows) > o.Limit {
		rows = rows[:o.Limit]
	}
	return rows, m.seq, m.wake
}

func (m *memory) RevsDiff(_ context.Context, docs []couch.DocRevs) (out []couch.RevsDiff, err error) {
	defer m.call("RevsDiff")()
	for _, ask := range docs {
		diff := couch.RevsDiff{ID: ask.ID}
		d := m.docs[ask.ID]
		for _, rev := range ask.Revs {
			if d == nil || d.revs[rev] == nil && !d.gone[rev] {
				diff.Missing = append(diff.Missing, rev)
			}
		}
		if d != nil {
			diff.PossibleAncestors = slices.Collect(maps.Keys(d.revs))
		}
		if len(diff.Missing) == len(ask.Revs) {
			diff.Missing = ask.Revs // as an engine may, to save the copy
		}
		if diff.Missing != nil {
			out = append(out, diff)
		}
	}
	return out, nil
}

func (m *memory) BulkGet(_ context.Context, refs []couch.DocRef, o couch.GetOptions, fn func(couch.BulkGetResult) error) error {
	for _, ref := range refs {
		for _, one := range m.leavesOf(ref) {
			if err := fn(m.get(one, o)); err != nil {
				return err
			}
		}
	}
	return nil
}

// leavesOf is ref, or all leaves if it names no revision.
func (m *memory) leavesOf(ref couch.DocRef) (refs []couch.DocRef) {
	defer m.call("leavesOf")()
	if d := m.docs[ref.ID]; ref.Rev.IsZero() && d != nil {
		for _, leaf := range d.leaves() {
			refs = append(refs, couch.DocRef{ID: ref.ID, Rev: leaf.Rev})
		}
		return refs
	}
	return []couch.DocRef{ref}
}

func (m *memory) get(ref couch.DocRef, o couch.GetOptions) couch.BulkGetResult {
	defer m.call("get")()
	out := couch.BulkGetResult{ID: ref.ID, Rev: ref.Rev}
	d := m.docs[ref.ID]
	if d == nil || d.revs[ref.Rev] == nil {
		out.Err = couch.NotFound("missing")
		return out
	}
	doc := *d.revs[ref.Rev]
	known := doc.SinceGen(ref.AttsSince)
	doc.Attachments = slices.Clone(doc.Attachments)
	for i := range doc.Attachments {
		if a := &doc.Attachments[i]; !o.Attachments || a.RevPos <= known || a.Length > o.MaxInlineSize {
			a.Data = nil
		}
	}
	out.Doc = &doc
	return out
}

func (m *memory) Attachment(_ context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	defer m.call("Attachment")()
	doc := m.docs[id].revs[rev]
	for _, a := range doc.Attachments {
		if a.Name == name {
			data := a.Data[offset:]
			a.Data = nil
			a.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
			return &a, nil
		}
	}
	return nil, couch.NotFound("missing")
}

func (m *memory) BulkDocs(ctx context.Context, docs []*couch.Doc, _ couch.WriteOptions) ([]couch.WriteResult, error) {
	results := make([]couch.WriteResult, len(docs))
	for i, doc := range docs {
		stored := *doc
		var err error
		if stored.Attachments, err = readAttachments(ctx, doc); err != nil {
			return nil, err
		}
		results[i] = couch.WriteResult{ID: doc.ID, Rev: doc.Rev, Err: m.put(&stored)}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.wake)
	m.wake = make(chan struct{})
	return results, nil
}

func readAttachments(ctx context.Context, doc *couch.Doc) (out []couch.Attachment, err error) {
	for _, a := range doc.Attachments {
		if !a.Stub() {
			r, err := a.Reader(ctx)
			if err != nil {
				return nil, err
			}
			a.Data, err = io.ReadAll(r)
			r.Close()
			if err != nil {
				return nil, err
			}
			if a.Data == nil {
				a.Data = []byte{}
			}
			if a.Digest != "" && a.Digest != digest(a.Data) {
				return nil, &couch.Error{Status: 412, Code: "digest", Reason: "Attachment digest does not match."}
			}
			a.Open, a.Length, a.Digest = nil, int64(len(a.Data)), digest(a.Data)
		}
		out = append(out, a)
	}
	return out, nil
}

func digest(b []byte) string {
	h := md5.Sum(b)
	return "md5-" + base64.StdEncoding.EncodeToString(h[:])
}

func (m *memory) put(doc *couch.Doc) *couch.Error {
	defer m.call("put")()
	if m.refuse != nil {
		if err := m.refuse(doc); err != nil {
			return err
		}
	}
	d := m.docs[doc.ID]
	if d == nil {
		d = &memDoc{revs: map[couch.Rev]*couch.Doc{}, gone: map[couch.Rev]bool{}}
	}
	for i := range doc.Attachments {
		a := &doc.Attachments[i]
		for _, have := range d.revs {
			for _, b := range have.Attachments {
				if a.Data == nil && b.Name == a.Name && b.Digest == a.Digest {
					a.Data = b.Data
				}
			}
		}
		if a.Data == nil {
			return &couch.Error{Status: 412, Code: "missing_stub", Reason: a.Name}
		}
	}
	if d.revs[doc.Rev] == nil {
		m.seq++
		d.seq = m.seq
		d.revs[doc.Rev] = doc
	}
	for i, hash := range doc.Revisions {
		d.gone[couch.Rev{Gen: doc.Rev.Gen - int64(i), Hash: hash}] = true
	}
	m.docs[doc.ID] = d
	return nil
}

func (m *memory) GetLocal(_ context.Context, id string) (*couch.Doc, error) {
	defer m.call("GetLocal")()
	if doc := m.log[id]; doc != nil {
		return doc, nil
	}
	return nil, couch.NotFound("missing")
}

func (m *memory) PutLocal(ctx context.Context, doc *couch.Doc) (couch.Rev, error) {
	defer m.call("PutLocal")()
	if ctx.Err() != nil {
		return couch.Rev{}, ctx.Err()
	}
	if m.noLocals {
		return couch.Rev{}, couch.Forbidden("read only")
	}
	var at couch.Rev
	if old := m.log[doc.ID]; old != nil {
		at = old.Rev
	}
	if at != doc.Rev {
		return couch.Rev{}, couch.Conflict()
	}
	n, _ := strconv.Atoi(at.Hash)
	stored := *doc
	stored.Rev = couch.Rev{Hash: strconv.Itoa(n + 1)}
	m.log[doc.ID] = &stored
	return stored.Rev, nil
}

// edit writes a revision after parent (zero: a new document or another root) and returns it.
func (m *memory) edit(id string, parent couch.Rev, body string, deleted bool, atts ...couch.Attachment) couch.Rev {
	doc := &couch.Doc{ID: id, Deleted: deleted, Body: json.RawMessage(body)}
	h := md5.Sum(fmt.Append(nil, id, parent, body, deleted, atts)) // equal revisions must have equal content
	doc.Rev = couch.Rev{Gen: parent.Gen + 1, Hash: base64.RawURLEncoding.EncodeToString(h[:])}
	doc.Revisions = []string{doc.Rev.Hash}
	m.mu.Lock()
	if d := m.docs[id]; d != nil && d.revs[parent] != nil {
		doc.Revisions = append(doc.Revisions, d.revs[parent].Revisions...)
		if !deleted {
			doc.Attachments = slices.Clone(d.revs[parent].Attachments)
		}
	}
	m.mu.Unlock()
	for _, a := range atts {
		a.RevPos = doc.Rev.Gen
		doc.Attachments = slices.DeleteFunc(doc.Attachments, func(b couch.Attachment) bool { return b.Name == a.Name })
		doc.Attachments = append(doc.Attachments, a)
	}
	slices.SortFunc(doc.Attachments, func(a, b couch.Attachment) int { return cmp.Compare(a.Name, b.Name) })
	res, err := m.BulkDocs(context.Background(), []*couch.Doc{doc}, couch.WriteOptions{Replicated: true})
	if err = errors.Join(err, asError(res[0].Err)); err != nil {
		panic(err)
	}
	return doc.Rev
}

// purge forgets a document without a trace.
func (m *memory) purge(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.docs, id)
}

func asError(e *couch.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func attach(name string, data []byte) couch.Attachment {
	return couch.Attachment{Name: name, ContentType: "application/octet-stream", Data: data, Length: int64(len(data))}
}
