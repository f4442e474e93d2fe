package replicate

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// VerifyOptions adjusts a comparison. The zero value compares everything.
type VerifyOptions struct {
	// Limit is the most differences to list; 0: 1000.
	Limit int
	// DocIDs and Selector select documents as those of [Options] do.
	DocIDs   []string
	Selector json.RawMessage
	// OnProgress is told how many documents of each end have been looked at. Calls come one at a time.
	OnProgress func(a, b int64)
}

// A Verification is what comparing two databases showed.
type Verification struct {
	Equal bool         `json:"equal"`
	A     Verified     `json:"a"`
	B     Verified     `json:"b"`
	More  bool         `json:"more,omitempty"` // there are more differences than those listed
	Diffs []Difference `json:"differences"`    // in the order of ids
}

// Verified is what one database holds.
type Verified struct {
	Docs    int64     `json:"docs"`     // documents, deleted ones included
	Leaves  int64     `json:"leaves"`   // leaf revisions, tombstones included
	LastSeq couch.Seq `json:"last_seq"` // up to which it was compared
}

// A Difference is a document with leaf revisions that only one database holds.
type Difference struct {
	ID    string `json:"id"`
	OnlyA []Rev  `json:"only_a,omitempty"`
	OnlyB []Rev  `json:"only_b,omitempty"`
}

// The comparison puts documents into buckets by a hash of their ids, and adds up
// in each a digest of every document's id and leaves. Buckets with the same sum hold the
// same; those that differ are read once more, some at a time, and compared one by one. So
// memory is bounded however large the databases are.
const (
	verifyBuckets = 1 << 14
	verifyAtOnce  = 200_000 // documents compared one by one at a time
)

// A bucket is the sum of some documents' digests.
type bucket struct {
	docs int64
	sum  [4]uint64
}

// A census is one database by its buckets.
type census struct {
	Verified
	buckets []bucket
}

// A verifier compares a and b. Its key is random and stays here, so that nobody
// can make up documents whose digests add up to those of others.
type verifier struct {
	o    VerifyOptions
	key  [16]byte
	seed maphash.Seed

	mu   sync.Mutex
	seen [2]int64
}

// VerifyDB compares a and b. See [Verify].
func VerifyDB(ctx context.Context, a, b couch.Source, o VerifyOptions) (Verification, error) {
	if o.DocIDs != nil && o.Selector != nil {
		return Verification{}, couch.BadRequest("`doc_ids`, `filter`, `selector` are mutually exclusive")
	}
	o.Limit = cmp.Or(max(0, o.Limit), 1000)
	v := &verifier{o: o, seed: maphash.MakeSeed()}
	_, _ = rand.Read(v.key[:])
	ends := [2]couch.Source{a, b}
	var all [2]census
	err := both(ctx, func(ctx context.Context, i int) (err error) {
		all[i], err = v.census(ctx, ends[i], i)
		return err
	})
	if err != nil {
		return Verification{}, err
	}
	result := Verification{A: all[0].Verified, B: all[1].Verified, Diffs: []Difference{}}
	var group []int
	var docs int64
	for n := range all[0].buckets {
		if x, y := all[0].buckets[n], all[1].buckets[n]; x != y {
			group, docs = append(group, n), docs+x.docs+y.docs
		}
		if len(group) == 0 || docs < verifyAtOnce && n < verifyBuckets-1 {
			continue
		}
		if result.More = len(result.Diffs) > o.Limit; result.More {
			break
		}
		diffs, err := v.compare(ctx, ends, group)
		if err != nil {
			return result, err
		}
		result.Diffs = append(result.Diffs, diffs...)
		group, docs = nil, 0
	}
	if result.Diffs, err = v.again(ctx, ends, &result); err != nil {
		return result, err
	}
	slices.SortFunc(result.Diffs, func(a, b Difference) int { return cmp.Compare(a.ID, b.ID) })
	if len(result.Diffs) > o.Limit {
		result.Diffs, result.More = result.Diffs[:o.Limit:o.Limit], true
	}
	result.Equal = len(result.Diffs) == 0
	return result, nil
}

// both does something with both ends at the same time. The first error ends the other.
func both(ctx context.Context, f func(ctx context.Context, end int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var errs [2]error
	var wg sync.WaitGroup
	for i, name := range []string{"a", "b"} {
		wg.Go(func() {
			if err := f(ctx, i); err != nil {
				errs[i] = &Error{"changes", name, err}
				cancel()
			}
		})
	}
	wg.Wait()
	for i := range errs { // the one that ended the other
		if errs[i] != nil && !errors.Is(errs[i], context.Canceled) {
			return errs[i]
		}
	}
	return cmp.Or(errs[0], errs[1])
}

// rows calls fn for each document of an end.
func (v *verifier) rows(ctx context.Context, db couch.Source, fn func(*couch.Change) error) (couch.Seq, error) {
	o := couch.ChangesOptions{AllLeaves: true, DocIDs: v.o.DocIDs, Selector: v.o.Selector}
	res, err := db.Changes(ctx, o, func(c *couch.Change) error {
		slices.SortFunc(c.Revs, couch.Rev.Compare)
		return fn(c)
	})
	return res.LastSeq, err
}

func (v *verifier) census(ctx context.Context, db couch.Source, end int) (census, error) {
	c := census{buckets: make([]bucket, verifyBuckets)}
	d := digester{verifier: v}
	seq, err := v.rows(ctx, db, func(row *couch.Change) error {
		at, digest := d.document(row)
		b := &c.buckets[at]
		b.docs++
		for i, part := range digest {
			b.sum[i] += part
		}
		c.Leaves += int64(len(row.Revs))
		if c.Docs++; c.Docs%1000 == 0 {
			v.progress(end, c.Docs)
		}
		return nil
	})
	c.LastSeq = seq
	v.progress(end, c.Docs)
	return c, err
}

func (v *verifier) progress(end int, docs int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen[end] = docs
	if v.o.OnProgress != nil {
		v.o.OnProgress(v.seen[0], v.seen[1])
	}
}

// compare reads the documents of some buckets and compares them one by one.
func (v *verifier) compare(ctx context.Context, ends [2]couch.Source, group []int) (diffs []Difference, err error) {
	wanted := make([]bool, verifyBuckets)
	for _, n := range group {
		wanted[n] = true
	}
	var mu sync.Mutex
	leaves := map[string][2][]couch.Rev{} // that the other end has not told yet
	err = both(ctx, func(ctx context.Context, i int) error {
		d := digester{verifier: v}
		_, err := v.rows(ctx, ends[i], func(row *couch.Change) error {
			if !wanted[d.bucket(row.ID)] {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			pair := leaves[row.ID]
			if pair[i] = slices.Clone(row.Revs); slices.Equal(pair[0], pair[1]) {
				delete(leaves, row.ID)
			} else {
				leaves[row.ID] = pair
			}
			return nil
		})
		return err
	})
	for id, pair := range leaves {
		diffs = append(diffs, Difference{ID: id, OnlyA: without(pair[0], pair[1]), OnlyB: without(pair[1], pair[0])})
	}
	return diffs, err
}

// again looks once more at the differences between databases that have changed
// meanwhile: a document that is written while a feed is read may be missing in it.
func (v *verifier) again(ctx context.Context, ends [2]couch.Source, found *Verification) ([]Difference, error) {
	if len(found.Diffs) == 0 || found.More || v.o.Selector != nil {
		return found.Diffs, nil
	}
	still := true
	for i, seq := range []couch.Seq{found.A.LastSeq, found.B.LastSeq} {
		info, err := ends[i].Info(ctx)
		if err != nil {
			return nil, &Error{"info", []string{"a", "b"}[i], err}
		}
		still = still && info.UpdateSeq == seq
	}
	if still {
		return found.Diffs, nil
	}
	one := &verifier{o: v.o, key: v.key, seed: v.seed}
	every := make([]int, verifyBuckets)
	for i := range every {
		every[i] = i
	}
	out := []Difference{}
	for part := range slices.Chunk(found.Diffs, 50) { // they may travel in a URL
		one.o.DocIDs = nil
		for _, d := range part {
			one.o.DocIDs = append(one.o.DocIDs, d.ID)
		}
		diffs, err := one.compare(ctx, ends, every)
		if err != nil {
			return nil, err
		}
		out = append(out, diffs...)
	}
	return out, nil
}

// without returns those of revs that are not among others.
func without(revs, others []couch.Rev) (out []couch.Rev) {
	for _, rev := range revs {
		if !slices.Contains(others, rev) {
			out = append(out, rev)
		}
	}
	return out
}

// A digester makes digests of documents.
type digester struct {
	*verifier
	buf []byte
}

// bucket is where a document belongs.
func (d *digester) bucket(id string) int {
	return int(maphash.String(d.seed, id) % verifyBuckets)
}

// document is the digest of a document's id and leaves, which are sorted.
func (d *digester) document(c *couch.Change) (at int, digest [4]uint64) {
	d.buf = append(d.buf[:0], d.key[:]...)
	d.buf = binary.AppendUvarint(d.buf, uint64(len(c.ID))) // so that no id can be taken for another and a revision
	d.buf = append(d.buf, c.ID...)
	for _, rev := range c.Revs {
		d.buf = append(d.buf, 0)
		d.buf, _ = rev.AppendText(d.buf)
	}
	h := sha256.Sum256(d.buf)
	for i := range digest {
		digest[i] = binary.LittleEndian.Uint64(h[8*i:])
	}
	return d.bucket(c.ID), digest
}
