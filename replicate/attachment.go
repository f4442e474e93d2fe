package replicate

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// openAttachments gives those attachments of doc a way to read them that came as
// stubs for their length. Stubs of what the target has by its revisions since stay stubs.
func (r *run) openAttachments(doc *couch.Doc, since []couch.Rev, whole bool) {
	known := doc.SinceGen(since)
	for i := range doc.Attachments {
		a := &doc.Attachments[i]
		if !a.Stub() || a.RevPos > 0 && a.RevPos <= known && !whole {
			continue
		}
		name, length := a.Name, a.Length
		a.Open = func(ctx context.Context) (io.ReadCloser, error) {
			s := &stream{r: r, parent: ctx, id: doc.ID, rev: doc.Rev, name: name, length: length}
			if err := s.open(); err != nil { // the first error tells whether it is there at all
				return nil, err
			}
			return s, nil
		}
	}
}

func streams(doc *couch.Doc) bool {
	for i := range doc.Attachments {
		if doc.Attachments[i].Open != nil {
			return true
		}
	}
	return false
}

func streamedSize(doc *couch.Doc) (n int64) {
	for _, a := range doc.Attachments {
		if a.Open != nil {
			n += max(0, a.Length)
		}
	}
	return n
}

// watched returns docs with attachments whose reading tells the watchdog of a that something moves.
func watched(docs []*couch.Doc, a *attempt) []*couch.Doc {
	if len(docs) != 1 || !streams(docs[0]) {
		return docs
	}
	doc := *docs[0]
	doc.Attachments = append([]couch.Attachment(nil), doc.Attachments...)
	for i := range doc.Attachments {
		if open := doc.Attachments[i].Open; open != nil {
			doc.Attachments[i].Open = func(ctx context.Context) (io.ReadCloser, error) {
				body, err := open(ctx)
				if err != nil {
					return nil, err
				}
				if s, ok := body.(*stream); ok {
					s.alive = a.alive // also while it waits for the source
				}
				return &watchedBody{body, a.alive}, nil
			}
		}
	}
	return []*couch.Doc{&doc}
}

type watchedBody struct {
	io.ReadCloser
	alive func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.alive()
	}
	return n, err
}

// A stream reads an attachment of the source from wherever it broke off, as
// often as that moves on.
type stream struct {
	r      *run
	parent context.Context
	id     string
	rev    couch.Rev
	name   string
	length int64 // -1: unknown
	alive  func()

	offset   int64
	failures int
	body     io.ReadCloser
	ctx      context.Context
	cancel   context.CancelCauseFunc
	silence  *time.Timer
}

var reading = where{"attachment", sourceEnd}

// open opens the attachment at s.offset, under a watchdog of its own: a source
// that hangs need not cost the target what it has got so far.
func (s *stream) open() error {
	s.ctx, s.cancel = context.WithCancelCause(s.parent)
	cancel := s.cancel
	s.silence = time.AfterFunc(s.r.o.StallTimeout/2, func() {
		s.r.report.stalled(reading)
		cancel(ErrStalled)
	})
	a, err := s.r.source.Attachment(s.ctx, s.id, s.name, s.rev, s.offset)
	if err == nil {
		s.body, err = a.Open(s.ctx)
	}
	if err != nil {
		err = s.why(err)
		s.shut()
	}
	return err
}

// why prefers the watchdog's word to what it did to the connection.
func (s *stream) why(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	return err
}

func (s *stream) shut() {
	s.silence.Stop()
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
	s.cancel(nil)
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		n, err := s.readOnce(p)
		if n > 0 {
			s.progress(n)
			return n, nil
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) && (s.length < 0 || s.offset >= s.length) {
			return 0, io.EOF
		}
		if err := s.again(err); err != nil {
			return 0, err
		}
	}
}

func (s *stream) readOnce(p []byte) (int, error) {
	if s.body == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	s.silence.Reset(s.r.o.StallTimeout / 2)
	n, err := s.body.Read(p)
	s.silence.Stop() // the time until the next Read is the target's
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.why(err)
	}
	return n, err
}

func (s *stream) progress(n int) {
	s.offset += int64(n)
	s.r.report.read(int64(n))
	if s.failures > 0 {
		s.failures = 0
		s.r.report.recovered(reading)
	}
}

// again waits before the next attempt, unless err is for good or there were too many.
func (s *stream) again(err error) error {
	if s.body != nil {
		s.shut()
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // shorter than the document says
	}
	if s.failures++; s.parent.Err() != nil || !transient(err) || s.failures >= s.r.o.Retry.Attempts {
		return err
	}
	if s.alive != nil {
		s.alive()
	}
	return s.r.pause(s.parent, reading, err, s.failures)
}

func (s *stream) Close() error {
	if s.body != nil {
		s.shut()
	}
	return nil
}
