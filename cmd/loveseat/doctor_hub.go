package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// reach tries name, port and certificate of the hub's server. false: the rest is in vain.
func (d *doctor) reach(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	host, port := d.hub.Hostname(), d.hub.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[d.hub.Scheme]
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return d.fail("dns", "Check the spelling of the hub's host name, and this machine's network and DNS.", "%s has no address: %v", host, err)
	}
	d.ok("dns", "%s is %s", host, strings.Join(addrs, ", "))
	if d.hub.Scheme == "http" && !loopback(net.JoinHostPort(host, "0")) {
		d.warn("tls", "Who is on the way reads the password: use an https URL.", "the connection to the hub is not encrypted")
	}
	return d.dial(ctx, host, port)
}

func (d *doctor) dial(ctx context.Context, host, port string) bool {
	began := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return d.fail("tcp", "Check the port in the URL, that the hub is running, and that no firewall is in between.", "port %s of %s cannot be reached: %v", port, host, err)
	}
	defer conn.Close()
	d.ok("tcp", "port %s answers in %v", port, time.Since(began).Round(100*time.Microsecond))
	if d.hub.Scheme != "https" {
		return true
	}
	c := tls.Client(conn, &tls.Config{ServerName: host})
	if err := c.HandshakeContext(ctx); err != nil {
		return d.fail("tls", "The hub's certificate must be one that this machine trusts, for this name; see also the clock.", "no TLS with %s: %v", host, err)
	}
	until := c.ConnectionState().PeerCertificates[0].NotAfter
	if left := time.Until(until); left < 14*24*time.Hour {
		d.warn("tls", "Tell the hub's operator to renew it.", "the hub's certificate ends on %s", until.Format(time.DateOnly))
		return true
	}
	d.ok("tls", "the hub's certificate is good until %s", until.Format(time.DateOnly))
	return true
}

// server looks at what answers: a CouchDB, with this user, this database, a right clock.
func (d *doctor) server(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	if !d.welcome(ctx) {
		return false
	}
	d.proxy(ctx)
	return d.auth(ctx) && d.database(ctx)
}

// proxy says whether the hub takes a reverse proxy in front of it for its only client. Other servers do not tell.
func (d *doctor) proxy(ctx context.Context) {
	var config struct{ UndeclaredProxy bool }
	if _, err := d.get(ctx, "_utils/config.json", &config); err == nil && config.UndeclaredProxy {
		d.warn("proxy", "Start the hub with --trusted-proxy ADDRESS, the proxy's, so that it tells clients apart: quotas and failed log-ins are counted by address.",
			"the hub is behind a proxy that it has not been told of")
	}
}

func (d *doctor) welcome(ctx context.Context) bool {
	var w struct {
		CouchDB string
		Version string
		Vendor  struct{ Name string }
	}
	began := time.Now()
	h, err := d.get(ctx, "", &w)
	if err != nil && statusOf(err) != http.StatusUnauthorized && statusOf(err) != http.StatusForbidden { // auth tells those
		return d.fail("couchdb", "The URL must be that of a hub database on a Loveseat hub, a CouchDB or a compatible server: http[s]://HOST[:PORT]/DATABASE.", "no CouchDB answers: %v", err)
	}
	if err == nil && w.CouchDB == "" {
		return d.fail("couchdb", "The URL must be that of a hub database on a Loveseat hub, a CouchDB or a compatible server: http[s]://HOST[:PORT]/DATABASE.", "what answers is no CouchDB")
	}
	if err == nil {
		d.ok("couchdb", "%s %s answers", orDefault(w.Vendor.Name, "CouchDB"), w.Version)
	}
	d.clock(h, began, time.Now())
	return true
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// clock compares the Date of an answer, which is in whole seconds, with our time.
func (d *doctor) clock(h http.Header, began, ended time.Time) {
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return // a server that does not tell
	}
	var off time.Duration // of our clock
	switch {
	case at.Add(time.Second).Before(began):
		off = began.Sub(at)
	case at.After(ended):
		off = ended.Sub(at)
	}
	switch {
	case off.Abs() > hubdoc.ClockSkew:
		d.fail("clock", "Signals older than two minutes are refused, and so are shares of another time: set this machine's clock (NTP), or have the hub's set.", "the clocks of this machine and of the hub differ by %v", off.Round(time.Second))
	case off.Abs() > 5*time.Second:
		d.warn("clock", "From a minute on connections fail: set this machine's clock (NTP), or have the hub's set.", "the clocks of this machine and of the hub differ by %v", off.Round(time.Second))
	default:
		d.ok("clock", "agrees with the hub's")
	}
}

func (d *doctor) auth(ctx context.Context) bool {
	var session struct {
		Context struct {
			Name  *string
			Roles []string
		} `json:"userCtx"`
	}
	_, err := d.get(ctx, "_session", &session)
	const advice = "Name and password go into the URL, http://NAME:PASSWORD@HOST/…, or with the hub's URL into LOVESEAT_HUB; the hub's operator sets them."
	switch name := session.Context.Name; {
	case statusOf(err) == http.StatusUnauthorized || statusOf(err) == http.StatusForbidden:
		return d.fail("auth", advice, "the hub refuses name and password: %v", err)
	case statusOf(err) == http.StatusNotFound:
		d.ok("auth", "the server has no accounts")
	case err != nil:
		return d.fail("auth", advice, "the hub does not say who this is: %v", err)
	case name == nil && d.hub.User != nil:
		return d.fail("auth", advice, "the hub does not know %q", d.hub.User.Username())
	case name == nil:
		d.ok("auth", "not signed in; roles %q", session.Context.Roles)
	default:
		d.ok("auth", "signed in as %q, roles %q", *name, session.Context.Roles)
	}
	return true
}

func (d *doctor) database(ctx context.Context) bool {
	var info struct {
		Name string `json:"db_name"`
		Docs int64  `json:"doc_count"`
	}
	_, err := d.get(ctx, d.db, &info)
	switch statusOf(err) {
	case 0:
	case http.StatusNotFound:
		return d.fail("database", "Check the last part of the URL (Loveseat's hubs have \"hub\"), or make the database.", "there is no database %q on the hub", d.db)
	case http.StatusUnauthorized, http.StatusForbidden:
		return d.fail("database", "Sign in (http://NAME:PASSWORD@HOST/…), or ask the hub's operator to be made a member of the database.", "the hub database may not be read: %v", err)
	}
	if err != nil {
		return d.fail("database", "See the hub's log.", "the hub database cannot be read: %v", err)
	}
	d.ok("database", "%q may be read: %d documents", d.db, info.Docs)
	return true
}

// get reads JSON from the hub's server. path is "" for the server itself.
func (d *doctor) get(ctx context.Context, path string, to any) (http.Header, error) {
	return d.ask(ctx, http.MethodGet, path, nil, nil, to)
}

// maxDoctorAnswer bounds what is read of an answer.
const maxDoctorAnswer = 1 << 20

func (d *doctor) ask(ctx context.Context, method, path string, body io.Reader, header http.Header, to any) (http.Header, error) {
	resp, err := d.send(ctx, method, path, body, header)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return resp.Header, couchhttp.ResponseError(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDoctorAnswer)).Decode(to); err != nil {
		return resp.Header, fmt.Errorf("the answer is not JSON: %w", err)
	}
	return resp.Header, nil
}

// send makes a request to the hub's server; a preflight shows no password.
func (d *doctor) send(ctx context.Context, method, path string, body io.Reader, header http.Header) (*http.Response, error) {
	u := *d.hub
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	u.Path, u.RawPath = u.Path[:strings.LastIndexByte(strings.TrimRight(u.Path, "/"), '/')+1]+path, ""
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json")
	if password, ok := d.hub.User.Password(); ok && method != http.MethodOptions {
		req.SetBasicAuth(d.hub.User.Username(), password)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
	return client.Do(req)
}

// statusOf is the HTTP status of an error, 0 if it has none.
func statusOf(err error) int {
	var e interface{ HTTPStatus() int }
	if errors.As(err, &e) {
		return e.HTTPStatus()
	}
	return 0
}
