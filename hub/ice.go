package hub

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
)

// ICE configures what GET /_ice tells peers: the STUN and TURN servers by which
// they find a path to each other.
type ICE struct {
	// Servers are given as they are: STUN servers, and TURN servers with credentials of their own.
	Servers []ICEServer
	// TURN is the URLs of TURN servers that accept credentials made with
	// Secret: the hub's own, or others with the same shared secret ("turn:turn.example.org:3478?transport=udp").
	TURN   []string
	Secret string
	// Lifetime is how long such credentials are valid; a connection may use
	// them for longer only as far as the TURN server lets it. 0: 1 hour.
	Lifetime time.Duration
	// Stats tells of the hub's own TURN server, for its metrics; nil: it has none.
	Stats func() TURNStats
}

// TURNStats is what a TURN server has done since it was started.
type TURNStats struct {
	Relays  int64 // at the moment
	Bytes   int64 // relayed, both ways
	Dropped int64 // packets beyond a user's bandwidth
}

// ICEServer is a STUN or TURN server; its JSON is that of an RTCIceServer
// (https://www.w3.org/TR/webrtc/#rtciceserver-dictionary).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

type ice struct{ ICE }

func newICE(c ICE) (*ice, error) {
	if len(c.TURN) > 0 && c.Secret == "" {
		return nil, errors.New("ICE: TURN servers need the shared secret")
	}
	urls := slices.Clone(c.TURN)
	for _, s := range c.Servers {
		urls = append(urls, s.URLs...)
	}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Opaque == "" || !slices.Contains([]string{"stun", "stuns", "turn", "turns"}, u.Scheme) {
			return nil, fmt.Errorf("ICE: %q: want a URL like stun:host:port or turn:host:port?transport=udp", s)
		}
	}
	or(&c.Lifetime, time.Hour)
	return &ice{c}, nil
}

// Credentials are those of the TURN REST API: the user name is when it expires and
// whose it is, "<seconds since 1970>:<user>", and the password the Base64 of its HMAC-SHA1.
// https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00
func (i *ice) credentials(user string, now time.Time) ICEServer {
	name := strconv.FormatInt(now.Add(i.Lifetime).Unix(), 10) + ":" + user
	mac := hmac.New(sha1.New, []byte(i.Secret))
	mac.Write([]byte(name))
	return ICEServer{URLs: i.TURN, Username: name, Credential: base64.StdEncoding.EncodeToString(mac.Sum(nil))}
}

// iceAnswer is the answer to GET /_ice: an RTCConfiguration, which a page can
// give to RTCPeerConnection, and for how many seconds it is good.
type iceAnswer struct {
	Servers []ICEServer `json:"iceServers"`
	TTL     int64       `json:"ttl"`
}

// iceServers is GET /_ice.
func (h *Hub) iceServers(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r.Context())
	if err := h.mayConnect(r, &c); err != nil {
		couchhttp.WriteError(w, couch.AsError(err))
		return
	}
	i := h.service.ice
	a := iceAnswer{Servers: slices.Clone(i.Servers), TTL: int64(i.Lifetime.Seconds())}
	if len(i.TURN) > 0 {
		a.Servers = append(a.Servers, i.credentials(turnUser(&c), time.Now()))
	}
	if a.Servers == nil {
		a.Servers = []ICEServer{}
	}
	w.Header().Set("Cache-Control", "no-store") // credentials
	writeValue(w, a)
}

// mayConnect reports why a caller may not negotiate connections in any of the hub databases.
func (h *Hub) mayConnect(r *http.Request, c *caller) error {
	if c.admin {
		return nil
	}
	for _, d := range h.service.hubs {
		sec, err := h.security.of(r.Context(), d.Name)
		if err != nil {
			return err
		}
		if sec.member(&c.user) && d.maySide(c, either) {
			return nil
		}
	}
	return c.refusal()
}

// turnUser names a caller to TURN servers, which count by it: a user, or an address.
// The name is escaped, since a colon would end it.
func turnUser(c *caller) string {
	if c.Name == "" {
		return "~" + strings.ReplaceAll(strings.TrimPrefix(c.client, "address "), ":", "-")
	}
	return url.QueryEscape(c.Name)
}
