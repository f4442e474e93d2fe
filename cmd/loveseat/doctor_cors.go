package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// anyPage is an origin of pages of this machine, which hubs of Loveseat without accounts let in unasked.
const anyPage = "http://localhost:3000"

// cors asks the hub, as a browser does, whether pages of an origin may use it: before a write by
// a preflight, and with each answer. https://fetch.spec.whatwg.org/#http-cors-protocol
func (d *doctor) cors(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	origin := cmp.Or(d.origin, anyPage)
	if origin == d.hub.Scheme+"://"+d.hub.Host {
		d.ok("cors", "pages of %s are the hub's own", origin)
		return
	}
	wrong, err := d.preflight(ctx, origin)
	if err == nil && wrong == "" {
		wrong, err = d.readable(ctx, origin)
	}
	if err != nil {
		wrong = err.Error()
	}
	if wrong == "" {
		d.ok("cors", "pages of %s may use the hub", origin)
		return
	}
	if d.origin == "" && wrong == refusedPreflight+"403 Forbidden" {
		d.ok("cors", "only the hub's own pages and those of origins that it lists may use it")
		return
	}
	found := fmt.Sprintf("pages of %s may not use the hub: %s", origin, wrong)
	advice := fmt.Sprintf("hubserver --origin %s lets them in; CouchDB does with enable_cors, and origins, credentials, methods and headers under [cors]. A proxy in front must pass OPTIONS and Access-Control-* on.", origin)
	if d.origin == "" {
		d.warn("cors", "Only web pages need it, programs do not. "+advice, "%s", found)
		return
	}
	d.fail("cors", advice, "%s", found)
}

const refusedPreflight = "the preflight is answered with "

// preflight asks what the browser asks before a page writes. It returns what is wrong, "" if nothing.
func (d *doctor) preflight(ctx context.Context, origin string) (wrong string, err error) {
	resp, err := d.send(ctx, http.MethodOptions, d.db, nil, http.Header{
		"Origin": {origin}, "Access-Control-Request-Method": {http.MethodPut}, "Access-Control-Request-Headers": {"content-type"},
	})
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	h := resp.Header
	switch {
	case resp.StatusCode/100 != 2:
		return refusedPreflight + resp.Status, nil
	case !allows(h, "Access-Control-Allow-Methods", http.MethodPut):
		return "the preflight does not allow PUT", nil
	case !allows(h, "Access-Control-Allow-Headers", "content-type"):
		return "the preflight does not allow the header Content-Type", nil
	}
	return d.letsIn(h, origin, "the preflight's answer"), nil
}

// readable asks whether the browser shows a page the hub's answers.
func (d *doctor) readable(ctx context.Context, origin string) (wrong string, err error) {
	resp, err := d.send(ctx, http.MethodGet, d.db, nil, http.Header{"Origin": {origin}})
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	return d.letsIn(resp.Header, origin, "an answer"), nil
}

// letsIn looks whether an answer is for pages of an origin; those that sign in send credentials.
func (d *doctor) letsIn(h http.Header, origin, answer string) (wrong string) {
	signedIn := d.hub.User != nil
	switch allowed := h.Get("Access-Control-Allow-Origin"); {
	case allowed == "":
		return answer + " has no Access-Control-Allow-Origin"
	case allowed != origin && (allowed != "*" || signedIn):
		return fmt.Sprintf("%s has Access-Control-Allow-Origin: %.100s", answer, allowed)
	case signedIn && h.Get("Access-Control-Allow-Credentials") != "true":
		return answer + " has no Access-Control-Allow-Credentials, without which nobody can sign in"
	}
	return ""
}

// allows reports whether a list in a header has a name, or all.
func allows(h http.Header, header, name string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(h.Values(header), ","), ","), func(s string) bool {
		s = strings.TrimSpace(s)
		return s == "*" || strings.EqualFold(s, name)
	})
}
