package couch

import (
	"context"
	"errors"
	"net/http"
	"strconv"
)

// Error is an answer {"error": Code, "reason": Reason} with its HTTP status. It
// crosses the wire unchanged: errors.Is compares Status and Code, so
// errors.Is(err, couch.ErrNotFound) holds for a local and a remote database.
type Error struct {
	Status int    `json:"-"`
	Code   string `json:"error"`
	Reason string `json:"reason"`
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return e.Code
	}
	return e.Code + ": " + e.Reason
}

// HTTPStatus makes kivik.HTTPStatus(err) work.
func (e *Error) HTTPStatus() int { return e.Status }

// Is compares status and code; a target without a code stands for every error of its status.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && e.Status == t.Status && (t.Code == "" || e.Code == t.Code)
}

// The errors to compare with. Reasons differ; see the constructors.
var (
	ErrNotFound     = &Error{http.StatusNotFound, "not_found", ""}
	ErrConflict     = &Error{http.StatusConflict, "conflict", ""}
	ErrUnauthorized = &Error{http.StatusUnauthorized, "unauthorized", ""}
	ErrForbidden    = &Error{http.StatusForbidden, "forbidden", ""}
)

// ErrClosed is wrapped by the errors of what is done through something that was closed for good,
// so that nobody tries again.
var ErrClosed = errors.New("closed")

// NotFound is 404; CouchDB's reasons are "missing", "deleted" and "Database does not exist.".
func NotFound(reason string) *Error { return &Error{http.StatusNotFound, "not_found", reason} }

// Conflict is 409, an edit that does not start from a leaf.
func Conflict() *Error {
	return &Error{http.StatusConflict, "conflict", "Document update conflict."}
}

// BadRequest is 400 bad_request.
func BadRequest(reason string) *Error { return &Error{http.StatusBadRequest, "bad_request", reason} }

// Forbidden is 403 forbidden.
func Forbidden(reason string) *Error { return &Error{http.StatusForbidden, "forbidden", reason} }

// Unauthorized is 401 unauthorized.
func Unauthorized(reason string) *Error {
	return &Error{http.StatusUnauthorized, "unauthorized", reason}
}

// NoFilter is 400 bad_request: a changes feed cannot be filtered by a function of a design document where no JavaScript runs.
func NoFilter(filter string) *Error {
	return BadRequest("The filter " + strconv.Quote(filter) + " is not supported: no JavaScript runs here. Use _selector or _doc_ids.")
}

// TooLarge is 413: code is "document_too_large", "attachment_too_large" or "too_large".
func TooLarge(code, reason string) *Error {
	return &Error{http.StatusRequestEntityTooLarge, code, reason}
}

// AsError returns err as an *Error: as it is if it wraps one, as 500
// internal_server_error otherwise (499-like 408 for an ended context).
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Error{http.StatusRequestTimeout, "timeout", "The request could not be processed in time."}
	}
	return &Error{http.StatusInternalServerError, "internal_server_error", err.Error()}
}
