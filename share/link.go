package share

import (
	"errors"
	"net/url"
	"strings"
)

// A Link names a hub and a share in one URL, that of the share's document:
//
//	https://hub.example.org:5984/hub/share:k7qmx2vd…
//	https://example.org/couchdb/hub/share:k7qmx2vd…#<secret>
//
// Any HTTP client that may read the hub gets the share document from it, and the
// hub may show a browser its page there. The fragment never leaves the one who
// follows the link: it is reserved for secrets (invites) and kept as it is. A
// link never carries credentials for the hub.
type Link struct {
	Hub    string // URL of the hub database, without credentials and trailing slash
	Share  string // share id
	Secret string // fragment, percent-decoded; "" if none
}

var errLink = errors.New("not a share link (http[s]://host/hub/share:ID)")

const maxLink = 8 << 10

// ParseLink reads a link. It needs no network. What it returns gives an
// equivalent link again by String.
func ParseLink(s string) (Link, error) {
	if len(s) > maxLink {
		return Link{}, errLink
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" {
		return Link{}, errLink
	}
	if u.User != nil {
		return Link{}, errors.New("a share link must not carry credentials")
	}
	path := u.EscapedPath()
	at := strings.LastIndexByte(path, '/')
	if at < 1 {
		return Link{}, errLink
	}
	name, err := url.PathUnescape(path[at+1:])
	id, ok := strings.CutPrefix(name, shareDocPrefix)
	if err != nil || !ok || !validShareID(id) {
		return Link{}, errLink
	}
	hub := hubURL(u.Scheme, u.Host, path[:at])
	if hub == "" {
		return Link{}, errLink
	}
	return Link{Hub: hub, Share: id, Secret: u.Fragment}, nil
}

// IsLink reports whether a reference has the form of a link, so that another
// kind of reference (a path, a name, a database URL) is not taken for a broken one.
func IsLink(ref string) bool {
	_, err := ParseLink(ref)
	return err == nil
}

// String returns the URL.
func (l Link) String() string {
	s := l.Hub + "/" + shareDocPrefix + l.Share
	if l.Secret == "" {
		return s
	}
	return s + "#" + (&url.URL{Fragment: l.Secret}).EscapedFragment()
}

// hubURL puts the URL of a hub database together, "" if path names none.
func hubURL(scheme, host, path string) string {
	path = strings.Trim(path, "/")
	if path == "" || strings.HasSuffix(host, ":") {
		return ""
	}
	return scheme + "://" + host + "/" + path
}

// databaseURL is the URL of a database on the server that a kivik client was
// given, without credentials; "" if the client is not one of an HTTP server.
func databaseURL(dsn, db string) string {
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return ""
	}
	return hubURL(u.Scheme, u.Host, strings.TrimRight(u.EscapedPath(), "/")+"/"+url.PathEscape(db))
}
