package couch

import "context"

type clientKey struct{}

// WithClient names the client for whom a call is made, so that a database that
// many use can be fair among them. Without it a call is one of the program's own.
func WithClient(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, clientKey{}, name)
}

// ClientOf returns what WithClient was given, "" if it was not called.
func ClientOf(ctx context.Context) string {
	name, _ := ctx.Value(clientKey{}).(string)
	return name
}
