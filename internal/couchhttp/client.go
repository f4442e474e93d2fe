package couchhttp

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// ClientOptions adjusts a [Client]. The zero value works.
type ClientOptions struct {
	// Compress asks for compressed answers (zstd or gzip) and, once the server
	// has said that it takes them (Accept-Encoding in a response, RFC 9110
	// section 12.5.3), sends bodies of more than 1 KB as zstd. It pays on a peer connection, not on
	// loopback TCP.
	Compress bool
	// Heartbeat is how often servers are asked to show that a waiting changes
	// feed is alive; three silent ones end the feed with an error. 0: 10 s.
	Heartbeat time.Duration
	// MaxRow bounds one row of an answer, in bytes. 0: 64 MiB.
	MaxRow int
}

// A Client is a CouchDB-compatible server as a [couch.Store]: Loveseat's hub, a
// share opened on a peer, CouchDB, PouchDB Server. It is safe for concurrent use.
type Client struct {
	base      string // scheme, host and path, ends with "/", without user info
	auth      string // Authorization
	hc        *http.Client
	own       *http.Transport // to close, if hc is ours
	o         ClientOptions
	takesZstd atomic.Bool
	uuid      atomic.Pointer[string] // of the server, once asked
}

var _ couch.Store = (*Client)(nil)

// NewClient makes a client of the server at base. Its user info is sent as Basic
// authentication and appears neither in errors nor in the identity of databases.
// hc must not have a Timeout, which would end changes feeds; nil means one of the
// client's own. No request is made yet.
func NewClient(base *url.URL, hc *http.Client, o ClientOptions) *Client {
	u := *base
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	c := &Client{base: strings.TrimSuffix(u.String(), "/") + "/", hc: hc, o: o}
	if user := base.User; user != nil {
		password, _ := user.Password()
		c.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
	}
	if c.o.Heartbeat <= 0 {
		c.o.Heartbeat = 10 * time.Second
	}
	if c.o.MaxRow <= 0 {
		c.o.MaxRow = defaultValue
	}
	if hc == nil {
		c.own = NewTransport((&net.Dialer{Timeout: 10 * time.Second}).DialContext)
		c.hc = &http.Client{Transport: c.own}
	}
	return c
}

// NewTransport is an HTTP transport fit for a database client: large buffers,
// enough idle connections for a replication, compression left to the client, heads of answers of 64 KiB at most.
func NewTransport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:         dial,
		TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
		WriteBufferSize:     64 << 10,
		ReadBufferSize:      64 << 10,
		// Of all interim answers and the last one together.
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Close closes idle connections of a client that made its own HTTP client.
func (c *Client) Close() error {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
	return nil
}

// Databases returns the names of all databases (GET /_all_dbs).
func (c *Client) Databases(ctx context.Context) (names []string, err error) {
	err = c.json(ctx, request{method: "GET", path: "_all_dbs"}, &names)
	slices.Sort(names) // not every server does
	return names, err
}

// Create makes a database (PUT /{db}).
func (c *Client) Create(ctx context.Context, name string) error {
	return c.json(ctx, request{method: "PUT", path: escape(name)}, nil)
}

// Destroy removes a database (DELETE /{db}).
func (c *Client) Destroy(ctx context.Context, name string) error {
	return c.json(ctx, request{method: "DELETE", path: escape(name)}, nil)
}

// Open returns the named database, after asking the server whether it is there.
func (c *Client) Open(ctx context.Context, name string) (couch.DB, error) {
	db := c.DB(name)
	if _, err := db.Info(ctx); err != nil {
		return nil, err
	}
	return db, nil
}

// DB returns the named database without asking the server.
func (c *Client) DB(name string) couch.DB { return &remote{c: c, name: name, path: escape(name)} }

// A request is one call of the API.
type request struct {
	method string
	path   string // below the base, escaped
	query  url.Values
	body   *payload
	header http.Header
	plain  bool // the answer must not be compressed: a feed, or bytes by range
	repeat bool // may be sent again on a new connection though it is a POST
}

// json sends r and reads the whole answer into to (nil: not looked at).
func (c *Client) json(ctx context.Context, r request, to any) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	return c.readJSON(resp, to)
}

// readJSON reads the whole answer into to. The caller closes the body.
func (c *Client) readJSON(resp *http.Response, to any) error {
	if to == nil {
		return nil
	}
	b, err := readAll(resp, c.o.MaxRow)
	if err != nil {
		return cause(resp.Request.Context(), err)
	}
	return json.Unmarshal(b, to)
}

// stream sends r and reads the answer piece by piece with read.
func (c *Client) stream(ctx context.Context, r request, keep bool, read func(*jsonStream) error) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := read(&jsonStream{r: resp.Body, keep: keep, max: c.o.MaxRow}); err != nil {
		return cause(ctx, err)
	}
	drain(resp.Body)
	return nil
}

// cause prefers why ctx ended to what its end did to a connection.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// send sends r. The caller closes the body of the response, whose status is below 400.
// A body that is refused because it has been packed too well is sent as it is.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	if r.body == nil {
		return c.sendOnce(ctx, r, false)
	}
	defer r.body.release()
	resp, err := c.sendOnce(ctx, r, c.o.Compress && c.takesZstd.Load())
	if r.body.zstd && errors.Is(err, errTooLarge) {
		r.body.unpack()
		return c.sendOnce(ctx, r, false)
	}
	return resp, err
}

func (c *Client) sendOnce(ctx context.Context, r request, compress bool) (*http.Response, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	switch {
	case r.plain:
		req.Header.Set("Accept-Encoding", "identity")
	case c.o.Compress:
		req.Header.Set("Accept-Encoding", "zstd, gzip")
	}
	if r.body != nil {
		r.body.attach(req, compress)
	}
	if r.repeat {
		req.Header["X-Idempotency-Key"] = nil // net/http: replayable, and not sent
	}
	return c.roundTrip(req)
}

type headerKey struct{}

type contextHeader struct {
	name  string
	value func(*http.Request) string
}

// WithHeader returns a context under which a [Client] adds a header to its requests: that which
// value returns for a request that is about to be sent, unless it is "".
func WithHeader(ctx context.Context, name string, value func(*http.Request) string) context.Context {
	return context.WithValue(ctx, headerKey{}, contextHeader{name, value})
}

// roundTrip sends req and sorts out failures.
func (c *Client) roundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if c.auth != "" {
		req.Header.Set("Authorization", c.auth)
	}
	if h, ok := req.Context().Value(headerKey{}).(contextHeader); ok {
		if v := h.value(req); v != "" {
			req.Header.Set(h.name, v)
		}
	}
	resp, err := c.hc.Do(req)
	if err != nil {
		return nil, cause(req.Context(), err)
	}
	if c.o.Compress && strings.Contains(resp.Header.Get("Accept-Encoding"), "zstd") {
		c.takesZstd.Store(true)
	}
	resp.Body = &movingBody{resp.Body, couch.Moving(req.Context())}
	if err := decompress(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		defer drain(resp.Body)
		return nil, responseError(resp)
	}
	return resp, nil
}

// responseError reads {"error","reason"}, or makes the best of an answer that is something else.
func responseError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	e := &couch.Error{Status: resp.StatusCode}
	if json.Unmarshal(b, e) != nil || e.Code == "" {
		e.Code = strings.ReplaceAll(strings.ToLower(http.StatusText(resp.StatusCode)), " ", "_")
		if e.Code == "" {
			e.Code = "unknown_error"
		}
		text := strings.ToValidUTF8(strings.TrimSpace(string(b[:min(len(b), 200)])), "")
		if resp.StatusCode == http.StatusNotFound && resp.Request.Method == http.MethodHead {
			text = "missing"
		}
		e.Reason = text
	}
	e.Status = resp.StatusCode
	if after := retryAfter(resp.Header.Get("Retry-After")); after > 0 {
		return &couch.RetryLater{Err: e, After: after}
	}
	return e
}

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3), at most an hour.
func retryAfter(h string) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(h); err == nil {
		d = time.Duration(min(n, 3600)) * time.Second
	} else if t, err := http.ParseTime(h); err == nil {
		d = time.Until(t)
	}
	return max(0, min(d, time.Hour))
}

// drain reads the little that may be left, so that the connection can be used again.
func drain(body io.Reader) { _, _ = io.CopyN(io.Discard, body, 4<<10) }

func readAll(resp *http.Response, limit int) ([]byte, error) {
	if resp.ContentLength > int64(limit) {
		return nil, couch.TooLarge("too_large", "The answer is longer than the limit.")
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = couch.TooLarge("too_large", "The answer is longer than the limit.")
	}
	return b, err
}

// escape escapes one segment of a path. Everything but unreserved characters
// (RFC 3986 section 2.3) is escaped: CouchDB reads a bare "+" as a space.
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	if s == "." || s == ".." { // proxies resolve those
		return strings.ReplaceAll(s, ".", "%2E")
	}
	b := make([]byte, 0, len(s)+8)
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~' {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// escapeID escapes a document id, in which the slash of _design/ and _local/ stands bare.
func escapeID(id string) string {
	for _, prefix := range []string{"_design/", "_local/"} {
		if rest, ok := strings.CutPrefix(id, prefix); ok {
			return prefix + escape(rest)
		}
	}
	return escape(id)
}

var errTooMuch = couch.TooLarge("too_large", "The server answers more than it was asked.")

// unsupported reports whether an old server does not know an endpoint.
func unsupported(err error) bool {
	var e *couch.Error
	return errors.As(err, &e) && (e.Status == 404 && e.Reason == "missing" || e.Status == 405 || e.Status == 400 && e.Code == "illegal_docid")
}
