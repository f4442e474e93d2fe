package evil

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// queries are the attacks of item 2: one query that takes the memory or the processor of who answers it.
var queries = []Attack{
	{Item: 2, Name: "patterns that are large when they are compiled", Run: hubQuery(largePatterns), Stranger: true},
	{Item: 2, Name: "a small query whose patterns are slow on a long text", Run: hubQuery(slowPatterns), Stranger: true},
	{Item: 2, Name: "a list of operands that each document is compared with", Run: hubQuery(longLists), Stranger: true},
	{Item: 2, Name: "a selector that is deep or wide", Run: hubQuery(wideSelectors), Stranger: true},
	{Item: 2, Name: "patterns that backtrack, at a share", Run: shareQuery(backtracking)},
	{Item: 2, Name: "patterns that are large, at a share", Run: shareQuery(largePatterns)},
	{Item: 2, Name: "patterns that are slow, at a share", Run: shareQuery(slowPatterns)},
	{Item: 2, Name: "long lists and wide selectors, at a share", Run: shareQuery(append(longLists, wideSelectors...))},
}

// largePatterns take hundreds of bytes of memory for each of theirs.
var largePatterns = []string{
	`{"$or":[` + repeated(6, func(i int) string {
		return fmt.Sprintf(`{"text":{"$regex":"%d%s"}}`, i, strings.Repeat(".{1000}", 1000))
	}) + `]}`,
	`{"text":{"$regex":"` + strings.Repeat(`\\pL\\pN`, 20_000) + `"}}`,
	`{"text":{"$regex":"` + strings.Repeat("(", 900) + `a` + strings.Repeat("){1,2}", 900) + `"}}`,
}

// slowPatterns are short, and have much to do for each byte of a text.
var slowPatterns = []string{
	`{"$or":[` + repeated(20, func(i int) string { return fmt.Sprintf(`{"text":{"$regex":"(.{0,30}){33}[%d]$"}}`, i) }) + `]}`,
	`{"text":{"$not":{"$regex":"(.?){1000}\\n"}}}`,
	`{"$nor":[` + repeated(12, func(i int) string { return fmt.Sprintf(`{"text":{"$regex":"(a|.)*.{%d}z$"}}`, 900+i) }) + `]}`,
}

// backtracking are patterns that a matcher which tries one way after the other does not come to an end with.
var backtracking = []string{
	`{"text":{"$regex":"^(a+)+$"}}`, `{"text":{"$regex":"(a|a)*b$"}}`, `{"text":{"$regex":"(.*a){25}$"}}`, `{"_id":{"$regex":"^(([a-z0-9])+.)+[A-Z]([a-z])+$"}}`,
}

// longLists are of the size that the review used, 1.8 MB.
var longLists = []string{
	`{"n":{"$in":[` + repeated(250_000, func(i int) string { return fmt.Sprint(1_000_000 + i) }) + `]}}`,
	`{"list":{"$all":[` + repeated(250_000, func(i int) string { return fmt.Sprint(1_000_000 + i) }) + `]}}`,
	`{"n":{"$nin":[` + repeated(50_000, func(i int) string { return fmt.Sprintf(`{"a":[%d,{"b":null}]}`, i) }) + `]}}`,
}

var wideSelectors = []string{
	strings.Repeat(`{"$not":`, 50_000) + `{}` + strings.Repeat(`}`, 50_000),
	`{"$and":[` + repeated(100_000, func(i int) string { return fmt.Sprintf(`{"n":{"$gt":%d}}`, -i) }) + `]}`,
	`{"list":` + strings.Repeat(`{"$elemMatch":{"$allMatch":`, 9_000) + `{}` + strings.Repeat(`}}`, 9_000) + `}`,
	`{` + repeated(100_000, func(i int) string { return fmt.Sprintf(`"f%d":{"$exists":false}`, i) }) + `}`,
	`{"a` + strings.Repeat(".a", 200_000) + `":{"$exists":false}}`,
}

func repeated(n int, piece func(i int) string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(piece(i))
	}
	return b.String()
}

// asked are the ways to ask with a selector.
func asked(selector string) map[string]string {
	return map[string]string{
		"/_find":                             `{"selector":` + selector + `}`,
		"/_changes?filter=_selector&since=0": `{"selector":` + selector + `}`,
	}
}

// hubQuery asks the hub with selectors, as an ordinary user of a database that everybody reads.
func hubQuery(selectors []string) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		return t.query(ctx, "the hub", t.HubPID, t.room(), selectors, func(ctx context.Context, path, body string) (*answer, error) {
			return do(ctx, "POST", t.Hub+"/public"+path, request{as: &t.Mallory, header: asJSON, body: text(body)})
		})
	}
}

func shareQuery(selectors []string) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		o, err := t.open(ctx, t.Library)
		if err != nil {
			return err
		}
		defer o.Close()
		return t.query(ctx, "the sharer", t.Library.PID, 160<<20, selectors, func(ctx context.Context, path, body string) (*answer, error) {
			a, err := o.do(ctx, "POST", path, request{header: asJSON, body: text(body)})
			if ctx.Err() == nil {
				return a, err
			}
			after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 8*time.Second)
			defer cancel()
			if _, still := o.do(after, "GET", "", request{}); still != nil {
				return nil, fmt.Errorf("%w: %w", errHeldUp, still)
			}
			return a, err
		})
	}
}

var errHeldUp = errors.New("it answers nothing any more after the client left")

func (t *Target) query(ctx context.Context, who string, pid int, room int64, selectors []string, ask func(ctx context.Context, path, body string) (*answer, error)) error {
	for i, selector := range selectors {
		for path, body := range asked(selector) {
			var errs []error
			g := watch(pid)
			limited, cancel := context.WithTimeout(ctx, Prompt)
			began := time.Now()
			a, err := ask(limited, path, body)
			took := time.Since(began)
			cancel()
			what := fmt.Sprintf("%s, selector %d (%d bytes, %.40s…)", path, i, len(selector), selector)
			if errors.Is(err, errHeldUp) {
				errs = append(errs, fmt.Errorf("%s: %w", what, err))
			} else if err != nil && t.Alone && ctx.Err() == nil && limited.Err() != nil {
				if rest := t.rests(ctx, pid); rest != nil { // that it took long is not bad, if it ends with the client
					errs = append(errs, fmt.Errorf("%s: %w", what, rest))
				}
			} else if err == nil && a.Status >= 500 && a.Status != 503 {
				errs = append(errs, fmt.Errorf("%s: after %v %v", what, took, a))
			}
			if err := t.within(who, g.end(), room); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", what, err))
			}
			if len(errs) > 0 { // the next would not begin as this did
				return errors.Join(errs...)
			}
		}
	}
	return nil
}
