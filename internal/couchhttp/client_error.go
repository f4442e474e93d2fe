package couchhttp

import "net/http"

// ResponseError reads the error that an answer of status 400 or more tells: a
// [couch.Error], in a [couch.RetryLater] if the server says when to come back.
func ResponseError(resp *http.Response) error { return responseError(resp) }
