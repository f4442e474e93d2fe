package couch

import "context"

type movingKey struct{}

// WithMoving returns a context under which implementations of the interfaces
// here call f whenever bytes of a call move, in either direction, so that a
// watchdog can tell a slow call from one that hangs. f may be called often and
// from several goroutines.
func WithMoving(ctx context.Context, f func()) context.Context {
	return context.WithValue(ctx, movingKey{}, f)
}

// Moving returns what [WithMoving] was given, or a function that does nothing.
func Moving(ctx context.Context) func() {
	if f, ok := ctx.Value(movingKey{}).(func()); ok {
		return f
	}
	return func() {}
}
