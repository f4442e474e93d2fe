package mango

import (
	"context"
	"errors"
	"fmt"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
)

// What a query or selector is limited to, whoever sends it. Everything beyond is
// refused before memory or time is spent on it, except for the work, which only the documents show.
const (
	MaxBytes     = couch.MaxQuery // of its JSON
	MaxDepth     = 100            // of its nesting, and names of one field's path
	MaxOperators = 10_000         // and fields and sort fields
	MaxOperands  = 10_000         // of all its $in, $nin and $all
	MaxPattern   = 4 << 10        // bytes of one $regex
	MaxProgram   = 10_000         // instructions of all its compiled $regex
	MaxWork      = 1 << 26        // steps on one document: one for an instruction of a $regex at a character
)

// tooLarge is the answer to what is beyond a bound.
func tooLarge(limit int, what string) *couch.Error {
	return bad("invalid_selector", fmt.Sprintf("A query is limited to %d %s.", limit, what))
}

// ErrWork is the answer to a selector that takes more than MaxWork steps on a document.
// It neither matches nor fails to match.
var ErrWork = tooLarge(MaxWork, "steps of work on one document")

// workError gives a spent budget its words.
func workError(err error) error {
	if errors.Is(err, work.ErrSpent) {
		return ErrWork
	}
	return err
}

// A tally counts what a query has of what is limited.
type tally struct {
	ctx                           context.Context
	operators, operands, programs int
}

func (t *tally) operator() error { return count(&t.operators, 1, MaxOperators, "operators and fields") }

func (t *tally) list(n int) error {
	return count(&t.operands, n, MaxOperands, "values in its lists")
}

func count(total *int, n, limit int, what string) error {
	if *total += n; *total > limit {
		return tooLarge(limit, what)
	}
	return nil
}

// hold takes the memory that a query's values need once they are parsed and compiled.
func hold(ctx context.Context, query []byte) error {
	if len(query) > MaxBytes {
		return tooLarge(MaxBytes, "bytes")
	}
	return work.Hold(ctx, 2*work.JSONSize(query))
}
