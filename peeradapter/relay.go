package peeradapter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// RelayMode says when a connection goes through the hub.
type RelayMode string

// The modes of [Relay].
const (
	RelayAuto RelayMode = ""    // where no direct path is found
	RelayHub  RelayMode = "hub" // always
	RelayOff  RelayMode = "off" // never
)

// Relay says when and how connections go through the hub, encrypted from end to end, where
// no direct path is found. Both peers keep looking for one, and new streams take it when it is there.
type Relay struct {
	Mode RelayMode
	// Hub is the URL of the hub database, with the credentials of this peer. "": none;
	// [Join] takes that of the hub. Only Loveseat's hubs relay; others are found out quietly.
	Hub string
	// After is how long a direct path may take to be found before the hub relays; 0: 4 s.
	After time.Duration
	// Retry is when a direct path is looked for again, the pause doubling up to 16 times that; 0: 5 s.
	Retry time.Duration
}

func (r Relay) withDefaults() Relay {
	r.After = cmp.Or(r.After, 4*time.Second)
	r.Retry = cmp.Or(r.Retry, 5*time.Second)
	return r
}

// hubURL is the URL of a hub database, with its credentials; "": it is not an HTTP server's.
func hubURL(hub *kivik.DB) string {
	u, err := url.Parse(hub.Client().DSN())
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return ""
	}
	return u.JoinPath(url.PathEscape(hub.Name())).String()
}

// A hubRelay opens sockets at a hub's relay.
type hubRelay struct {
	url            string // of the relay, without credentials
	user, password string
	proof          func() string // for one ticket

	mu    sync.Mutex
	noneT time.Time // when it was found that the hub has no relay; zero: not
}

const (
	relayTime  = 10 * time.Second // for a ticket, and for a socket
	relayAgain = 5 * time.Minute  // for a hub without a relay
)

// errHubRelay means that a hub has no relay, or none for us.
var errHubRelay = errors.New("the hub relays nothing")

func newHubRelay(hub string, proof func(hub *url.URL, database string) string) (*hubRelay, error) {
	u, err := url.Parse(hub)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("peeradapter: Relay.Hub is not the URL of a hub database")
	}
	h := &hubRelay{user: u.User.Username()}
	h.password, _ = u.User.Password()
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	h.url = strings.TrimRight(u.String(), "/") + "/_relay"
	database, err := url.PathUnescape(path.Base(strings.TrimRight(u.EscapedPath(), "/")))
	h.proof = func() string { return proof(u, database) }
	return h, err
}

// The sides of a session at the relay: the hub asks for the right of each.
const (
	relayOpens  = "open"
	relayShares = "share"
)

// open opens the socket of one side of a session.
func (h *hubRelay) open(ctx context.Context, session, side string) (MessageChannel, error) {
	h.mu.Lock()
	none := !h.noneT.IsZero() && time.Since(h.noneT) < relayAgain
	h.mu.Unlock()
	if none {
		return nil, errHubRelay
	}
	ticket, err := h.ticket(ctx, session, side)
	if err != nil {
		return nil, err
	}
	c := new(wsChannel)
	ws, err := dialWS(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"?ticket="+url.QueryEscape(ticket), nil, &websocket.DialOptions{HTTPHeader: h.header()}, &c.below)
	if err != nil {
		return nil, err
	}
	return newWSChannel(ws, c.below), nil
}

func (h *hubRelay) header() http.Header {
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}}
	if h.user != "" {
		req := &http.Request{Header: header}
		req.SetBasicAuth(h.user, h.password)
	}
	return header
}

// ticket asks for a ticket. Errors: errHubRelay, or what may pass.
func (h *hubRelay) ticket(ctx context.Context, session, side string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, relayTime)
	defer cancel()
	body, err := json.Marshal(struct {
		Session string `json:"session"`
		Side    string `json:"side"`
	}{session, side})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header = h.header()
	req.Header.Set(hubdoc.ProofHeader, h.proof())
	tr := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	resp, err := (&http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var a struct{ Ticket, Reason string }
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	_ = json.Unmarshal(answer, &a) // whatever it is
	switch {
	case resp.StatusCode == http.StatusOK && a.Ticket != "":
		return a.Ticket, nil
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return "", &wsRefused{resp.StatusCode, a.Reason}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		h.noneT = time.Now() // another server than Loveseat's
	}
	return "", errHubRelay
}
