package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// A proxy serves an opened share on loopback. The sharer is a stranger and the port an origin that
// other programs of this machine may trust, so nothing passes as it is: requests and answers are
// made anew of what CouchDB's API has, and browsers are told to take answers for data only.
// (httputil.ReverseProxy passes on interim answers, trailers and upgrades, whatever it is told.)
type proxy struct {
	remote    *url.URL // of the database
	transport http.RoundTripper
	origins   []string // whose pages may use it; none: those on loopback
}

func newProxy(remote opened, origins []string) *proxy {
	return &proxy{remote.URL(), remote.HTTPClient().Transport, origins}
}

// proxyMethods are those of the API.
var proxyMethods = []string{"GET", "PUT", "POST", "HEAD", "DELETE", "COPY", "OPTIONS"}

// proxyHeaders are the headers of requests that the API reads. What else programs and browsers send
// (Cookie, Authorization, Referer, User-Agent) is none of the sharer's business.
var proxyHeaders = []string{
	"Accept", "Accept-Encoding", "Content-Encoding", "Content-Md5", "Content-Type", "Destination", "If-Match", "If-None-Match", "If-Range",
	"Last-Event-Id", "Range", "X-Couch-Full-Commit", "X-Http-Method-Override",
}

// ServeHTTP implements [http.Handler].
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	couchhttp.Inert(h)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store") // the next share at this port is another's
	h.Set("Server", "Loveseat")
	if err := p.check(r); err != nil {
		couchhttp.WriteError(w, couch.AsError(err))
		return
	}
	if p.allowOrigin(w, r) {
		return
	}
	p.forward(w, r)
}

// check refuses requests that are not meant for this port: under another name, which leads here by
// DNS rebinding, of pages of other origins, and those by which a browser would run or frame the answer.
func (p *proxy) check(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !loopback(net.JoinHostPort(host, "0")) {
		return couch.Forbidden("This address is for programs on this machine: ask for it as 127.0.0.1 or localhost.")
	}
	origins := r.Header["Origin"]
	if len(origins) > 1 || len(origins) == 1 && !p.trusts(origins[0]) {
		return couch.Forbidden("Pages of " + strings.Join(origins, ", ") + " may not use this share.")
	}
	if !couchhttp.ForData(r) {
		return couch.Forbidden("A share is data: a browser may not run or frame it.")
	}
	// Of a page's requests only those by CORS tell which page it is.
	if couchhttp.OfOtherPage(r) && (len(origins) == 0 || r.Header.Get("Sec-Fetch-Mode") != "cors") {
		return couch.Forbidden("A page of another origin may ask for this by fetch only.")
	}
	if !slices.Contains(proxyMethods, r.Method) {
		return &couch.Error{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Reason: "Only " + strings.Join(proxyMethods, ",") + " allowed"}
	}
	return nil
}

// trusts reports whether pages of an origin may use the share.
func (p *proxy) trusts(origin string) bool {
	if len(p.origins) > 0 {
		return slices.Contains(p.origins, strings.ToLower(origin))
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && loopback(net.JoinHostPort(u.Hostname(), "0"))
}

// allowOrigin adds CORS headers for pages that are trusted, and answers a preflight itself (true).
// https://fetch.spec.whatwg.org/#http-cors-protocol
func (p *proxy) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	h, origin := w.Header(), r.Header.Get("Origin")
	h.Add("Vary", "Origin")
	if origin == "" {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true") // PouchDB asks so; there are none that would be passed on
	h.Set("Access-Control-Expose-Headers", "Accept-Ranges, Cache-Control, Content-Encoding, Content-Length, Content-MD5, Content-Range, Content-Type, ETag, Location, Retry-After, Server")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", strings.Join(proxyMethods, ", "))
	h.Set("Access-Control-Allow-Headers", strings.Join(proxyHeaders, ", ")+", X-Requested-With")
	h.Set("Access-Control-Max-Age", "600")
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// forward asks the sharer, and answers with what may be handed on of the answer.
func (p *proxy) forward(w http.ResponseWriter, r *http.Request) {
	answer, err := p.transport.RoundTrip(p.request(r))
	if err == nil {
		defer answer.Body.Close()
		err = couchhttp.CopyForeign(w.Header(), answer, p.remote, r.Host)
	}
	if err != nil {
		if r.Context().Err() == nil {
			couchhttp.WriteError(w, unreachablePeer(err))
		}
		return
	}
	if err := send(w, answer); err != nil {
		panic(http.ErrAbortHandler) // so that no client takes a part for the whole
	}
}

// request is a request as the sharer gets it.
func (p *proxy) request(r *http.Request) *http.Request {
	out := &http.Request{
		Method: r.Method, Host: p.remote.Host, Header: http.Header{}, Body: r.Body, ContentLength: r.ContentLength,
		URL: &url.URL{Scheme: p.remote.Scheme, Host: p.remote.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
	}
	for _, name := range proxyHeaders {
		if v := r.Header[name]; v != nil {
			out.Header[name] = v
		}
	}
	out.Header["User-Agent"] = nil // nor net/http's own
	if out.ContentLength == 0 {
		out.Body = http.NoBody
	}
	return out.WithContext(r.Context())
}

func unreachablePeer(err error) *couch.Error {
	if errors.As(err, new(*couch.Error)) {
		return couch.AsError(err)
	}
	return &couch.Error{Status: http.StatusBadGateway, Code: "bad_gateway", Reason: "The peer cannot be reached: " + err.Error()}
}

// send sends an answer's body: each piece at once if it has no length, since it may be a changes feed.
func send(w http.ResponseWriter, answer *http.Response) error {
	if n := answer.ContentLength; n >= 0 && answer.StatusCode != http.StatusNoContent && answer.StatusCode != http.StatusNotModified {
		w.Header()["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	}
	w.WriteHeader(answer.StatusCode)
	if answer.ContentLength >= 0 {
		_, err := io.Copy(w, answer.Body)
		return err
	}
	to := flushing{w, http.NewResponseController(w)}
	if _, err := to.Write(nil); err != nil { // the head
		return err
	}
	_, err := io.Copy(to, answer.Body)
	return err
}

// flushing sends on what is written at once.
type flushing struct {
	http.ResponseWriter
	rc *http.ResponseController
}

// Write implements [io.Writer].
func (f flushing) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}
