package couchhttp

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Another peer is a stranger: the head of its answer is made anew before it is handed on. What
// is not listed here is left out, because nobody can list what browsers obey: Set-Cookie, Refresh,
// Link, Clear-Site-Data, Service-Worker-Allowed, Access-Control-* and whatever comes next.

// foreignHeaders are the headers that pass, and the form of their values. Content-Type and
// Location are judged apart. web/plugin/src/answer.ts has the same list.
var foreignHeaders = map[string]*regexp.Regexp{
	"Accept-Encoding": regexp.MustCompile(`^(zstd|gzip)(, ?(zstd|gzip))?$`),
	"Accept-Ranges":   regexp.MustCompile(`^(bytes|none)$`),
	"Allow":           regexp.MustCompile(`^[A-Z]{1,16}(, ?[A-Z]{1,16}){0,15}$`),
	"Content-Md5":     regexp.MustCompile(`^[0-9A-Za-z+/]{22}==$`),
	"Content-Range":   regexp.MustCompile(`^bytes ([0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18}|[*])|[*]/[0-9]{1,18})$`),
	"Etag":            regexp.MustCompile(`^(W/)?"[!#-~]{0,200}"$`),
	"Retry-After":     regexp.MustCompile(`^[0-9]{1,9}$`),
}

// foreignCodings are the content codings that peers send.
var foreignCodings = []string{"gzip", "zstd"}

// foreignType is a media type as it may be handed on, and foreignPlace a Location.
var (
	foreignType  = regexp.MustCompile(`^[0-9A-Za-z!#$&^_.+-]+/[0-9A-Za-z!#$&^_.+-]+( ?; ?[0-9A-Za-z_-]+=([0-9A-Za-z!#$&^_.+'()/:=?-]+|"[ !#-[\]-~]*"))*$`)
	foreignPlace = regexp.MustCompile(`^[!-~]+$`)
)

// How long these may be, in bytes.
const maxForeignType, maxForeignPlace = 512, 4096

// foreignStatus reports whether a status is one of those that the API has, or errors of
// custom messages: none that changes protocols or asks for a password.
func foreignStatus(status int) bool {
	switch status {
	case 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308:
		return true
	}
	return status >= 400 && status < 600 && status != http.StatusProxyAuthRequired
}

// CopyForeign writes what may be handed on of the head of another peer's answer into h, which already has what
// the answer is given here. from is the URL of the peer's database; a Location within is
// turned into one of host, any other is left out. The error, bad_gateway (502), is of an answer that cannot be handed on.
func CopyForeign(h http.Header, answer *http.Response, from *url.URL, host string) error {
	status := answer.StatusCode
	if !foreignStatus(status) {
		return errForeign("has the status %d", status)
	}
	coding := answer.Header["Content-Encoding"]
	if len(coding) > 1 || len(coding) == 1 && !slices.Contains(foreignCodings, coding[0]) {
		return errForeign("has the content coding %.100q", strings.Join(coding, ", "))
	}
	to := location(answer.Header["Location"], from, host)
	if to == "" && status/100 == 3 && status != http.StatusNotModified {
		return errForeign("leads away from the share")
	}
	for name, form := range foreignHeaders {
		if v := answer.Header[name]; len(v) == 1 && form.MatchString(v[0]) {
			h[name] = v
		}
	}
	if len(coding) == 1 {
		h["Content-Encoding"] = coding
	}
	if to != "" {
		h["Location"] = []string{to}
	}
	if status != http.StatusNoContent && status != http.StatusNotModified {
		foreignContent(h, answer)
	}
	return nil
}

func errForeign(format string, args ...any) error {
	return &couch.Error{Status: http.StatusBadGateway, Code: "bad_gateway", Reason: "The sharer's answer is none of CouchDB's: it " + fmt.Sprintf(format, args...) + "."}
}

// foreignContent sets what describes an answer's body. Whatever a browser might run or hand to
// another program is a download.
func foreignContent(h http.Header, answer *http.Response) {
	kind := "application/octet-stream"
	if v := answer.Header["Content-Type"]; len(v) == 1 && len(v[0]) <= maxForeignType && foreignType.MatchString(v[0]) && !strings.HasPrefix(strings.ToLower(v[0]), "multipart/x-") {
		kind = v[0]
	}
	h["Content-Type"] = []string{kind}
	if !Passive(kind) {
		h["Content-Disposition"] = download
	}
}

var download = []string{"attachment"}

// location is a Location of another peer as one of host, "" if it leads anywhere but into the peer's database.
func location(given []string, from *url.URL, host string) string {
	if len(given) != 1 || len(given[0]) > maxForeignPlace || !foreignPlace.MatchString(given[0]) {
		return ""
	}
	u, err := url.Parse(given[0])
	if err != nil || u.User != nil || u.Opaque != "" || (u.Scheme == "") != (u.Host == "") || u.Host != "" && (u.Scheme != from.Scheme || u.Host != from.Host) {
		return ""
	}
	path, ok := strings.CutPrefix(u.EscapedPath(), "/")
	if !ok {
		return ""
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		s, err := url.PathUnescape(s)
		if err != nil || s == "." || s == ".." || i == 0 && "/"+s != from.Path {
			return ""
		}
	}
	to := "http://" + host + "/" + path
	if u.RawQuery != "" {
		to += "?" + u.RawQuery
	}
	return to
}

// passiveTypes are the media types that browsers show and nothing in them can run.
var passiveTypes = []string{
	"application/json", "text/plain",
	"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp",
	"audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/wav", "audio/webm", "audio/flac",
	"video/mp4", "video/ogg", "video/webm",
}

// passiveCharsets are those in which a text means the same to whoever checks it and to a browser.
var passiveCharsets = []string{"", "utf-8", "us-ascii"}

// Passive reports whether a browser may show content of this type: nothing in it can run.
func Passive(contentType string) bool {
	if contentType == "application/json" { // most often
		return true
	}
	t, params, err := mime.ParseMediaType(contentType)
	return err == nil && slices.Contains(passiveTypes, t) && slices.Contains(passiveCharsets, strings.ToLower(params["charset"]))
}
