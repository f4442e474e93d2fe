// Package work bounds what a stranger can make this process do: a [Budget] bounds
// one computation, a [Memory] what all requests hold together.
package work

import (
	"context"
	"errors"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// ErrSpent is the error of a computation that needs more steps than its budget has.
var ErrSpent = errors.New("the work budget is spent")

const (
	// light is how many steps a computation may take before it needs a turn: about a millisecond.
	light = 1 << 18
	// glance is how many steps may pass until the context is looked at again, and others have their turns.
	glance = 1 << 17
)

// turns leaves half of the processors to what is not heavy, however many heavy
// computations are under way.
var turns = semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2)))

// A Budget is how many steps of a few nanoseconds a computation may take, which
// somebody else has asked for. The computation also ends with its context, so
// that nothing is computed for a client that has left. One that turns out to be
// heavy waits for its turn. A Budget is used by one goroutine at a time.
type Budget struct {
	ctx  context.Context
	left int64
	next int64 // steps until the context is looked at
	turn bool  // is held
	err  error
}

// NewBudget returns a budget of so many steps. Close it when the computation has ended.
func NewBudget(ctx context.Context, steps int64) *Budget {
	return &Budget{ctx: ctx, left: steps, next: light}
}

// Spend takes steps from the budget, before or after they are made. Once it has
// failed it keeps failing. Errors: [ErrSpent], the context's cause.
func (b *Budget) Spend(steps int64) error {
	if b.err != nil {
		return b.err
	}
	b.left -= steps
	b.next -= steps
	switch {
	case b.left < 0:
		b.err = ErrSpent
	case b.next < 0:
		b.next = glance
		b.err = b.look()
	}
	return b.err
}

// Err is the error with which Spend has failed, if it has.
func (b *Budget) Err() error { return b.err }

func (b *Budget) look() error {
	b.Close()
	if b.ctx.Err() == nil {
		b.turn = turns.Acquire(b.ctx, 1) == nil
	}
	return context.Cause(b.ctx)
}

// Close lets the next heavy computation have its turn.
func (b *Budget) Close() {
	if b.turn {
		turns.Release(1)
		b.turn = false
	}
}
