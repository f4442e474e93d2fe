package peeradapter

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-kivik/kivik/v4"
)

// hubICE asks a hub's server for its STUN and TURN servers (GET /_ice): Loveseat's
// hub has them, other servers do not, and then there are none.
type hubICE struct {
	url            string
	user, password string

	mu      sync.Mutex
	servers []ICEServer
	until   time.Time // when they are asked for again
}

const (
	iceTimeout = 5 * time.Second
	iceAgain   = 5 * time.Minute // for servers that have none
	maxICE     = 64 << 10
)

// newHubICE returns nil for a hub that is not an HTTP server's.
func newHubICE(hub *kivik.DB) *hubICE {
	u, err := url.Parse(hub.Client().DSN())
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil
	}
	h := &hubICE{user: u.User.Username()}
	h.password, _ = u.User.Password()
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	h.url = strings.TrimRight(u.String(), "/") + "/_ice"
	return h
}

// get returns the servers, from memory while their credentials are good for a
// while. A hub that cannot say is no reason not to try without.
func (h *hubICE) get(ctx context.Context) ([]ICEServer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.until) {
		return h.servers, nil
	}
	ctx, cancel := context.WithTimeout(ctx, iceTimeout)
	defer cancel()
	servers, ttl, err := h.ask(ctx)
	if err != nil {
		return h.servers, nil // what there was is good for as long again as it was kept
	}
	h.servers, h.until = servers, time.Now().Add(ttl/2)
	return servers, nil
}

var errICE = errors.New("the hub's ICE servers cannot be read")

func (h *hubICE) ask(ctx context.Context) ([]ICEServer, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url, nil)
	if err != nil {
		return nil, 0, err
	}
	if h.user != "" {
		req.SetBasicAuth(h.user, h.password)
	}
	req.Header.Set("Accept", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return nil, 0, errICE
	case resp.StatusCode != http.StatusOK: // no such thing there
		return nil, 2 * iceAgain, nil
	}
	var a struct {
		Servers []ICEServer `json:"iceServers"`
		TTL     int64       `json:"ttl"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxICE))
	if err != nil {
		return nil, 0, err
	}
	if json.Unmarshal(body, &a) != nil { // a server that answers 200 to everything
		return nil, 2 * iceAgain, nil
	}
	return a.Servers, min(time.Duration(max(a.TTL, 60))*time.Second, 24*time.Hour), nil
}
