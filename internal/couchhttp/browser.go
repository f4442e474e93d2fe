package couchhttp

import (
	"net/http"
	"slices"
)

// What the API answers is data. Browsers are told so, and what they ask for to run it is refused.

// inertPolicy lets a browser show an answer and nothing more: no script, no form, no plugin, no
// origin, no frame.
var (
	inertPolicy = []string{"sandbox; default-src 'none'; frame-ancestors 'none'"}
	noSniffing  = []string{"nosniff"}
	noReferrer  = []string{"no-referrer"}
)

// Inert sets the headers by which a browser takes an answer for nothing but data.
func Inert(h http.Header) {
	h["Content-Security-Policy"], h["X-Content-Type-Options"], h["Referrer-Policy"] = inertPolicy, noSniffing, noReferrer
}

// inertUses are what browsers ask for without running, framing or applying it ("" where they do not tell).
// A WebSocket has its own check.
var inertUses = []string{"", "empty", "document", "image", "audio", "video", "track", "font", "websocket"}

// ForData reports whether a request is for data: none of a browser that would make a script, a
// worker, a style or a frame of the answer. https://www.w3.org/TR/fetch-metadata/
func ForData(r *http.Request) bool {
	_, worker := r.Header["Service-Worker"]
	return !worker && slices.Contains(inertUses, fetchHeader(r, "Sec-Fetch-Dest"))
}

// OfOtherPage reports whether a request was made by a page of another origin, as far as the browser tells.
func OfOtherPage(r *http.Request) bool {
	return !slices.Contains([]string{"", "none", "same-origin"}, fetchHeader(r, "Sec-Fetch-Site"))
}

// Navigates reports whether a browser will show the answer in place of a page.
func Navigates(r *http.Request) bool { return fetchHeader(r, "Sec-Fetch-Mode") == "navigate" }

// fetchHeader is the value of a header that browsers send once or not at all.
func fetchHeader(r *http.Request, name string) string {
	switch v := r.Header[name]; len(v) {
	case 0:
		return ""
	case 1:
		return v[0]
	}
	return "several"
}
