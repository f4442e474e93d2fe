package share

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// Request asks the sharer for what its [Handler] of that name answers to v, any
// value that JSON can tell, of at most 1 MiB. The sharer's handler learns when
// ctx ends. A request is carried out at most once; it waits for a connection, as all requests do.
//
// Errors: not_found (404) if nothing answers such requests, too_many_requests
// (429), what the handler answered, the transport's. The answer must begin within
// three minutes and be at most 16 MiB of JSON; a [Stream] is not taken: see [Remote.Stream].
func (r *Remote) Request(ctx context.Context, name string, v any) (json.RawMessage, error) {
	resp, err := r.message(ctx, http.MethodPost, "/_request/"+url.PathEscape(name), v)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if isStream(resp) {
		return nil, fmt.Errorf("share: %s answers with a stream", name)
	}
	return readAnswer(resp.Body)
}

// Stream is [Remote.Request] for a handler that answers with a [Stream]: it
// yields one value after the other, and an error if there is one, which is the last. Leaving the
// loop cancels the request. Of another handler it yields the one answer.
func (r *Remote) Stream(ctx context.Context, name string, v any) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		resp, err := r.message(ctx, http.MethodPost, "/_request/"+url.PathEscape(name), v)
		if err != nil {
			yield(nil, err)
			return
		}
		defer resp.Body.Close()
		if !isStream(resp) {
			yield(readAnswer(resp.Body))
			return
		}
		if err := readValues(resp.Body, yield); err != nil {
			yield(nil, cmp.Or(ctx.Err(), err))
		}
	}
}

// message makes a request at the root of the share's host. Errors: the sharer's, as a couch.Error.
func (r *Remote) message(ctx context.Context, method, path string, v any) (*http.Response, error) {
	var body io.Reader
	if method == http.MethodPost {
		text, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.id+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.HTTPClient().Do(req)
	if err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, couchhttp.ResponseError(resp)
	}
	return resp, nil
}

func isStream(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "application/x-ndjson")
}

var errAnswerTooLong = couch.TooLarge("too_large", "The answer is longer than the limit.")

func readAnswer(body io.Reader) (json.RawMessage, error) {
	text, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxAnswer:
		return nil, errAnswerTooLong
	case !json.Valid(text):
		return nil, errNotJSON
	}
	return bytes.TrimSpace(text), nil
}

var errNotJSON = &couch.Error{Status: http.StatusBadGateway, Code: "bad_gateway", Reason: "The answer is not JSON."}

// readValues yields the lines of an answer until it ends (nil), fails, or yield has enough (nil).
// Only the last line can tell of a failure: a value that looks like one but is not the last is a value.
func readValues(body io.Reader, yield func(json.RawMessage, error) bool) error {
	lines := lineScanner(body)
	for more := nextLine(lines); more; {
		line := bytes.Clone(lines.Bytes())
		if !json.Valid(line) {
			return cmp.Or(lines.Err(), error(errNotJSON))
		}
		failed := parseFailure(line)
		if failed != nil {
			if more = nextLine(lines); !more && lines.Err() == nil {
				return failed
			}
		}
		if !yield(line, nil) {
			return nil
		}
		if failed == nil {
			more = nextLine(lines)
		}
	}
	return lineError(lines)
}

func lineScanner(body io.Reader) *bufio.Scanner {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswer)
	return lines
}

// nextLine passes over heartbeats.
func nextLine(lines *bufio.Scanner) bool {
	for lines.Scan() {
		if len(lines.Bytes()) > 0 {
			return true
		}
	}
	return false
}

func lineError(lines *bufio.Scanner) error {
	if lines.Err() == bufio.ErrTooLong { //nolint:errorlint // the scanner's own
		return errAnswerTooLong
	}
	return lines.Err()
}

// parseFailure reads a line that tells of a failure; nil: it does not.
func parseFailure(line []byte) error {
	var f failure
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if d.Decode(&f) != nil || f.Code == nil || f.Reason == nil {
		return nil //nolint:nilerr // it is a value
	}
	if f.Status < 400 || f.Status > 599 {
		f.Status = http.StatusInternalServerError
	}
	return &couch.Error{Status: f.Status, Code: *f.Code, Reason: *f.Reason}
}
