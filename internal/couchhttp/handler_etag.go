package couchhttp

import (
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// etagMatch reports whether an If-None-Match header names etag (RFC 9110
// section 13.1.2, weak comparison).
func etagMatch(header, etag string) bool {
	for header != "" {
		var one string
		one, header, _ = strings.Cut(header, ",")
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == etag { // not "*", as CouchDB
			return true
		}
	}
	return false
}

// editRev is the revision that a write starts from: ?rev=, If-Match or, of a
// document in a body, its _rev. Those that are given must agree.
func (c *call) editRev(inBody couch.Rev) (couch.Rev, error) {
	rev := inBody
	if c.query.Has("rev") {
		r, err := couch.ParseRev(c.query.Get("rev"))
		if err != nil {
			return rev, err
		}
		if !rev.IsZero() && rev != r {
			return rev, couch.BadRequest("Document rev from request body and query string have different values")
		}
		rev = r
	}
	if h := c.r.Header.Get("If-Match"); h != "" {
		r, err := couch.ParseRev(strings.Trim(h, `"`))
		if err != nil {
			return rev, err
		}
		if !rev.IsZero() && rev != r {
			return rev, couch.BadRequest("Document rev and etag have different values")
		}
		rev = r
	}
	return rev, nil
}

// accepts reports whether the Accept header takes a media type, given as
// "type/subtype". Like CouchDB, no header and */* take everything.
func accepts(header, mediaType string) bool {
	if header == "" {
		return true
	}
	major, _, _ := strings.Cut(mediaType, "/")
	for header != "" {
		var one string
		one, header, _ = strings.Cut(header, ",")
		one, params, _ := strings.Cut(one, ";")
		switch one = strings.ToLower(strings.TrimSpace(one)); one {
		case mediaType, major + "/*", "*/*":
			if q := strings.ReplaceAll(params, " ", ""); q != "q=0" && q != "q=0.0" {
				return true
			}
		}
	}
	return false
}
