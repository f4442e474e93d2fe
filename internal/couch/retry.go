package couch

import (
	"errors"
	"time"
)

// RetryLater is an error after which the server asks to wait before the next
// attempt (Retry-After, RFC 9110 section 10.2.3).
type RetryLater struct {
	Err   *Error
	After time.Duration
}

func (e *RetryLater) Error() string { return e.Err.Error() }
func (e *RetryLater) Unwrap() error { return e.Err }

// RetryAfter returns how long the server behind err asked to wait, 0 if it did not.
func RetryAfter(err error) time.Duration {
	var e *RetryLater
	if errors.As(err, &e) {
		return e.After
	}
	return 0
}
