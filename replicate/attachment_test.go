package replicate_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

func TestLargeAttachmentsStreamOnWhereTheyBrokeOff(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	first := a.edit("x", couch.Rev{}, `{}`, false, attach("big", big), attach("small", []byte("hi")))
	source := &breaking{memory: a, with: []error{errFlaky, io.EOF}}
	res := mustRun(t, source, b, quick)
	if res.DocsWritten != 1 || res.Bytes < int64(len(big)) || source.reads.Load() > int64(len(big))+64<<10*10 {
		t.Errorf("%+v, %d bytes were read", res, source.reads.Load())
	}
	wantEqual(t, a, b)
	a.edit("x", first, `{"v":2}`, false, attach("small", []byte("ho")))
	before := source.reads.Load()
	mustRun(t, source, b, quick)
	if source.reads.Load() != before {
		t.Error("an unchanged attachment was read again")
	}
	wantEqual(t, a, b)
}

type breaking struct {
	*memory
	with  []error // in turn; io.EOF is a body that ends early
	opens int
	reads atomic.Int64
}

func (s *breaking) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	a, err := s.memory.Attachment(ctx, id, name, rev, offset)
	if err != nil {
		return nil, err
	}
	open := a.Open
	a.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		s.opens++
		return &breakingReader{r, s, 100_000, s.with[s.opens%len(s.with)]}, err
	}
	return a, err
}

type breakingReader struct {
	io.ReadCloser
	s    *breaking
	left int
	with error
}

func (r *breakingReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, r.with
	}
	n, err := r.ReadCloser.Read(p[:min(len(p), r.left)])
	r.left -= n
	r.s.reads.Add(int64(n))
	return n, err
}

func TestStubsThatTheTargetLacksAreSentWhole(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	first := a.edit("x", couch.Rev{}, `{}`, false, attach("f", []byte("content")))
	mustRun(t, a, b, quick)
	a.edit("x", first, `{"v":2}`, false)
	b.docs["x"].revs[first].Attachments = nil // lost, though the revision is there
	res := mustRun(t, a, b, quick)
	if res.DocsWritten != 1 || res.DocWriteFailures != 0 || res.DocsRead != 1 {
		t.Errorf("%+v", res)
	}
	if got := b.docs["x"].leaves()[0].Attachments; len(got) != 1 || string(got[0].Data) != "content" {
		t.Errorf("%+v", got)
	}
}

func TestAHungAttachmentStreamGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMemory("a"), newMemory("b")
		a.edit("x", couch.Rev{}, `{}`, false, attach("big", bytes.Repeat([]byte("0123456789"), 50_000)))
		var stalled []string
		res := mustRun(t, &freezing{memory: a}, b, replicate.Options{OnProgress: func(p replicate.Progress) {
			if p.State == replicate.Stalled {
				stalled = append(stalled, p.Stage+" "+p.End)
			}
		}})
		wantEqual(t, a, b)
		if res.DocsWritten != 1 || fmt.Sprint(stalled) != "[attachment source attachment source]" {
			t.Errorf("%+v %v", res, stalled)
		}
	})
}

// freezing gives attachments of which nothing more comes after some bytes, twice.
type freezing struct {
	*memory
	times int
}

func (f *freezing) Attachment(ctx context.Context, id, name string, rev couch.Rev, offset int64) (*couch.Attachment, error) {
	if offset != int64(f.times)*1000 {
		return nil, fmt.Errorf("asked from %d on, after %d times", offset, f.times)
	}
	a, err := f.memory.Attachment(ctx, id, name, rev, offset)
	if err != nil || f.times == 2 {
		return a, err
	}
	f.times++
	open := a.Open
	a.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(r, 1000), frozen{ctx}), r}, err
	}
	return a, nil
}

type frozen struct{ ctx context.Context }

func (f frozen) Read([]byte) (int, error) {
	<-f.ctx.Done()
	return 0, f.ctx.Err()
}
