package couchkivik

import (
	"context"
	"io"
)

// A stream turns a call that tells items by a callback into one that is asked
// for the next, which is how kivik reads. The call runs in a goroutine that
// ends with the call, the context, or close.
type stream[T any] struct {
	items  chan T
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before items is closed
	ahead  []T   // taken from items by settle
}

// ahead of its reader a stream may be by so many items.
const streamBuffer = 16

func newStream[T any](ctx context.Context, run func(ctx context.Context, emit func(T) error) error) *stream[T] {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream[T]{items: make(chan T, streamBuffer), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer close(s.items)
		s.err = run(ctx, func(item T) error {
			select {
			case s.items <- item:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return s
}

// settle waits for the first item or the end, so that the error of a call that
// fails at once is told at once.
func (s *stream[T]) settle() error {
	item, ok := <-s.items
	if ok {
		s.ahead = []T{item}
		return nil
	}
	if s.err != nil {
		s.close()
	}
	return s.err
}

// next gives the next item, io.EOF after the last.
func (s *stream[T]) next() (item T, err error) {
	if len(s.ahead) > 0 {
		item, s.ahead = s.ahead[0], nil
		return item, nil
	}
	item, ok := <-s.items
	switch {
	case ok:
		return item, nil
	case s.err != nil:
		return item, s.err
	}
	return item, io.EOF
}

// close ends the call and waits for it. It may be called at any time, also while next waits.
func (s *stream[T]) close() {
	s.cancel()
	<-s.done
}
